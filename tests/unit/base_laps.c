/* Laps: nothing of the time is lost, and nothing counted twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/base/laps.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void nap(long ms)
{
	struct timespec span = { 0, ms * 1000000 };

	nanosleep(&span, NULL);
}

static uint64_t lap_ns(const struct laps *laps, const char *name)
{
	for (size_t i = 0; i < laps->count; i++)
		if (!strcmp(laps->items[i].name, name))
			return laps->items[i].ns;
	fail_msg("no lap %s", name);
	return 0;
}

static void every_moment_belongs_to_one(void **state)
{
	struct laps laps;
	uint64_t start, sum = 0;

	(void)state;
	laps_start(&laps);
	start = laps.at_ns;
	nap(3);
	laps_end(&laps, "first");
	laps_end(&laps, "nothing");
	nap(1);
	laps_end(&laps, "second");
	nap(2);
	laps_end(&laps, "first");
	assert_int_equal(laps.count, 3);
	assert_string_equal(laps.items[1].name, "nothing");
	assert_true(lap_ns(&laps, "first") >= 5000000);
	assert_true(lap_ns(&laps, "second") >= 1000000);
	for (size_t i = 0; i < laps.count; i++)
		sum += laps.items[i].ns;
	assert_int_equal(sum, laps.at_ns - start);
}

static void what_was_measured_elsewhere_does_not_move_the_clock(void **state)
{
	struct laps laps;
	uint64_t at;

	(void)state;
	laps_start(&laps);
	at = laps.at_ns;
	laps_add(&laps, "open", 7);
	laps_add(&laps, "open", 4);
	assert_int_equal(laps.at_ns, at);
	assert_int_equal(lap_ns(&laps, "open"), 11);
	laps_start(&laps);
	assert_int_equal(laps.count, 0);
}

static void a_full_table_loses_no_time(void **state)
{
	static char names[LAPS_MAX + 5][8];
	struct laps laps;
	uint64_t sum = 0;

	(void)state;
	laps_start(&laps);
	for (unsigned i = 0; i < LAPS_MAX + 5; i++) {
		snprintf(names[i], sizeof(names[i]), "%u", i);
		laps_add(&laps, names[i], 1);
	}
	assert_int_equal(laps.count, LAPS_MAX);
	for (size_t i = 0; i < laps.count; i++)
		sum += laps.items[i].ns;
	assert_int_equal(sum, LAPS_MAX + 5);
	assert_int_equal(laps.items[LAPS_MAX - 1].ns, 6);
	laps_end(NULL, "nobody");
	laps_add(NULL, "nobody", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_moment_belongs_to_one),
		cmocka_unit_test(what_was_measured_elsewhere_does_not_move_the_clock),
		cmocka_unit_test(a_full_table_loses_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
