/*
 * Inside of the s3:// store: the store's facts, one request with its retries, and
 * what the operations share. Layers, from below: s3_sign and s3_xml (pure),
 * s3_transfer (one attempt through libcurl), s3_request (signing, retries,
 * messages), then s3 (objects), s3_list and s3_upload.
 */
#ifndef CLAWBACK_STORE_S3_H
#define CLAWBACK_STORE_S3_H

#include "agent/store/credentials.h"
#include "agent/store/s3_pool.h"
#include "agent/store/s3_sign.h"
#include "agent/store/s3_xml.h"
#include "agent/store/store_ops.h"

#include <stdatomic.h>

#define S3_PART_BYTES_MIN (5u << 20)
#define S3_PARTS_MAX 10000
#define S3_ETAG_SIZE 128
#define S3_URL_SIZE 2048

struct s3_store {
	struct store base;
	char *bucket;
	char *prefix;		/* before every key: "" or ends in '/' */
	char *region;
	char *origin;		/* https://host[:port], as curl connects */
	char *host;		/* as signed and sent: host[:port] */
	char *root;		/* before '/' and the key: "" or "/bucket" */
	char *trust;		/* PEM of all anchors; NULL: libcurl's default */
	size_t trust_bytes;
	struct credentials credentials;
	struct s3_pool pool;
};

/* Where an answer's body goes. Starts anew with each attempt. */
struct s3_sink {
	uint8_t *data;
	size_t room;		/* of data; with `grow` up to limit */
	size_t limit;
	size_t length;
	bool grow;
	bool overflow;		/* more came than there was room for */
};

struct s3_query {
	const char *name, *value;
};

struct s3_request {
	const char *what;	/* for messages: "read", "write", … */
	const char *method;
	const char *key;	/* without the prefix; NULL: the bucket */
	const struct s3_query *query;	/* sorted by name */
	size_t query_count;
	const void *body;	/* PUT and POST */
	size_t body_bytes;
	struct s3_sink *sink;	/* for a 2xx answer; NULL: dropped */
	uint64_t range_offset;	/* with range_bytes: a range GET */
	size_t range_bytes;
	bool if_absent;
	bool late_fault;	/* a 200 may carry an <Error> */
	bool despite_interrupt;	/* clean-up: few tries, short time-out */
	const atomic_bool *cancelled;	/* may be NULL */
};

struct s3_answer {
	long status;		/* 0: none came */
	char etag[S3_ETAG_SIZE];
	uint64_t total_bytes;	/* of the object, when known */
	bool total_known;
	uint64_t range_offset;	/* 206: what Content-Range says */
	long retry_after_seconds;
	struct s3_fault fault;
	unsigned tries;
	bool resent;		/* the server may have seen the request before */
};

/*
 * Sends until an answer that trying again would not change. 0: a 2xx answer whose
 * body is whole. Else `err` tells, and answer->status and ->fault say what came.
 */
int s3_request(struct s3_store *s3, const struct s3_request *request,
	       struct s3_answer *answer, struct error *err);

/* The object's URL without a query, for messages. */
void s3_url(const struct s3_store *s3, const char *key, char url[static S3_URL_SIZE]);

/* One attempt, as s3_request has prepared it. */
struct s3_attempt {
	struct s3_store *s3;
	const struct s3_request *request;
	const char *url;
	struct curl_slist *headers;
	/* What came of it: */
	struct s3_answer *answer;
	bool retryable;
	char detail[256];	/* why there was no whole answer */
};

/* 0 when a whole HTTP answer came, whatever it says; else negative errno + detail. */
int s3_transfer(struct s3_attempt *attempt);

/* What an answer that is no 2xx means. */
struct s3_meaning {
	int code;		/* negative errno */
	bool retryable;
	const char *hint;	/* may be NULL */
};
struct s3_meaning s3_answer_meaning(const struct s3_answer *answer);

/* The URL's and the options' part of opening. */
int s3_endpoint_init(struct s3_store *s3, const char *url,
		     const struct store_options *options, struct error *err);

/* Body sinks: fixed room, and growing to `limit`. */
void s3_sink_fixed(struct s3_sink *sink, void *data, size_t room);
void s3_sink_growing(struct s3_sink *sink, size_t limit);
void s3_sink_fini(struct s3_sink *sink);	/* frees a growing one's data */
/* False when not all of it fits (what fits is kept) or without memory. */
bool s3_sink_append(struct s3_sink *sink, const char *data, size_t bytes);

int s3_put(struct store *store, const char *key, const void *data, size_t length,
	   unsigned flags, struct error *err);
int s3_size_request(struct s3_store *s3, const char *key, struct s3_answer *answer,
		    struct error *err);

int s3_list(struct store *store, const char *prefix, store_list_fn visit,
	    void *context, struct error *err);
int s3_clean(struct store *store, const char *prefix, uint64_t age_seconds,
	     struct error *err);

/* Abort a multipart upload, also while interrupted. One that is gone is success. */
int s3_multipart_abort(struct s3_store *s3, const char *key, const char *upload_id,
		       struct error *err);

int s3_upload_start(struct store *store, const char *key,
		    struct store_upload **upload, struct error *err);
int s3_upload_write(struct store_upload *upload, const void *data, size_t length,
		    struct error *err);
int s3_upload_finish(struct store_upload *upload, struct error *err);
void s3_upload_abort(struct store_upload *upload);

#endif
