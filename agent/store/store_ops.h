/*
 * Inside of agent/store: what a kind of store implements, and what all share.
 * Keys arrive here checked. Never included from another room.
 */
#ifndef CLAWBACK_STORE_STORE_OPS_H
#define CLAWBACK_STORE_STORE_OPS_H

#include "agent/store/bandwidth.h"
#include "agent/store/store.h"

#include <stdatomic.h>

#define STORE_TEMPORARY_PREFIX ".tmp-"
#define STORE_PART_MAX 255	/* bytes between two slashes of a key */
#define STORE_URL_PREFIX_MAX 400

/* Each as the function of that name in store.h promises. */
struct store_ops {
	int (*put)(struct store *store, const char *key, const void *data,
		   size_t length, unsigned flags, struct error *err);
	int (*get)(struct store *store, const char *key, uint64_t offset,
		   void *buffer, size_t room, size_t *got, struct error *err);
	int (*get_all)(struct store *store, const char *key, size_t limit,
		       uint8_t **data, size_t *length, struct error *err);
	int (*size)(struct store *store, const char *key, uint64_t *bytes,
		    struct error *err);
	int (*delete)(struct store *store, const char *key, struct error *err);
	int (*list)(struct store *store, const char *prefix, store_list_fn visit,
		    void *context, struct error *err);
	int (*upload_start)(struct store *store, const char *key,
			    struct store_upload **upload, struct error *err);
	int (*upload_write)(struct store_upload *upload, const void *data,
			    size_t length, struct error *err);
	int (*upload_finish)(struct store_upload *upload, struct error *err);
	void (*upload_abort)(struct store_upload *upload);
	int (*clean)(struct store *store, const char *prefix, uint64_t age_seconds,
		     struct error *err);
	void (*close)(struct store *store);	/* frees the kind's own struct */
};

/* The first member of every kind's struct. */
struct store {
	const struct store_ops *ops;
	char *url;
	uint32_t connections;
	uint32_t part_bytes;
	uint32_t retries;
	uint32_t timeout_seconds;
	struct bandwidth bandwidth;
	atomic_uint_least64_t requests, retried, bytes_sent, bytes_received;
};

/* The first member of every kind's upload. */
struct store_upload {
	struct store *store;
};

/* The rules of store.h, and the whole key's length; no message. */
bool store_key_valid(const char *key);

/* One part of a key, `length` bytes long. */
bool store_part_valid(const char *part, size_t length);

/* Opening of each kind; `url` has its scheme, `store` gets the shared members later. */
int file_store_open(const char *url, bool create, struct store **store,
		    struct error *err);
int s3_store_open(const char *url, const struct store_options *options,
		  struct store **store, struct error *err);

#endif
