/* compression = auto: the table, row by row; and lives of machines that it must settle in. */
#include "agent/protect/tune.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

static void table(void **state)
{
	/* rpo 100 s, two workers; busy in per cent of both. */
	static const struct {
		int level;
		unsigned duration, work, busy;
		int wanted;
		enum tune_limit limit;
	} rows[] = {
		{ 1, 51, 50, 95, -1, TUNE_LIMIT_PROCESSORS },
		{ -1, 51, 50, 80, -3, TUNE_LIMIT_PROCESSORS },
		{ -3, 90, 50, 95, -5, TUNE_LIMIT_PROCESSORS },
		{ -5, 90, 90, 100, -5, TUNE_LIMIT_PROCESSORS },
		{ 3, 51, 50, 95, 2, TUNE_LIMIT_PROCESSORS },
		{ 2, 51, 50, 95, 1, TUNE_LIMIT_PROCESSORS },
		{ 1, 51, 50, 10, 2, TUNE_LIMIT_STORE },
		{ 2, 300, 300, 32, 3, TUNE_LIMIT_STORE },
		{ 3, 300, 300, 0, 3, TUNE_LIMIT_STORE },
		{ -5, 51, 50, 0, -3, TUNE_LIMIT_STORE },
		{ -1, 51, 50, 0, 1, TUNE_LIMIT_STORE },
		/* Neither would help. */
		{ 1, 51, 50, 34, 1, TUNE_LIMIT_NONE },
		{ 1, 51, 50, 79, 1, TUNE_LIMIT_NONE },
		{ 1, 60, 29, 100, 1, TUNE_LIMIT_NONE },
		{ 1, 60, 0, 0, 1, TUNE_LIMIT_NONE },
		/* It fits. */
		{ 1, 50, 50, 100, 1, TUNE_LIMIT_NONE },
		{ -5, 50, 50, 100, -5, TUNE_LIMIT_NONE },
		{ -5, 13, 13, 100, -5, TUNE_LIMIT_NONE },
		{ 3, 13, 13, 0, 3, TUNE_LIMIT_NONE },
		{ -5, 12, 12, 100, -3, TUNE_LIMIT_NONE },
		{ -1, 12, 12, 100, 1, TUNE_LIMIT_NONE },
		{ 3, 12, 12, 0, 2, TUNE_LIMIT_NONE },
		{ 2, 1, 1, 0, 1, TUNE_LIMIT_NONE },
		{ 1, 1, 1, 100, 1, TUNE_LIMIT_NONE },
		/* A level that is none of ours, as zstd's own default. */
		{ 0, 51, 50, 95, -3, TUNE_LIMIT_PROCESSORS },
		{ 19, 51, 50, 95, 2, TUNE_LIMIT_PROCESSORS },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tune_run run = {
			.rpo_ns = 100 * SECOND, .duration_ns = rows[i].duration * SECOND,
			.work_ns = rows[i].work * SECOND, .workers = 2,
			.busy_ns = rows[i].work * SECOND * 2 * rows[i].busy / 100,
		};
		enum tune_limit limit;
		int level = tune_level(rows[i].level, &run, &limit);

		if (level != rows[i].wanted || limit != rows[i].limit)
			fail_msg("row %zu: level %d, limit %d", i, level, (int)limit);
	}
}

/* Work that takes ever longer, or shrinks ever less, from one level to the next. */
struct machine { double compute[9], send[9]; };

static void machine_make(struct random_state *random, struct machine *machine)
{
	double compute = 1 + (double)random_below(random, 100), send = 1 + (double)random_below(random, 100);

	for (int i = 0; i < 9; i++) {
		machine->compute[i] = compute;
		machine->send[i] = send;
		/* Between neighbours of the table: not from -5 to -4, -3 to -2, -1 to 0. */
		if (i == 0 || i == 2 || i == 4)
			continue;
		compute *= 1 + (double)random_below(random, 60) / 100;
		send /= 1 + (double)random_below(random, 30) / 100;
	}
}

/* Whatever the machine, levels come to rest, and inside their bounds. */
static void settles(void **state)
{
	struct random_state random = random_start("settles");
	unsigned moved = 0;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		uint64_t rpo = (1 + random_below(&random, 300)) * SECOND;
		int level = TUNE_LEVEL_MIN + (int)random_below(&random, 9), last = level;
		struct machine machine;
		unsigned changes = 0;

		machine_make(&random, &machine);
		for (int run = 0; run < 40; run++) {
			double compute = machine.compute[level + 5], send = machine.send[level + 5];
			double took = compute > send ? compute : send;
			struct tune_run result = {
				.rpo_ns = rpo, .duration_ns = (uint64_t)(took * 1e9),
				.work_ns = (uint64_t)(took * 1e9), .workers = 4,
				.busy_ns = (uint64_t)(compute * 4e9),
			};
			enum tune_limit limit;

			last = level;
			level = tune_level(level, &result, &limit);
			assert_true(level >= TUNE_LEVEL_MIN && level <= TUNE_LEVEL_MAX && level);
			/* Never the wrong way. */
			assert_true(limit != TUNE_LIMIT_PROCESSORS || level <= last);
			assert_true(limit != TUNE_LIMIT_STORE || level >= last || !last);
			changes += level != last;
		}
		assert_int_equal(level, last);
		assert_true(changes <= 6);
		moved += changes > 1;
	}
	assert_true(moved > 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(settles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
