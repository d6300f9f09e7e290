/*
 * libcurl handles, each with its live connection, lent to one request at a time.
 * At most `limit` exist: that bounds the store's parallel requests. The most
 * recently used is lent first, so that few connections stay warm.
 */
#ifndef CLAWBACK_STORE_S3_POOL_H
#define CLAWBACK_STORE_S3_POOL_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define S3_POOL_MAX 64

struct s3_pool {
	pthread_mutex_t lock;	/* guards all below */
	pthread_cond_t returned;
	CURL *idle[S3_POOL_MAX];
	uint32_t idle_count;
	uint32_t made;
};

void s3_pool_init(struct s3_pool *pool);
void s3_pool_fini(struct s3_pool *pool);	/* all handles are back */

/*
 * Waits for a handle while `limit` are lent; NULL without memory or when `stop`
 * (asked ten times a second) says so.
 */
CURL *s3_pool_get(struct s3_pool *pool, uint32_t limit,
		  bool (*stop)(const void *context), const void *context);
void s3_pool_put(struct s3_pool *pool, CURL *handle);

#endif
