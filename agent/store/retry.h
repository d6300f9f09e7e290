/*
 * How long to wait before a failed request is tried again: exponential back-off
 * with full jitter, so that many hosts that lost a server together do not come
 * back together. Plus the interruptible wait itself.
 */
#ifndef CLAWBACK_STORE_RETRY_H
#define CLAWBACK_STORE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#define RETRY_BASE_MS 200
#define RETRY_CAP_MS 20000
#define RETRY_AFTER_CAP_SECONDS 120	/* of what a server may ask for */

/*
 * Milliseconds before retry number `retry` (from 1): evenly spread by `random`
 * over 0 … min(RETRY_CAP_MS, RETRY_BASE_MS * 2^(retry - 1)), but not before the
 * server's Retry-After (seconds; 0 or less: none).
 */
uint64_t retry_delay_ms(unsigned retry, long retry_after_seconds, uint64_t random);

/*
 * Sleeps. Returns early with true when `stop` (NULL: interrupt_requested) says so,
 * which is asked ten times a second.
 */
bool retry_wait(uint64_t ms, bool (*stop)(const void *context), const void *context);

/* CLOCK_MONOTONIC. */
uint64_t retry_clock_ns(void);

/* A random number good enough for jitter and unique names. */
uint64_t retry_random(void);

#endif
