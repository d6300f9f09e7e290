/* What is remembered of a volume's drills, <state>/drills/NAME.json. */
#include "agent/base/file.h"

#define file_read fuzz_file_read
static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length);
#include "agent/protect/drill_file.c"

#include "tests/fuzz/fuzz.h"

static const uint8_t *content;
static size_t content_length;

static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length)
{
	(void)path;
	if (content_length > limit_bytes)
		return -EFBIG;
	*data = fuzz_text(content, content_length);
	*length = content_length;
	return 0;
}

static void check(bool has, const struct drill_record *record)
{
	if (!has)
		return;
	FUZZ_CHECK_TEXT(record->message);
	FUZZ_CHECK_TEXT(record->host);
	FUZZ_CHECK(record->failed < DRILL_STEPS && record->started_ns <= INT64_MAX);
	FUZZ_CHECK(record->passed ? !record->exit : record->exit > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct error err = ERROR_INIT;
	struct drill_state state;
	int ret;

	content = data;
	content_length = length;
	ret = drill_state_load("/nonexistent", "v", &state, &err);
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!state.has_last && !state.has_passed && !state.since_ns);
		return 0;
	}
	check(state.has_last, &state.last);
	check(state.has_passed, &state.passed);
	return 0;
}
