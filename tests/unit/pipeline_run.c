/* Whole runs: every block comes back, whatever the volume, extents and options. */
#include "agent/pipeline/pool.h"
#include "tests/unit/pipeline_lab.h"

#include <stdatomic.h>
#include <time.h>

static const uint64_t runs[] = { 1, 3, 30, 300, 5000 };
static const uint64_t gaps[] = { 1, 2, 6, 60, 900 };

static void random_options(struct random_state *random,
			   struct pipeline_options *options)
{
	options->workers = (uint32_t)random_below(random, 4);
	options->queue_depth = (uint32_t)random_below(random, 3) * 7;
	options->buffers = (uint32_t)random_below(random, 6);
	options->level = (int)random_below(random, 4);
	options->frame_blocks = random_one_in(random, 3) ? 0 : 1u << random_below(random, 9);
	options->inline_bytes = random_one_in(random, 2) ? 1 : 0;
	options->segment_bytes = random_one_in(random, 2) ?
				 1 + random_below(random, 3 << 20) : 0;
}

static void test_random(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_run");
	unsigned inlined = 0, stored = 0, split = 0;

	for (int round = 0; round < 60; round++) {
		enum map_kind kind = random_one_in(&random, 2) ? MAP_FULL : MAP_DELTA;
		uint64_t bytes = 1 + random_below(&random, 8 << 20);
		struct pipeline_result result;
		struct pipeline_job job;

		/* Devices have whole sectors, image files what they like. */
		if (!random_one_in(&random, 4))
			bytes = (bytes + 511) / 512 * 512;
		lab_store_clear(lab);
		lab_volume(lab, &random, bytes);
		lab_extents(lab, &random, runs[random_below(&random, 5)],
			    gaps[random_below(&random, 5)]);
		job = lab_job(lab, kind);
		random_options(&random, &job.options);
		lab_run(&job, &result);
		lab_check(lab, &job, &result);
		assert_true(result.read_bytes * 100 <=
			    extent_list_blocks(&lab->extents) * BLOCK_BYTES * 105);
		inlined += result.inline_frames != NULL;
		stored += !result.inline_frames && result.segment_count;
		split += result.segment_count > 1;
		pipeline_result_fini(&result);
	}
	/* Every way was taken. */
	assert_true(inlined > 5 && stored > 5 && split > 5);
}

struct output {
	uint8_t *bytes;
	size_t length;
	uint8_t *map;
	size_t map_length;
};

static void output_of(const struct lab *lab, const struct pipeline_job *job,
		      struct output *output)
{
	struct pipeline_result result;

	memset(output, 0, sizeof(*output));
	lab_run(job, &result);
	for (size_t i = 0; i < result.segment_count; i++) {
		uint8_t *segment = lab_segment(lab, &result, i);
		size_t length = result.segments[i].bytes;

		output->bytes = realloc(output->bytes, output->length + length);
		assert_non_null(output->bytes);
		memcpy(output->bytes + output->length, segment, length);
		output->length += length;
		free(segment);
	}
	assert_int_equal(output->length, result.stored_bytes);
	assert_int_equal(0, map_encode(&result.map, &output->map,
				       &output->map_length));
	pipeline_result_fini(&result);
}

static void output_free(struct output *output)
{
	free(output->bytes);
	free(output->map);
}

/* Workers, depth and buffers must not show in the output; level may. */
static void test_determinism(void **state)
{
	static const uint32_t depths[] = { 1, 2, 32 };
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_run determinism");

	lab_volume(lab, &random, 9 << 20);
	for (int round = 0; round < 3; round++) {
		struct pipeline_job job = lab_job(lab, MAP_DELTA);
		struct output first = { 0 };

		lab_extents(lab, &random, round ? 200 : 5, round ? 3 : 9);
		job.options.level = 1 + round * 3;
		job.options.inline_bytes = 1;
		job.options.segment_bytes = 2 << 20;
		job.options.frame_blocks = round == 2 ? 2 : 0;
		for (uint32_t workers = 1; workers <= 4; workers++) {
			for (int d = 0; d < 3; d++) {
				struct output output;

				lab_store_clear(lab);
				job.store = lab->store;
				job.options.workers = workers;
				job.options.queue_depth = depths[d];
				job.options.buffers = 1 + workers * (uint32_t)d;
				output_of(lab, &job, &output);
				if (!first.bytes) {
					first = output;
					continue;
				}
				assert_int_equal(first.length, output.length);
				assert_memory_equal(first.bytes, output.bytes,
						    first.length);
				assert_int_equal(first.map_length, output.map_length);
				assert_memory_equal(first.map, output.map,
						    first.map_length);
				output_free(&output);
			}
		}
		output_free(&first);
	}
}

static void test_inline_limit(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_run inline");
	struct pipeline_result result;
	struct pipeline_job job;
	uint64_t bytes;

	lab_volume(lab, &random, 5 << 20);
	lab_extents_all(lab);
	job = lab_job(lab, MAP_FULL);
	job.options.inline_bytes = 8 << 20;
	lab_run(&job, &result);
	lab_check(lab, &job, &result);
	assert_non_null(result.inline_frames);
	bytes = result.inline_length;
	assert_int_equal(bytes, result.stored_bytes);
	pipeline_result_fini(&result);

	/* Exactly at the limit it stays; one byte less, and it is stored. */
	job.options.inline_bytes = (uint32_t)bytes;
	lab_run(&job, &result);
	assert_non_null(result.inline_frames);
	pipeline_result_fini(&result);
	job.options.inline_bytes = (uint32_t)bytes - 1;
	lab_run(&job, &result);
	assert_null(result.inline_frames);
	assert_int_equal(result.inline_length, 0);
	assert_int_equal(result.segments[0].bytes, bytes);
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);
}

/* A second segment ends the inline idea, however small the first one is. */
static void test_small_segments(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_run segments");
	struct pipeline_result result;
	struct pipeline_job job;

	lab_volume(lab, &random, 6 << 20);
	lab_extents_all(lab);
	job = lab_job(lab, MAP_FULL);
	job.options.segment_bytes = 1;
	job.options.inline_bytes = 64 << 20;
	lab_run(&job, &result);
	assert_null(result.inline_frames);
	assert_int_equal(result.segment_count, result.map.frame_count);
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);
}

/* No extents, and nothing but zeros: no segment, and the right holes. */
static void test_nothing(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_run nothing");
	struct pipeline_result result;
	struct pipeline_job job;

	lab_volume(lab, &random, 3 << 20);
	memset(lab->image, 0, lab->bytes);
	{
		char path[128];

		lab_path(lab, "volume", path);
		assert_int_equal(0, file_replace(path, lab->image, lab->bytes, 0600));
		lab_open_volume(lab);
	}
	job = lab_job(lab, MAP_DELTA);
	lab_run(&job, &result);
	lab_check(lab, &job, &result);
	assert_int_equal(result.segment_count, 0);
	assert_null(result.inline_frames);
	assert_int_equal(result.map.entry_count, 0);
	pipeline_result_fini(&result);

	lab_extents_all(lab);
	lab_run(&job, &result);
	lab_check(lab, &job, &result);
	assert_int_equal(result.segment_count, 0);
	assert_int_equal(result.map.entry_count, 1);
	assert_int_equal(result.zero_bytes, lab->bytes);
	pipeline_result_fini(&result);
}

struct calls {
	atomic_int inside;
	unsigned reports, read_done;
	uint64_t done, total, stored, last_ns;
	bool monotonic, throttled, at_once;
	const struct lab *lab;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void on_report(void *context, uint64_t done, uint64_t total, uint64_t stored)
{
	struct calls *calls = context;
	uint64_t now = now_ns();

	if (atomic_fetch_add(&calls->inside, 1))
		calls->at_once = true;
	calls->reports++;
	if (done < calls->done || stored < calls->stored)
		calls->monotonic = false;
	/* The last report alone may come sooner. */
	if (calls->last_ns && now - calls->last_ns < 99000000u && done < total)
		calls->throttled = false;
	calls->last_ns = now;
	calls->done = done;
	calls->total = total;
	calls->stored = stored;
	atomic_fetch_sub(&calls->inside, 1);
}

/* The volume may go once this was called: it is truncated here. */
static int on_read_done(void *context, struct error *err)
{
	struct calls *calls = context;
	char path[128];

	if (atomic_fetch_add(&calls->inside, 1))
		calls->at_once = true;
	calls->read_done++;
	usleep(200000);
	lab_path(calls->lab, "volume", path);
	if (truncate(path, 0) < 0)
		return error_set(err, -errno, "cannot truncate %s", path);
	atomic_fetch_sub(&calls->inside, 1);
	return 0;
}

static void test_progress(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_run progress");
	struct calls calls = { .monotonic = true, .throttled = true, .lab = lab };
	struct pipeline_result result;
	struct pipeline_job job;
	uint64_t start;

	lab_volume(lab, &random, 8 << 20);
	lab_extents_all(lab);
	job = lab_job(lab, MAP_FULL);
	job.progress.report = on_report;
	job.progress.read_done = on_read_done;
	job.progress.context = &calls;
	job.options.read_bytes_per_second = 8 << 20;
	start = now_ns();
	lab_run(&job, &result);
	/* 8 MiB at 8 MiB/s, less 0.1 s of burst and the last frame, 0.2 in read_done. */
	assert_true(now_ns() - start > 900000000u);
	assert_true(now_ns() - start < 5000000000u);
	assert_int_equal(calls.read_done, 1);
	/* One about every frame: it is read at its time, not all at the end. */
	assert_true(calls.reports >= 4);
	assert_true(calls.monotonic && calls.throttled && !calls.at_once);
	assert_int_equal(calls.done, lab->bytes);
	assert_int_equal(calls.total, lab->bytes);
	assert_int_equal(calls.stored, result.stored_bytes);
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);
}

/* Buffers in use stay within what was allowed; a small run takes little. */
static void test_memory(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_run memory");
	struct pipeline_result result;
	struct pipeline_job job;

	lab_volume(lab, &random, 8 << 20);
	lab_extents_all(lab);
	job = lab_job(lab, MAP_FULL);
	job.options.buffers = 3;
	job.options.workers = 2;
	job.options.inline_bytes = 1;
	lab_run(&job, &result);
	assert_in_range(result.peak_buffer_bytes, 3 * BUFFER_BYTES,
			5 * BUFFER_BYTES);
	pipeline_result_fini(&result);

	extent_list_fini(&lab->extents);
	extent_list_append(&lab->extents, 3, 1);
	job = lab_job(lab, MAP_DELTA);
	lab_run(&job, &result);
	assert_true(result.peak_buffer_bytes < 3 * BUFFER_BYTES);
	pipeline_result_fini(&result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_determinism, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_inline_limit, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_small_segments, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_nothing, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_progress, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_memory, lab_setup, lab_teardown),
	};

	alarm(300);	/* a lost wake-up must not hang the lane */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
