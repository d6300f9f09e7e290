/*
 * The memory of a run: a fixed number of equal, page-aligned buffers in one
 * mapping, left out of core dumps and of children.
 *
 * A buffer holds a piece of the volume as it was read (at its start, which is a page's:
 * O_DIRECT), or the frames that were made of it, one behind another. There is room for
 * these even if each is of one block, and none gets smaller by compression.
 */
#ifndef CLAWBACK_PIPELINE_POOL_H
#define CLAWBACK_PIPELINE_POOL_H

#include "agent/pipeline/pipeline.h"

#include <stddef.h>
#include <stdint.h>

#define BUFFER_BYTES (FRAME_PLAIN_MAX + 5 * BLOCK_BYTES)

struct buffer {
	uint8_t *memory;	/* BUFFER_BYTES */
	uint32_t index;		/* in the pool: its number when registered */
};

struct pool {
	uint8_t *memory;
	uint32_t count;
	struct buffer *buffers;
};

/* -ENOMEM. `pool` may be passed to pool_fini after a failure, too. */
int pool_init(struct pool *pool, uint32_t count);
void pool_fini(struct pool *pool);

#endif
