/*
 * The S3 store against a server in this process: the common suite, so that it also
 * runs under the sanitizers, and answers that a real server does not give on demand.
 */
#include "agent/store/store.h"
#include "tests/store/store_suite.h"
#include "tests/unit/s3_fake.h"

#define PART_BYTES (5u << 20)
#define XML "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n"

static struct fake *fake;

static struct store *open_with(struct store_options options, const char *prefix)
{
	struct error err = ERROR_INIT;
	char endpoint[64], url[64];
	struct store *store;

	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", fake->port);
	snprintf(url, sizeof(url), "s3://bucket%s", prefix);
	options.endpoint = endpoint;
	options.path_style = true;
	options.part_bytes = PART_BYTES;
	suite_ok(store_open(url, &options, false, &store, &err), &err);
	return store;
}

static int start(void **state)
{
	(void)state;
	setenv("AWS_ACCESS_KEY_ID", "ACCESSKEYOFTHETEST", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "secretofthetest", 1);
	setenv("AWS_SESSION_TOKEN", "tokenofthetest", 1);
	setenv("no_proxy", "*", 1);
	fake = fake_start();
	return 0;
}

static int stop(void **state)
{
	(void)state;
	fake_stop(fake);
	return 0;
}

static uint64_t retries(const struct store *store)
{
	struct store_counts counts;

	store_counts(store, &counts);
	return counts.retries;
}

/* ---- the suite --------------------------------------------------------------------- */

static void suite(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct store *store = open_with((struct store_options){ 0 }, i ? "/a/b" : "");
		struct error err = ERROR_INIT;

		suite_basics(store);
		suite_ranges(store);
		suite_if_absent(store);
		suite_races(store, 3);
		suite_random(store, 150);
		suite_threads(store, 2);
		suite_many(store, 60);
		if (i)
			suite_upload_sizes(store, PART_BYTES);
		suite_upload_abort(store, 100);
		suite_upload_abort(store, 3 * PART_BYTES);
		assert_int_equal(store_clean(store, "", 0, &err), 0);
		store_close(store);
	}
	assert_int_equal(fake->count, 0);
}

/* What a passing fault spoiled is done again. */
static void passing_faults(void **state)
{
	static const char *const faults[] = {
		"reset", "lost", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n",
		"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 400 No\r\nContent-Length: 53\r\n\r\n"
		"<Error><Code>XAmzContentSHA256Mismatch</Code></Error>",
	};
	struct store *store = open_with((struct store_options){ .retries = 2 }, "");
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		uint64_t before = retries(store);
		uint8_t *data;
		size_t got;

		/* An answer without a body is whole once its status has come. */
		if (!strstr(faults[i], "half"))
			fake_plan(fake, "PUT", faults[i]);
		suite_put(store, "x", i, 1000);
		fake_plan(fake, "GET", faults[i]);
		suite_ok(store_get_all(store, "x", 2000, &data, &got, &err), &err);
		assert_int_equal(got, 1000);
		free(data);
		suite_expect(store, "x", i, 1000);
		if (!strstr(faults[i], "half"))
			fake_plan(fake, "DELETE", faults[i]);
		suite_ok(store_delete(store, "x", &err), &err);
		suite_absent(store, "x");
		/* A dead kept connection libcurl replaces without telling. */
		if (i > 1)
			assert_true(retries(store) > before);
		fake_plan_clear(fake);
	}
	store_close(store);
}

/* ---- refusals ------------------------------------------------------------------------ */

/* By the code in the body; without one by the status. */
static void meanings(void **state)
{
	static const struct { int status; const char *code; int meaning; const char *hint; }
	cases[] = {
		{ 404, "NoSuchKey", -ENOENT, "" }, { 404, "NoSuchBucket", -ENXIO, "create" },
		{ 403, "AccessDenied", -EACCES, "may use" },
		{ 403, "InvalidAccessKeyId", -EACCES, "does not know" },
		{ 403, "SignatureDoesNotMatch", -EACCES, "secret key" },
		{ 400, "AuthorizationHeaderMalformed", -EACCES, "region" },
		{ 403, "RequestTimeTooSkewed", -EACCES, "clock" },
		{ 400, "ExpiredToken", -EACCES, "temporary" },
		{ 400, "InvalidToken", -EACCES, "temporary" },
		{ 301, "PermanentRedirect", -EREMOTE, "region" },
		{ 403, "QuotaExceeded", -ENOSPC, "quota" },
		{ 403, "InvalidObjectState", -EPERM, "archived" },
		{ 400, "EntityTooLarge", -EFBIG, "" }, { 409, "OperationAborted", -EAGAIN, "" },
		{ 409, "ConditionalRequestConflict", -EAGAIN, "" },
		{ 400, "RequestTimeout", -ETIMEDOUT, "" }, { 400, "BadDigest", -EIO, "damaged" },
		{ 400, "IncompleteBody", -ECONNRESET, "" }, { 500, "InternalError", -EIO, "" },
		{ 503, "SlowDown", -EAGAIN, "fewer" }, { 400, "Unheard", -EINVAL, "Unheard" },
		{ 401, "", -EACCES, "credentials" }, { 403, "", -EACCES, "credentials" },
		{ 404, "", -EPROTO, "no object store" }, { 408, "", -ETIMEDOUT, "" },
		{ 412, "", -EEXIST, "" }, { 429, "", -EAGAIN, "fewer" },
		{ 501, "", -EOPNOTSUPP, "cannot" }, { 507, "", -ENOSPC, "space" },
		{ 502, "", -EIO, "" }, { 418, "", -EINVAL, "418" }, { 302, "", -EREMOTE, "region" },
	};
	struct store *store = open_with((struct store_options){ .retries = 1 }, "");

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err = ERROR_INIT;
		char body[200], answer[400];
		int length = !*cases[i].code ? 0 :
			snprintf(body, sizeof(body), "<Error><Code>%s</Code><Message>by plan"
				 "</Message><Region>mars-1</Region></Error>", cases[i].code);

		snprintf(answer, sizeof(answer), "HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%.*s",
			 cases[i].status, length, length, body);
		fake_plan(fake, "PUT", answer);
		fake_plan(fake, "PUT", answer);
		suite_failed(store_put(store, "key", "x", 1, 0, &err), cases[i].meaning, &err);
		if (!strstr(err.message, cases[i].hint) || !strstr(err.message, "/bucket/key"))
			fail_msg("%d %s: %s", cases[i].status, cases[i].code, err.message);
		assert_int_equal(err.exit, cases[i].meaning == -ENXIO ? EXIT_NO_REPOSITORY :
									EXIT_FAILED);
		if (cases[i].meaning == -EREMOTE && length)
			assert_non_null(strstr(err.message, "in region mars-1"));
		fake_plan_clear(fake);
	}
	store_close(store);
	assert_int_equal(fake->count, 0);
}

/* A server that repeats what it was sent does not bring it into our messages. */
static void credentials_are_not_repeated(void **state)
{
	static const char *const secrets[] = {
		"ACCESSKEYOFTHETEST", "secretofthetest", "tokenofthetest",
	};
	struct store *store = open_with((struct store_options){ 0 }, "");

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct error err = ERROR_INIT;
		char answer[400];

		snprintf(answer, sizeof(answer), "HTTP/1.1 403 X\r\nConnection: close\r\n\r\n<Error>"
			 "<Code>Access%s</Code><Message>you, %s</Message><Region>%s</Region>"
			 "</Error>", secrets[i], secrets[i], secrets[i]);
		fake_plan(fake, "DELETE", answer);
		suite_failed(store_delete(store, "x", &err), -EACCES, &err);
		assert_null(strstr(err.message, secrets[i]));
		assert_non_null(strstr(err.message, "left out"));
	}
	store_close(store);
}

static void stalled(void **state)
{
	struct store *store = open_with((struct store_options){ .retries = 1,
								.timeout_seconds = 1 }, "");
	struct error err = ERROR_INIT;

	(void)state;
	fake_plan(fake, "PUT", "stall");
	fake_plan(fake, "PUT", "stall");
	suite_failed(store_put(store, "x", "x", 1, 0, &err), -ETIMEDOUT, &err);
	assert_non_null(strstr(err.message, "nothing came or went for 1 s"));
	assert_non_null(strstr(err.message, "2 tries"));
	store_close(store);
}

/* ---- answers that make no sense ---------------------------------------------------------- */

static void odd_objects(void **state)
{
	static const char moved[] = "HTTP/1.1 206 X\r\nContent-Length: 2\r\n"
				    "Content-Range: bytes 1-2/5\r\n\r\nab";
	static const char vague[] = "HTTP/1.1 206 X\r\nContent-Length: 2\r\n"
				    "Content-Range: bytes 0-1/*\r\n\r\nab";
	static const char brief[] = "HTTP/1.1 206 X\r\nContent-Length: 1\r\n"
				    "Content-Range: bytes 0-1/5\r\n\r\na";
	static const char whole[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef";
	static const char *const odd[] = { moved, vague, brief };
	struct store *store = open_with((struct store_options){ .retries = 1 }, "");
	struct error err = ERROR_INIT;
	char data[8];
	uint64_t bytes;
	size_t got;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		fake_plan(fake, "GET", odd[i]);
		fake_plan(fake, "GET", odd[i]);
		suite_failed(store_get(store, "x", 0, data, 2, &got, &err), -EPROTO, &err);
		assert_non_null(strstr(err.message, "another range"));
	}
	/* A server that knows no ranges sends all of it: the right piece is taken. */
	fake_plan(fake, "GET", whole);
	suite_ok(store_get(store, "x", 2, data, 3, &got, &err), &err);
	assert_int_equal(got, 3);
	assert_memory_equal(data, "cde", 3);
	fake_plan(fake, "GET", whole);
	suite_ok(store_size(store, "x", &bytes, &err), &err);
	assert_int_equal(bytes, 6);
	fake_plan(fake, "GET", XML "x");	/* no length at all */
	suite_failed(store_size(store, "x", &bytes, &err), -EPROTO, &err);
	assert_non_null(strstr(err.message, "does not say how large"));
	store_close(store);
}

#define ENTRY(key) "<Contents><Key>" key "</Key><Size>1</Size></Contents>"
#define UPLOADS(key) "<ListMultipartUploadsResult><Upload><Key>" key "</Key><UploadId>1" \
	"</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>" \
	"<IsTruncated>true</IsTruncated><NextKeyMarker>" key "</NextKeyMarker>" \
	"</ListMultipartUploadsResult>"
#define PAGE(entries, truncated) XML "<ListBucketResult>" entries "<IsTruncated>" truncated \
	"</IsTruncated></ListBucketResult>"

static void odd_listings(void **state)
{
	static const struct { const char *answer, *message; } cases[] = {
		{ XML "", "damaged" }, { XML "<html>", "damaged" },
		{ XML "<html></html>", "no object store's" },
		{ XML "<ListBucketResult>", "damaged" },
		{ PAGE(ENTRY("p/d/b") ENTRY("p/d/a"), "false"), "out of order" },
		{ PAGE(ENTRY("p/d/a") ENTRY("p/d/a"), "false"), "out of order" },
		{ PAGE(ENTRY("p/e/a"), "false"), "not asked for" },
		{ PAGE(ENTRY("d/a"), "false"), "not asked for" },
		{ PAGE(ENTRY("p/d/a"), "true"), "but not where" },
		{ XML UPLOADS("d/k"), "no object store's" },
		{ XML "<ListMultipartUploadsResult/>", "no object store's" },
		{ PAGE("", "true") , "but not where" },
		{ PAGE("<NextContinuationToken>t</NextContinuationToken>", "true"), "but not where" },
	};
	struct store *store = open_with((struct store_options){ 0 }, "/p");
	struct suite_count count = { 0, 0, "" };
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int ret;

		count = (struct suite_count){ 0, 0, "" };
		err = (struct error)ERROR_INIT;
		fake_plan(fake, "GET", cases[i].answer);
		ret = store_list(store, "d/", suite_count_visit, &count, &err);
		assert_true(ret < 0);
		suite_failed(ret, ret, &err);
		if (!strstr(err.message, cases[i].message))
			fail_msg("%s: %s", cases[i].answer, err.message);
	}
	/* Names that cannot be ours are passed over. */
	count = (struct suite_count){ 0, 0, "" };
	fake_plan(fake, "GET", PAGE(ENTRY("p/d/") ENTRY("p/d/a") ENTRY("p/d/a//b"), "false"));
	suite_ok(store_list(store, "d/", suite_count_visit, &count, &err), &err);
	assert_int_equal(count.seen, 1);
	store_close(store);
}

static int upload_two_parts(struct store *store, struct error *err)
{
	uint8_t *data = suite_data(1, 2 * PART_BYTES);
	struct store_upload *upload;
	int ret;

	*err = (struct error)ERROR_INIT;
	suite_ok(store_upload_start(store, "x", &upload, err), err);
	ret = store_upload_write(upload, data, 2 * PART_BYTES, err);
	if (ret)
		store_upload_abort(upload);
	else
		ret = store_upload_finish(upload, err);
	free(data);
	return ret;
}

static void odd_uploads(void **state)
{
	static const struct { const char *method, *answer; int code; const char *message; }
	cases[] = {
		{ "POST", XML "<R><Id>1</Id></R>", -EPROTO, "no upload id" },
		{ "POST", XML "", -EPROTO, "no upload id" },
		{ "PUT", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", -EPROTO, "part badly" },
		{ "PUT", "HTTP/1.1 200 OK\r\nETag: \"<a>\"\r\nContent-Length: 0\r\n\r\n", -EPROTO,
		  "part badly" },
		{ "PUT", "HTTP/1.1 404 X\r\nContent-Length: 46\r\n\r\n"
			 "<Error><Code>NoSuchUpload</Code></Error>      ", -ESTALE, "cleaned" },
	};
	struct store *store = open_with((struct store_options){ .connections = 1 }, "");
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_plan(fake, cases[i].method, cases[i].answer);
		suite_failed(upload_two_parts(store, &err), cases[i].code, &err);
		assert_non_null(strstr(err.message, cases[i].message));
		assert_int_equal(fake->count, 0);	/* nothing left behind */
		fake_plan_clear(fake);
	}
	store_close(store);
}

/* More unfinished uploads than a page lists; and a server that does not go on. */
static void unfinished_uploads(void **state)
{
	static const char again[] = XML UPLOADS("k");
	struct store *store = open_with((struct store_options){ 0 }, "");
	struct error err = ERROR_INIT;
	char key[32];

	(void)state;
	for (unsigned i = 0; i < 3 * FAKE_PAGE + 1; i++) {
		snprintf(key, sizeof(key), "k%03u", i);
		fake_store(fake, key, 1000 + i, 0, NULL, 0);
	}
	fake_store(fake, "kept", 0, 0, NULL, 0);
	/* Begun in 2020: not yet a hundred years old. */
	assert_int_equal(0, store_clean(store, "", 100ull * 366 * 86400, &err));
	assert_int_equal(fake->count, 3 * FAKE_PAGE + 2);
	assert_int_equal(3 * FAKE_PAGE + 1, store_clean(store, "", 3600, &err));
	assert_int_equal(fake->count, 1);
	suite_ok(store_delete(store, "kept", &err), &err);
	fake_plan(fake, "GET", again);
	fake_plan(fake, "GET", again);
	suite_failed(store_clean(store, "", 0, &err), -EPROTO, &err);
	assert_non_null(strstr(err.message, "does not go on"));
	/* Objects, where uploads were asked for: they have no upload id. */
	fake_plan(fake, "GET", PAGE(ENTRY("k"), "false"));
	suite_failed(store_clean(store, "", 0, &err), -EPROTO, &err);
	store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(suite),
		cmocka_unit_test(passing_faults),
		cmocka_unit_test(meanings),
		cmocka_unit_test(credentials_are_not_repeated),
		cmocka_unit_test(stalled),
		cmocka_unit_test(odd_objects),
		cmocka_unit_test(odd_listings),
		cmocka_unit_test(odd_uploads),
		cmocka_unit_test(unfinished_uploads),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
