#include "agent/pipeline/pool.h"

#include "agent/pipeline/frame_format.h"
#include "agent/pipeline/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

_Static_assert(FRAME_PLAIN_MAX + FRAME_EXTENTS_MAX +
	       PLAN_PIECE_BLOCKS * (FRAME_HEADER_BYTES + CRYPTO_TAG_SIZE) <= BUFFER_BYTES,
	       "raw frames of a block each fit a buffer");
_Static_assert(BUFFER_BYTES % BLOCK_BYTES == 0, "buffers stay page-aligned");

int pool_init(struct pool *pool, uint32_t count)
{
	size_t bytes = (size_t)count * BUFFER_BYTES;

	memset(pool, 0, sizeof(*pool));
	pool->buffers = calloc(count, sizeof(*pool->buffers));
	if (!pool->buffers)
		return -ENOMEM;
	pool->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool->memory == MAP_FAILED) {
		pool->memory = NULL;
		return -ENOMEM;
	}
	/* Neither is worth failing for. DONTFORK also keeps a hook's fork from
	 * making copies of pages that the kernel is reading into. */
	madvise(pool->memory, bytes, MADV_DONTDUMP);
	madvise(pool->memory, bytes, MADV_DONTFORK);
	pool->count = count;
	for (uint32_t i = 0; i < count; i++)
		pool->buffers[i] = (struct buffer){
			pool->memory + (size_t)i * BUFFER_BYTES, i };
	return 0;
}

void pool_fini(struct pool *pool)
{
	if (pool->memory)
		munmap(pool->memory, (size_t)pool->count * BUFFER_BYTES);
	free(pool->buffers);
	memset(pool, 0, sizeof(*pool));
}
