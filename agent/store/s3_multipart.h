/* The requests of a multipart upload. See s3_upload.c for who calls them when. */
#ifndef CLAWBACK_STORE_S3_MULTIPART_H
#define CLAWBACK_STORE_S3_MULTIPART_H

#include "agent/store/s3.h"

/* A part's name for the server; an MD5 unless the server encrypts by its own key. */
struct s3_etag {
	char text[S3_ETAG_SIZE];
};

/* The caller frees *upload_id. */
int s3_multipart_begin(struct s3_store *s3, const char *key, char **upload_id,
		       struct error *err);

int s3_multipart_put(struct s3_store *s3, const char *key, const char *upload_id,
		     unsigned number, const void *data, size_t length,
		     const atomic_bool *cancelled, struct s3_etag *etag,
		     struct error *err);

/*
 * Makes the object of parts 1 … count. When an answer was lost and the next tries
 * fail, the stored object's size and ETag decide.
 */
int s3_multipart_complete(struct s3_store *s3, const char *key, const char *upload_id,
			  const struct s3_etag *etags, unsigned count,
			  uint64_t total_bytes, struct error *err);

/*
 * The ETag that S3 gives an object of such parts: "MD5-of-the-parts'-MD5s-COUNT",
 * in quotes. -EPROTO when a part's is no MD5.
 */
int s3_multipart_etag(const struct s3_etag *etags, unsigned count, struct s3_etag *etag);

#endif
