/*
 * The state file. Its checksum is no secret, so the harness makes it right where the
 * fuzzer would never guess it.
 *
 * Input: one byte of mode, then the file, or the JSON of its member "state".
 */
#include "agent/base/file.h"

#define file_read fuzz_file_read
static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length);
#include "agent/volume/state.c"

#include "tests/fuzz/fuzz.h"

static const char *content;
static size_t content_length;

static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length)
{
	(void)path;
	if (content_length > limit_bytes)
		return -EFBIG;
	*data = fuzz_text((const uint8_t *)content, content_length);
	*length = content_length;
	return 0;
}

/* The file around a state; NULL when it is no JSON object. */
static char *file_around(const char *state, size_t length)
{
	json_t *object = json_loadb(state, length, JSON_REJECT_DUPLICATES, NULL), *file;
	char hex[65], *text;

	if (!json_is_object(object)) {
		json_decref(object);
		return NULL;
	}
	FUZZ_CHECK(!state_digest(object, hex));
	file = json_pack("{s:i, s:s, s:o}", "version", STATE_VERSION, "sha256", hex, "state",
			 object);
	text = json_dumps(file, 0);
	json_decref(file);
	return text;
}

static void check_text(const struct volume_state *state)
{
	for (size_t i = 0; i < STATE_FIELDS; i++)
		if (state_fields[i].kind == STATE_TEXT)
			FUZZ_CHECK(memchr((const char *)state + state_fields[i].offset, '\0',
					  state_fields[i].size));
}

/* Written and read again it says the same. */
static void check_again(const struct volume_state *state)
{
	struct volume_state again;
	struct error err = ERROR_INIT;
	char *text, *twice;

	FUZZ_CHECK(!state_encode(state, &text));
	content = text;
	content_length = strlen(text);
	FUZZ_CHECK(!volume_state_load("/state", "fuzz", &again, &err));
	FUZZ_CHECK(!state_encode(&again, &twice));
	FUZZ_CHECK(!strcmp(text, twice));
	free(text);
	free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static const struct volume_state nothing;
	bool whole = fuzz_byte(&data, &length) % 2 == 0;
	char *file = whole ? NULL : file_around((const char *)data, length);
	struct error err = ERROR_INIT;
	struct volume_state state;
	int ret;

	content = file ? file : (const char *)data;
	content_length = file ? strlen(file) : length;
	ret = volume_state_load("/state", "fuzz", &state, &err);
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!memcmp(&state, &nothing, sizeof(state)));
	} else {
		FUZZ_CHECK(!strcmp(state.name, "fuzz"));
		check_text(&state);
		check_again(&state);
	}
	free(file);
	return 0;
}
