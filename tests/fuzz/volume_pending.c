/*
 * The pending file. Its digest is no secret, so the harness makes it right where
 * the fuzzer would never guess it.
 *
 * Input: one byte of mode, then the file.
 */
#include "agent/base/file.h"

#define file_read fuzz_file_read
static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length);
#include "agent/volume/pending.c"

#include "tests/fuzz/fuzz.h"

#define GRANULARITY 4096

static const uint8_t *content;
static size_t content_length;

static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length)
{
	(void)path;
	if (content_length > limit_bytes)
		return -EFBIG;
	*data = fuzz_copy(content, content_length);
	*length = content_length;
	return 0;
}

/* What was loaded is just the file's words. */
static void check_marks(const struct bitmap *bitmap)
{
	struct pending_header header;
	struct le64 word;

	memcpy(&header, content, sizeof(header));
	FUZZ_CHECK(bitmap->bits == get_le64(header.bits));
	FUZZ_CHECK(content_length == sizeof(header) + bitmap_words(bitmap->bits) * 8);
	for (size_t i = 0; i < bitmap_words(bitmap->bits); i++) {
		memcpy(&word, content + sizeof(header) + i * 8, 8);
		FUZZ_CHECK(bitmap->words[i] == get_le64(word));
	}
	if (bitmap->bits % 64)
		FUZZ_CHECK(!(bitmap->words[bitmap->bits / 64] >> (bitmap->bits % 64)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	bool mend = fuzz_byte(&data, &length) % 2;
	uint8_t *file = fuzz_copy(data, length);
	struct bitmap bitmap = { .bits = 0 };
	struct uuid run;
	struct error err = ERROR_INIT;
	int ret;

	if (mend && length >= sizeof(struct pending_header))
		FUZZ_CHECK(!pending_digest(file, length,
					   ((struct pending_header *)file)->digest));
	content = file;
	content_length = length;
	ret = pending_load("/state", "fuzz", GRANULARITY, &run, &bitmap, &err);
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!bitmap.words);
	} else {
		check_marks(&bitmap);
		FUZZ_CHECK(!memcmp(run.b, ((struct pending_header *)file)->run, sizeof(run.b)));
	}
	bitmap_fini(&bitmap);
	free(file);
	return 0;
}
