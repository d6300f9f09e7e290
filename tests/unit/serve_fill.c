/*
 * A volume that is filled in while it is written to agrees with the model; what a flush
 * promised outlives any crash, and what was not flushed never shows where it would be
 * wrong; what cannot be had is left out; in the end the target alone is the volume.
 */
#include "tests/unit/serve_volume.h"

#include "agent/base/log.h"

#include <sys/wait.h>

struct ending {
	atomic_int ended;
	int ret;
	struct error err;
};

static void fill_end(void *context, int ret, const struct error *err)
{
	struct ending *ending = context;

	ending->ret = ret;
	ending->err = *err;
	atomic_store(&ending->ended, 1);
}

static struct fill *begin_fill(struct volume *volume, struct ending *ending)
{
	struct fill_options options = { .ended = fill_end, .context = ending };
	struct error err = ERROR_INIT;
	struct fill *fill;

	memset(ending, 0, sizeof(*ending));
	if (fill_start(volume->overlay, &options, &fill, &err))
		fail_msg("%s", err.message);
	return fill;
}

static void await(struct ending *ending)
{
	for (int i = 0; i < 3000 && !atomic_load(&ending->ended); i++)
		usleep(10000);
	assert_true(atomic_load(&ending->ended));
}

static void filled_under_writes(void **state)
{
	struct random_state random = random_start("filled_under_writes");

	(void)state;
	for (int round = 0; round < 6; round++) {
		struct ending ending;
		struct volume volume;
		struct fill *fill;
		int steps = 0;

		volume_new(&volume, &random, 4, 3 * MEBIBYTE + 512 * random_below(&random, 999));
		for (int i = 0; i < 20; i++)
			volume_step(&volume, &random);
		fill = begin_fill(&volume, &ending);
		while (!atomic_load(&ending.ended) && steps++ < 3000)
			volume_step(&volume, &random);
		await(&ending);
		if (ending.ret)
			fail_msg("%s", ending.err.message);
		for (int i = 0; i < 20; i++)
			volume_step(&volume, &random);
		fill_stop(fill);
		assert_int_equal(0, access(volume.present, F_OK));
		volume_check(&volume, 0, volume.bytes);
		assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
		volume.overlay = NULL;
		target_is_model(&volume);
		assert_int_not_equal(0, access(volume.present, F_OK));
		volume_free(&volume);
	}
}

/* ---- crashes ---------------------------------------------------------------------- */

/*
 * Killed in the middle: a child writes blocks' numbers of their own, and tells by a pipe
 * what was flushed. Each block is then what it was when it was last flushed, or newer;
 * and one that nobody wrote to is the point's.
 */
struct note { uint32_t block, value; bool flushed; };

static void crash_child(struct volume *volume, struct random_state *random, uint32_t value,
			int pipe_fd)
{
	struct ending ending;
	uint8_t data[BLOCK_BYTES];
	struct error err = ERROR_INIT;

	volume_open(volume);
	if (random_one_in(random, 2))
		begin_fill(volume, &ending);
	for (;; value++) {
		struct note note = {
			(uint32_t)random_below(random, volume->bytes / BLOCK_BYTES), value, false
		};

		/* Told before it is done: it may show from now on. */
		if (write(pipe_fd, &note, sizeof(note)) != sizeof(note))
			_exit(1);
		memset(data, (int)value & 0xff, sizeof(data));
		memcpy(data, &value, sizeof(value));
		if (overlay_write(volume->overlay, note.block * (uint64_t)BLOCK_BYTES, data,
				  sizeof(data), &err))
			_exit(2);
		if (!random_one_in(random, 5))
			continue;
		if (overlay_flush(volume->overlay, &err))
			_exit(3);
		note.flushed = true;
		if (write(pipe_fd, &note, sizeof(note)) != sizeof(note))
			_exit(1);
	}
}

/* Into `flushed` and `newest`, by block, what the child told. */
static void crash_read(int pipe_fd, uint32_t *flushed, uint32_t *newest, uint64_t blocks)
{
	struct note note;

	while (read(pipe_fd, &note, sizeof(note)) == sizeof(note)) {
		assert_true(note.block < blocks);
		if (!note.flushed)
			newest[note.block] = note.value;
		else
			memcpy(flushed, newest, blocks * sizeof(*newest));
	}
}

static void crash_check(struct volume *volume, const uint32_t *flushed, const uint32_t *newest)
{
	for (uint64_t b = 0; b < volume->bytes / BLOCK_BYTES; b++) {
		uint8_t *model = volume->model + b * BLOCK_BYTES, data[BLOCK_BYTES];
		struct error err = ERROR_INIT;
		uint32_t value;

		if (overlay_read(volume->overlay, b * BLOCK_BYTES, data, sizeof(data), &err))
			fail_msg("%s", err.message);
		memcpy(&value, data, sizeof(value));
		if (memcmp(data, model, sizeof(data))) {	/* written in this life */
			if (!newest[b] || value > newest[b] || value < flushed[b])
				fail_msg("block %llu holds %u, flushed %u, newest %u",
					 (unsigned long long)b, value, flushed[b], newest[b]);
			for (size_t i = 4; i < sizeof(data); i++)
				assert_int_equal(data[i], value & 0xff);
		} else if (flushed[b]) {
			fail_msg("block %llu lost what was flushed", (unsigned long long)b);
		}
		memcpy(model, data, sizeof(data));
	}
}

/* Each life has values of its own. */
static void crash_once(struct volume *volume, struct random_state *random, uint32_t first)
{
	uint64_t blocks = volume->bytes / BLOCK_BYTES;
	uint32_t *flushed = calloc(blocks, sizeof(*flushed));
	uint32_t *newest = calloc(blocks, sizeof(*newest));
	unsigned wait_us = 1000 + (unsigned)random_below(random, 60000);
	uint64_t seed = random_next(random) | 1;
	int fds[2];
	pid_t child;

	assert_int_equal(0, pipe(fds));
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	child = fork();
	if (!child) {
		struct random_state own = { .value = seed };

		close(fds[0]);
		serve_lab_open(&volume->lab, volume->lab.number, 0);
		crash_child(volume, &own, first, fds[1]);
	}
	close(fds[1]);
	usleep(wait_us);
	kill(child, SIGKILL);
	crash_read(fds[0], flushed, newest, blocks);
	waitpid(child, NULL, 0);
	close(fds[0]);
	volume_open(volume);
	crash_check(volume, flushed, newest);
	free(flushed);
	free(newest);
}

static void killed_at_any_moment(void **state)
{
	struct random_state random = random_start("killed_at_any_moment");
	struct ending ending;
	struct volume volume;
	struct fill *fill;

	(void)state;
	volume_new(&volume, &random, 3, 2 * MEBIBYTE);
	for (uint32_t life = 0; life < 12; life++) {
		assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
		volume.overlay = NULL;
		if (access(volume.present, F_OK))	/* it is complete */
			break;
		crash_once(&volume, &random, (life << 20) + 1);
	}
	if (volume.overlay) {
		fill = begin_fill(&volume, &ending);
		await(&ending);
		assert_int_equal(ending.ret, 0);
		fill_stop(fill);
		assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
		volume.overlay = NULL;
	}
	target_is_model(&volume);
	volume_free(&volume);
}

/*
 * What was written and not flushed is forgotten by a crash: then not even a block that is
 * a hole in the point, and needs no data, may keep it, or it would come back when the
 * volume is filled in.
 */
static void the_unflushed_does_not_return(void **state)
{
	struct random_state random = random_start("the_unflushed_does_not_return");
	uint8_t data[BLOCK_BYTES];
	struct ending ending;
	struct volume volume;
	struct fill *fill;
	int fd;

	(void)state;
	memset(&volume, 0, sizeof(volume));
	volume.lab.points = points_lab_new();
	lab_image_change(volume.lab.points, &random, 1, 2 * MEBIBYTE, 5, 20);
	lab_commit(volume.lab.points, &random, POINT_FULL, false);
	volume_begin(&volume);
	assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
	/* As a crash would leave it: data in the target, and no bit. */
	memset(data, 0xee, sizeof(data));
	fd = open(volume.target, O_WRONLY | O_CLOEXEC);
	for (uint64_t b = 0; b < volume.bytes / BLOCK_BYTES; b++)
		assert_int_equal(0, file_pwrite_all(fd, data, sizeof(data), b * BLOCK_BYTES));
	close(fd);
	volume_open(&volume);
	volume_check(&volume, 0, volume.bytes);
	fill = begin_fill(&volume, &ending);
	await(&ending);
	assert_int_equal(ending.ret, 0);
	fill_stop(fill);
	assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
	volume.overlay = NULL;
	target_is_model(&volume);
	volume_free(&volume);
}

/* The only segment: gone, or with a bit of its third frame turned over. */
static void segment_spoil(struct volume *volume, bool remove)
{
	const struct plan *plan = &volume->lab.reader->plan;
	const struct map_frame *where = &plan->map.frames[plan->order[2]];
	struct lab_keys keys;
	size_t which = 0, length;
	char *data;

	lab_keys_list(volume->lab.points, "", &keys);
	while (!strstr(keys.items[which], "/segments/"))
		which++;
	lab_object_read(volume->lab.points, keys.items[which], &data, &length);
	data[where->offset + where->length / 2] ^= 1;
	lab_object_remove(volume->lab.points, keys.items[which]);
	if (!remove)
		lab_object_write(volume->lab.points, keys.items[which], data, length);
	free(data);
	lab_keys_free(&keys);
}

/* A frame that cannot be had is told, its blocks are not called present, and what is
 * written over them makes the volume whole. */
static void damage_is_left_out(void **state)
{
	struct random_state random = random_start("damage_is_left_out");

	(void)state;
	for (int remove = 0; remove < 2; remove++) {
		struct overlay_counts counts;
		struct ending ending;
		struct volume volume;
		struct fill *fill;

		memset(&volume, 0, sizeof(volume));
		lab_dense(&volume.lab, &random, 4 * MEBIBYTE);
		volume_begin(&volume);
		segment_spoil(&volume, remove);
		fill = begin_fill(&volume, &ending);
		await(&ending);
		fill_stop(fill);
		assert_int_not_equal(ending.ret, 0);
		assert_int_equal(ending.err.exit, EXIT_UNTRUSTWORTHY);
		overlay_counts(volume.overlay, &counts);
		assert_int_equal(counts.present_blocks, remove ? 0 : counts.blocks - 256);
		assert_int_equal(0, overlay_write(volume.overlay, 0, volume.model, volume.bytes,
						  &(struct error)ERROR_INIT));
		overlay_counts(volume.overlay, &counts);
		assert_true(counts.complete);
		volume_check(&volume, 0, volume.bytes);
		volume_free(&volume);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filled_under_writes),
		cmocka_unit_test(killed_at_any_moment),
		cmocka_unit_test(the_unflushed_does_not_return),
		cmocka_unit_test(damage_is_left_out),
	};

	/* What fails on purpose is told, too. */
	log_set_level(LOG_ERRORS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
