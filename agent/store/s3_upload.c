/*
 * A large object as parts sent in parallel. Parts of part_bytes are handed to one
 * thread each; writing waits while `connections` of them are under way. An object
 * that fits into one part is an ordinary PUT at the end and costs one request.
 *
 * A part is only sent off when a further byte shows that it is not the last: so
 * no part is empty and an object of exactly part_bytes stays one PUT.
 */
#include "agent/store/s3.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"
#include "agent/store/s3_multipart.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct s3_upload;

/* A part under way. */
struct part {
	struct s3_upload *upload;
	pthread_t thread;
	bool started;		/* the thread has to be joined; owner's */
	bool busy;		/* under lock */
	unsigned number;	/* from 1 */
	uint8_t *buffer;
	size_t length;
};

struct s3_upload {
	struct store_upload base;
	char *key;
	char *upload_id;	/* NULL: still one PUT */
	uint8_t *buffer;	/* being filled; NULL until the first byte */
	size_t length;
	uint64_t total_bytes;
	unsigned part_count;
	struct part *parts;	/* one for each connection */

	atomic_bool cancelled;	/* stops the parts' requests */
	pthread_mutex_t lock;	/* guards all below, and busy */
	pthread_cond_t done;
	struct s3_etag *etags;	/* by part number - 1 */
	struct error failure;	/* the first one; code 0: none */
};

static struct s3_store *upload_s3(struct s3_upload *upload)
{
	return (struct s3_store *)upload->base.store;
}

static int upload_failed(struct s3_upload *upload, int code, const char *why,
			 struct error *err)
{
	return error_set(err, code, "could not write %s/%s: %s", upload->base.store->url,
			 upload->key, why);
}

static void upload_free(struct s3_upload *upload)
{
	for (uint32_t i = 0; upload->parts && i < upload->base.store->connections; i++)
		free(upload->parts[i].buffer);
	pthread_cond_destroy(&upload->done);
	pthread_mutex_destroy(&upload->lock);
	free(upload->parts);
	free(upload->etags);
	free(upload->buffer);
	free(upload->upload_id);
	free(upload->key);
	free(upload);
}

int s3_upload_start(struct store *store, const char *key,
		    struct store_upload **upload, struct error *err)
{
	struct s3_upload *ours = calloc(1, sizeof(*ours));

	if (!ours)
		return error_set(err, -ENOMEM, "could not write %s/%s: out of memory",
				 store->url, key);
	ours->base.store = store;
	pthread_mutex_init(&ours->lock, NULL);
	pthread_cond_init(&ours->done, NULL);
	ours->key = strdup(key);
	ours->parts = calloc(store->connections, sizeof(*ours->parts));
	if (!ours->key || !ours->parts) {
		upload_free(ours);
		return error_set(err, -ENOMEM, "could not write %s/%s: out of memory",
				 store->url, key);
	}
	*upload = &ours->base;
	return 0;
}

/* ---- parts ---------------------------------------------------------------------- */

static void *part_run(void *context)
{
	struct part *part = context;
	struct s3_upload *upload = part->upload;
	struct error failure = ERROR_INIT;
	struct s3_etag etag;
	int ret = s3_multipart_put(upload_s3(upload), upload->key, upload->upload_id,
				   part->number, part->buffer, part->length,
				   &upload->cancelled, &etag, &failure);

	pthread_mutex_lock(&upload->lock);
	if (!ret) {
		upload->etags[part->number - 1] = etag;
	} else if (!upload->failure.code) {
		upload->failure = failure;
		atomic_store(&upload->cancelled, true);
	}
	part->busy = false;
	pthread_cond_signal(&upload->done);
	pthread_mutex_unlock(&upload->lock);
	return NULL;
}

/* Waits until a part is free; NULL when one has failed. */
static struct part *part_claim(struct s3_upload *upload)
{
	struct part *part = NULL;

	pthread_mutex_lock(&upload->lock);
	while (!upload->failure.code) {
		for (uint32_t i = 0; i < upload->base.store->connections && !part; i++)
			if (!upload->parts[i].busy)
				part = &upload->parts[i];
		if (part)
			break;
		/* A part's own thread notices interrupts and stalls: this ends. */
		pthread_cond_wait(&upload->done, &upload->lock);
	}
	pthread_mutex_unlock(&upload->lock);
	if (part && part->started) {
		pthread_join(part->thread, NULL);
		part->started = false;
	}
	return part;
}

static int etags_grow(struct s3_upload *upload)
{
	struct s3_etag *bigger;

	if (upload->part_count & 63)
		return 0;
	pthread_mutex_lock(&upload->lock);
	bigger = reallocarray(upload->etags, upload->part_count + 64, sizeof(*bigger));
	if (bigger)
		upload->etags = bigger;
	pthread_mutex_unlock(&upload->lock);
	return bigger ? 0 : -ENOMEM;
}

/* Hands the filled buffer to a part and takes that part's in exchange. */
static int part_send(struct s3_upload *upload, struct error *err)
{
	struct part *part;
	uint8_t *empty;
	int ret;

	if (upload->part_count == S3_PARTS_MAX)
		return upload_failed(upload, -EFBIG, "an object has at most 10000 parts; raise "
				     "the part size", err);
	part = part_claim(upload);
	if (!part) {
		*err = upload->failure;
		return err->code;
	}
	if (etags_grow(upload))
		return upload_failed(upload, -ENOMEM, "out of memory", err);
	empty = part->buffer;
	part->buffer = upload->buffer;
	part->length = upload->length;
	upload->buffer = empty;
	upload->length = 0;
	part->upload = upload;
	part->number = ++upload->part_count;
	part->busy = true;	/* no other thread looks before it is started */
	ret = pthread_create(&part->thread, NULL, part_run, part);
	if (ret) {
		part->busy = false;
		return upload_failed(upload, -ret, "no thread could be started", err);
	}
	part->started = true;
	return 0;
}

static void parts_join(struct s3_upload *upload)
{
	for (uint32_t i = 0; i < upload->base.store->connections; i++) {
		if (upload->parts[i].started)
			pthread_join(upload->parts[i].thread, NULL);
		upload->parts[i].started = false;
	}
}

/* The buffer is full and more is to come. */
static int upload_flush(struct s3_upload *upload, struct error *err)
{
	if (!upload->upload_id) {
		int ret = s3_multipart_begin(upload_s3(upload), upload->key,
					     &upload->upload_id, err);

		if (ret)
			return ret;
	}
	return part_send(upload, err);
}

/* ---- the operations ---------------------------------------------------------------- */

int s3_upload_write(struct store_upload *upload, const void *data, size_t length,
		    struct error *err)
{
	struct s3_upload *ours = (struct s3_upload *)upload;
	size_t part_bytes = upload->store->part_bytes;
	const uint8_t *at = data;

	while (length) {
		size_t bytes;
		int ret = 0;

		if (interrupt_check(err))
			return error_prefix(err, "could not write %s/%s", upload->store->url,
					    ours->key);
		if (ours->length == part_bytes)
			ret = upload_flush(ours, err);
		if (ret)
			return ret;
		if (!ours->buffer)
			ours->buffer = malloc(part_bytes);
		if (!ours->buffer)
			return upload_failed(ours, -ENOMEM, "out of memory", err);
		bytes = part_bytes - ours->length;
		if (bytes > length)
			bytes = length;
		memcpy(ours->buffer + ours->length, at, bytes);
		ours->length += bytes;
		ours->total_bytes += bytes;
		at += bytes;
		length -= bytes;
	}
	return 0;
}

static int upload_complete(struct s3_upload *upload, struct error *err)
{
	int ret = part_send(upload, err);

	parts_join(upload);
	if (ret)
		return ret;
	if (upload->failure.code) {
		*err = upload->failure;
		return err->code;
	}
	return s3_multipart_complete(upload_s3(upload), upload->key, upload->upload_id,
				     upload->etags, upload->part_count, upload->total_bytes,
				     err);
}

int s3_upload_finish(struct store_upload *upload, struct error *err)
{
	struct s3_upload *ours = (struct s3_upload *)upload;
	int ret;

	if (!ours->upload_id)
		ret = s3_put(upload->store, ours->key, ours->buffer, ours->length, 0, err);
	else
		ret = upload_complete(ours, err);
	if (ret)
		s3_upload_abort(upload);
	else
		upload_free(ours);
	return ret;
}

void s3_upload_abort(struct store_upload *upload)
{
	struct s3_upload *ours = (struct s3_upload *)upload;
	struct error failure = ERROR_INIT;

	atomic_store(&ours->cancelled, true);
	/* First all parts: one that came behind the abort would stay. */
	parts_join(ours);
	if (ours->upload_id && s3_multipart_abort(upload_s3(ours), ours->key,
						  ours->upload_id, &failure))
		log_warning("%s; its parts stay until the store is cleaned", failure.message);
	upload_free(ours);
}
