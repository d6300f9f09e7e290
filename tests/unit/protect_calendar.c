/* Calendars: what systemd-analyze says is read strictly; windows of the local day. */
#include "agent/protect/calendar.h"

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

/* Every minute of a day, beside the plain reading of it. */
static void windows(void **state)
{
	static const int pairs[][2] = { { 480, 1080 }, { 1215, 360 }, { 0, 1 }, { 720, 1440 },
					{ 1439, 0 } };
	uint64_t until;

	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	assert_true(calendar_open(0, 0, 5, &until));
	for (size_t p = 0; p < sizeof(pairs) / sizeof(pairs[0]); p++)
		for (uint64_t now = 1795392000; now < 1795392000 + 86400; now += 7) {
			int from = pairs[p][0], to = pairs[p][1];
			int minute = (int)(now % 86400 / 60);
			bool wanted = false, open = calendar_open(from, to, now * SECOND, &until);

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
	assert_true(calendar_open(329, 331, 1795392000 * SECOND, &until));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading),
		cmocka_unit_test(windows),
		cmocka_unit_test(asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
