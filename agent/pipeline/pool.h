/*
 * The memory of a run: a fixed number of equal, page-aligned buffers in one
 * mapping, left out of core dumps and of children.
 *
 * A buffer is laid out so that a frame needs no copy to be sealed where it was
 * read:  | room for header and extent list | data, 1 MiB | room for the tag |
 * The data starts on a page (O_DIRECT); extent list and header are put right
 * before it.
 */
#ifndef CLAWBACK_PIPELINE_POOL_H
#define CLAWBACK_PIPELINE_POOL_H

#include "agent/pipeline/pipeline.h"

#include <stddef.h>
#include <stdint.h>

#define BUFFER_HEAD_BYTES BLOCK_BYTES
#define BUFFER_BYTES FRAME_STORED_MAX

struct buffer {
	uint8_t *memory;	/* BUFFER_BYTES */
	uint32_t index;		/* in the pool: its number when registered */
};

static inline uint8_t *buffer_data(const struct buffer *buffer)
{
	return buffer->memory + BUFFER_HEAD_BYTES;
}

struct pool {
	uint8_t *memory;
	uint32_t count;
	struct buffer *buffers;
};

/* -ENOMEM. `pool` may be passed to pool_fini after a failure, too. */
int pool_init(struct pool *pool, uint32_t count);
void pool_fini(struct pool *pool);

#endif
