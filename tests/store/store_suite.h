/*
 * What every kind of store has to do, said once: tests/unit/store_file.c runs it
 * on file://, tests/store/store_s3.c on a real S3 server and on file:// again.
 * Each function fails the cmocka test it is called from.
 */
#ifndef CLAWBACK_TESTS_STORE_SUITE_H
#define CLAWBACK_TESTS_STORE_SUITE_H

#include "agent/store/store.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SUITE_KEYS 24
#define SUITE_BYTES_MAX 3000

static inline void suite_ok(int ret, const struct error *err)
{
	if (ret)
		fail_msg("%d: %s", ret, err->message);
}

/* A failure must carry the code both ways and a message on one line. */
static inline void suite_failed(int ret, int expected, const struct error *err)
{
	if (ret != expected)
		fail_msg("expected %d, got %d: %s", expected, ret, err->message);
	assert_int_equal(err->code, expected);
	assert_true(err->message[0] != '\0');
	assert_null(strchr(err->message, '\n'));
}

static inline uint8_t *suite_data(uint64_t seed, size_t length)
{
	struct random_state state = { seed };
	uint8_t *data = malloc(length + 8);

	assert_non_null(data);
	for (size_t i = 0; i < length; i += 8) {
		uint64_t value = random_next(&state);

		memcpy(data + i, &value, 8);
	}
	return data;
}

static inline void suite_put(struct store *store, const char *key, uint64_t seed,
			     size_t length)
{
	struct error err = ERROR_INIT;
	uint8_t *data = suite_data(seed, length);

	suite_ok(store_put(store, key, data, length, 0, &err), &err);
	free(data);
}

/* The object holds exactly suite_data(seed, length). */
static inline void suite_expect(struct store *store, const char *key, uint64_t seed,
				size_t length)
{
	struct error err = ERROR_INIT;
	uint8_t *wanted = suite_data(seed, length), *data;
	uint64_t bytes;
	size_t got;

	suite_ok(store_size(store, key, &bytes, &err), &err);
	assert_int_equal(bytes, length);
	suite_ok(store_get_all(store, key, length, &data, &got, &err), &err);
	assert_int_equal(got, length);
	assert_true(length == 0 || memcmp(data, wanted, length) == 0);
	free(data);
	free(wanted);
}

static inline void suite_absent(struct store *store, const char *key)
{
	struct error err = ERROR_INIT;
	uint8_t *data, byte;
	uint64_t bytes;
	size_t got;

	suite_failed(store_size(store, key, &bytes, &err), -ENOENT, &err);
	suite_failed(store_get(store, key, 0, &byte, 1, &got, &err), -ENOENT, &err);
	suite_failed(store_get(store, key, 0, &byte, 0, &got, &err), -ENOENT, &err);
	suite_failed(store_get_all(store, key, 100, &data, &got, &err), -ENOENT, &err);
	assert_null(data);
}

static inline void suite_basics(struct store *store)
{
	struct error err = ERROR_INIT;
	uint8_t *data, byte;
	size_t got;

	suite_absent(store, "basics/none");
	suite_ok(store_delete(store, "basics/none", &err), &err);
	suite_put(store, "basics/empty", 1, 0);
	suite_expect(store, "basics/empty", 1, 0);
	suite_ok(store_get(store, "basics/empty", 0, &byte, 1, &got, &err), &err);
	assert_int_equal(got, 0);
	suite_put(store, "basics/one", 2, 1);
	suite_expect(store, "basics/one", 2, 1);
	suite_put(store, "basics/one", 3, 5000);	/* replaced, longer */
	suite_expect(store, "basics/one", 3, 5000);
	suite_put(store, "basics/one", 4, 17);		/* and shorter */
	suite_expect(store, "basics/one", 4, 17);
	suite_failed(store_get_all(store, "basics/one", 16, &data, &got, &err), -EFBIG, &err);
	assert_null(data);
	suite_ok(store_delete(store, "basics/one", &err), &err);
	suite_absent(store, "basics/one");
	suite_ok(store_delete(store, "basics/one", &err), &err);
	suite_ok(store_delete(store, "basics/empty", &err), &err);
}

static inline void suite_ranges(struct store *store)
{
	enum { LENGTH = 10000 };
	struct error err = ERROR_INIT;
	struct random_state random = random_start("ranges");
	uint8_t *wanted = suite_data(5, LENGTH), room[2 * LENGTH];

	suite_put(store, "ranges", 5, LENGTH);
	for (int i = 0; i < 60; i++) {
		size_t offset = (size_t)random_below(&random, LENGTH + 3);
		size_t length = (size_t)random_below(&random, LENGTH), got;
		size_t expected;

		if (i == 0)
			offset = LENGTH;	/* exactly at the end */
		if (i == 1)
			offset = LENGTH - 1, length = 1;
		if (i == 2)
			offset = 0, length = sizeof(room);
		expected = offset >= LENGTH ? 0 :
			   length < LENGTH - offset ? length : LENGTH - offset;
		memset(room, 0xee, sizeof(room));
		suite_ok(store_get(store, "ranges", offset, room, length, &got, &err), &err);
		assert_int_equal(got, expected);
		assert_memory_equal(room, wanted + (got ? offset : 0), got);
		if (length < sizeof(room))	/* nothing behind the room */
			assert_int_equal(room[length], 0xee);
	}
	free(wanted);
	suite_ok(store_delete(store, "ranges", &err), &err);
}

static inline void suite_if_absent(struct store *store)
{
	struct error err = ERROR_INIT;

	suite_ok(store_put(store, "absent/a", "first", 5, STORE_IF_ABSENT, &err), &err);
	suite_failed(store_put(store, "absent/a", "second", 6, STORE_IF_ABSENT, &err), -EEXIST,
		     &err);
	/* The same bytes too: without a retry it is somebody else's object. */
	suite_failed(store_put(store, "absent/a", "first", 5, STORE_IF_ABSENT, &err), -EEXIST,
		     &err);
	suite_ok(store_put(store, "absent/e", "", 0, STORE_IF_ABSENT, &err), &err);
	suite_failed(store_put(store, "absent/e", "", 0, STORE_IF_ABSENT, &err), -EEXIST, &err);
	suite_ok(store_delete(store, "absent/a", &err), &err);
	suite_ok(store_put(store, "absent/a", "third", 5, STORE_IF_ABSENT, &err), &err);
	suite_ok(store_delete(store, "absent/a", &err), &err);
	suite_ok(store_delete(store, "absent/e", &err), &err);
}

/* ---- one winner of many ------------------------------------------------------- */

struct suite_racer {
	struct store *store;
	const char *key;
	int number, ret;
	struct error err;
};

static inline void *suite_race(void *context)
{
	struct suite_racer *racer = context;
	char text[16];
	int length = snprintf(text, sizeof(text), "racer %d", racer->number);

	racer->ret = store_put(racer->store, racer->key, text, (size_t)length,
			       STORE_IF_ABSENT, &racer->err);
	return NULL;
}

static inline void suite_races(struct store *store, int rounds)
{
	enum { RACERS = 6 };
	struct error err = ERROR_INIT;

	for (int round = 0; round < rounds; round++) {
		struct suite_racer racers[RACERS];
		pthread_t threads[RACERS];
		char key[32], wanted[24] = "";
		int winners = 0;
		uint8_t *data;
		size_t length;

		snprintf(key, sizeof(key), "race/%d", round);
		for (int i = 0; i < RACERS; i++) {
			racers[i] = (struct suite_racer){ store, key, i, 0, ERROR_INIT };
			assert_int_equal(pthread_create(&threads[i], NULL, suite_race,
							&racers[i]), 0);
		}
		for (int i = 0; i < RACERS; i++) {
			pthread_join(threads[i], NULL);
			if (racers[i].ret == 0) {
				winners++;
				snprintf(wanted, sizeof(wanted), "racer %d", i);
			} else {
				suite_failed(racers[i].ret, -EEXIST, &racers[i].err);
			}
		}
		assert_int_equal(winners, 1);
		suite_ok(store_get_all(store, key, 100, &data, &length, &err), &err);
		assert_int_equal(length, strlen(wanted));
		assert_memory_equal(data, wanted, length);
		free(data);
		suite_ok(store_delete(store, key, &err), &err);
	}
}

/* ---- a random workload against a model ------------------------------------------- */

struct suite_model {
	const char *key[SUITE_KEYS];	/* in byte order */
	bool there[SUITE_KEYS];
	uint64_t seed[SUITE_KEYS];
	size_t length[SUITE_KEYS];
	/* While listing: */
	const char *prefix;
	int next;
	uint64_t *bytes_off;
};

/* Names whose order shows whether '/' is compared as a byte: - . / 0 A _ a */
static inline void suite_model_init(struct suite_model *model)
{
	static const char *const keys[SUITE_KEYS] = {
		"m/A", "m/Z/b", "m/_", "m/a-b", "m/a-b.c", "m/a.b", "m/a/-x", "m/a/b",
		"m/a/b-c", "m/a/c/d", "m/a/c/e/f", "m/a0", "m/a00", "m/aa", "m/b-",
		"m/b.", "m/b/1", "m/b/10", "m/b/2", "m/b0", "m/c/.hidden", "m/c/.x/y",
		"m/z", "m/zz/zzz",
	};

	memset(model, 0, sizeof(*model));
	for (int i = 0; i < SUITE_KEYS; i++) {
		model->key[i] = keys[i];
		assert_true(i == 0 || strcmp(keys[i - 1], keys[i]) < 0);
	}
}

static inline int suite_model_next(struct suite_model *model, int at)
{
	while (at < SUITE_KEYS &&
	       (!model->there[at] ||
		strncmp(model->key[at], model->prefix, strlen(model->prefix)) != 0))
		at++;
	return at;
}

static inline int suite_model_visit(void *context, const char *key, uint64_t bytes)
{
	struct suite_model *model = context;

	model->next = suite_model_next(model, model->next);
	if (model->next == SUITE_KEYS)
		fail_msg("unexpected in listing of %s: %s", model->prefix, key);
	assert_string_equal(key, model->key[model->next]);
	assert_int_equal(bytes, model->length[model->next]);
	model->next++;
	return 0;
}

static inline void suite_model_list(struct store *store, struct suite_model *model,
				    const char *prefix)
{
	struct error err = ERROR_INIT;

	model->prefix = prefix;
	model->next = 0;
	suite_ok(store_list(store, prefix, suite_model_visit, model, &err), &err);
	assert_int_equal(suite_model_next(model, model->next), SUITE_KEYS);
}

static inline void suite_model_write(struct store *store, struct suite_model *model, int at,
				     struct random_state *random)
{
	struct error err = ERROR_INIT;
	uint64_t seed = random_next(random);
	size_t length = (size_t)random_below(random, SUITE_BYTES_MAX);
	unsigned flags = random_one_in(random, 3) ? STORE_IF_ABSENT : 0;
	bool refused = flags && model->there[at];
	uint8_t *data = suite_data(seed, length);
	struct store_upload *upload;
	int ret;

	if (flags || random_one_in(random, 2)) {
		ret = store_put(store, model->key[at], data, length, flags, &err);
		if (refused)
			suite_failed(ret, -EEXIST, &err);
		else
			suite_ok(ret, &err);
	} else {
		size_t half = length / 2;

		suite_ok(store_upload_start(store, model->key[at], &upload, &err), &err);
		suite_ok(store_upload_write(upload, data, half, &err), &err);
		suite_ok(store_upload_write(upload, data + half, length - half, &err), &err);
		if (random_one_in(random, 4)) {
			store_upload_abort(upload);
			refused = true;
		} else {
			suite_ok(store_upload_finish(upload, &err), &err);
		}
	}
	if (!refused) {
		model->there[at] = true;
		model->seed[at] = seed;
		model->length[at] = length;
	}
	free(data);
}

static inline void suite_random(struct store *store, int steps)
{
	struct random_state random = random_start("random workload");
	struct suite_model model;
	struct error err = ERROR_INIT;
	static const char *const prefixes[] = { "", "m/", "m/a/", "m/a/c/", "m/none/", "m/c/.x/" };

	suite_model_init(&model);
	for (int step = 0; step < steps; step++) {
		int at = (int)random_below(&random, SUITE_KEYS);

		switch (random_below(&random, 8)) {
		case 0: case 1: case 2: case 3:
			suite_model_write(store, &model, at, &random);
			break;
		case 4:
			suite_ok(store_delete(store, model.key[at], &err), &err);
			model.there[at] = false;
			break;
		case 5:
			suite_model_list(store, &model, prefixes[random_below(&random, 6)]);
			break;
		default:
			if (model.there[at])
				suite_expect(store, model.key[at], model.seed[at],
					     model.length[at]);
			else
				suite_absent(store, model.key[at]);
		}
	}
	for (int i = 0; i < SUITE_KEYS; i++)
		suite_ok(store_delete(store, model.key[i], &err), &err);
	memset(model.there, 0, sizeof(model.there));
	suite_model_list(store, &model, "");
}

/* ---- listing ---------------------------------------------------------------------- */

struct suite_count { int seen, stop_at; char last[STORE_KEY_MAX + 1]; };

static inline int suite_count_visit(void *context, const char *key, uint64_t bytes)
{
	struct suite_count *count = context;

	(void)bytes;
	assert_true(strcmp(key, count->last) > 0);
	snprintf(count->last, sizeof(count->last), "%s", key);
	count->seen++;
	return count->seen == count->stop_at ? 42 : 0;
}

/* More than S3 has on one page (1,000), with parts and a prefix. */
static inline void suite_many(struct store *store, int objects)
{
	struct suite_count count = { 0, 0, "" };
	struct error err = ERROR_INIT;
	char key[64];

	for (int i = 0; i < objects; i++) {
		snprintf(key, sizeof(key), "many/%d/object-%04d_x.y", i % 3, i);
		suite_ok(store_put(store, key, "x", 1, 0, &err), &err);
	}
	suite_ok(store_list(store, "many/", suite_count_visit, &count, &err), &err);
	assert_int_equal(count.seen, objects);
	count = (struct suite_count){ 0, 0, "" };
	suite_ok(store_list(store, "many/1/", suite_count_visit, &count, &err), &err);
	assert_int_equal(count.seen, (objects + 1) / 3);
	count = (struct suite_count){ 0, 3, "" };	/* the visitor's value comes back */
	assert_int_equal(store_list(store, "many/", suite_count_visit, &count, &err), 42);
	assert_int_equal(count.seen, 3);
	for (int i = 0; i < objects; i++) {
		snprintf(key, sizeof(key), "many/%d/object-%04d_x.y", i % 3, i);
		suite_ok(store_delete(store, key, &err), &err);
	}
	count = (struct suite_count){ 0, 0, "" };
	suite_ok(store_list(store, "", suite_count_visit, &count, &err), &err);
	assert_int_equal(count.seen, 0);
}

/* ---- uploads -------------------------------------------------------------------------- */

/* Written in odd pieces; invisible until finished. */
static inline void suite_upload(struct store *store, const char *key, uint64_t seed,
				size_t length, size_t piece)
{
	struct error err = ERROR_INIT;
	uint8_t *data = suite_data(seed, length);
	struct store_upload *upload;
	uint64_t bytes;

	suite_ok(store_upload_start(store, key, &upload, &err), &err);
	for (size_t at = 0; at < length; at += piece)
		suite_ok(store_upload_write(upload, data + at,
					    piece < length - at ? piece : length - at, &err),
			 &err);
	suite_failed(store_size(store, key, &bytes, &err), -ENOENT, &err);
	suite_ok(store_upload_finish(upload, &err), &err);
	free(data);
	suite_expect(store, key, seed, length);
	suite_ok(store_delete(store, key, &err), &err);
}

static inline void suite_upload_sizes(struct store *store, size_t part_bytes)
{
	const size_t lengths[] = { 0, 1, part_bytes - 1, part_bytes, part_bytes + 1,
				   2 * part_bytes, 2 * part_bytes + 1, 3 * part_bytes + 12345 };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		suite_upload(store, "upload/sizes", i, lengths[i], 1000003);
	suite_upload(store, "upload/bytes", 9, 100, 1);
	suite_upload(store, "upload/large", 10, part_bytes + 100, part_bytes + 100);
}

/* Aborted after `length` bytes: no object, and nothing for store_clean to find. */
static inline void suite_upload_abort(struct store *store, size_t length)
{
	struct error err = ERROR_INIT;
	uint8_t *data = suite_data(11, length);
	struct store_upload *upload;

	suite_ok(store_upload_start(store, "upload/aborted", &upload, &err), &err);
	suite_ok(store_upload_write(upload, data, length, &err), &err);
	store_upload_abort(upload);
	store_upload_abort(NULL);
	suite_absent(store, "upload/aborted");
	assert_int_equal(store_clean(store, "", 0, &err), 0);
	free(data);
}

/* ---- many threads on one store ------------------------------------------------------- */

struct suite_worker {
	struct store *store;
	int number, rounds;
	char failure[1200];
};

static inline int suite_worker_round(struct suite_worker *worker, int round,
				     struct error *err)
{
	size_t length = (size_t)(worker->number * 1000 + round * 777) % 30000;
	uint8_t *data = suite_data((uint64_t)(worker->number << 16 | round), length), *read = NULL;
	struct store_upload *upload = NULL;
	char key[64];
	size_t got = 0;
	int ret;

	snprintf(key, sizeof(key), "threads/%d/%d", worker->number, round);
	if (round % 2) {
		ret = store_put(worker->store, key, data, length, STORE_IF_ABSENT, err);
	} else {
		ret = store_upload_start(worker->store, key, &upload, err);
		if (!ret)
			ret = store_upload_write(upload, data, length, err);
		if (!ret)
			ret = store_upload_finish(upload, err);
	}
	if (!ret)
		ret = store_get_all(worker->store, key, length, &read, &got, err);
	if (!ret && (got != length || memcmp(read, data, length) != 0))
		ret = error_set(err, -EBADMSG, "other content");
	if (!ret)
		ret = store_delete(worker->store, key, err);
	free(read);
	free(data);
	return ret;
}

static inline void *suite_work(void *context)
{
	struct suite_worker *worker = context;
	struct error err = ERROR_INIT;

	for (int round = 0; round < worker->rounds; round++)
		if (suite_worker_round(worker, round, &err)) {
			snprintf(worker->failure, sizeof(worker->failure), "%s", err.message);
			break;
		}
	return NULL;
}

static inline void suite_threads(struct store *store, int rounds)
{
	enum { WORKERS = 8 };
	static struct suite_worker workers[WORKERS];
	pthread_t threads[WORKERS];

	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (struct suite_worker){ store, i, rounds, "" };
		assert_int_equal(pthread_create(&threads[i], NULL, suite_work, &workers[i]), 0);
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < WORKERS; i++)
		assert_string_equal(workers[i].failure, "");
}

#endif
