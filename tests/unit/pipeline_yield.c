/* Giving way: the controller by itself, then in a run whose neighbours are made up. */
#include "tests/unit/pipeline_lab.h"

#include "agent/pipeline/yield.h"

#include <time.h>

#define MS UINT64_C(1000000)
#define TARGET (5 * MS)

/* A disk of which others' requests take `ms` each, `ios` of them in every sample. */
struct disk {
	struct yield yield;
	struct pipeline_io io;
	uint64_t now;
};

static void disk_start(struct disk *disk, uint32_t depth)
{
	memset(disk, 0, sizeof(*disk));
	disk->now = 77 * MS;
	disk->io = (struct pipeline_io){ .ended = 123456, .ticks_ns = 987654321 };
	yield_init(&disk->yield, TARGET, depth);
	yield_sample(&disk->yield, disk->now, &disk->io);
}

static void disk_span(struct disk *disk, uint64_t ios, uint64_t ms)
{
	disk->now += YIELD_EVERY_NS;
	disk->io.ended += ios;
	disk->io.ticks_ns += ios * ms * MS;
	yield_sample(&disk->yield, disk->now, &disk->io);
}

static void what_was_before_counts_for_nothing(void **state)
{
	struct disk disk;

	(void)state;
	disk_start(&disk, 32);
	assert_int_equal(yield_depth(&disk.yield), 32);
	assert_int_equal(yield_pause_ns(&disk.yield), 0);
	assert_int_equal(disk.yield.yields, 0);
}

static void slow_halves_and_fast_adds(void **state)
{
	struct disk disk;

	(void)state;
	disk_start(&disk, 32);
	disk_span(&disk, 100, 6);
	assert_int_equal(yield_depth(&disk.yield), 16);
	disk_span(&disk, 100, 50);
	assert_int_equal(yield_depth(&disk.yield), 8);
	disk_span(&disk, 100, 5);	/* the target itself is good */
	assert_int_equal(yield_depth(&disk.yield), 10);
	for (int i = 0; i < 20; i++)
		disk_span(&disk, 100, 1);
	assert_int_equal(yield_depth(&disk.yield), 32);
	assert_int_equal(disk.yield.yields, 2);
}

static void it_never_becomes_nothing(void **state)
{
	struct disk disk;
	uint64_t pause = 0;

	(void)state;
	disk_start(&disk, 4);
	for (int i = 0; i < 1000; i++) {
		disk_span(&disk, 100, 1000);
		assert_true(yield_pause_ns(&disk.yield) >= pause);
		pause = yield_pause_ns(&disk.yield);
		assert_int_equal(yield_depth(&disk.yield), i ? 1 : 2);
	}
	assert_true(pause >= 100 * MS && pause <= 200 * MS);
	for (int i = 0; i < 4; i++)
		disk_span(&disk, 100, 0);
	assert_int_equal(yield_pause_ns(&disk.yield), 0);
}

static void few_requests_are_put_together(void **state)
{
	struct disk disk;

	(void)state;
	disk_start(&disk, 32);
	for (int i = 0; i < 7; i++)
		disk_span(&disk, 1, 80);
	assert_int_equal(disk.yield.yields, 0);
	disk_span(&disk, 1, 80);	/* the eighth */
	assert_int_equal(disk.yield.yields, 1);
	/* After a second also fewer tell. */
	for (int i = 0; i < 10; i++)
		disk_span(&disk, i == 0, 80);
	assert_int_equal(disk.yield.yields, 2);
}

static void nobody_there_and_everybody_stuck_differ(void **state)
{
	struct disk disk;

	(void)state;
	disk_start(&disk, 32);
	disk_span(&disk, 100, 9);
	assert_int_equal(yield_depth(&disk.yield), 16);
	for (int i = 0; i < 10; i++)
		disk_span(&disk, 0, 0);
	assert_int_equal(yield_depth(&disk.yield), 18);
	disk.io.in_flight = 3;
	for (int i = 0; i < 10; i++)
		disk_span(&disk, 0, 0);
	assert_int_equal(yield_depth(&disk.yield), 9);
	assert_int_equal(disk.yield.yields, 2);
}

/* Counters that go back are another device's: nothing follows from them. */
static void counters_that_go_back(void **state)
{
	struct disk disk;

	(void)state;
	disk_start(&disk, 32);
	disk.io.ended = 5;
	disk.io.ticks_ns = 5000 * MS;
	disk.now += YIELD_EVERY_NS;
	yield_sample(&disk.yield, disk.now, &disk.io);
	assert_int_equal(disk.yield.yields, 0);
	disk_span(&disk, 100, 6);
	assert_int_equal(disk.yield.yields, 1);
}

/*
 * A model of a disk that does 1,000 requests a second: with the reader's in flight,
 * those of others wait behind them. Whatever it begins with, it ends near the target,
 * and the reader gets what is left.
 */
static void it_settles_at_the_target(void **state)
{
	struct disk disk;
	double sum = 0, share = 0;

	(void)state;
	disk_start(&disk, 32);
	for (int i = 0; i < 400; i++) {
		uint32_t depth = yield_depth(&disk.yield);

		disk_span(&disk, 20, 1 + depth);
		if (i >= 100) {
			sum += 1 + depth;
			share += depth;
		}
	}
	assert_true(sum / 300 < 5.5);		/* it was 33 */
	assert_true(share / 300 > 1.5);
}

/* ---- in a run ----------------------------------------------------------------- */

struct neighbours {
	struct pipeline_io io;
	uint64_t ms;		/* what each of their requests takes */
	unsigned looks;
	int ret;
};

static int look(void *context, struct pipeline_io *io)
{
	struct neighbours *neighbours = context;

	neighbours->looks++;
	neighbours->io.ended += 50;
	neighbours->io.ticks_ns += 50 * neighbours->ms * MS;
	*io = neighbours->io;
	return neighbours->ret;
}

/* In seconds: 16 MiB, read at 16 MiB/s where nobody is to be given way to. */
static double run_beside(struct lab *lab, struct neighbours *neighbours, uint64_t *yields)
{
	struct pipeline_job job = lab_job(lab, MAP_FULL);
	struct pipeline_result result;
	struct timespec from, to;

	job.watch = (struct pipeline_watch){ TARGET, look, neighbours };
	job.options.read_bytes_per_second = 16 << 20;
	job.options.queue_depth = 1;
	clock_gettime(CLOCK_MONOTONIC, &from);
	lab_run(&job, &result);
	clock_gettime(CLOCK_MONOTONIC, &to);
	*yields = result.yields;
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);
	lab_store_clear(lab);
	return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

static void a_run_gives_way(void **state)
{
	struct lab *lab = *state;
	struct random_state random = random_start("pipeline_yield run");
	struct neighbours fast = { .ms = 1 }, slow = { .ms = 50 }, unknown = { .ret = -ENODEV };
	double alone, beside;
	uint64_t yields;
	int attempts = 0;

	lab_volume(lab, &random, 16 << 20);
	lab_extents_all(lab);
	/* On a busy machine the one that was alone may have waited for the processor. */
	do {
		alone = run_beside(lab, &fast, &yields);
		assert_int_equal(yields, 0);
		assert_true(fast.looks >= 3);
		beside = run_beside(lab, &slow, &yields);
		assert_true(yields >= 3);
	} while (beside <= 1.3 * alone && ++attempts < 5);
	assert_true(attempts < 5);
	unknown.ms = 50;
	run_beside(lab, &unknown, &yields);
	assert_int_equal(unknown.looks, 1);
	assert_int_equal(yields, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_before_counts_for_nothing),
		cmocka_unit_test(slow_halves_and_fast_adds),
		cmocka_unit_test(it_never_becomes_nothing),
		cmocka_unit_test(few_requests_are_put_together),
		cmocka_unit_test(nobody_there_and_everybody_stuck_differ),
		cmocka_unit_test(counters_that_go_back),
		cmocka_unit_test(it_settles_at_the_target),
		cmocka_unit_test_setup_teardown(a_run_gives_way, lab_setup, lab_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
