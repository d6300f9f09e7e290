/*
 * A store in memory whose owner can be killed: from the Nth request that changes
 * something on, all fail; that one before or after it took effect. Requests are counted
 * as an S3 store would count them.
 */
#ifndef CLAWBACK_TESTS_CRASH_STORE_H
#define CLAWBACK_TESTS_CRASH_STORE_H

#include "agent/store/store_ops.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define CRASH_PAGE 1000		/* keys in an answer to a listing */

struct crash_object {
	char *key;
	uint8_t *data;
	size_t length;
};

struct crash_store {
	struct store base;
	struct crash_object *objects;	/* by key */
	size_t count, room;
	uint64_t changes;		/* requests that change something, so far */
	uint64_t kill_at;		/* the first of them to fail; 0: none */
	bool kill_after;		/* it takes effect nevertheless */
	uint64_t gets, lists;		/* requests that only look: of bytes or a size; of names */
	void (*before_put)(const char *key);	/* what another process does just then */
	struct crash_counts { uint64_t gets, puts, deletes, pages; } counts;
	unsigned rtt_ms;		/* how long each request takes; several go on at once */
	pthread_mutex_t lock;		/* held through a request; recursive */
};

static inline void crash_wait(const struct crash_store *crash, uint64_t requests)
{
	if (crash->rtt_ms)
		usleep((useconds_t)(crash->rtt_ms * 1000u * requests));
}

static inline void crash_unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

/* For the rest of the scope. */
#define CRASH_LOCK(crash)							\
	pthread_mutex_t *crash_lock __attribute__((cleanup(crash_unlock), unused)) = \
		(pthread_mutex_lock(&(crash)->lock), &(crash)->lock)

static inline struct crash_store *crash_of(struct store *store)
{
	return (struct crash_store *)store;
}

/* Where `key` is, or would be. */
static inline size_t crash_find(const struct crash_store *crash, const char *key, bool *found)
{
	size_t low = 0, high = crash->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(crash->objects[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = low < crash->count && !strcmp(crash->objects[low].key, key);
	return low;
}

static inline bool crash_has(const struct crash_store *crash, const char *key)
{
	bool found;

	crash_find(crash, key, &found);
	return found;
}

static inline bool crash_dead(const struct crash_store *crash)
{
	return crash->kill_at && crash->changes >= crash->kill_at;
}

static inline int crash_error(struct error *err)
{
	return error_set(err, -EIO, "the store's owner was killed");
}

/* Counts a change; whether it is done, and whether that is told. */
static inline bool crash_change(struct crash_store *crash, bool *told)
{
	bool dead = crash_dead(crash);

	crash->changes++;
	*told = !crash_dead(crash);
	return *told || (!dead && crash->kill_after);
}

static inline void crash_set(struct crash_store *crash, const char *key, const void *data,
			     size_t length)
{
	bool found;
	size_t at = crash_find(crash, key, &found);
	struct crash_object *object;

	if (!found) {
		if (crash->count == crash->room) {
			crash->room = crash->room ? 2 * crash->room : 64;
			crash->objects = reallocarray(crash->objects, crash->room,
						      sizeof(*crash->objects));
			assert_non_null(crash->objects);
		}
		memmove(&crash->objects[at + 1], &crash->objects[at],
			(crash->count++ - at) * sizeof(*crash->objects));
		crash->objects[at] = (struct crash_object){ .key = strdup(key) };
	}
	object = &crash->objects[at];
	free(object->data);
	object->data = malloc(length + 1);
	assert_non_null(object->data);
	memcpy(object->data, data, length);
	object->length = length;
}

static inline void crash_drop(struct crash_store *crash, size_t at)
{
	free(crash->objects[at].key);
	free(crash->objects[at].data);
	memmove(&crash->objects[at], &crash->objects[at + 1],
		(--crash->count - at) * sizeof(*crash->objects));
}

static inline int crash_put_now(struct crash_store *crash, const char *key, const void *data,
				size_t length, unsigned flags, struct error *err)
{
	crash_wait(crash, 1);
	CRASH_LOCK(crash);
	bool told, done = crash_change(crash, &told);

	crash->counts.puts++;
	if (done && (flags & STORE_IF_ABSENT) && crash_has(crash, key))
		return told ? error_set(err, -EEXIST, "%s exists", key) : crash_error(err);
	if (done)
		crash_set(crash, key, data, length);
	return told ? 0 : crash_error(err);
}

static inline int crash_put(struct store *store, const char *key, const void *data,
			    size_t length, unsigned flags, struct error *err)
{
	struct crash_store *crash = crash_of(store);
	void (*before)(const char *key) = crash->before_put;

	crash->before_put = NULL;
	if (before)
		before(key);
	if (!crash->before_put)
		crash->before_put = before;
	/* Not before: the other one has threads of its own. */
	return crash_put_now(crash, key, data, length, flags, err);
}

static inline int crash_delete(struct store *store, const char *key, struct error *err)
{
	crash_wait(crash_of(store), 1);
	CRASH_LOCK(crash_of(store));
	struct crash_store *crash = crash_of(store);
	bool told, done = crash_change(crash, &told), found;
	size_t at = crash_find(crash, key, &found);

	crash_of(store)->counts.deletes++;
	if (done && found)
		crash_drop(crash, at);
	return told ? 0 : crash_error(err);
}

/* NULL with `err` filled. */
static inline const struct crash_object *crash_object(struct store *store, const char *key,
						      struct error *err)
{
	struct crash_store *crash = crash_of(store);
	bool found;
	size_t at = crash_find(crash, key, &found);

	crash->gets++;
	if (crash_dead(crash))
		crash_error(err);
	else if (!found)
		error_set(err, -ENOENT, "there is no %s", key);
	return crash_dead(crash) || !found ? NULL : &crash->objects[at];
}

static inline int crash_get(struct store *store, const char *key, uint64_t offset,
			    void *buffer, size_t room, size_t *got, struct error *err)
{
	crash_wait(crash_of(store), 1);
	CRASH_LOCK(crash_of(store));
	const struct crash_object *object = crash_object(store, key, err);

	crash_of(store)->counts.gets++;
	if (!object)
		return err->code;
	*got = offset < object->length ? object->length - offset : 0;
	if (*got > room)
		*got = room;
	if (*got)
		memcpy(buffer, object->data + offset, *got);
	return 0;
}

static inline int crash_get_all(struct store *store, const char *key, size_t limit,
				uint8_t **data, size_t *length, struct error *err)
{
	crash_wait(crash_of(store), 1);
	CRASH_LOCK(crash_of(store));
	const struct crash_object *object = crash_object(store, key, err);

	crash_of(store)->counts.gets++;
	if (!object)
		return err->code;
	if (object->length > limit)
		return error_set(err, -EFBIG, "%s is too large", key);
	*data = malloc(object->length + 1);
	assert_non_null(*data);
	memcpy(*data, object->data, object->length);
	*length = object->length;
	return 0;
}

static inline int crash_size(struct store *store, const char *key, uint64_t *bytes,
			     struct error *err)
{
	crash_wait(crash_of(store), 1);
	CRASH_LOCK(crash_of(store));
	const struct crash_object *object = crash_object(store, key, err);

	crash_of(store)->counts.gets++;
	if (!object)
		return err->code;
	*bytes = object->length;
	return 0;
}

static inline int crash_list(struct store *store, const char *prefix, store_list_fn visit,
			     void *context, struct error *err)
{
	CRASH_LOCK(crash_of(store));
	struct crash_store *crash = crash_of(store);
	uint64_t seen = 0;
	bool found;
	int ret = 0;

	crash->lists++;
	if (crash_dead(crash))
		return crash_error(err);
	for (size_t i = crash_find(crash, prefix, &found); !ret && i < crash->count; i++) {
		if (strncmp(crash->objects[i].key, prefix, strlen(prefix)))
			break;
		seen++;
		ret = visit(context, crash->objects[i].key, crash->objects[i].length);
	}
	seen = seen ? (seen + CRASH_PAGE - 1) / CRASH_PAGE : 1;
	crash->counts.pages += seen;
	crash_wait(crash, seen);
	return ret;
}

/* ---- uploads: nothing is there before they are finished ---- */

struct crash_upload {
	struct store_upload base;
	char *key;
	uint8_t *data;
	size_t length, room;
};

static inline int crash_upload_start(struct store *store, const char *key,
				     struct store_upload **out, struct error *err)
{
	struct crash_upload *upload = calloc(1, sizeof(*upload));

	assert_non_null(upload);
	if (crash_dead(crash_of(store))) {
		free(upload);
		return crash_error(err);
	}
	upload->base.store = store;
	upload->key = strdup(key);
	*out = &upload->base;
	return 0;
}

static inline int crash_upload_write(struct store_upload *base, const void *data, size_t length,
				     struct error *err)
{
	struct crash_upload *upload = (struct crash_upload *)base;

	if (crash_dead(crash_of(base->store)))
		return crash_error(err);
	if (!length)
		return 0;
	if (upload->length + length > upload->room) {	/* rarely: a sanitizer's realloc copies */
		upload->room = 2 * (upload->length + length);
		upload->data = realloc(upload->data, upload->room);
	}
	assert_non_null(upload->data);
	memcpy(upload->data + upload->length, data, length);
	upload->length += length;
	return 0;
}

static inline void crash_upload_abort(struct store_upload *base)
{
	struct crash_upload *upload = (struct crash_upload *)base;

	free(upload->key);
	free(upload->data);
	free(upload);
}

static inline int crash_upload_finish(struct store_upload *base, struct error *err)
{
	struct crash_upload *upload = (struct crash_upload *)base;
	int ret = crash_put(base->store, upload->key, upload->data, upload->length, 0, err);

	crash_upload_abort(base);
	return ret;
}

static const struct store_ops crash_ops = {
	.upload_start = crash_upload_start, .upload_write = crash_upload_write,
	.upload_finish = crash_upload_finish, .upload_abort = crash_upload_abort,
	.put = crash_put, .get = crash_get, .get_all = crash_get_all, .size = crash_size,
	.delete = crash_delete, .list = crash_list,
};

static inline void crash_store_init(struct crash_store *crash)
{
	pthread_mutexattr_t attributes;

	memset(crash, 0, sizeof(*crash));
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&crash->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	crash->base.ops = &crash_ops;
	crash->base.url = (char *)"memory";
}

static inline void crash_store_fini(struct crash_store *crash)
{
	while (crash->count)
		crash_drop(crash, crash->count - 1);
	free(crash->objects);
	pthread_mutex_destroy(&crash->lock);
}

#endif
