/* Calendars: what systemd-analyze says is read strictly; windows of the local day. */
#include "agent/protect/calendar.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define HEAD "  Original form: weekly\nNormalized form: Mon *-*-* 00:00:00\n"

static void reading(void **state)
{
	static const char *const bad[] = {
		"", "\n", HEAD, HEAD "    Next elapse: \n", HEAD "    Next elapse: never",
		HEAD "    Next elapse: Mon 2026-11-23 00:00:00 CET\n",
		HEAD "    Next elapse: Mon 2026-11-23 00:00:00 UTC",
		HEAD "    Next elapse: Mon 2026-11-23 00:00:00 UTC x\n",
		HEAD "    Next elapse: Mon 2026-13-23 00:00:00 UTC\n",
		HEAD "    Next elapse: Mon 2026-11-23 00:00:00 CET\n       (in UTC): never\n",
		HEAD "    Next elapse: Mon 1965-11-23 00:00:00 UTC\n",
		"Next elapse:Mon 2026-11-23 00:00:00 UTC\n",
		"       (in UTC): Mon 2026-11-23 00:00:00 UTC\n",
	};
	uint64_t next = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (calendar_read(bad[i], &next) != -EBADMSG)
			fail_msg("believed: %s", bad[i]);
	assert_int_equal(0, calendar_read(HEAD "    Next elapse: Mon 2026-11-23 00:00:00 UTC\n"
					  "       From now: 4 days ago\n", &next));
	assert_true(next == 1795392000 * SECOND);
	assert_int_equal(0, calendar_read(HEAD "    Next elapse: Mon 2026-11-23 00:00:00 CET\n"
					  "       (in UTC): Sun 2026-11-22 23:00:00 UTC\n", &next));
	assert_true(next == 1795388400 * SECOND);
	assert_int_equal(0, calendar_read(HEAD "    Next elapse: never\n", &next));
	assert_true(next == CALENDAR_NEVER);
}

static void asking(void **state)
{
	static const char *const zones[] = { "UTC", "Europe/Berlin", "Asia/Kolkata" };
	static const uint64_t wanted[] = { 1795392000, 1795388400, 1795372200 };
	struct error err = ERROR_INIT;
	uint64_t next = 0;

	(void)state;
	if (access("/usr/bin/systemd-analyze", X_OK))
		skip();
	/* A language that would change the words. */
	setenv("LANG", "de_DE.UTF-8", 1);
	for (size_t i = 0; i < 3; i++) {
		setenv("TZ", zones[i], 1);
		if (calendar_next("weekly", 1795000000 * SECOND, &next, &err))
			fail_msg("%s", err.message);
		assert_true(next == wanted[i] * SECOND);
	}
	setenv("TZ", "UTC", 1);
	/* Behind the time, not at it. */
	assert_int_equal(0, calendar_next("weekly", next, &next, &err));
	assert_int_equal(0, calendar_next("2020-01-01", 1795000000 * SECOND, &next, &err));
	assert_true(next == CALENDAR_NEVER);
	assert_true(calendar_next("fortnightly", 0, &next, &err) < 0);
	assert_int_equal(EXIT_USAGE, err.exit);
	assert_non_null(strstr(err.message, "no calendar expression"));
	setenv("PATH", "/nonexistent", 1);
	assert_true(calendar_next("weekly", 0, &next, &err) < 0);
	assert_int_equal(EXIT_USAGE, err.exit);
	assert_non_null(strstr(err.message, "not installed"));
}

static bool window_open(int from, int to, uint64_t now_ns, uint64_t *until_ns)
{
	struct config_schedule schedule = { .window_from = from, .window_to = to };

	return calendar_open(&schedule, now_ns, until_ns);
}

/* Every minute of a day, beside the plain reading of it. */
static void windows(void **state)
{
	static const int pairs[][2] = { { 480, 1080 }, { 1215, 360 }, { 0, 1 }, { 720, 1440 },
					{ 1439, 0 } };
	uint64_t until;

	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	assert_true(window_open(0, 0, 5, &until));
	for (size_t p = 0; p < sizeof(pairs) / sizeof(pairs[0]); p++)
		for (uint64_t now = 1795392000; now < 1795392000 + 86400; now += 7) {
			int from = pairs[p][0], to = pairs[p][1];
			int minute = (int)(now % 86400 / 60);
			bool wanted = false, open = window_open(from, to, now * SECOND, &until);

			for (int at = from; at % 1440 != to % 1440; at++)
				wanted |= at % 1440 == minute;
			assert_int_equal(wanted, open);
			if (open)
				continue;
			assert_true(until > 0 && until <= 86400 * SECOND);
			assert_int_equal(from, (int)((now * SECOND + until) / SECOND % 86400 / 60));
			assert_true((now * SECOND + until) % (60 * SECOND) == 0);
		}
	setenv("TZ", "Asia/Kolkata", 1);	/* 5:30 ahead */
	tzset();
	assert_true(window_open(329, 331, 1795392000 * SECOND, &until));
}

/* By the plain reading: every minute that a range has, laid out over a week. */
static void model_blackouts(const struct config_schedule *schedule, bool closed[7 * 1440])
{
	for (int minute = 0; minute < 7 * 1440; minute++) {
		int of_day = minute % 1440, from = schedule->window_from, to = schedule->window_to;

		closed[minute] = from != to && !(from < to ? of_day >= from && of_day < to
							   : of_day >= from || of_day < to);
	}
	for (unsigned i = 0; i < schedule->blackout_count; i++) {
		const struct config_times *times = &schedule->blackouts[i];
		int length = times->to - times->from + (times->from < times->to ? 0 : 1440);

		for (int day = 0; day < 7; day++)
			for (int m = 0; times->days >> day & 1 && m < length; m++)
				closed[(day * 1440 + times->from + m) % (7 * 1440)] = true;
	}
}

static void blackouts(void **state)
{
	struct random_state random = random_start("blackouts");
	static bool closed[7 * 1440];
	unsigned shut = 0;

	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	for (int round = 0; round < 200; round++) {
		struct config_schedule schedule = { .window_from = 0 };

		if (random_one_in(&random, 3))
			schedule.window_to = 1 + (int)random_below(&random, 1440);
		schedule.blackout_count = (unsigned)random_below(&random, CONFIG_BLACKOUTS_MAX + 1);
		for (unsigned i = 0; i < schedule.blackout_count; i++) {
			struct config_times *times = &schedule.blackouts[i];

			times->from = (int)random_below(&random, 1440);
			do
				times->to = (int)random_below(&random, 1441);
			while (times->to == times->from);
			times->days = 1 + (unsigned)random_below(&random, 127);
		}
		model_blackouts(&schedule, closed);
		for (int at = 0; at < 200; at++) {
			/* 1795392000 is a Monday, 00:00. */
			uint64_t now = 1795392000 + random_below(&random, 7 * 86400), until, minute;
			int first = (int)((now - 1795392000) / 60 + 1440) % (7 * 1440), wait = 0;

			while (wait < 7 * 1440 && closed[(first + wait) % (7 * 1440)])
				wait++;
			shut += wait > 0;
			assert_int_equal(calendar_open(&schedule, now * SECOND + 5, &until), !wait);
			minute = (now * SECOND + 5 + until) / (60 * SECOND);
			if (wait && wait < 7 * 1440)
				assert_true(minute == now / 60 + (uint64_t)wait &&
					    (now * SECOND + 5 + until) % (60 * SECOND) == 0);
			else if (wait)
				assert_true(until > 6 * 86400 * SECOND);
		}
	}
	assert_true(shut > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading),
		cmocka_unit_test(windows),
		cmocka_unit_test(blackouts),
		cmocka_unit_test(asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
