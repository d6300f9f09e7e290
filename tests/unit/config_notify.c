/* [notify]: what is taken, what goes together, and that no message repeats a URL. */
#include "tests/unit/config_lab.h"

#define SECOND UINT64_C(1000000000)

static int load(const char *text, struct config *config, struct error *err)
{
	return config_load_text(text, strlen(text), NULL, 0, config, err);
}

static void defaults(void **context)
{
	static struct config config;
	struct error err;

	(void)context;
	assert_int_equal(0, load("", &config, &err));
	assert_int_equal(NOTIFY_ON_FAILURE | NOTIFY_ON_WARNING | NOTIFY_ON_RECOVERY,
			 config.notify.on);
	assert_true(config.notify.interval_ns == 900 * SECOND);
	assert_string_equal("", config.notify.command);
	assert_string_equal("", config.notify.webhook);
	config_fini(&config);
}

static void all_keys(void **context)
{
	static struct config config;
	struct error err;

	(void)context;
	assert_int_equal(0, load("[notify]\ncommand = /c\nwebhook_file = /w\nca_file = /a\n"
				 "format = pagerduty\nrouting_key_file = /r\n"
				 "on = warning, failure\ninterval = off\n", &config, &err));
	assert_string_equal("/c", config.notify.command);
	assert_string_equal("/w", config.notify.webhook_file);
	assert_string_equal("/a", config.notify.ca_file);
	assert_string_equal("/r", config.notify.routing_key_file);
	assert_int_equal(NOTIFY_PAGERDUTY, config.notify.format);
	assert_int_equal(NOTIFY_ON_FAILURE | NOTIFY_ON_WARNING, config.notify.on);
	assert_true(config.notify.interval_ns == 0);
	config_fini(&config);
	assert_int_equal(0, load("[notify]\nwebhook = https://a.b/c.d=e\nformat = teams\n"
				 "on = failure,success\ninterval = 1h\n", &config, &err));
	assert_string_equal("https://a.b/c.d=e", config.notify.webhook);
	assert_true(config.notify.interval_ns == 3600 * SECOND);
	config_fini(&config);
}

static void refused(void **context)
{
	static const struct { const char *text, *message; } bad[] = {
		{ "command = x", "absolute path" },
		{ "webhook = http://sesame.net/hook", "https://" },
		{ "webhook = https://", "https://" },
		{ "webhook = https://sesame .net/", "https://" },
		{ "format = discord", "generic, slack" },
		{ "on = ", "failure, warning" },
		{ "on = failures", "failure, warning" },
		{ "on = recovery", "told to be over" },
		{ "interval = soon", "duration" },
		{ "interval = 367d", "duration" },
		{ "webhook = https://sesame.net/\nwebhook_file = /w", "exclude" },
		{ "format = pagerduty", "routing_key_file" },
		{ "routing_key_file = /r", "pagerduty" },
		{ "format = pagerduty\nrouting_key_file = /r\non = failure,success", "incident" },
		{ "colour = red", "no key" },
	};
	static struct config config;
	struct error err;
	char text[400];

	(void)context;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[notify]\n%s\n", bad[i].text);
		assert_true(load(text, &config, &err) < 0);
		assert_int_equal(EXIT_USAGE, err.exit);
		assert_non_null(strstr(err.message, bad[i].message));
		assert_null(strstr(err.message, "sesame"));
	}
}

static void options_are_not_repeated(void **context)
{
	static const char *const overrides[] = { "notify.webhook=http://sesame.net" };
	static struct config config;
	struct error err;

	(void)context;
	assert_true(config_load_text("", 0, overrides, 1, &config, &err) < 0);
	assert_non_null(strstr(err.message, "option notify.webhook"));
	assert_null(strstr(err.message, "sesame"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(all_keys),
		cmocka_unit_test(refused),
		cmocka_unit_test(options_are_not_repeated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
