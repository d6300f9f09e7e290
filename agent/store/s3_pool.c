#include "agent/store/s3_pool.h"

#include <time.h>

#define WAIT_SLICE_NS 100000000L

void s3_pool_init(struct s3_pool *pool)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->returned, &attributes);
	pthread_condattr_destroy(&attributes);
	pool->idle_count = 0;
	pool->made = 0;
}

void s3_pool_fini(struct s3_pool *pool)
{
	while (pool->idle_count)
		curl_easy_cleanup(pool->idle[--pool->idle_count]);
	pthread_cond_destroy(&pool->returned);
	pthread_mutex_destroy(&pool->lock);
}

CURL *s3_pool_get(struct s3_pool *pool, uint32_t limit,
		  bool (*stop)(const void *context), const void *context)
{
	CURL *handle = NULL;

	if (limit > S3_POOL_MAX)
		limit = S3_POOL_MAX;
	pthread_mutex_lock(&pool->lock);
	while (!pool->idle_count && pool->made >= limit && !stop(context)) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += WAIT_SLICE_NS;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_nsec -= 1000000000L;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&pool->returned, &pool->lock, &until);
	}
	if (pool->idle_count) {
		handle = pool->idle[--pool->idle_count];
	} else if (pool->made < limit) {
		handle = curl_easy_init();
		pool->made += handle != NULL;
	}
	pthread_mutex_unlock(&pool->lock);
	return handle;
}

void s3_pool_put(struct s3_pool *pool, CURL *handle)
{
	pthread_mutex_lock(&pool->lock);
	pool->idle[pool->idle_count++] = handle;
	pthread_cond_signal(&pool->returned);
	pthread_mutex_unlock(&pool->lock);
}
