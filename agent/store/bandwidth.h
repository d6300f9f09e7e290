/*
 * A ceiling on bytes per second, shared by all threads of a store. It paces (no
 * bursts after a pause): each taker books its bytes' time behind those before.
 */
#ifndef CLAWBACK_STORE_BANDWIDTH_H
#define CLAWBACK_STORE_BANDWIDTH_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct bandwidth {
	uint64_t bytes_per_second;	/* 0: unlimited; constant */
	pthread_mutex_t lock;
	uint64_t free_at_ns;		/* under lock: when the line is idle again */
};

void bandwidth_init(struct bandwidth *bandwidth, uint64_t bytes_per_second);
void bandwidth_fini(struct bandwidth *bandwidth);

/*
 * Waits for its turn and returns how many of the `want` bytes (not 0) may be sent
 * now, at least 1: an eighth of a second's worth at most, so that a transfer is
 * seen to move. Does not wait once interrupt_requested().
 */
size_t bandwidth_take(struct bandwidth *bandwidth, size_t want);

#endif
