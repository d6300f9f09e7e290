/*
 * A store of a few objects in memory, so that what reads a repository can be given
 * any bytes. One store, one thread.
 */
#ifndef CLAWBACK_TESTS_FUZZ_MEMORY_STORE_H
#define CLAWBACK_TESTS_FUZZ_MEMORY_STORE_H

#include "agent/store/store_ops.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

#define MEMORY_OBJECTS 8

struct memory_object {
	char key[STORE_KEY_MAX + 1];
	uint8_t *data;
	size_t length;
};

struct memory_store {
	struct store base;
	struct memory_object objects[MEMORY_OBJECTS];
	size_t count;
	/* What a listing names, one a line, in the order of the lines; NULL: nothing. */
	char *names;
};

static inline struct memory_object *memory_find(struct store *store, const char *key)
{
	struct memory_store *memory = (struct memory_store *)store;

	for (size_t i = 0; i < memory->count; i++)
		if (!strcmp(memory->objects[i].key, key))
			return &memory->objects[i];
	return NULL;
}

static inline int memory_missing(const char *key, struct error *err)
{
	return error_set(err, -ENOENT, "there is no %s", key);
}

/* Replaces an object. */
static inline int memory_put(struct store *store, const char *key, const void *data,
			     size_t length, unsigned flags, struct error *err)
{
	struct memory_store *memory = (struct memory_store *)store;
	struct memory_object *object = memory_find(store, key);

	(void)flags;
	(void)err;
	if (!object) {
		FUZZ_CHECK(memory->count < MEMORY_OBJECTS);
		object = &memory->objects[memory->count++];
		snprintf(object->key, sizeof(object->key), "%s", key);
	}
	free(object->data);
	object->data = fuzz_copy(data, length);
	object->length = length;
	return 0;
}

static inline int memory_get(struct store *store, const char *key, uint64_t offset,
			     void *buffer, size_t room, size_t *got, struct error *err)
{
	const struct memory_object *object = memory_find(store, key);

	if (!object)
		return memory_missing(key, err);
	*got = offset < object->length ? object->length - offset : 0;
	if (*got > room)
		*got = room;
	if (*got)
		memcpy(buffer, object->data + offset, *got);
	return 0;
}

static inline int memory_get_all(struct store *store, const char *key, size_t limit,
				 uint8_t **data, size_t *length, struct error *err)
{
	const struct memory_object *object = memory_find(store, key);

	if (!object)
		return memory_missing(key, err);
	if (object->length > limit)
		return error_set(err, -EFBIG, "%s is too large", key);
	*data = fuzz_copy(object->data, object->length);
	*length = object->length;
	return 0;
}

static inline int memory_size(struct store *store, const char *key, uint64_t *bytes,
			      struct error *err)
{
	const struct memory_object *object = memory_find(store, key);

	if (!object)
		return memory_missing(key, err);
	*bytes = object->length;
	return 0;
}

/* As store.h promises a listing: valid keys below the prefix, rising; others are left out. */
static inline int memory_list(struct store *store, const char *prefix,
			      store_list_fn visit, void *context, struct error *err)
{
	struct memory_store *memory = (struct memory_store *)store;
	char *copy = strdup(memory->names ? memory->names : ""), *save = NULL;
	const char *last = "";
	int ret = 0;

	(void)err;
	FUZZ_CHECK(copy);
	for (char *key = strtok_r(copy, "\n", &save); key && !ret;
	     key = strtok_r(NULL, "\n", &save)) {
		if (strncmp(key, prefix, strlen(prefix)) || !store_key_valid(key) ||
		    strcmp(last, key) >= 0)
			continue;
		ret = visit(context, key, strlen(key));
		last = key;
	}
	free(copy);
	return ret;
}

static const struct store_ops memory_ops = {
	.put = memory_put, .get = memory_get, .get_all = memory_get_all,
	.size = memory_size, .list = memory_list,
};

static struct memory_store memory = { .base = { .ops = &memory_ops, .url = (char *)"memory" } };

static inline void memory_set(const char *key, const void *data, size_t length)
{
	memory_put(&memory.base, key, data, length, 0, NULL);
}

#endif
