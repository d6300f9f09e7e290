#include "agent/store/retry.h"

#include "agent/base/interrupt.h"

#include <stddef.h>
#include <sys/random.h>
#include <time.h>

#define WAIT_SLICE_MS 100

uint64_t retry_delay_ms(unsigned retry, long retry_after_seconds, uint64_t random)
{
	uint64_t ceiling = RETRY_CAP_MS, delay, wanted;

	if (retry >= 1 && retry < 16 && (uint64_t)RETRY_BASE_MS << (retry - 1) < ceiling)
		ceiling = (uint64_t)RETRY_BASE_MS << (retry - 1);
	delay = random % (ceiling + 1);
	if (retry_after_seconds <= 0)
		return delay;
	if (retry_after_seconds > RETRY_AFTER_CAP_SECONDS)
		retry_after_seconds = RETRY_AFTER_CAP_SECONDS;
	/* The jitter on top: the server told everybody the same. */
	wanted = (uint64_t)retry_after_seconds * 1000;
	return wanted + delay % 1000;
}

bool retry_wait(uint64_t ms, bool (*stop)(const void *context), const void *context)
{
	uint64_t until_ns = retry_clock_ns() + ms * 1000000;

	for (;;) {
		uint64_t now_ns = retry_clock_ns(), left_ns;
		struct timespec slice;

		if (stop ? stop(context) : interrupt_requested())
			return true;
		if (now_ns >= until_ns)
			return false;
		left_ns = until_ns - now_ns;
		if (left_ns > WAIT_SLICE_MS * 1000000ull)
			left_ns = WAIT_SLICE_MS * 1000000ull;
		slice = (struct timespec){ 0, (long)left_ns };
		nanosleep(&slice, NULL);
	}
}

uint64_t retry_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t retry_random(void)
{
	uint64_t value;

	/* Before the pool is ready (early boot) the clock has to do. */
	if (getrandom(&value, sizeof(value), GRND_NONBLOCK) != (ssize_t)sizeof(value))
		value = retry_clock_ns() * 0x9e3779b97f4a7c15ull;
	return value;
}
