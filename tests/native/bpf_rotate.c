/*
 * Rotation under writers loses nothing: neither in the ordinary course nor where
 * a run dies between any two steps.
 */
#include "tests/native/bpf_lab.h"

#include "bpf/tracker_private.h"

#include <bpf/bpf.h>
#include <pthread.h>
#include <sys/mman.h>

#define THREADS 3
#define BYTES (64ull << 20)
#define BLOCKS (BYTES / 4096)
#define LOG_MAX 400000
#define ROUNDS_MAX 1000
#define RUN_MS 4000
#define MEETING_S 3

/*
 * `moment` is 2j before rotation j has begun and 2j + 1 while it runs. A write
 * seen from moment a to moment b must be in the set of one of the rotations
 * a / 2 … (b + 1) / 2.
 */
static unsigned int moment;
static bool stop;

struct note {
	uint32_t block;
	uint32_t from, to;
};

struct writer {
	pthread_t thread;
	struct lab_loop *loop;
	struct random_state random;
	struct note *notes;
	uint32_t count;
};

static void *writer_run(void *context)
{
	struct writer *writer = context;
	char *buffer = lab_buffer(4096);

	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST) &&
	       writer->count < LOG_MAX) {
		struct note *note = &writer->notes[writer->count];

		note->block = (uint32_t)random_below(&writer->random, BLOCKS);
		note->from = __atomic_load_n(&moment, __ATOMIC_SEQ_CST);
		if (pwrite(writer->loop->fd, buffer, 4096,
			   (off_t)note->block * 4096) != 4096)
			break;
		note->to = __atomic_load_n(&moment, __ATOMIC_SEQ_CST);
		writer->count++;
	}
	free(buffer);
	return NULL;
}

/* Sets by rotation; one that was not read went into the next one. */
struct rounds {
	struct bitmap sets[ROUNDS_MAX];
	bool read[ROUNDS_MAX];
	uint32_t count;
};

static void rotate_once(struct tracker *tracker, uint32_t slot,
			struct rounds *rounds, bool dies)
{
	struct error err = ERROR_INIT;
	uint32_t j = rounds->count;

	assert_int_equal(bitmap_init(&rounds->sets[j], BLOCKS), 0);
	__atomic_add_fetch(&moment, 1, __ATOMIC_SEQ_CST);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	__atomic_add_fetch(&moment, 1, __ATOMIC_SEQ_CST);
	rounds->count++;
	if (dies)
		return;
	assert_done(tracker_read_retired(tracker, slot, &rounds->sets[j], &err),
		    &err);
	assert_done(tracker_drop_retired(tracker, slot, &err), &err);
	rounds->read[j] = true;
}

static bool note_found(const struct rounds *rounds, const struct note *note)
{
	uint32_t last = (note->to + 1) / 2;

	while (!rounds->read[last])
		last++;
	for (uint32_t j = note->from / 2; j <= last; j++)
		if (rounds->read[j] && bitmap_test(&rounds->sets[j], note->block))
			return true;
	return false;
}

static uint64_t notes_missing(const struct rounds *rounds,
			      const struct writer *writers)
{
	uint64_t missing = 0;

	for (int t = 0; t < THREADS; t++)
		for (uint32_t i = 0; i < writers[t].count; i++)
			missing += !note_found(rounds, &writers[t].notes[i]);
	return missing;
}

static void rotate_under_writers(void **state)
{
	struct random_state random = random_start("bpf_rotate");
	struct rounds *rounds = calloc(1, sizeof(*rounds));
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	struct writer writers[THREADS] = { 0 };
	struct error err = ERROR_INIT;
	uint64_t written = 0;
	struct timespec begun, now;

	(void)state;
	for (int t = 0; t < THREADS; t++) {
		writers[t].loop = &loop;
		writers[t].random.value = random_next(&random);
		writers[t].notes = calloc(LOG_MAX, sizeof(struct note));
		assert_non_null(writers[t].notes);
		assert_int_equal(pthread_create(&writers[t].thread, NULL,
						writer_run, &writers[t]), 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		rotate_once(tracker, slot, rounds, random_one_in(&random, 3));
		lab_sleep_ms((unsigned int)random_below(&random, 3));
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (rounds->count < ROUNDS_MAX - 3 &&
		 (now.tv_sec - begun.tv_sec) * 1000 +
		 (now.tv_nsec - begun.tv_nsec) / 1000000 < RUN_MS);
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	for (int t = 0; t < THREADS; t++) {
		pthread_join(writers[t].thread, NULL);
		written += writers[t].count;
	}
	rotate_once(tracker, slot, rounds, false);
	rotate_once(tracker, slot, rounds, false);
	printf("%u rotations, %llu writes\n", rounds->count,
	       (unsigned long long)written);
	assert_true(rounds->count >= 10 && written >= 1000);
	assert_int_equal(notes_missing(rounds, writers), 0);
	assert_int_equal(bitmap_count(&rounds->sets[rounds->count - 1]), 0);
	assert_done(tracker_detach(tracker, slot, &err), &err);
	for (uint32_t j = 0; j < rounds->count; j++)
		bitmap_fini(&rounds->sets[j]);
	for (int t = 0; t < THREADS; t++)
		free(writers[t].notes);
	free(rounds);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

/* ---- marks and sums that meet in one word ----------------------------------- */

struct meeting {
	struct lab_loop *loop;
	uint64_t *word;			/* blocks 0 … 63, of the kernel's bitmap */
	unsigned int arrived;
	uint64_t lost;
	bool over;
};

/* Both threads go on at the same instant, or as near to it as can be had. */
static void meet(struct meeting *meeting, unsigned int turn)
{
	__atomic_add_fetch(&meeting->arrived, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&meeting->arrived, __ATOMIC_SEQ_CST) < 2 * turn)
		sched_yield();
}

static void *meeting_run(void *context)
{
	struct meeting *meeting = context;
	char *buffer = lab_buffer(4096);

	for (unsigned int turn = 1; ; turn += 2) {
		meet(meeting, turn);
		if (meeting->over)
			break;
		lab_write(meeting->loop->fd, buffer, 4096, 8 * 40);
		meet(meeting, turn + 1);
	}
	free(buffer);
	return NULL;
}

/* Two processors set bits of one word and add to one sum, again and again. */
static void two_at_once(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	struct tracker_ledger before = lab_ledger(tracker, loop.device);
	struct meeting meeting = { .loop = &loop };
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct timespec begun, now;
	unsigned int turn;
	pthread_t other;
	int fd;

	(void)state;
	assert_int_equal(bitmap_map_open(tracker->bitmaps_fd, slot, &fd, NULL), 0);
	meeting.word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(meeting.word != MAP_FAILED);
	assert_int_equal(pthread_create(&other, NULL, meeting_run, &meeting), 0);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (turn = 1; ; turn += 2) {
		__atomic_store_n(meeting.word, 0, __ATOMIC_SEQ_CST);
		clock_gettime(CLOCK_MONOTONIC, &now);
		meeting.over = now.tv_sec - begun.tv_sec > MEETING_S;
		meet(&meeting, turn);
		if (meeting.over)
			break;
		lab_write(loop.fd, buffer, 4096, 8 * 20);
		meet(&meeting, turn + 1);
		meeting.lost += __atomic_load_n(meeting.word, __ATOMIC_SEQ_CST) !=
				(1ull << 20 | 1ull << 40);
	}
	pthread_join(other, NULL);
	printf("%u meetings, %llu marks lost\n", turn / 2,
	       (unsigned long long)meeting.lost);
	assert_int_equal(meeting.lost, 0);
	lab_ledger_exact(tracker, loop.device, &before);
	assert_done(tracker_detach(tracker, slot, &err), &err);
	munmap(meeting.word, 4096);
	close(fd);
	free(buffer);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

/* Marks of the read set: what the next run would read. */
static uint64_t read_set(struct tracker *tracker, uint32_t slot,
			 struct bitmap *set)
{
	struct error err = ERROR_INIT;

	memset(set->words, 0, bitmap_words(set->bits) * 8);
	assert_done(tracker_read_retired(tracker, slot, set, &err), &err);
	return bitmap_count(set);
}

static void retired_is_kept(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct bitmap set;
	uint32_t first_id = lab_marks(tracker, slot).bitmap_id;

	(void)state;
	assert_int_equal(bitmap_init(&set, BLOCKS), 0);
	assert_refused(tracker_read_retired(tracker, slot, &set, &err), -ENOENT,
		       &err);
	assert_done(tracker_drop_retired(tracker, slot, &err), &err);
	lab_write(loop.fd, buffer, 4096, 8 * 5);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	assert_true(lab_marks(tracker, slot).retired);
	assert_int_not_equal(lab_marks(tracker, slot).bitmap_id, first_id);
	/* The run dies here; another one comes much later. */
	tracker_close(tracker);
	tracker = lab_tracker();
	lab_write(loop.fd, buffer, 4096, 8 * 77);
	assert_int_equal(lab_marks(tracker, slot).dirty_blocks, 2);
	assert_int_equal(read_set(tracker, slot, &set), 1);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	assert_int_equal(read_set(tracker, slot, &set), 2);
	assert_true(bitmap_test(&set, 5) && bitmap_test(&set, 77));
	/* A second time, with nothing new. */
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	assert_int_equal(read_set(tracker, slot, &set), 2);
	assert_done(tracker_drop_retired(tracker, slot, &err), &err);
	assert_int_equal(lab_marks(tracker, slot).dirty_blocks, 0);
	assert_false(lab_marks(tracker, slot).retired);
	set.bits--;
	assert_refused(tracker_read_current(tracker, slot, &set, &err), -EINVAL,
		       &err);
	set.bits++;
	assert_done(tracker_detach(tracker, slot, &err), &err);
	bitmap_fini(&set);
	free(buffer);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

/* Marks from elsewhere are collected like any other. */
static void marked_by_hand(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct bitmap marks, set;

	(void)state;
	assert_int_equal(bitmap_init(&marks, BLOCKS) | bitmap_init(&set, BLOCKS), 0);
	bitmap_set(&marks, 0, 3);
	bitmap_set(&marks, BLOCKS - 1, 1);
	lab_write(loop.fd, buffer, 4096, 8 * 77);
	assert_done(tracker_mark(tracker, slot, &marks, &err), &err);
	assert_int_equal(lab_marks(tracker, slot).dirty_blocks, 5);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	assert_int_equal(read_set(tracker, slot, &set), 5);
	assert_true(bitmap_test(&set, 2) && bitmap_test(&set, 77) &&
		    bitmap_test(&set, BLOCKS - 1));
	marks.bits--;
	assert_refused(tracker_mark(tracker, slot, &marks, &err), -EINVAL, &err);
	marks.bits++;
	assert_done(tracker_detach(tracker, slot, &err), &err);
	assert_refused(tracker_mark(tracker, slot, &marks, &err), -ENOENT, &err);
	bitmap_fini(&marks);
	bitmap_fini(&set);
	free(buffer);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

/* Dead after retired[s] = bitmaps[s], before the new bitmap was put in place. */
static void died_between_steps(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct bitmap set;
	int fd;

	(void)state;
	assert_int_equal(bitmap_init(&set, BLOCKS), 0);
	lab_write(loop.fd, buffer, 4096, 8 * 5);
	assert_int_equal(bitmap_map_open(tracker->bitmaps_fd, slot, &fd, NULL), 0);
	assert_int_equal(bpf_map_update_elem(tracker->retired_fd, &slot, &fd,
					     BPF_ANY), 0);
	close(fd);
	lab_write(loop.fd, buffer, 4096, 8 * 77);
	assert_int_equal(read_set(tracker, slot, &set), 2);
	assert_int_equal(lab_marks(tracker, slot).dirty_blocks, 2);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	lab_write(loop.fd, buffer, 4096, 8 * 99);
	assert_int_equal(read_set(tracker, slot, &set), 2);
	assert_int_equal(lab_marks(tracker, slot).dirty_blocks, 3);
	/* The same, and then the retired one is dropped as if by a dead run's. */
	assert_done(tracker_drop_retired(tracker, slot, &err), &err);
	assert_int_equal(lab_marks(tracker, slot).dirty_blocks, 1);
	assert_done(tracker_detach(tracker, slot, &err), &err);
	bitmap_fini(&set);
	free(buffer);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

/* A process killed at any moment of its rotations loses no mark. */
static void killed_anywhere(void **state)
{
	struct random_state random = random_start("bpf_rotate");
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct bitmap set, model;

	(void)state;
	assert_int_equal(bitmap_init(&set, BLOCKS), 0);
	assert_int_equal(bitmap_init(&model, BLOCKS), 0);
	for (int round = 0; round < 25; round++) {
		pid_t child = fork();

		if (child == 0)
			for (;;)
				tracker_rotate(tracker, slot, &err);
		for (int i = 0; i < 40; i++) {
			uint64_t block = random_below(&random, BLOCKS);

			lab_write(loop.fd, buffer, 4096, block * 8);
			lab_model_add(&model, 4096, block * 8, 8);
		}
		lab_sleep_ms((unsigned int)random_below(&random, 30));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
	}
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	read_set(tracker, slot, &set);
	lab_assert_equal(&set, &model);
	assert_done(tracker_detach(tracker, slot, &err), &err);
	bitmap_fini(&set);
	bitmap_fini(&model);
	free(buffer);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
		cmocka_unit_test(rotate_under_writers),
		cmocka_unit_test(two_at_once),
		cmocka_unit_test(retired_is_kept),
		cmocka_unit_test(marked_by_hand),
		cmocka_unit_test(died_between_steps),
		cmocka_unit_test(killed_anywhere),
	};

	return cmocka_run_group_tests_name("bpf_rotate", list, NULL, NULL);
}

int main(void)
{
	return lab_run(tests);
}
