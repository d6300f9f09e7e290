/*
 * A hostile S3 server: every operation of the store against answers that the fuzzer
 * makes up, heads and bodies, with retries but without waiting for them.
 *
 * Input: one byte for the operation, then the answers (fake_curl.h).
 */
#include "tests/fuzz/fake_curl.h"

#include "agent/base/log.h"
#include "agent/store/retry.h"
#include "agent/store/s3_multipart.h"

#include <errno.h>

#define PREFIX "folder/"
#define ROOM 64

/* Time does not pass. */
uint64_t retry_delay_ms(unsigned retry, long retry_after_seconds, uint64_t random)
{
	(void)retry;
	(void)retry_after_seconds;
	return random;
}

bool retry_wait(uint64_t ms, bool (*stop)(const void *context), const void *context)
{
	(void)ms;
	return stop && stop(context);
}

uint64_t retry_clock_ns(void)
{
	return 1;
}

uint64_t retry_random(void)
{
	return 0;
}

static struct store *store;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct store_options options = { .endpoint = "http://127.0.0.1:1", .retries = 2,
					 .path_style = true };
	struct error err = ERROR_INIT;

	(void)argc;
	(void)argv;
	log_set_level(LOG_ERRORS);
	setenv("AWS_ACCESS_KEY_ID", "key", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "secret!", 1);
	unsetenv("AWS_SESSION_TOKEN");
	FUZZ_CHECK(!store_open("s3://bucket/all", &options, false, &store, &err));
	return 0;
}

struct seen {
	char last[STORE_KEY_MAX + 1];
};

static int key_seen(void *context, const char *key, uint64_t bytes)
{
	struct seen *seen = context;

	(void)bytes;
	FUZZ_CHECK(store_key_valid(key) && !strncmp(key, PREFIX, strlen(PREFIX)));
	FUZZ_CHECK(strcmp(seen->last, key) < 0);
	strcpy(seen->last, key);
	return 0;
}

static int list(struct error *err)
{
	struct seen seen = { "" };

	return store_list(store, PREFIX, key_seen, &seen, err);
}

static int clean(struct error *err)
{
	int removed = store_clean(store, PREFIX, 60, err);

	return removed < 0 ? removed : 0;
}

static int get(struct error *err)
{
	uint8_t *buffer = malloc(ROOM);
	size_t got = 0;
	int ret;

	FUZZ_CHECK(buffer);
	ret = store_get(store, "object", 10, buffer, ROOM, &got, err);
	FUZZ_CHECK(got <= ROOM);
	free(buffer);
	return ret;
}

static int get_all(struct error *err)
{
	uint8_t *data;
	size_t length;
	int ret = store_get_all(store, "object", 1000, &data, &length, err);

	FUZZ_CHECK(ret ? !data : data && length <= 1000);
	free(data);
	return ret;
}

static int size(struct error *err)
{
	uint64_t bytes;

	return store_size(store, "object", &bytes, err);
}

static int put(struct error *err)
{
	return store_put(store, "object", "content", 7, STORE_IF_ABSENT, err);
}

static int delete(struct error *err)
{
	return store_delete(store, "object", err);
}

static int multipart(struct error *err)
{
	struct s3_store *s3 = (struct s3_store *)store;
	struct s3_etag etags[2], etag;
	char *upload_id;
	int ret = s3_multipart_begin(s3, "object", &upload_id, err);

	if (ret)
		return ret;
	FUZZ_CHECK(*upload_id);
	for (unsigned i = 0; i < 2 && !ret; i++) {
		ret = s3_multipart_put(s3, "object", upload_id, i + 1, "part", 4, NULL,
				       &etags[i], err);
		if (!ret)
			FUZZ_CHECK_TEXT(etags[i].text);
	}
	if (!ret) {
		if (!s3_multipart_etag(etags, 2, &etag))
			FUZZ_CHECK(strlen(etag.text) == 36);
		ret = s3_multipart_complete(s3, "object", upload_id, etags, 2, 8, err);
	}
	free(upload_id);
	return ret;
}

static int (*const operations[])(struct error *err) = {
	list, clean, get, get_all, size, put, delete, multipart,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	size_t operation = fuzz_byte(&data, &length) %
			   (sizeof(operations) / sizeof(operations[0]));
	struct error err = ERROR_INIT;
	int ret;

	fake_at = data;
	fake_left = length;
	ret = operations[operation](&err);
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!strstr(err.message, "secret!"));
	}
	return 0;
}
