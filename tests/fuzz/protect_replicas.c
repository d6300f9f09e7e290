/*
 * What is remembered of a further store, <state>/stores/NAME.json. Its checksum is no
 * secret, so the harness makes it right: the input is the JSON of "state", or else the
 * file.
 */
#include "agent/base/file.h"

#define file_read fuzz_file_read
static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length);
#include "agent/protect/replicas_file.c"

#include "tests/fuzz/fuzz.h"

static const uint8_t *content;
static size_t content_length;

/* The file around a state; NULL when it is no JSON object, or that file. */
static char *file_around(const uint8_t *data, size_t length)
{
	json_t *object = json_loadb((const char *)data, length, JSON_REJECT_DUPLICATES, NULL);
	char hex[2 * CRYPTO_DIGEST_SIZE + 1], *text;
	json_t *file;

	if (!json_is_object(object) || json_object_get(object, "state")) {
		json_decref(object);
		return NULL;
	}
	FUZZ_CHECK(!state_digest(object, hex));
	file = json_pack("{s:i, s:s, s:o}", "version", REPLICAS_VERSION, "sha256", hex, "state",
			 object);
	text = json_dumps(file, 0);
	json_decref(file);
	return text;
}

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
	static const struct config_store store = { .name = "far", .url = "file:///far" };
	struct error err = ERROR_INIT;
	struct replica_state state;
	char *text = file_around(data, length);
	int ret;

	content = text ? (const uint8_t *)text : data;
	content_length = text ? strlen(text) : length;
	ret = replica_state_load("/nonexistent", &store, &state, &err);
	free(text);
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!state.volumes && !state.count);
		return 0;
	}
	FUZZ_CHECK(state.count <= REPLICAS_VOLUMES_MAX);
	FUZZ_CHECK_TEXT(state.error);
	FUZZ_CHECK(state.success_ns <= INT64_MAX && state.error_ns <= INT64_MAX);
	for (size_t i = 0; i < state.count; i++) {
		FUZZ_CHECK_TEXT(state.volumes[i].name);
		FUZZ_CHECK(state.volumes[i].place.through <= INT64_MAX);
		FUZZ_CHECK(state.volumes[i].missing_ns <= INT64_MAX);
	}
	replica_state_fini(&state);
	return 0;
}
