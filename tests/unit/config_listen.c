/* metrics_listen: what is an address, what is a loopback one, and which is refused. */
#include "tests/unit/config_lab.h"

#include <arpa/inet.h>

static void addresses(void **context)
{
	static const struct { const char *text; int port; bool loopback; } good[] = {
		{ "127.0.0.1:9746", 9746, true }, { "127.255.0.9:1", 1, true },
		{ "[::1]:65535", 65535, true }, { "0.0.0.0:80", 80, false },
		{ "192.0.2.1:9746", 9746, false }, { "[::]:9746", 9746, false },
		{ "[2001:db8::1]:9746", 9746, false }, { "[::ffff:127.0.0.1]:1", 1, false },
		{ "128.0.0.1:1", 1, false },
	};
	static const char *const bad[] = {
		"", ":", "9746", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
		"127.0.0.1:99999999999", "127.0.0.1:+1", "127.0.0.1: 1", "127.0.0.1:1x", "127.1:1",
		"localhost:1", "::1:9746", "[::1]", "[::1:9746", "::1]:9746", "[127.0.0.1]:1",
		"[::1]x:1", "[fe80::1%lo]:1",
		"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:1",
	};
	struct config_listen listen;

	(void)context;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(0, config_parse_listen(good[i].text, &listen));
		assert_int_equal(good[i].port, ntohs(listen.v4.sin_port));
		assert_int_equal(*good[i].text == '[' ? AF_INET6 : AF_INET, listen.any.sa_family);
		assert_int_equal(good[i].loopback, listen.loopback);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(-EINVAL, config_parse_listen(bad[i], &listen));
}

static void loopback_only(void **context)
{
	static const struct { const char *text, *message; } cases[] = {
		{ "metrics_listen = 127.0.0.1:9746", NULL },
		{ "metrics_listen = 192.0.2.1:9746", "no loopback address" },
		{ "metrics_listen = 192.0.2.1:9746\nmetrics_public = no", "no loopback address" },
		{ "metrics_public = yes\nmetrics_listen = 192.0.2.1:9746", NULL },
		{ "metrics_listen = 192.0.2.1:9746\nmetrics_public = yes", NULL },
		{ "metrics_listen = localhost:9746", "in numbers" },
		{ "metrics_listen = ", "in numbers" },
	};
	static struct config config;
	char text[200];

	(void)context;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err = ERROR_INIT;
		int ret;

		snprintf(text, sizeof(text), "[agent]\n%s\n", cases[i].text);
		ret = config_load_text(text, strlen(text), NULL, 0, &config, &err);
		assert_int_equal(cases[i].message ? -EINVAL : 0, ret);
		if (ret)
			assert_non_null(strstr(err.message, cases[i].message));
		else
			config_fini(&config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses),
		cmocka_unit_test(loopback_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
