/* The daemon's keys: durations, windows, calendars; which section's word counts. */
#include "tests/unit/config_lab.h"

#define SECOND 1000000000ull
#define DAY (86400 * SECOND)

static void durations(void **state)
{
	static const struct { const char *text; uint64_t seconds; } good[] = {
		{ "0", 0 }, { "90", 90 }, { "10s", 10 }, { "10 s", 10 }, { "10sec", 10 },
		{ "5min", 300 }, { "5m", 300 }, { "1h", 3600 }, { "36 hours", 129600 },
		{ "1d", 86400 }, { "2 weeks", 1209600 }, { "1min 30s", 90 }, { "1h30", 3630 },
		{ "1d 1h 1min 1s", 90061 }, { "1s1s", 2 },
	};
	static const char *const bad[] = {
		"", " ", "s", "-1", "+1", "1x", "1.5h", "1 s s", "s1", "1H", "1,5s", " 1", "off",
		"1y", "1min-", "0x1", "1\t", "\xff",
	};
	static const char *const long_ones[] = {
		"18446744074", "99999999999999999999", "30500w 18000w", "18446744073s 1s",
	};
	uint64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (config_parse_duration(good[i].text, &ns))
			fail_msg("\"%s\" is no duration", good[i].text);
		assert_true(ns == good[i].seconds * SECOND);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (config_parse_duration(bad[i], &ns) != -EINVAL)
			fail_msg("\"%s\" is taken for a duration", bad[i]);
	for (size_t i = 0; i < sizeof(long_ones) / sizeof(long_ones[0]); i++)
		if (config_parse_duration(long_ones[i], &ns) != -ERANGE)
			fail_msg("\"%s\" is taken for a duration", long_ones[i]);
}

static const struct config_schedule *schedule_of(const char *line)
{
	static struct config config;
	char text[400];

	config_fini(&config);
	snprintf(text, sizeof(text), "[volume v]\ndevice = /dev/v\n%s\n", line);
	config_expect_good(text, &config);
	return &config.volumes[0].schedule;
}

static void values(void **state)
{
	const struct config_schedule *schedule = schedule_of("");

	(void)state;
	assert_true(schedule->rpo_ns == 0 && schedule->idle_point_ns == DAY);
	assert_string_equal(schedule->full, "");
	assert_int_equal(schedule->window_from, schedule->window_to);
	assert_true(schedule_of("rpo = 1s")->rpo_ns == SECOND);
	assert_true(schedule_of("rpo = 366d")->rpo_ns == 366 * DAY);
	assert_true(schedule_of("rpo = off")->rpo_ns == 0);
	assert_true(schedule_of("idle_point = off")->idle_point_ns == 0);
	assert_string_equal(schedule_of("full = never")->full, "");
	assert_string_equal(schedule_of("full = Sat *-*-1..7 03:00")->full, "Sat *-*-1..7 03:00");
	assert_string_equal(schedule_of("synthetic = Wed")->synthetic, "Wed");
	assert_string_equal(schedule_of("synthetic = never")->synthetic, "");
	assert_string_equal(schedule_of("differential = daily")->differential, "daily");
	assert_true(schedule_of("")->jitter_ns == 0 && schedule_of("")->run_timeout_ns == 0);
	assert_true(schedule_of("jitter = 15min")->jitter_ns == 900 * SECOND);
	assert_true(schedule_of("jitter = off")->jitter_ns == 0);
	assert_true(schedule_of("run_timeout = 6h")->run_timeout_ns == 21600 * SECOND);
	schedule = schedule_of("window = 20:15-06:00");
	assert_int_equal(schedule->window_from, 1215);
	assert_int_equal(schedule->window_to, 360);
	schedule = schedule_of("window = 12:00-24:00");
	assert_int_equal(schedule->window_to, 1440);
	schedule = schedule_of("window = always");
	assert_int_equal(schedule->window_from, schedule->window_to);
	schedule_of("");
}

static void expect_times(const struct config_times *times, int from, int to, unsigned days)
{
	assert_int_equal(times->from, from);
	assert_int_equal(times->to, to);
	assert_int_equal(times->days, days);
}

static void blackouts(void **state)
{
	const struct config_schedule *schedule = schedule_of("");

	(void)state;
	assert_int_equal(schedule->blackout_count, 0);
	assert_int_equal(schedule_of("blackout = never")->blackout_count, 0);
	schedule = schedule_of("blackout = 12:00-13:30");
	assert_int_equal(schedule->blackout_count, 1);
	expect_times(&schedule->blackouts[0], 720, 810, 0x7f);
	schedule = schedule_of("blackout = Mon-Fri 08:00-18:00, Sat 23:00-01:00,Fri-Mon  00:00-24:00");
	assert_int_equal(schedule->blackout_count, 3);
	expect_times(&schedule->blackouts[0], 480, 1080, 0x3e);
	expect_times(&schedule->blackouts[1], 1380, 60, 0x40);
	expect_times(&schedule->blackouts[2], 0, 1440, 0x63);
	schedule = schedule_of("blackout = Sun-Sun 00:00-00:01");
	expect_times(&schedule->blackouts[0], 0, 1, 0x01);
	schedule_of("");
}

static void bad_values(void **state)
{
	static const char *const bad[][2] = {
		{ "rpo = 0", "must be from 1s" }, { "rpo = 367d", "must be from 1s" },
		{ "rpo = soon", "give a duration" }, { "rpo =", "give a duration" },
		{ "idle_point = 0s", "must be from 1s" }, { "idle_point = never", "give a duration" },
		{ "synthetic = a;b", "give never" }, { "differential =", "give never" },
		{ "jitter = 0s", "must be from 1s" }, { "run_timeout = soon", "give a duration" },
		{ "blackout =", "give never" }, { "blackout = ,", "give never" },
		{ "blackout = always", "give never" }, { "blackout = 12:00", "give never" },
		{ "blackout = 12:00-12:00", "give never" }, { "blackout = 24:00-01:00", "give never" },
		{ "blackout = 12:00-13:00,", "give never" }, { "blackout = 12:00-13:00 Sat", "give never" },
		{ "blackout = Sat", "give never" }, { "blackout = Sat12:00-13:00", "give never" },
		{ "blackout = sat 12:00-13:00", "give never" }, { "blackout = Mon- 12:00-13:00", "give never" },
		{ "blackout = Mon-Foo 12:00-13:00", "give never" },
		{ "blackout = Mon-Fri-Sat 12:00-13:00", "give never" },
		{ "blackout = Saturday 12:00-13:00", "give never" },
		{ "blackout = Mon,Tue 12:00-13:00", "give never" },
		{ "blackout = 1:00-2:00,1:00-2:00,1:00-2:00,1:00-2:00,1:00-2:00", "give never" },
		{ "blackout = 01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,"
		  "01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00", "too many" },
		{ "full =", "give never" }, { "full = --help", "give never" },
		{ "full = $(reboot)", "give never" }, { "full = a;b", "give never" },
		{ "full = \"weekly\"", "give never" },
		{ "window =", "give always" }, { "window = 20:00", "give always" },
		{ "window = 20:00-", "give always" }, { "window = 20:00-6:00", "give always" },
		{ "window = 20:00-20:00", "give always" }, { "window = 20:60-21:00", "give always" },
		{ "window = 20:00-24:01", "give always" }, { "window = 20:00-25:00", "give always" },
		{ "window = 20:00-06:00x", "give always" }, { "window = 20-06", "give always" },
		{ "stop_timeout = 1s", "has no key" },
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[volume v]\ndevice = /dev/v\n%s\n", bad[i][0]);
		config_expect_bad(text, 3, bad[i][1]);
	}
	snprintf(text, sizeof(text), "[volume v]\nfull = %0128d\n", 1);
	config_expect_bad(text, 2, "is too long");
	config_expect_bad("[agent]\nstop_timeout = 2d\n", 2, "is too long");
	config_expect_bad("[agent]\nstop_timeout = long\n", 2, "give a duration");
	config_expect_bad("[group g]\ndevice = /dev/v\n", 2, "has no key");
	config_expect_bad("[group a/b]\nrpo = 1s\n", 0, "no name for a group");
}

/* Wherever [agent] stands; a volume in a group has no say, the group has. */
static void defaults(void **state)
{
	static const char *const agent = "[agent]\nrpo = 1h\nfull = weekly\n"
					 "window = 01:00-02:00\nidle_point = 2d\n"
					 "synthetic = daily\njitter = 1min\n"
					 "run_timeout = 1h\nblackout = 01:30-01:40\n";
	static const char *const others =
		"[volume a]\ndevice = /dev/a\n"
		"[volume b]\ndevice = /dev/b\nrpo = off\nfull = never\nwindow = always\n"
		"synthetic = never\njitter = off\nrun_timeout = off\nblackout = never\n"
		"[volume c]\ndevice = /dev/c\ngroup = g\n"
		"[volume d]\ndevice = /dev/d\ngroup = h\n"
		"[group g]\nrpo = 10s\n";
	static struct config config;
	const struct config_schedule *schedule;
	char text[1000];

	(void)state;
	for (int round = 0; round < 2; round++) {
		snprintf(text, sizeof(text), "%s%s", round ? agent : others,
			 round ? others : agent);
		config_expect_good(text, &config);
		assert_int_equal(config.group_count, 2);
		schedule = &config_volume(&config, "a")->schedule;
		assert_true(schedule->rpo_ns == 3600 * SECOND && schedule->idle_point_ns == 2 * DAY);
		assert_string_equal(schedule->full, "weekly");
		assert_int_equal(schedule->window_to, 120);
		assert_string_equal(schedule->synthetic, "daily");
		assert_string_equal(schedule->differential, "");
		assert_true(schedule->jitter_ns == 60 * SECOND &&
			    schedule->run_timeout_ns == 3600 * SECOND);
		assert_int_equal(schedule->blackout_count, 1);
		schedule = &config_volume(&config, "b")->schedule;
		assert_true(schedule->rpo_ns == 0 && schedule->idle_point_ns == 2 * DAY);
		assert_string_equal(schedule->full, "");
		assert_int_equal(schedule->window_to, schedule->window_from);
		assert_string_equal(schedule->synthetic, "");
		assert_true(!schedule->jitter_ns && !schedule->run_timeout_ns &&
			    !schedule->blackout_count);
		assert_true(config_volume(&config, "c")->schedule.rpo_ns == 0);
		assert_true(config_group(&config, "g")->schedule.rpo_ns == 10 * SECOND);
		assert_string_equal(config_group(&config, "g")->schedule.full, "weekly");
		assert_true(config_group(&config, "h")->schedule.rpo_ns == 3600 * SECOND);
		assert_null(config_group(&config, "i"));
		config_fini(&config);
	}
	config_expect_bad("[volume v]\ndevice = /dev/v\ngroup = g\nrpo = 1s\n", 0,
			  "in [group g]");
	config_expect_bad("[volume v]\ndevice = /dev/v\n[group g]\nrpo = 1s\n", 0,
			  "no volume is in group g");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations),
		cmocka_unit_test(values),
		cmocka_unit_test(blackouts),
		cmocka_unit_test(bad_values),
		cmocka_unit_test(defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
