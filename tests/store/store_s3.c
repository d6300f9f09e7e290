/*
 * The S3 store against a real server (Ceph RADOS Gateway), and against the same
 * server through a stub that injects faults. Run by tests/store/s3.sh.
 */
#include "tests/store/store_lab.h"
#include "tests/store/store_faults.h"

#include "agent/base/interrupt.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#define WRONG_SECRET "WRONGSECRETWRONGSECRETWRONGSECRET"

/* ---- the common suite ------------------------------------------------------------ */

static void suite_all(struct store *store, int scale)
{
	suite_basics(store);
	suite_ranges(store);
	suite_if_absent(store);
	suite_races(store, 10);
	suite_random(store, scale);
	suite_threads(store, 6);
	suite_upload_sizes(store, LAB_PART_BYTES);
	suite_upload_abort(store, 0);
	suite_upload_abort(store, 100);
	suite_upload_abort(store, 3 * LAB_PART_BYTES);
}

static void test_suite(void **state)
{
	struct store *store = lab_open("RGW_HTTP", "");

	(void)state;
	suite_all(store, 400);
	lab_close_empty(store);
}

static void test_suite_prefix_tls(void **state)
{
	struct store_options options = lab_options("RGW_HTTPS");
	struct store *store;

	(void)state;
	options.ca_file = lab_get("RGW_CA");
	store = lab_open_with(&options, "/some/prefix-1/");
	suite_all(store, 150);
	lab_close_empty(store);
}

static void test_suite_file(void **state)
{
	struct store_options options = { .part_bytes = LAB_PART_BYTES };
	struct error err = ERROR_INIT;
	struct store *store;
	char url[512];

	(void)state;
	snprintf(url, sizeof(url), "file://%s/files", lab_get("RGW_DIR"));
	suite_ok(store_open(url, &options, true, &store, &err), &err);
	suite_all(store, 400);
	suite_many(store, 1100);
	lab_close_empty(store);
}

static void test_many(void **state)
{
	struct store *store = lab_open("RGW_HTTP", "/many");

	(void)state;
	suite_many(store, 1100);
	lab_close_empty(store);
}

/* The bucket in the host name. */
static void test_virtual_host(void **state)
{
	struct store_options options = lab_options("RGW_VIRTUAL");
	struct store *store;

	(void)state;
	options.path_style = false;
	store = lab_open_with(&options, "/v");
	suite_basics(store);
	suite_if_absent(store);
	suite_upload(store, "upload/v", 1, 2 * LAB_PART_BYTES + 1, LAB_PART_BYTES);
	lab_close_empty(store);
}

/* Keys of another prefix stay out of sight. */
static void test_prefixes_apart(void **state)
{
	struct store *a = lab_open("RGW_HTTP", "/apart"), *b = lab_open("RGW_HTTP", "/apart2");
	struct suite_count count = { 0, 0, "" };
	struct error err = ERROR_INIT;

	(void)state;
	suite_put(a, "x", 1, 10);
	suite_absent(b, "x");
	suite_ok(store_list(b, "", suite_count_visit, &count, &err), &err);
	assert_int_equal(count.seen, 0);
	suite_ok(store_delete(a, "x", &err), &err);
	lab_close_empty(a);
	lab_close_empty(b);
}

/* ---- large objects ------------------------------------------------------------------ */

static void test_large(void **state)
{
	enum { LENGTH = 40 << 20 };
	struct store *store = lab_open("RGW_HTTP", "/large");
	struct store_counts counts;

	(void)state;
	suite_upload(store, "x", 20261123, LENGTH, 1 << 20);
	store_counts(store, &counts);
	/* begin, 8 parts, complete; 2 looks, a read, a delete */
	assert_int_equal(counts.requests, 14);
	assert_true(counts.bytes_sent >= LENGTH && counts.bytes_sent < LENGTH + 10000);
	assert_true(counts.bytes_received >= LENGTH);
	assert_int_equal(counts.retries, 0);
	lab_close_empty(store);
}

/* A writer that died in the middle; cleaning takes what is old enough. */
static void test_clean(void **state)
{
	struct store *store;
	struct error err = ERROR_INIT;
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		struct store_upload *upload;
		uint8_t *data = suite_data(1, 3 * LAB_PART_BYTES);

		store = lab_open("RGW_HTTP", "/clean");
		if (store_upload_start(store, "dead/upload", &upload, &err) ||
		    store_upload_write(upload, data, 3 * LAB_PART_BYTES, &err))
			_exit(1);
		raise(SIGKILL);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status));
	store = lab_open("RGW_HTTP", "/other");
	assert_int_equal(store_clean(store, "", 0, &err), 0);	/* not ours */
	store_close(store);
	store = lab_open("RGW_HTTP", "/clean");
	assert_int_equal(store_clean(store, "", 3600, &err), 0);	/* may be alive */
	assert_int_equal(store_clean(store, "alive/", 0, &err), 0);
	assert_int_equal(store_clean(store, "dead/", 0, &err), 1);
	lab_close_empty(store);
}

static void test_bandwidth(void **state)
{
	struct store_options options = lab_options("RGW_HTTP");
	uint8_t *data = suite_data(1, 3 << 20);
	struct error err = ERROR_INIT;
	struct timespec began, ended;
	struct store *store;
	double seconds;

	(void)state;
	options.bandwidth_bytes = 2 << 20;
	store = lab_open_with(&options, "/slow");
	clock_gettime(CLOCK_MONOTONIC, &began);
	suite_ok(store_put(store, "x", data, 3 << 20, 0, &err), &err);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	seconds = (double)(ended.tv_sec - began.tv_sec) +
		  (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
	assert_true(seconds > 1.2 && seconds < 20);
	suite_ok(store_delete(store, "x", &err), &err);
	lab_close_empty(store);
	free(data);
}

/* ---- who may, and where ------------------------------------------------------------------ */

/* Every operation fails with `code`; says the text, never the secret; tries once. */
static void expect_refusal(struct store *store, int code, const char *text)
{
	uint64_t before = lab_requests(store), bytes;
	struct suite_count count = { 0, 0, "" };
	struct error err = ERROR_INIT;
	struct store_upload *upload;
	uint8_t byte, *data;
	size_t got;

	suite_failed(store_put(store, "x", "x", 1, 0, &err), code, &err);
	if (!strstr(err.message, text))
		fail_msg("no \"%s\" in: %s", text, err.message);
	assert_null(strstr(err.message, WRONG_SECRET));
	assert_null(strstr(err.message, "Signature="));
	suite_failed(store_get(store, "x", 0, &byte, 1, &got, &err), code, &err);
	assert_non_null(strstr(err.message, text));
	suite_failed(store_get_all(store, "x", 1, &data, &got, &err), code, &err);
	suite_failed(store_size(store, "x", &bytes, &err), code, &err);
	suite_failed(store_delete(store, "x", &err), code, &err);
	suite_failed(store_list(store, "", suite_count_visit, &count, &err), code, &err);
	suite_failed(store_clean(store, "", 0, &err), code, &err);
	assert_int_equal(lab_requests(store) - before, 7);
	suite_ok(store_upload_start(store, "x", &upload, &err), &err);
	data = suite_data(1, LAB_PART_BYTES + 1);
	suite_failed(store_upload_write(upload, data, LAB_PART_BYTES + 1, &err), code, &err);
	free(data);
	store_upload_abort(upload);
}

static void file_write(char path[static 256], const char *name, const char *format, ...)
{
	va_list args;
	FILE *out;

	snprintf(path, 256, "%s/%s", lab_get("RGW_DIR"), name);
	out = fopen(path, "w");
	assert_non_null(out);
	chmod(path, 0600);
	va_start(args, format);
	vfprintf(out, format, args);
	va_end(args);
	fclose(out);
}

static void test_wrong_secret(void **state)
{
	struct store_options options = lab_options("RGW_HTTP");
	struct store *store;
	char path[256];

	(void)state;
	file_write(path, "wrong", "[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n",
		   lab_get("RGW_ACCESS_KEY"), WRONG_SECRET);
	options.credentials_file = path;
	store = lab_open_with(&options, "");
	/* Which code and hint depends on the server's kinds of authentication. */
	expect_refusal(store, -EACCES, " key");
	store_close(store);
	file_write(path, "unknown", "[default]\naws_access_key_id=NOBODY\n"
		   "aws_secret_access_key=%s\n", WRONG_SECRET);
	store = lab_open_with(&options, "");
	expect_refusal(store, -EACCES, " key");
	store_close(store);
}

/* Temporary credentials: the token goes along and is signed. */
static void test_session_token(void **state)
{
	struct store_options options = lab_options("RGW_HTTP");
	struct store *store;
	char path[256];

	(void)state;
	options.credentials_file = lab_get("RGW_STS_CREDENTIALS");
	store = lab_open_with(&options, "/sts");
	suite_basics(store);
	suite_if_absent(store);
	suite_upload(store, "u", 1, LAB_PART_BYTES + 1, LAB_PART_BYTES);
	lab_close_empty(store);
	file_write(path, "token", "[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n"
		   "aws_session_token=made-up\n", lab_get("RGW_ACCESS_KEY"), WRONG_SECRET);
	options.credentials_file = path;
	store = lab_open_with(&options, "");
	expect_refusal(store, -EINVAL, "InvalidArgument");	/* Amazon: InvalidToken */
	store_close(store);
}

static void test_unknown_bucket(void **state)
{
	struct store_options options = lab_options("RGW_HTTP");
	struct error err = ERROR_INIT;
	struct store *store;
	uint8_t *data;
	size_t got;

	(void)state;
	suite_ok(store_open("s3://no-such-bucket/p", &options, false, &store, &err), &err);
	expect_refusal(store, -ENXIO, "create the bucket");
	assert_true(store_get_all(store, "x", 1, &data, &got, &err) < 0);
	assert_int_equal(err.exit, EXIT_NO_REPOSITORY);
	assert_non_null(strstr(err.message, "no-such-bucket/p/x"));
	store_close(store);
}

static void test_tls(void **state)
{
	struct store_options options = lab_options("RGW_HTTPS");
	char other[64];
	struct store *store;

	(void)state;
	store = lab_open_with(&options, "");
	expect_refusal(store, -EKEYREJECTED, "ca_file");	/* nobody knows that authority */
	store_close(store);
	options.ca_file = lab_get("RGW_CA");
	store = lab_open_with(&options, "");
	suite_basics(store);
	lab_close_empty(store);
	/* A known authority, but the certificate names another host. */
	snprintf(other, sizeof(other), "https://localhost%s", strrchr(options.endpoint, ':'));
	options.endpoint = other;
	store = lab_open_with(&options, "");
	expect_refusal(store, -EKEYREJECTED, "localhost");
	store_close(store);
}

static void test_nobody_there(void **state)
{
	struct store_options options = lab_options("RGW_HTTP");
	struct error err = ERROR_INIT;
	struct store *store;

	(void)state;
	options.endpoint = "http://127.0.0.1:1";
	options.retries = 1;
	store = lab_open_with(&options, "");
	suite_failed(store_put(store, "x", "x", 1, 0, &err), -ECONNREFUSED, &err);
	assert_non_null(strstr(err.message, "2 tries"));
	assert_int_equal(lab_requests(store), 2);
	store_close(store);
}

/* ---- interrupted ---------------------------------------------------------------------- */

/* In a child: a signal in the middle of an upload that is going nowhere fast. */
static int interrupted_child(void)
{
	struct store_options options = lab_options("FAULTY_HTTP");
	uint8_t *data = suite_data(1, 8 * LAB_PART_BYTES);
	struct error err = ERROR_INIT;
	struct store_upload *upload;
	struct store *store;
	time_t began;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	interrupt_install();
	options.connections = 2;
	store = lab_open_with(&options, "/interrupted");
	if (store_upload_start(store, "x", &upload, &err))
		return 10;
	began = time(NULL);
	if (fork() == 0) {
		usleep(700000);
		kill(getppid(), SIGTERM);
		_exit(0);
	}
	ret = store_upload_write(upload, data, 8 * LAB_PART_BYTES, &err);
	if (ret != -EINTR || err.exit != EXIT_INTERRUPTED)
		return 11;
	store_upload_abort(upload);
	if (time(NULL) - began > 6)
		return 12;
	if (store_put(store, "y", "y", 1, 0, &err) != -EINTR)
		return 13;
	store_close(store);
	free(data);
	wait(NULL);
	return 0;
}

static void test_interrupted(void **state)
{
	struct store *store;
	pid_t pid;
	int status;

	(void)state;
	lab_stub("plan PUT:slow:12 PUT:slow:12 PUT:slow:12");
	pid = fork();
	if (pid == 0)
		_exit(interrupted_child());
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	sleep(12);	/* the stub lets the parts through now; the upload is gone */
	store = lab_open("RGW_HTTP", "/interrupted");
	lab_close_empty(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_suite), cmocka_unit_test(test_suite_prefix_tls),
		cmocka_unit_test(test_suite_file), cmocka_unit_test(test_many),
		cmocka_unit_test(test_virtual_host), cmocka_unit_test(test_prefixes_apart),
		cmocka_unit_test(test_large), cmocka_unit_test(test_clean),
		cmocka_unit_test(test_bandwidth), cmocka_unit_test(test_wrong_secret),
		cmocka_unit_test(test_session_token), cmocka_unit_test(test_unknown_bucket),
		cmocka_unit_test(test_tls), cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_fault_recovery), cmocka_unit_test(test_fault_multipart),
		cmocka_unit_test(test_fault_lost_create),
		cmocka_unit_test(test_fault_lost_completion), cmocka_unit_test(test_fault_back_pressure),
	cmocka_unit_test(test_fault_gives_up),
		cmocka_unit_test(test_fault_timeouts), cmocka_unit_test(test_fault_not_retried),
		cmocka_unit_test(test_fault_odd_answers), cmocka_unit_test(test_fault_kept_connection),
		cmocka_unit_test(test_interrupted),
	};
	const char *only = getenv("STORE_TEST");

	if (!getenv("RGW_HTTP")) {
		printf("skipped: no S3 server; run tests/store/s3.sh\n");
		return 77;
	}
	if (only)
		cmocka_set_test_filter(only);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
