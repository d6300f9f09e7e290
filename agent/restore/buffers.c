/*
 * What ranges are fetched into. Fresh memory costs as much as reading into it does, a
 * page fault for each 4 KiB and more in a virtual machine; so large buffers are huge
 * pages where the kernel has them, and are used again.
 */
#include "agent/restore/restore_private.h"

#include <stdlib.h>
#include <sys/mman.h>

#define BUFFER_CLASSES 4u		/* 512 KiB, 1, 2 and 4 MiB */
#define BUFFER_BYTES_MIN (RANGE_BYTES_MAX >> (BUFFER_CLASSES - 1))
#define BUFFER_ALIGNMENT (2u << 20)	/* of a huge page; of smaller ones their size */

/* A free one; in its own memory. */
struct buffer {
	struct buffer *next;
};

struct buffers {
	pthread_mutex_t lock;
	struct buffer *free[BUFFER_CLASSES];
	uint64_t free_bytes;
};

/* BUFFER_CLASSES for what malloc serves as well. */
static uint32_t buffer_class(uint32_t length)
{
	uint32_t class = 0;

	if (length < BUFFER_BYTES_MIN / 2)
		return BUFFER_CLASSES;
	while (length > BUFFER_BYTES_MIN << class)
		class++;
	return class;
}

struct buffers *buffers_new(void)
{
	struct buffers *buffers = calloc(1, sizeof(*buffers));

	if (buffers)
		pthread_mutex_init(&buffers->lock, NULL);
	return buffers;
}

void buffers_free(struct buffers *buffers)
{
	if (!buffers)
		return;
	for (uint32_t class = 0; class < BUFFER_CLASSES; class++) {
		while (buffers->free[class]) {
			struct buffer *buffer = buffers->free[class];

			buffers->free[class] = buffer->next;
			free(buffer);
		}
	}
	pthread_mutex_destroy(&buffers->lock);
	free(buffers);
}

static uint8_t *buffer_again(struct buffers *buffers, uint32_t class)
{
	struct buffer *buffer;

	pthread_mutex_lock(&buffers->lock);
	buffer = buffers->free[class];
	if (buffer) {
		buffers->free[class] = buffer->next;
		buffers->free_bytes -= BUFFER_BYTES_MIN << class;
	}
	pthread_mutex_unlock(&buffers->lock);
	return (uint8_t *)buffer;
}

uint8_t *buffer_take(struct buffers *buffers, uint32_t length)
{
	uint32_t class = buffer_class(length);
	size_t size, alignment;
	uint8_t *data;

	if (class == BUFFER_CLASSES)
		return malloc(length);
	data = buffer_again(buffers, class);
	if (data)
		return data;
	size = (size_t)BUFFER_BYTES_MIN << class;
	alignment = size < BUFFER_ALIGNMENT ? size : BUFFER_ALIGNMENT;
	data = aligned_alloc(alignment, size);
	/* Advice: without huge pages it is just slower. */
	if (data && size >= BUFFER_ALIGNMENT)
		madvise(data, size, MADV_HUGEPAGE);
	return data;
}

void buffer_put(struct buffers *buffers, uint8_t *data, uint32_t length)
{
	uint32_t class = buffer_class(length);
	uint64_t size;
	bool keep = false;

	if (data && class < BUFFER_CLASSES) {
		size = BUFFER_BYTES_MIN << class;
		pthread_mutex_lock(&buffers->lock);
		keep = buffers->free_bytes + size <= BUFFERS_FREE_MAX;
		if (keep) {
			struct buffer *buffer = (struct buffer *)data;

			buffer->next = buffers->free[class];
			buffers->free[class] = buffer;
			buffers->free_bytes += size;
		}
		pthread_mutex_unlock(&buffers->lock);
	}
	if (!keep)
		free(data);
}
