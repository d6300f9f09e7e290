/* Where requests go, by URL and options; what is refused without repeating it. */
#include "agent/store/s3.h"
#include "tests/store/store_suite.h"

#include <unistd.h>

static struct s3_store *endpoint_open(const char *url, const char *endpoint, bool path_style)
{
	struct store_options options = {
		.endpoint = endpoint, .path_style = path_style, .region = "eu-central-1",
	};
	struct error err = ERROR_INIT;
	struct store *store;

	suite_ok(store_open(url, &options, false, &store, &err), &err);
	return (struct s3_store *)store;
}

static void test_styles(void **state)
{
	static const struct { const char *url, *endpoint; bool path_style; const char *wanted; } cases[] = {
		{ "s3://bucket", NULL, false, "https://bucket.s3.eu-central-1.amazonaws.com/k" },
		{ "s3://bucket/", NULL, true, "https://s3.eu-central-1.amazonaws.com/bucket/k" },
		{ "s3://bucket/p", NULL, false, "https://bucket.s3.eu-central-1.amazonaws.com/p/k" },
		{ "s3://bucket/p/q/", NULL, true,
		  "https://s3.eu-central-1.amazonaws.com/bucket/p/q/k" },
		{ "s3://dot.ted", NULL, false, "https://s3.eu-central-1.amazonaws.com/dot.ted/k" },
		{ "s3://bucket", "https://store.example:9000", false,
		  "https://bucket.store.example:9000/k" },
		{ "s3://bucket", "https://store.example:443/", true, "https://store.example/bucket/k" },
		{ "s3://bucket", "http://127.0.0.1:80", false, "http://127.0.0.1/bucket/k" },
		{ "s3://bucket", "http://[::1]:81", false, "http://[::1]:81/bucket/k" },
		{ "s3://bucket", "http://localhost:81", false, "http://localhost:81/bucket/k" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct s3_store *s3 = endpoint_open(cases[i].url, cases[i].endpoint,
						    cases[i].path_style);
		char url[S3_URL_SIZE];

		s3_url(s3, "k", url);
		assert_string_equal(url, cases[i].wanted);
		assert_string_equal(strstr(s3->origin, "://") + 3, s3->host);
		store_close(&s3->base);
	}
}

static void expect_refused(const char *url, struct store_options options, const char *untold)
{
	struct error err = ERROR_INIT;
	struct store *store;

	if (store_open(url, &options, false, &store, &err) == 0)
		fail_msg("accepted %s at %s", url, options.endpoint ?: "Amazon");
	assert_int_equal(err.code, -EINVAL);
	assert_int_equal(err.exit, EXIT_USAGE);
	assert_null(store);
	if (untold)
		assert_null(strstr(err.message, untold));
}

static void test_refused(void **state)
{
	static const char *const urls[] = {
		"s3://", "s3://ab", "s3:///x", "s3://bucket/a//b", "s3://bucket/../b",
		"s3://bu cket", "s3://bucket?x", "s3://user:hunter2@bucket", "s3://bucket/a b",
		"s3://bucket//", "s3://.bucket", "s3://-bucket",
	};
	static const char *const endpoints[] = {
		"ftp://host", "file:///etc", "host.example", "https://", "https://user:hunter2@host",
		"https://hunter2@host", "https://host/path", "https://host?hunter2",
		"https://host#x", "https://ho st", "https://host:99999", "gopher://hunter2",
	};
	char longest[600] = "s3://bucket/";

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		expect_refused(urls[i], (struct store_options){ 0 }, "hunter2");
	for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++)
		expect_refused("s3://bucket", (struct store_options){ .endpoint = endpoints[i] },
			       "hunter2");
	memset(longest + strlen(longest), 'p', STORE_URL_PREFIX_MAX + 1);
	expect_refused(longest, (struct store_options){ 0 }, NULL);
	expect_refused("s3://bucket", (struct store_options){ .region = "eu/west" }, NULL);
	expect_refused("s3://bucket", (struct store_options){ .region = "a\r\nx: y" }, NULL);
}

static void test_trust(void **state)
{
	char path[] = "/tmp/clawback-ca.XXXXXX";
	struct store_options options = { .ca_file = path };
	struct error err = ERROR_INIT;
	struct store *store;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	suite_failed(store_open("s3://bucket", &options, false, &store, &err), -EINVAL, &err);
	assert_int_equal(write(fd, "-----BEGIN CERTIFICATE-----\nx\n", 30), 30);
	suite_ok(store_open("s3://bucket", &options, false, &store, &err), &err);
	/* The system's anchors stay: they are the greater part, behind ours. */
	assert_memory_equal(((struct s3_store *)store)->trust, "-----BEGIN", 10);
	if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) == 0)
		assert_true(((struct s3_store *)store)->trust_bytes > 10000);
	store_close(store);
	close(fd);
	unlink(path);
	suite_failed(store_open("s3://bucket", &options, false, &store, &err), -ENOENT, &err);
}

static int lab_start(void **state)
{
	(void)state;
	setenv("AWS_ACCESS_KEY_ID", "K", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "S", 1);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_styles), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_trust),
	};

	return cmocka_run_group_tests(tests, lab_start, NULL);
}
