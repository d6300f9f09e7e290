/*
 * The front of every store: checks options and keys, then hands on to the kind
 * that the URL's scheme names. No I/O of its own.
 */
#include "agent/store/store.h"

#include "agent/store/store_ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONNECTIONS 4
#define DEFAULT_PART_BYTES (8u << 20)
#define DEFAULT_RETRIES 6
#define DEFAULT_TIMEOUT_SECONDS 60
#define CONNECTIONS_MAX 64
#define PART_BYTES_MAX (1u << 30)

static bool key_byte_valid(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool store_part_valid(const char *part, size_t length)
{
	if (length == 0 || length > STORE_PART_MAX)
		return false;
	if (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.')))
		return false;
	if (length >= strlen(STORE_TEMPORARY_PREFIX) &&
	    memcmp(part, STORE_TEMPORARY_PREFIX, strlen(STORE_TEMPORARY_PREFIX)) == 0)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!key_byte_valid(part[i]))
			return false;
	return true;
}

bool store_key_valid(const char *key)
{
	const char *slash;

	if (!key || strnlen(key, STORE_KEY_MAX + 1) > STORE_KEY_MAX)
		return false;
	while ((slash = strchr(key, '/'))) {
		if (!store_part_valid(key, (size_t)(slash - key)))
			return false;
		key = slash + 1;
	}
	return store_part_valid(key, strlen(key));
}

static int key_check(const char *key, struct error *err)
{
	if (store_key_valid(key))
		return 0;
	/* Not echoed: it may hold anything, control bytes included. */
	return error_set(err, -EINVAL,
			 "refused an object name: it must be 1 to %d bytes of letters, "
			 "digits, '.', '_', '-' and single inner slashes, without "
			 "\".\", \"..\" or \".tmp-\" parts", STORE_KEY_MAX);
}

/* "" or a key and a slash. */
static int prefix_check(const char *prefix, struct error *err)
{
	char key[STORE_KEY_MAX + 1];
	size_t length = strnlen(prefix, STORE_KEY_MAX + 2);

	if (length == 0)
		return 0;
	if (length < 2 || length > STORE_KEY_MAX || prefix[length - 1] != '/')
		return error_set(err, -EINVAL,
				 "refused to list: a prefix must be empty or a folder "
				 "name that ends in '/'");
	memcpy(key, prefix, length - 1);
	key[length - 1] = '\0';
	return key_check(key, err);
}

static int options_check(const struct store_options *options, struct error *err)
{
	if (options->connections > CONNECTIONS_MAX)
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "%u connections to the store are too many; use 1 to %d",
				      options->connections, CONNECTIONS_MAX);
	if (options->part_bytes > PART_BYTES_MAX)
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "upload parts of %u bytes are too large; use at most %u",
				      options->part_bytes, PART_BYTES_MAX);
	return 0;
}

static void options_apply(struct store *store, const struct store_options *options)
{
	store->connections = options->connections ?: DEFAULT_CONNECTIONS;
	store->part_bytes = options->part_bytes ?: DEFAULT_PART_BYTES;
	store->retries = options->retries ?: DEFAULT_RETRIES;
	store->timeout_seconds = options->timeout_seconds ?: DEFAULT_TIMEOUT_SECONDS;
	bandwidth_init(&store->bandwidth, options->bandwidth_bytes);
}

int store_open(const char *url, const struct store_options *options, bool create,
	       struct store **store, struct error *err)
{
	static const struct store_options defaults;
	int ret;

	*store = NULL;
	if (!options)
		options = &defaults;
	ret = options_check(options, err);
	if (ret)
		return ret;
	if (strncmp(url, "file://", 7) == 0)
		ret = file_store_open(url, create, store, err);
	else if (strncmp(url, "s3://", 5) == 0)
		ret = s3_store_open(url, options, store, err);
	else	/* Not echoed: people do put passwords into URLs. */
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL,
				     "a repository's URL must start with file:/// or s3://");
	if (!ret)
		options_apply(*store, options);
	return ret;
}

void store_close(struct store *store)
{
	char *url;

	if (!store)
		return;
	url = store->url;
	bandwidth_fini(&store->bandwidth);
	store->ops->close(store);
	free(url);
}

const char *store_url(const struct store *store)
{
	return store->url;
}

int store_put(struct store *store, const char *key, const void *data,
	      size_t length, unsigned flags, struct error *err)
{
	int ret = key_check(key, err);

	return ret ? ret : store->ops->put(store, key, data, length, flags, err);
}

int store_get(struct store *store, const char *key, uint64_t offset,
	      void *buffer, size_t room, size_t *got, struct error *err)
{
	uint64_t bytes;
	int ret = key_check(key, err);

	*got = 0;
	if (ret)
		return ret;
	if (room == 0)	/* still has to say whether the object is there */
		return store->ops->size(store, key, &bytes, err);
	if (offset > INT64_MAX - room)
		return error_set(err, -EINVAL, "refused to read %zu bytes at offset %llu of "
				 "an object: out of range", room,
				 (unsigned long long)offset);
	return store->ops->get(store, key, offset, buffer, room, got, err);
}

int store_get_all(struct store *store, const char *key, size_t limit,
		  uint8_t **data, size_t *length, struct error *err)
{
	int ret = key_check(key, err);

	*data = NULL;
	*length = 0;
	return ret ? ret : store->ops->get_all(store, key, limit, data, length, err);
}

int store_size(struct store *store, const char *key, uint64_t *bytes,
	       struct error *err)
{
	int ret = key_check(key, err);

	*bytes = 0;
	return ret ? ret : store->ops->size(store, key, bytes, err);
}

int store_delete(struct store *store, const char *key, struct error *err)
{
	int ret = key_check(key, err);

	return ret ? ret : store->ops->delete(store, key, err);
}

int store_list(struct store *store, const char *prefix, store_list_fn visit,
	       void *context, struct error *err)
{
	int ret = prefix_check(prefix, err);

	return ret ? ret : store->ops->list(store, prefix, visit, context, err);
}

int store_upload_start(struct store *store, const char *key,
		       struct store_upload **upload, struct error *err)
{
	int ret = key_check(key, err);

	*upload = NULL;
	return ret ? ret : store->ops->upload_start(store, key, upload, err);
}

int store_upload_write(struct store_upload *upload, const void *data,
		       size_t length, struct error *err)
{
	return length ? upload->store->ops->upload_write(upload, data, length, err) : 0;
}

int store_upload_finish(struct store_upload *upload, struct error *err)
{
	return upload->store->ops->upload_finish(upload, err);
}

void store_upload_abort(struct store_upload *upload)
{
	if (upload)
		upload->store->ops->upload_abort(upload);
}

void store_counts(const struct store *store, struct store_counts *counts)
{
	counts->requests = atomic_load(&store->requests);
	counts->retries = atomic_load(&store->retried);
	counts->bytes_sent = atomic_load(&store->bytes_sent);
	counts->bytes_received = atomic_load(&store->bytes_received);
}

int store_clean(struct store *store, const char *prefix, uint64_t age_seconds,
		struct error *err)
{
	int ret = prefix_check(prefix, err);

	return ret ? ret : store->ops->clean(store, prefix, age_seconds, err);
}
