/*
 * Faults between us and the real server, by tests/store/faulty: what is survived,
 * what is given up on, and with which words.
 */
#ifndef CLAWBACK_TESTS_STORE_FAULTS_H
#define CLAWBACK_TESTS_STORE_FAULTS_H

#include "tests/store/store_lab.h"

static inline uint64_t fault_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Three of each kind in a row are survived, and nothing is wrong afterwards. */
static inline void test_fault_recovery(void **state)
{
	static const char *const faults[] = {
		"500", "503", "429", "reset", "lost", "cut", "close", "flip", "late", "huge",
	};
	struct store *store = lab_open("FAULTY_HTTP", "/recovery");
	struct suite_count count = { 0, 0, "" };
	struct error err = ERROR_INIT;
	char key[32];

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		const char *f = faults[i];

		snprintf(key, sizeof(key), "%zu/x", i);
		if (strcmp(f, "late") != 0) {	/* only a completion may look so */
			lab_stub("plan PUT:%s PUT:%s PUT:%s", f, f, f);
			suite_put(store, key, i, 100000);
			lab_stub("plan GET:%s GET:%s GET:%s", f, f, f);
			suite_expect(store, key, i, 100000);
			lab_stub("plan GET:%s GET:%s", f, f);
			count = (struct suite_count){ 0, 0, "" };
			suite_ok(store_list(store, "", suite_count_visit, &count, &err), &err);
			assert_int_equal(count.seen, 1);
			lab_stub("plan DELETE:%s DELETE:%s", f, f);
			suite_ok(store_delete(store, key, &err), &err);
		}
	}
	lab_stub("plan");
	suite_absent(store, "0/x");
	lab_close_empty(store);
}

static inline void test_fault_multipart(void **state)
{
	static const char *const plans[] = {
		"POST:500 PUT:reset PUT:503 PUT:lost PUT:cut POST:ok POST:ok",
		"POST:ok POST:lost",			/* the completion's answer */
		"POST:ok POST:late POST:503 POST:reset",
		"POST:ok POST:cut POST:lost",
		"PUT:flip PUT:flip PUT:429 PUT:500 PUT:lost PUT:reset",
	};
	struct store *store = lab_open("FAULTY_HTTP", "/multipart");
	struct error err = ERROR_INIT;
	struct store_upload *upload;
	uint8_t *data = suite_data(1, 4 * LAB_PART_BYTES);
	int ret;

	(void)state;
	for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		lab_stub("plan %s", plans[i]);
		suite_upload(store, "x", i, 3 * LAB_PART_BYTES + 5, 1 << 20);
	}
	/* A begin whose answer was lost leaves an upload without a name to us. */
	lab_stub("plan POST:lost");
	suite_upload(store, "x", 7, LAB_PART_BYTES + 5, 1 << 20);
	assert_int_equal(store_clean(store, "", 0, &err), 1);
	/* A part that can never be written ends the upload, and nothing stays. */
	lab_stub("plan PUT:403");
	suite_ok(store_upload_start(store, "x", &upload, &err), &err);
	ret = store_upload_write(upload, data, 4 * LAB_PART_BYTES, &err);
	if (ret)
		store_upload_abort(upload);
	else
		ret = store_upload_finish(upload, &err);
	suite_failed(ret, -EACCES, &err);
	suite_absent(store, "x");
	lab_close_empty(store);
	/* And so does a completion that is refused. */
	store = lab_open("FAULTY_HTTP", "/multipart");
	lab_stub("plan POST:ok POST:403");
	suite_ok(store_upload_start(store, "x", &upload, &err), &err);
	suite_ok(store_upload_write(upload, data, 2 * LAB_PART_BYTES, &err), &err);
	suite_failed(store_upload_finish(upload, &err), -EACCES, &err);
	lab_close_empty(store);
	free(data);
}

/* A conditional create whose answer was lost: ours or another's? */
static inline void test_fault_lost_create(void **state)
{
	static const size_t lengths[] = { 0, 1, 5000, 3 << 20 };
	struct store *store = lab_open("FAULTY_HTTP", "/lost");
	struct store *other = lab_open("RGW_HTTP", "/lost");
	struct error err = ERROR_INIT;
	uint8_t *data = suite_data(3, 3 << 20);

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		/* Fresh and kept connections (libcurl repeats on the latter by itself). */
		for (int warm = 0; warm < 2; warm++) {
			if (warm)
				suite_put(store, "warm", 1, 1);
			lab_stub("plan PUT:lost PUT:lost");
			suite_ok(store_put(store, "x", data, lengths[i], STORE_IF_ABSENT, &err),
				 &err);
			suite_expect(store, "x", 3, lengths[i]);
			/* Now it is there, and nothing was lost. */
			suite_failed(store_put(store, "x", data, lengths[i], STORE_IF_ABSENT,
					       &err), -EEXIST, &err);
			suite_ok(store_delete(store, "x", &err), &err);

			suite_put(other, "x", 4, 5001);	/* another writer was first */
			lab_stub("plan PUT:lost");
			suite_failed(store_put(store, "x", data, lengths[i], STORE_IF_ABSENT,
					       &err), -EEXIST, &err);
			suite_expect(store, "x", 4, 5001);
			suite_ok(store_delete(store, "x", &err), &err);
		}
	}
	suite_ok(store_delete(store, "warm", &err), &err);
	lab_close_empty(store);
	store_close(other);
	free(data);
}

/*
 * The upload is gone at the second try of its completion: done by the first, or
 * by somebody else? (This server never says so itself: it answers the second try
 * of a done one like the first, and calls one that is gone "in progress".)
 */
static inline void test_fault_lost_completion(void **state)
{
	size_t length = LAB_PART_BYTES + 100;
	const struct { const char *plan; size_t other; int code; } rounds[] = {
		{ "POST:ok POST:lost POST:404:NoSuchUpload", 0, 0 },
		{ "POST:ok POST:lost POST:500 POST:500", 0, 0 },
		{ "POST:ok POST:503 POST:404:NoSuchUpload", 0, -ENOENT },
		{ "POST:ok POST:503 POST:404:NoSuchUpload", 100, -EIO },
		{ "POST:ok POST:503 POST:404:NoSuchUpload", length, -EIO },
		{ "POST:ok POST:503 POST:503", length, -EIO },
		{ "POST:ok POST:404:NoSuchUpload", 0, -ESTALE },
	};
	struct store_options options = lab_options("FAULTY_HTTP");
	uint8_t *data = suite_data(5, length);
	struct store *store;
	struct error err = ERROR_INIT;

	(void)state;
	options.retries = 1;
	store = lab_open_with(&options, "/completion");
	for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++) {
		struct store_upload *upload;
		int ret;

		if (rounds[i].other)
			suite_put(store, "x", 6, rounds[i].other);
		lab_stub("plan %s", rounds[i].plan);
		suite_ok(store_upload_start(store, "x", &upload, &err), &err);
		suite_ok(store_upload_write(upload, data, length, &err), &err);
		ret = store_upload_finish(upload, &err);
		if (rounds[i].code)
			suite_failed(ret, rounds[i].code, &err);
		else
			suite_ok(ret, &err);
		lab_stub("plan");
		if (rounds[i].code == 0)
			suite_expect(store, "x", 5, length);
		else if (rounds[i].other)
			suite_expect(store, "x", 6, rounds[i].other);
		else
			suite_absent(store, "x");
		suite_ok(store_delete(store, "x", &err), &err);
	}
	lab_close_empty(store);
	free(data);
}

/* Two parts under way and one being filled: the next byte has to wait. */
static inline void test_fault_back_pressure(void **state)
{
	struct store_options options = lab_options("FAULTY_HTTP");
	uint8_t *data = suite_data(1, LAB_PART_BYTES);
	struct error err = ERROR_INIT;
	struct store_upload *upload;
	struct store *store;
	uint64_t began;

	(void)state;
	options.connections = 2;
	store = lab_open_with(&options, "/pressure");
	lab_stub("plan PUT:slow:4 PUT:slow:4");
	suite_ok(store_upload_start(store, "x", &upload, &err), &err);
	began = fault_clock_ms();
	for (int i = 0; i < 3; i++)
		suite_ok(store_upload_write(upload, data, LAB_PART_BYTES, &err), &err);
	assert_true(fault_clock_ms() - began < 2500);
	suite_ok(store_upload_write(upload, data, 1, &err), &err);
	assert_true(fault_clock_ms() - began > 3500);
	suite_ok(store_upload_finish(upload, &err), &err);
	suite_ok(store_delete(store, "x", &err), &err);
	lab_close_empty(store);
	free(data);
}

static inline void fault_expect_give_up(struct store *store, const char *fault, int code,
					const char *text)
{
	struct error err = ERROR_INIT;
	uint8_t byte;
	size_t got;

	lab_stub("plan %s %s %s %s", fault, fault, fault, fault);
	suite_failed(store_get(store, "x", 0, &byte, 1, &got, &err), code, &err);
	if (!strstr(err.message, text) || !strstr(err.message, "gave up after 3 tries"))
		fail_msg("%s: %s", fault, err.message);
	assert_int_equal(got, 0);
	assert_int_equal(lab_stub("count"), 3);
}

static inline void test_fault_gives_up(void **state)
{
	struct store_options options = lab_options("FAULTY_HTTP");
	struct store_counts counts;
	struct store *store;

	(void)state;
	options.retries = 2;
	store = lab_open_with(&options, "/gives-up");
	fault_expect_give_up(store, "500", -EIO, "500 Planned500 (by plan)");
	fault_expect_give_up(store, "503", -EIO, "503");
	fault_expect_give_up(store, "429", -EAGAIN, "fewer requests");
	fault_expect_give_up(store, "huge", -EIO, "500");
	store_counts(store, &counts);
	assert_int_equal(counts.requests, 12);
	assert_int_equal(counts.retries, 8);
	store_close(store);
	/* A kept connection that breaks is repeated once more inside libcurl. */
	store = lab_open_with(&options, "/gives-up");
	fault_expect_give_up(store, "reset", -ECONNRESET, "gives-up/x");
	store_close(store);
}

static inline void test_fault_timeouts(void **state)
{
	struct store_options options = lab_options("FAULTY_HTTP");
	struct error err = ERROR_INIT;
	struct store *store;
	uint64_t began;

	(void)state;
	options.timeout_seconds = 1;
	options.retries = 1;
	store = lab_open_with(&options, "/time-outs");
	suite_put(store, "x", 1, 100000);
	/* One silence is survived, two are too many. */
	lab_stub("plan GET:slow:4");
	suite_expect(store, "x", 1, 100000);
	lab_stub("plan GET:ok GET:stall:4");
	suite_expect(store, "x", 1, 100000);
	lab_stub("plan PUT:slow:4 PUT:slow:4");
	began = fault_clock_ms();
	suite_failed(store_put(store, "y", "y", 1, 0, &err), -ETIMEDOUT, &err);
	assert_true(fault_clock_ms() - began < 8000);
	assert_non_null(strstr(err.message, "nothing came or went for 1 s"));
	/* Not before the server wants us back. */
	lab_stub("plan GET:503:2");
	began = fault_clock_ms();
	suite_expect(store, "x", 1, 100000);
	assert_true(fault_clock_ms() - began >= 2000);
	sleep(4);	/* the slow ones arrive */
	suite_ok(store_delete(store, "x", &err), &err);
	suite_ok(store_delete(store, "y", &err), &err);
	lab_close_empty(store);
}

static inline void test_fault_not_retried(void **state)
{
	static const struct { const char *fault; int code; } cases[] = {
		{ "403", -EACCES }, { "401", -EACCES }, { "404", -EPROTO }, { "412", -EEXIST },
		{ "400", -EINVAL }, { "301", -EREMOTE }, { "501", -EOPNOTSUPP }, { "507", -ENOSPC },
	};
	struct store *store = lab_open("FAULTY_HTTP", "/once");
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		lab_stub("plan %s", cases[i].fault);
		suite_failed(store_put(store, "x", "x", 1, 0, &err), cases[i].code, &err);
		assert_int_equal(lab_stub("count"), 1);
		assert_null(strstr(err.message, "tries"));
	}
	store_close(store);
}

/* Answers no honest server gives. */
static inline void test_fault_odd_answers(void **state)
{
	struct store_options options = lab_options("FAULTY_HTTP");
	struct suite_count count = { 0, 0, "" };
	struct error err = ERROR_INIT;
	uint8_t room[100];
	struct store *store;
	uint64_t bytes;
	size_t got;

	(void)state;
	options.retries = 1;
	store = lab_open_with(&options, "/odd");
	suite_put(store, "x", 1, 1000);
	/* A web server's 404 does not mean that the object is gone. */
	lab_stub("plan html html");
	suite_failed(store_size(store, "x", &bytes, &err), -EPROTO, &err);
	suite_failed(store_delete(store, "x", &err), -EPROTO, &err);
	/* Another range than asked for is not taken. */
	lab_stub("plan range range");
	suite_failed(store_get(store, "x", 10, room, 100, &got, &err), -EPROTO, &err);
	lab_stub("plan range");
	suite_ok(store_get(store, "x", 10, room, 100, &got, &err), &err);
	assert_int_equal(got, 100);
	/* A listing that never ends, does. */
	lab_stub("plan loop loop loop loop");
	suite_failed(store_list(store, "", suite_count_visit, &count, &err), -EPROTO, &err);
	assert_int_equal(count.seen, 1);
	/* An <Error> with status 200 is no empty listing. */
	lab_stub("plan late");
	suite_failed(store_list(store, "", suite_count_visit, &count, &err), -EPROTO, &err);
	/* A server that repeats credentials does not get them into our message. */
	lab_stub("plan echo");
	suite_failed(store_get(store, "x", 0, room, 1, &got, &err), -EACCES, &err);
	assert_null(strstr(err.message, lab_get("RGW_ACCESS_KEY")));
	suite_ok(store_delete(store, "x", &err), &err);
	lab_close_empty(store);
}

/* Servers end idle connections without a word; the next request must not fail. */
static inline void test_fault_kept_connection(void **state)
{
	struct store_options options = lab_options("FAULTY_HTTP");
	struct error err = ERROR_INIT;
	struct store *store;

	(void)state;
	options.connections = 1;
	store = lab_open_with(&options, "/kept");
	for (int i = 0; i < 5; i++) {
		lab_stub("plan close");
		suite_put(store, "x", (uint64_t)i, 100);
		usleep(20000);
		suite_expect(store, "x", (uint64_t)i, 100);
		lab_stub("plan close");
		suite_ok(store_delete(store, "x", &err), &err);
		usleep(20000);
		suite_ok(store_put(store, "e", "", 0, STORE_IF_ABSENT, &err), &err);
		suite_ok(store_delete(store, "e", &err), &err);
	}
	lab_stub("plan");
	lab_close_empty(store);
}

#endif
