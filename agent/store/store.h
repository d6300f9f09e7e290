/*
 * Object storage: named, immutable objects in a flat key space.
 *
 * Keys are relative ("clawback.json", "VOLUME/points/0000000001"): 1–512 bytes
 * of [A-Za-z0-9._/-], no empty, "." or ".." part, no part over 255 bytes or starting
 * with ".tmp-" (unfinished files of file://), no slash at either end; anything else
 * is refused with -EINVAL before the store sees it. A key must not be another
 * key's folder ("a" and "a/b"): file:// could not hold both.
 *
 * Durability: when a put or an upload_finish has returned 0, the object is whole
 * and acknowledged (file://: fsynced, renamed, folder fsynced). An object that
 * was not finished is never visible.
 *
 * Errors: -ENOENT no such object, -EEXIST with STORE_IF_ABSENT, -EACCES refused
 * credentials, -ENXIO no such bucket (exit code EXIT_NO_REPOSITORY), -ENOSPC,
 * -ETIMEDOUT / -ECONNRESET / -EIO after all retries, …, each with the object's URL
 * (never credentials) and what the server said. -EINTR (EXIT_INTERRUPTED) when
 * interrupt_requested(): what a put or finish was doing is then unknown, as it
 * is after -ETIMEDOUT and -ECONNRESET. Aborting an upload works nevertheless.
 *
 * Threads: a store may be used by several threads at once; one upload by one.
 */
#ifndef CLAWBACK_STORE_STORE_H
#define CLAWBACK_STORE_STORE_H

#include "agent/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;
struct store_upload;

#define STORE_KEY_MAX 512

/* Zero means the default. Strings are copied. */
struct store_options {
	const char *endpoint;	/* s3: https://host[:port]; default AWS's for region */
	const char *region;	/* s3: default us-east-1 */
	bool path_style;	/* s3: bucket in the path, not in the host name */
	const char *credentials_file; /* s3: AWS shared-credentials format; a file
				 * that others may read is refused */
	const char *credentials_profile; /* default "default" */
	const char *ca_file;	/* extra trust anchor (PEM) */
	uint32_t connections;	/* parallel requests, default 4, at most 64 */
	uint32_t part_bytes;	/* multipart part and upload buffer, default 8 MiB;
				 * s3: 5 MiB to 1 GiB, and 10,000 parts an object */
	uint32_t retries;	/* after the first try, default 6 */
	uint32_t timeout_seconds; /* without any progress, default 60 */
	uint64_t bandwidth_bytes; /* per second up, 0: unlimited */
};

/*
 * `url`: file:///absolute/path (taken literally) or s3://bucket[/prefix] (the prefix
 * as a key, at most 400 bytes). For s3 the credentials
 * come from options->credentials_file, else AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, else ~/.aws/credentials.
 * Opening makes no request; file:// with `create` makes the folder, without it a
 * missing folder is -ENOENT with EXIT_NO_REPOSITORY. A file:// store holds its
 * folder open and follows no symbolic link inside it.
 */
int store_open(const char *url, const struct store_options *options, bool create,
	       struct store **store, struct error *err);
void store_close(struct store *store);	/* NULL is fine */
const char *store_url(const struct store *store);

enum store_flags { STORE_IF_ABSENT = 1 };	/* conditional create */

/*
 * A put whose answer was lost is retried; with STORE_IF_ABSENT an -EEXIST on a
 * retry whose stored object is byte for byte ours counts as success.
 */
int store_put(struct store *store, const char *key, const void *data,
	      size_t length, unsigned flags, struct error *err);

/* Reads up to `room` bytes from `offset`; *got < room only at the object's end. */
int store_get(struct store *store, const char *key, uint64_t offset,
	      void *buffer, size_t room, size_t *got, struct error *err);

/* A whole object of at most `limit` bytes (-EFBIG else); caller frees *data. */
int store_get_all(struct store *store, const char *key, size_t limit,
		  uint8_t **data, size_t *length, struct error *err);

/* Size in bytes; -ENOENT when absent. */
int store_size(struct store *store, const char *key, uint64_t *bytes,
	       struct error *err);

/* A missing object is success. */
int store_delete(struct store *store, const char *key, struct error *err);

/*
 * Every key that starts with `prefix` ("" for all; otherwise it ends in '/'), in
 * byte order. A callback that returns non-zero ends the listing; that value is
 * returned.
 */
typedef int (*store_list_fn)(void *context, const char *key, uint64_t bytes);
int store_list(struct store *store, const char *prefix, store_list_fn visit,
	       void *context, struct error *err);

/*
 * A large object written front to back. `store_upload_write` copies; it blocks
 * while options->connections parts are under way (back-pressure); memory is
 * bounded by (connections + 1) * part_bytes. Exactly one of finish and abort ends
 * it and frees it (NULL is fine for abort); after a failed write only abort.
 */
int store_upload_start(struct store *store, const char *key,
		       struct store_upload **upload, struct error *err);
int store_upload_write(struct store_upload *upload, const void *data,
		       size_t length, struct error *err);
int store_upload_finish(struct store_upload *upload, struct error *err);
void store_upload_abort(struct store_upload *upload);

/* Requests made so far, for reports. */
struct store_counts { uint64_t requests, retries, bytes_sent, bytes_received; };
void store_counts(const struct store *store, struct store_counts *counts);

/*
 * Left-overs of dead writers below `prefix` (as for store_list): temporary files and
 * unfinished multipart uploads, `age_seconds` old or older. Returns how many were
 * removed, or an error.
 */
int store_clean(struct store *store, const char *prefix, uint64_t age_seconds,
		struct error *err);

#endif
