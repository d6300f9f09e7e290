/* When to try again, when not, and how fast to send. */
#include "agent/store/bandwidth.h"
#include "agent/store/retry.h"
#include "agent/store/s3_multipart.h"
#include "tests/store/store_suite.h"

static void test_delay(void **state)
{
	struct random_state random = random_start("delay");

	(void)state;
	for (unsigned retry = 1; retry < 40; retry++) {
		uint64_t ceiling = retry < 8 ? 200ull << (retry - 1) : 20000, highest = 0;

		for (int i = 0; i < 300; i++) {
			uint64_t delay = retry_delay_ms(retry, 0, random_next(&random));

			assert_true(delay <= ceiling);
			highest = delay > highest ? delay : highest;
		}
		assert_true(highest > ceiling * 9 / 10);	/* the jitter is full */
	}
	for (int i = 0; i < 100; i++) {	/* what the server asks for, not less */
		assert_true(retry_delay_ms(1, 7, random_next(&random)) >= 7000);
		assert_true(retry_delay_ms(9, 7, random_next(&random)) < 8000);
		assert_true(retry_delay_ms(1, 86400, random_next(&random)) < 121000);
		assert_true(retry_delay_ms(1, -5, random_next(&random)) <= 200);
	}
}

static bool stop_at_once(const void *context) { return context != NULL; }

static void test_wait(void **state)
{
	uint64_t began = retry_clock_ns();

	(void)state;
	assert_false(retry_wait(30, NULL, NULL));
	assert_true(retry_clock_ns() - began >= 30000000);
	began = retry_clock_ns();
	assert_true(retry_wait(60000, stop_at_once, &began));
	assert_true(retry_clock_ns() - began < 5000000000);
}

static void test_bandwidth(void **state)
{
	struct bandwidth bandwidth;
	uint64_t began;
	size_t sent = 0;

	(void)state;
	bandwidth_init(&bandwidth, 0);
	assert_int_equal(bandwidth_take(&bandwidth, 1 << 30), 1 << 30);
	bandwidth_fini(&bandwidth);
	bandwidth_init(&bandwidth, 1000000);
	began = retry_clock_ns();
	while (sent < 400000) {
		size_t took = bandwidth_take(&bandwidth, 400000 - sent);

		assert_true(took >= 1 && took <= 125000);
		sent += took;
	}
	/* The last eighth is handed out before its time is over. */
	assert_true(retry_clock_ns() - began >= 250000000);
	assert_true(retry_clock_ns() - began < 5000000000);
	bandwidth_fini(&bandwidth);
	bandwidth_init(&bandwidth, 3);
	assert_int_equal(bandwidth_take(&bandwidth, 100), 1);
	bandwidth_fini(&bandwidth);
}

static struct s3_meaning meaning(long status, const char *code)
{
	struct s3_answer answer = { .status = status };

	snprintf(answer.fault.code, sizeof(answer.fault.code), "%s", code);
	return s3_answer_meaning(&answer);
}

static void test_meaning(void **state)
{
	static const struct { long status; const char *code; int error; bool retryable; } cases[] = {
		{ 403, "", -EACCES, false }, { 403, "SignatureDoesNotMatch", -EACCES, false },
		{ 403, "RequestTimeTooSkewed", -EACCES, false }, { 400, "ExpiredToken", -EACCES, false },
		{ 404, "NoSuchKey", -ENOENT, false }, { 404, "NoSuchBucket", -ENXIO, false },
		/* Some web server's 404 is not "the object does not exist". */
		{ 404, "", -EPROTO, false },
		{ 412, "PreconditionFailed", -EEXIST, false }, { 412, "", -EEXIST, false },
		{ 409, "ConditionalRequestConflict", -EAGAIN, true }, { 409, "", -EINVAL, false },
		{ 500, "InternalError", -EIO, true }, { 200, "InternalError", -EIO, true },
		{ 502, "", -EIO, true }, { 503, "SlowDown", -EAGAIN, true }, { 503, "", -EIO, true },
		{ 504, "", -EIO, true }, { 429, "", -EAGAIN, true }, { 408, "", -ETIMEDOUT, true },
		{ 501, "NotImplemented", -EOPNOTSUPP, false }, { 507, "", -ENOSPC, false },
		{ 403, "QuotaExceeded", -ENOSPC, false }, { 400, "RequestTimeout", -ETIMEDOUT, true },
		{ 400, "MalformedXML", -EINVAL, false }, { 301, "PermanentRedirect", -EREMOTE, false },
		{ 400, "XAmzContentSHA256Mismatch", -EIO, true }, { 416, "", -ERANGE, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct s3_meaning found = meaning(cases[i].status, cases[i].code);

		if (found.code != cases[i].error || found.retryable != cases[i].retryable)
			fail_msg("%ld %s: %d, %d", cases[i].status, cases[i].code, found.code,
				 found.retryable);
	}
}

static void test_multipart_etag(void **state)
{
	/* MD5 of "a" and of "b"; then of those two digests in a row. */
	struct s3_etag parts[] = { { "\"0cc175b9c0f1b6a831c399e269772661\"" },
				   { "92EB5FFEE6AE2FEC3AD71C777531578F" } };
	struct s3_etag etag, odd[] = { { "\"not-an-md5\"" } };

	(void)state;
	assert_int_equal(s3_multipart_etag(parts, 2, &etag), 0);
	assert_string_equal(etag.text, "\"96e024ba2074fe77e8e965ba43a704be-2\"");
	assert_int_equal(s3_multipart_etag(odd, 1, &etag), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delay), cmocka_unit_test(test_wait),
		cmocka_unit_test(test_bandwidth), cmocka_unit_test(test_meaning),
		cmocka_unit_test(test_multipart_etag),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
