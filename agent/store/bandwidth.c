#include "agent/store/bandwidth.h"

#include "agent/store/retry.h"

#define SLICES_PER_SECOND 8

void bandwidth_init(struct bandwidth *bandwidth, uint64_t bytes_per_second)
{
	bandwidth->bytes_per_second = bytes_per_second;
	bandwidth->free_at_ns = 0;
	pthread_mutex_init(&bandwidth->lock, NULL);
}

void bandwidth_fini(struct bandwidth *bandwidth)
{
	pthread_mutex_destroy(&bandwidth->lock);
}

size_t bandwidth_take(struct bandwidth *bandwidth, size_t want)
{
	uint64_t rate = bandwidth->bytes_per_second;
	uint64_t slice = rate / SLICES_PER_SECOND ?: 1;
	uint64_t now, start;

	if (!rate)
		return want;
	if (want > slice)
		want = (size_t)slice;
	pthread_mutex_lock(&bandwidth->lock);
	now = retry_clock_ns();
	start = bandwidth->free_at_ns > now ? bandwidth->free_at_ns : now;
	/* want <= rate, so this is a second at most and cannot overflow. */
	bandwidth->free_at_ns = start + (uint64_t)((double)want * 1e9 / (double)rate);
	pthread_mutex_unlock(&bandwidth->lock);
	retry_wait((start - now) / 1000000, NULL, NULL);
	return want;
}
