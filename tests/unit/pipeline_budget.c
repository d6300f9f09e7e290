/* Memory: what fits, and what is said when nothing does. */
#include "tests/unit/pipeline_lab.h"

#define MIB UINT64_C(1048576)

static struct pipeline_options fitted(struct pipeline_options options, uint64_t bytes)
{
	struct error err = ERROR_INIT;

	if (pipeline_fit(&options, bytes, &err))
		fail_msg("%s", err.message);
	assert_true(pipeline_memory(&options) <= bytes);
	return options;
}

static void enough_changes_nothing(void **state)
{
	struct pipeline_options asked = { .workers = 3, .level = 3, .buffers = 17 }, whole = asked;

	(void)state;
	pipeline_defaults(&whole);
	asked = fitted(asked, 1024 * MIB);
	assert_memory_equal(&asked, &whole, sizeof(asked));
	assert_int_equal(asked.buffers, 17);
	assert_int_equal(asked.queue_depth, 32);
}

static void buffers_go_before_workers(void **state)
{
	struct pipeline_options options;

	(void)state;
	options = fitted((struct pipeline_options){ .workers = 4 }, 24 * MIB);
	assert_int_equal(options.workers, 4);
	assert_true(options.buffers >= 6 && options.buffers < 24);
	/* No more than has to go: one more buffer would be too many. */
	options.buffers++;
	assert_true(pipeline_memory(&options) > 24 * MIB);
}

static void what_was_asked_for_stays_or_is_refused(void **state)
{
	struct pipeline_options options = { .workers = 16 };
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(pipeline_fit(&options, 20 * MIB, &err), -ENOMEM);
	assert_int_equal(err.exit, EXIT_USAGE);
	assert_non_null(strstr(err.message, "16 workers at compression 1 want"));
	options = (struct pipeline_options){ .level = 1 };
	assert_int_equal(pipeline_fit(&options, 2 * MIB, &err), -ENOMEM);
	assert_int_equal(options.workers, 1);
}

/* More memory never means less of anything, and whatever fits runs. */
static void more_is_never_less(void **state)
{
	struct pipeline_options before = { 0 };
	struct error err = ERROR_INIT;
	unsigned refused = 0;

	(void)state;
	for (uint64_t bytes = 0; bytes < 128 * MIB; bytes += MIB / 2) {
		struct pipeline_options options = { .level = 9 };

		if (pipeline_fit(&options, bytes, &err)) {
			assert_int_equal(before.workers, 0);
			refused++;
			continue;
		}
		assert_true(pipeline_memory(&options) <= bytes);
		assert_true(options.workers >= before.workers && options.workers >= 1);
		assert_true(options.workers > before.workers || options.buffers >= before.buffers);
		assert_true(options.buffers >= options.workers + 2);
		before = options;
	}
	assert_true(refused > 4);
	assert_true(before.workers >= 1);
}

/* A stronger level wants more for each worker. */
static void levels_count(void **state)
{
	struct pipeline_options weak = { .workers = 4, .level = 1 }, strong = weak;

	(void)state;
	strong.level = 19;
	pipeline_defaults(&weak);
	pipeline_defaults(&strong);
	assert_true(pipeline_memory(&strong) > pipeline_memory(&weak) + 4 * MIB);
}

/* Two workers and four buffers are enough for a run, and for no more than they are. */
static void the_least_runs(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_budget");
	struct pipeline_result result;
	struct pipeline_job job;

	lab_volume(lab, &random, 24 << 20);
	lab_extents_all(lab);
	job = lab_job(lab, MAP_FULL);
	job.options = (struct pipeline_options){ .workers = 2, .buffers = 4 };
	job.options = fitted(job.options, 16 * MIB);
	lab_run(&job, &result);
	assert_true(result.peak_buffer_bytes <= pipeline_memory(&job.options));
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enough_changes_nothing),
		cmocka_unit_test(buffers_go_before_workers),
		cmocka_unit_test(what_was_asked_for_stays_or_is_refused),
		cmocka_unit_test(more_is_never_less),
		cmocka_unit_test(levels_count),
		cmocka_unit_test_setup_teardown(the_least_runs, lab_setup, lab_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
