/*
 * Blocks that are as the fingerprints say are left out, all others are not: against
 * the image before, over many runs of one volume.
 */
#include "tests/unit/pipeline_lab.h"

#include "agent/volume/volume.h"

struct history {
	struct lab *lab;
	struct random_state random;
	struct fingerprints *table;
	uint8_t *before;		/* the image at the last point */
	uint8_t hash[32];		/* of the last point */
	struct uuid run;
};

#define CHECKED(call) do { \
	struct error err_ = ERROR_INIT; \
	if (call) \
		fail_msg("%s", err_.message); \
} while (0)

static void table_open(struct history *h)
{
	struct lab *lab = h->lab;
	char path[128];

	lab_path(lab, "volumes/v", path);
	assert_int_equal(0, file_make_folders(path, 0700));
	CHECKED(fingerprints_open(lab->folder, "v", &lab->volume, lab->blocks, &h->table, &err_));
}

/* A few blocks change; some more are written with what they hold. */
static void mutate(struct history *h)
{
	struct lab *lab = h->lab;
	char path[128];

	for (uint64_t i = random_below(&h->random, 40); i--; ) {
		uint64_t run = 1 + random_below(&h->random, 20);
		uint64_t at = random_below(&h->random, lab->blocks);
		uint8_t *data = lab->image + at * BLOCK_BYTES;

		if (run > lab->blocks - at)
			run = lab->blocks - at;
		if (random_one_in(&h->random, 4)) {
			/* The smallest change there is. */
			data[random_below(&h->random, BLOCK_BYTES)] ^=
				(uint8_t)(1 << random_below(&h->random, 8));
			continue;
		}
		memset(data, 0, run * BLOCK_BYTES);
		fill_blocks(&h->random, data, run);
	}
	memset(lab->image + lab->bytes, 0, lab->blocks * BLOCK_BYTES - lab->bytes);
	lab_path(lab, "volume", path);
	assert_int_equal(0, file_replace(path, lab->image, lab->bytes, 0600));
	lab_open_volume(lab);
}

static bool changed(const struct history *h, uint64_t block)
{
	return memcmp(h->before + block * BLOCK_BYTES, h->lab->image + block * BLOCK_BYTES,
		      BLOCK_BYTES) != 0;
}

/* What changed, and blocks that did not. Returns how many of all. */
static uint64_t mark(struct history *h)
{
	struct lab *lab = h->lab;
	uint64_t noise = random_one_in(&h->random, 3) ? 1 : 2 + random_below(&h->random, 30);
	uint64_t marked = 0;

	extent_list_fini(&lab->extents);
	for (uint64_t b = 0; b < lab->blocks; b++) {
		if (!changed(h, b) && !random_one_in(&h->random, noise))
			continue;
		assert_int_equal(0, extent_list_append(&lab->extents, b, 1));
		marked++;
	}
	return marked;
}

static void commit(struct history *h)
{
	for (size_t i = 0; i < sizeof(h->hash); i++)
		h->hash[i] = (uint8_t)random_next(&h->random);
	CHECKED(fingerprints_seal(h->table, &err_));
	/* Now and then the agent dies before it can say that the point stands. */
	if (!random_one_in(&h->random, 3)) {
		CHECKED(fingerprints_advance(h->table, h->hash, &err_));
	} else {
		fingerprints_close(h->table);
		table_open(h);
		assert_true(fingerprints_settle(h->table, h->hash, &h->run));
	}
	memcpy(h->before, h->lab->image, h->lab->blocks * BLOCK_BYTES);
}

static void begin(struct history *h, bool anew, struct pipeline_job *job)
{
	assert_int_equal(0, uuid_new(&h->run));
	CHECKED(fingerprints_begin(h->table, &h->run, anew, &err_));
	*job = lab_job(h->lab, anew ? MAP_FULL : MAP_DELTA);
	job->fingerprints = h->table;
	job->compare = !anew;
	job->options.workers = 1 + (uint32_t)random_below(&h->random, 3);
	lab_store_clear(h->lab);
	job->store = h->lab->store;
}

static void full(struct history *h)
{
	struct pipeline_result result;
	struct pipeline_job job;

	lab_extents_all(h->lab);
	begin(h, true, &job);
	lab_run(&job, &result);
	lab_check(h->lab, &job, &result);
	assert_int_equal(result.unchanged_bytes, 0);
	pipeline_result_fini(&result);
	commit(h);
}

static void incremental(struct history *h)
{
	struct extent_list differing = EXTENT_LIST_INIT;
	struct pipeline_result result;
	struct pipeline_job job;
	uint64_t marked = mark(h);

	begin(h, false, &job);
	lab_run(&job, &result);
	for (uint64_t b = 0; b < h->lab->blocks; b++)
		if (changed(h, b))
			assert_int_equal(0, extent_list_append(&differing, b, 1));
	job.extents = &differing;
	lab_check(h->lab, &job, &result);
	assert_int_equal(result.unchanged_bytes,
			 (marked - extent_list_blocks(&differing)) * BLOCK_BYTES);
	extent_list_fini(&differing);
	pipeline_result_fini(&result);
	commit(h);
}

static void test_history(void **state)
{
	static const uint64_t sizes[] = { 512, 4096, 1536 * 1024 + 512, 5 << 20 };
	struct history h = { .lab = *state, .random = random_start("pipeline_compare") };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		lab_volume(h.lab, &h.random, sizes[i]);
		h.before = malloc(h.lab->blocks * BLOCK_BYTES);
		assert_non_null(h.before);
		table_open(&h);
		full(&h);
		for (int round = 0; round < 25; round++) {
			mutate(&h);
			incremental(&h);
		}
		fingerprints_close(h.table);
		free(h.before);
	}
}

/* A table that cannot be read leaves nothing out. */
static void test_unreadable(void **state)
{
	struct history h = { .lab = *state, .random = random_start("pipeline_compare damage") };
	struct pipeline_result result;
	struct pipeline_job job;
	char path[128];

	lab_volume(h.lab, &h.random, 3 << 20);
	h.before = malloc(h.lab->blocks * BLOCK_BYTES);
	assert_non_null(h.before);
	table_open(&h);
	full(&h);
	lab_path(h.lab, "volumes/v/fingerprints", path);
	assert_int_equal(0, truncate(path, 4096 + 8 * 300));
	begin(&h, false, &job);
	lab_run(&job, &result);
	/* By the quarter: a frame is 256 blocks, and one that is half there is not. */
	assert_int_equal(result.unchanged_bytes, 256 * BLOCK_BYTES);
	pipeline_result_fini(&result);
	fingerprints_close(h.table);
	free(h.before);
}

/* A full stands alone. */
static void test_refused(void **state)
{
	struct history h = { .lab = *state, .random = random_start("pipeline_compare full") };
	struct error err = ERROR_INIT;
	struct pipeline_result result;
	struct pipeline_job job;

	lab_volume(h.lab, &h.random, 1 << 20);
	lab_extents_all(h.lab);
	job = lab_job(h.lab, MAP_DELTA);
	job.compare = true;
	assert_int_equal(-EINVAL, pipeline_run(&job, &result, &err));
	job.kind = MAP_FULL;
	assert_int_equal(-EINVAL, pipeline_run(&job, &result, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_history, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_unreadable, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_refused, lab_setup, lab_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
