/* What the daemon left to know, <state>/protect.json, as `status` reads it. */
#include "agent/base/file.h"

#define file_read fuzz_file_read
static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length);
#include "agent/protect/daemon_file.c"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct error err = ERROR_INIT;
	struct protect_facts facts;
	int ret;

	content = data;
	content_length = length;
	ret = protect_facts_load("/nonexistent", &facts, &err);
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!facts.units && !facts.count);
		return 0;
	}
	FUZZ_CHECK(!facts.alive && facts.count <= FACTS_UNITS_MAX);
	for (size_t i = 0; i < facts.count; i++) {
		FUZZ_CHECK_TEXT(facts.units[i].name);
		FUZZ_CHECK_TEXT(facts.units[i].error);
		FUZZ_CHECK(facts.units[i].rpo_ns <= INT64_MAX);
		FUZZ_CHECK(facts.units[i].covered_ns <= INT64_MAX);
		FUZZ_CHECK(facts.units[i].due_ns <= INT64_MAX);
	}
	protect_facts_fini(&facts);
	return 0;
}
