/*
 * The log: as text, and as JSON that any bytes leave whole; what $JOURNAL_STREAM means.
 */
#include "agent/base/log_private.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int saved_stderr, captured;

static void capture(void)
{
	captured = memfd_create("stderr", MFD_CLOEXEC);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(captured >= 0 && saved_stderr >= 0 && dup2(captured, STDERR_FILENO) >= 0);
}

static const char *release(void)
{
	static char text[8192];
	ssize_t length = pread(captured, text, sizeof(text) - 1, 0);

	assert_true(length >= 0 && dup2(saved_stderr, STDERR_FILENO) >= 0);
	close(captured);
	close(saved_stderr);
	text[length] = '\0';
	return text;
}

static void text_lines(void **context)
{
	struct log_fields fields = { .event = "cycle_ended", .unit = "u" };
	const char *said;

	(void)context;
	log_set_format(LOG_FORMAT_TEXT);
	capture();
	log_error("a %d", 1);
	log_warning("b");
	log_note("c");
	log_detail("not by default");
	log_event(LOG_NOTES, &fields, "d");
	said = release();
	assert_string_equal("clawback: a 1\nclawback: warning: b\nclawback: c\nclawback: d\n", said);
	assert_true(log_is_text());
}

static void json_lines(void **context)
{
	struct log_fields fields = { .event = "cycle_ended", .unit = "g", .group = true,
				     .volume = "v", .point = 7, .message_id = "00ff" };
	const char *said;
	json_t *first, *second;

	(void)context;
	log_set_format(LOG_FORMAT_JSON);
	log_set_unit("own", false);
	capture();
	log_event(LOG_WARNINGS, &fields, "one\ntwo \"three\"");
	log_error("four");
	said = release();
	log_set_unit("", false);
	assert_false(log_is_text());
	first = json_loads(said, JSON_DISABLE_EOF_CHECK, NULL);
	second = json_loads(strchr(said, '\n') + 1, 0, NULL);
	assert_true(first && second);
	assert_string_equal("warning", json_string_value(json_object_get(first, "level")));
	assert_string_equal("one\ntwo \"three\"", json_string_value(json_object_get(first, "message")));
	assert_string_equal("g", json_string_value(json_object_get(first, "unit")));
	assert_string_equal("group", json_string_value(json_object_get(first, "kind")));
	assert_string_equal("v", json_string_value(json_object_get(first, "volume")));
	assert_string_equal("00ff", json_string_value(json_object_get(first, "message_id")));
	assert_int_equal(7, json_integer_value(json_object_get(first, "point")));
	assert_string_equal("error", json_string_value(json_object_get(second, "level")));
	assert_string_equal("own", json_string_value(json_object_get(second, "unit")));
	assert_null(json_object_get(second, "point"));
	json_decref(first);
	json_decref(second);
}

static void any_bytes(void **context)
{
	struct random_state random = random_start("any_bytes");
	char text[300], event[100];

	(void)context;
	for (int i = 0; i < 3000; i++) {
		struct log_fields fields = { .event = i % 2 ? event : NULL };
		uint64_t time_ns = random_below(&random, UINT64_C(4000000000) * 1000000000);
		size_t length = (size_t)random_below(&random, sizeof(text));
		json_t *object;
		char *line;

		for (size_t b = 0; b < length; b++)
			text[b] = (char)(1 + random_below(&random, 255));
		text[length] = '\0';
		snprintf(event, sizeof(event), "%.99s", text);
		line = log_json((enum log_level)(i % 4), time_ns, &fields, text);
		assert_non_null(line);
		assert_null(strchr(line, '\n'));
		object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(object);
		length = strlen(json_string_value(json_object_get(object, "time")));
		assert_int_equal(strlen("2026-11-27T05:00:00.000000Z"), length);
		json_decref(object);
		free(line);
	}
}

static void journal_stream(void **context)
{
	char stream[64];
	struct stat st;

	(void)context;
	assert_int_equal(0, fstat(STDERR_FILENO, &st));
	snprintf(stream, sizeof(stream), "%" PRIu64 ":%" PRIu64, (uint64_t)st.st_dev,
		 (uint64_t)st.st_ino);
	assert_int_equal(0, setenv("JOURNAL_STREAM", stream, 1));
	assert_true(log_stderr_is_journal());
	snprintf(stream, sizeof(stream), "%" PRIu64 ":%" PRIu64, (uint64_t)st.st_dev,
		 (uint64_t)st.st_ino + 1);
	assert_int_equal(0, setenv("JOURNAL_STREAM", stream, 1));
	assert_false(log_stderr_is_journal());
	assert_int_equal(0, setenv("JOURNAL_STREAM", "8", 1));
	assert_false(log_stderr_is_journal());
	unsetenv("JOURNAL_STREAM");
	assert_false(log_stderr_is_journal());
}

static void names(void **context)
{
	enum log_format format;

	(void)context;
	assert_true(!log_format_parse("auto", &format) && format == LOG_FORMAT_AUTO);
	assert_true(!log_format_parse("text", &format) && format == LOG_FORMAT_TEXT);
	assert_true(!log_format_parse("json", &format) && format == LOG_FORMAT_JSON);
	assert_int_equal(-EINVAL, log_format_parse("JSON", &format));
	assert_int_equal(-EINVAL, log_format_parse("", &format));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_lines),
		cmocka_unit_test(json_lines),
		cmocka_unit_test(any_bytes),
		cmocka_unit_test(journal_stream),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
