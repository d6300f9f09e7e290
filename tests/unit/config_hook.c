/* The keys of a hook: commands, times, what a failure does; whose section counts. */
#include "tests/unit/config_lab.h"

#define SECOND 1000000000ull

static const struct config_hook *hook_of(const char *section, const char *lines)
{
	static struct config config;
	char text[4096];

	config_fini(&config);
	snprintf(text, sizeof(text), "[volume v]\ndevice = /dev/v\n%s%s\n",
		 strcmp(section, "group g") ? "" : "group = g\n[group g]\n", lines);
	config_expect_good(text, &config);
	return strcmp(section, "group g") ? &config.volumes[0].hook
					  : &config_group(&config, "g")->hook;
}

static void values(void **state)
{
	static const char *const sections[] = { "volume v", "group g" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const struct config_hook *hook = hook_of(sections[i], "");

		assert_string_equal(hook->command, "");
		assert_true(hook->timeout_ns == 30 * SECOND && !hook->optional);
		hook = hook_of(sections[i], "hook = /a/b  -c\td\nhook_timeout = 1s\n"
					    "hook_failure = continue");
		assert_string_equal(hook->command, "/a/b  -c\td");
		assert_true(hook->timeout_ns == SECOND && hook->optional);
		assert_true(hook_of(sections[i], "hook_timeout = 1h")->timeout_ns == 3600 * SECOND);
		assert_true(!hook_of(sections[i], "hook_failure = abort")->optional);
		hook_of(sections[i], "");
	}
}

static void bad_values(void **state)
{
	static const char *const bad[][2] = {
		{ "hook =", "absolute path" }, { "hook = true", "absolute path" },
		{ "hook = ./true", "absolute path" },
		{ "hook_timeout = 0", "from 1s to 1h" }, { "hook_timeout = 61min", "from 1s to 1h" },
		{ "hook_timeout = off", "give a duration" }, { "hook_timeout =", "give a duration" },
		{ "hook_failure =", "abort or continue" }, { "hook_failure = ignore", "abort or continue" },
		{ "hook_before = /bin/true", "has no key" },
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[volume v]\ndevice = /dev/v\n%s\n", bad[i][0]);
		config_expect_bad(text, 3, bad[i][1]);
		snprintf(text, sizeof(text), "[group g]\n%s\n", bad[i][0]);
		config_expect_bad(text, 2, bad[i][1]);
	}
	config_expect_bad("[agent]\nhook = /bin/true\n", 2, "has no key");
}

/* As many bytes and words as fit, and one more of each. */
static void limits(void **state)
{
	char line[2048], text[2200];
	size_t length = (size_t)snprintf(line, sizeof(line), "hook = /a");

	(void)state;
	for (size_t words = 1; words < CONFIG_HOOK_WORDS; words++)
		length += (size_t)snprintf(line + length, sizeof(line) - length, " w");
	hook_of("volume v", line);
	snprintf(text, sizeof(text), "[group g]\n%s w\n", line);
	config_expect_bad(text, 2, "too long");
	snprintf(line, sizeof(line), "hook = /%0*d", CONFIG_HOOK_MAX - 1, 1);
	assert_int_equal(strlen(hook_of("volume v", line)->command), CONFIG_HOOK_MAX);
	snprintf(text, sizeof(text), "[group g]\n%s1\n", line);
	config_expect_bad(text, 2, "too long");
	hook_of("volume v", "");
}

static void of_a_group(void **state)
{
	(void)state;
	config_expect_bad("[volume v]\ndevice = /dev/v\ngroup = g\nhook = /bin/true\n", 0,
			  "put it in [group g]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(bad_values),
		cmocka_unit_test(limits),
		cmocka_unit_test(of_a_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
