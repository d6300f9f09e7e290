/* The keys of a drill: values, what [agent] says for volumes, what takes that back. */
#include "tests/unit/config_lab.h"

#define SECOND 1000000000ull

static const struct config_drill *drill_of(const char *agent, const char *volume)
{
	static struct config config;
	char text[4096];

	config_fini(&config);
	snprintf(text, sizeof(text), "[volume v]\ndevice = /dev/v\n%s\n[agent]\n%s\n", volume,
		 agent);
	config_expect_good(text, &config);
	return &config.volumes[0].drill;
}

static void defaults(void **state)
{
	const struct config_drill *drill = drill_of("", "");

	(void)state;
	assert_true(!*drill->calendar && !*drill->command && !*drill->folder && !*drill->key &&
		    !*drill->passphrase_file && !drill->random);
	assert_true(drill->timeout_ns == 600 * SECOND);
}

static void inherited(void **state)
{
	static const char agent[] = "drill = weekly\ndrill_command = /bin/a b\n"
		"drill_folder = /f\ndrill_key = /k\ndrill_passphrase_file = /p\n"
		"drill_timeout = 1h\ndrill_point = random";
	const struct config_drill *drill = drill_of(agent, "");

	(void)state;
	assert_string_equal(drill->calendar, "weekly");
	assert_string_equal(drill->command, "/bin/a b");
	assert_string_equal(drill->folder, "/f");
	assert_string_equal(drill->key, "/k");
	assert_string_equal(drill->passphrase_file, "/p");
	assert_true(drill->random && drill->timeout_ns == 3600 * SECOND);
	drill = drill_of(agent, "drill = never\ndrill_command = none\ndrill_folder = /g\n"
				"drill_timeout = 5s\ndrill_point = latest");
	assert_true(!*drill->calendar && !*drill->command && !drill->random);
	assert_string_equal(drill->folder, "/g");
	assert_string_equal(drill->key, "/k");
	assert_true(drill->timeout_ns == 5 * SECOND);
	drill = drill_of("drill = never", "drill = Sat 03:00");
	assert_string_equal(drill->calendar, "Sat 03:00");
}

static void bad(void **state)
{
	static const char *const lines[] = {
		"drill =", "drill = a;b", "drill_command = rm", "drill_command =",
		"drill_folder = here", "drill_key = k", "drill_passphrase_file = -",
		"drill_timeout = 0s", "drill_timeout = 8d", "drill_timeout = off",
		"drill_point = newest", "drill_point =", "drill_points = 3",
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(text, sizeof(text), "[volume v]\ndevice = /dev/v\n%s\n", lines[i]);
		config_expect_bad(text, 3, "drill");
	}
	config_expect_bad("[group g]\ndrill = weekly\n", 2, "has no key");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults), cmocka_unit_test(inherited), cmocka_unit_test(bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
