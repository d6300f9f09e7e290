#include "agent/pipeline/queue.h"

#include "agent/base/interrupt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUEUE_POLL_NS 200000000L	/* how late an interrupt is noticed */

static void slot_list_add(struct slot_list *list, struct slot *slot)
{
	slot->next = NULL;
	if (list->last)
		list->last->next = slot;
	else
		list->first = slot;
	list->last = slot;
}

static struct slot *slot_list_take(struct slot_list *list)
{
	struct slot *slot = list->first;

	if (!slot)
		return NULL;
	list->first = slot->next;
	if (!list->first)
		list->last = NULL;
	return slot;
}

int queue_init(struct queue *queue, struct pool *pool, uint32_t slot_count,
	       uint64_t pieces, uint64_t segment_bytes)
{
	pthread_condattr_t monotonic;

	memset(queue, 0, sizeof(*queue));
	queue->error = (struct error)ERROR_INIT;
	queue->pieces = pieces;
	queue->slot_count = slot_count;
	queue->cursor.limit_bytes = segment_bytes;
	atomic_init(&queue->failed, false);
	pthread_mutex_init(&queue->mutex, NULL);
	pthread_cond_init(&queue->freed, NULL);
	pthread_cond_init(&queue->work, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&queue->sealed, &monotonic);
	pthread_condattr_destroy(&monotonic);

	queue->slots = calloc(slot_count, sizeof(*queue->slots));
	queue->ring = calloc(slot_count, sizeof(struct slot *));
	if (!queue->slots || !queue->ring)
		return -ENOMEM;
	for (uint32_t i = 0; i < slot_count; i++) {
		queue->slots[i].buffer = &pool->buffers[i];
		slot_list_add(&queue->free, &queue->slots[i]);
	}
	return 0;
}

void queue_fini(struct queue *queue)
{
	pthread_cond_destroy(&queue->sealed);
	pthread_cond_destroy(&queue->work);
	pthread_cond_destroy(&queue->freed);
	pthread_mutex_destroy(&queue->mutex);
	free(queue->ring);
	free(queue->slots);
}

static void queue_fail_locked(struct queue *queue, const struct error *err)
{
	if (queue_failed(queue))
		return;
	queue->error = *err;
	atomic_store(&queue->failed, true);
	pthread_cond_broadcast(&queue->freed);
	pthread_cond_broadcast(&queue->work);
	pthread_cond_broadcast(&queue->sealed);
}

void queue_fail(struct queue *queue, const struct error *err)
{
	pthread_mutex_lock(&queue->mutex);
	queue_fail_locked(queue, err);
	pthread_mutex_unlock(&queue->mutex);
}

struct slot *queue_take_free(struct queue *queue, bool wait)
{
	struct slot *slot = NULL;

	pthread_mutex_lock(&queue->mutex);
	while (wait && !queue->free.first && !queue_failed(queue))
		pthread_cond_wait(&queue->freed, &queue->mutex);
	if (!queue_failed(queue))
		slot = slot_list_take(&queue->free);
	if (slot && ++queue->busy > queue->peak)
		queue->peak = queue->busy;
	pthread_mutex_unlock(&queue->mutex);
	return slot;
}

void queue_put_read(struct queue *queue, struct slot *slot)
{
	pthread_mutex_lock(&queue->mutex);
	slot->state = SLOT_READ;
	slot_list_add(&queue->read, slot);
	pthread_cond_signal(&queue->work);
	pthread_mutex_unlock(&queue->mutex);
}

struct slot *queue_take_work(struct queue *queue)
{
	struct slot *slot = NULL;

	pthread_mutex_lock(&queue->mutex);
	while (!queue_failed(queue) && !queue->ended) {
		/* Sealing first: it is short and gives a slot back sooner. */
		slot = slot_list_take(&queue->placed);
		if (!slot)
			slot = slot_list_take(&queue->read);
		if (slot)
			break;
		pthread_cond_wait(&queue->work, &queue->mutex);
	}
	pthread_mutex_unlock(&queue->mutex);
	return slot;
}

/*
 * Slots are taken and freed in piece order, so the numbers under way span at most
 * slot_count: no two share a place. The writer empties a place again.
 */
static struct slot **queue_ring(struct queue *queue, uint64_t number)
{
	return &queue->ring[number % queue->slot_count];
}

/* A piece is ready for the writer: wake it if it is the one it waits for. */
static void queue_sealed_locked(struct queue *queue, struct slot *slot)
{
	slot->state = SLOT_SEALED;
	if (slot->plan.number == queue->next_write)
		pthread_cond_signal(&queue->sealed);
}

static int queue_place_locked(struct queue *queue, struct slot *slot)
{
	uint32_t segment;
	uint64_t offset;
	int ret;

	if (!slot->frame_count) {
		queue_sealed_locked(queue, slot);
		return 0;
	}
	ret = segment_place(&queue->cursor, slot->frame_bytes, &segment, &offset);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < slot->frame_count; i++) {
		struct slot_frame *frame = &slot->frames[i];

		frame->facts.segment = segment;
		frame->facts.number = queue->frames++;
		frame->offset = offset + frame->start;
	}
	slot->state = SLOT_PLACED;
	slot_list_add(&queue->placed, slot);
	pthread_cond_signal(&queue->work);
	return 0;
}

void queue_put_packed(struct queue *queue, struct slot *slot)
{
	int ret = 0;

	pthread_mutex_lock(&queue->mutex);
	slot->state = SLOT_PACKED;
	*queue_ring(queue, slot->plan.number) = slot;
	while (!ret && queue->next_place < queue->pieces) {
		slot = *queue_ring(queue, queue->next_place);
		/* The place may still be held by the piece slot_count before. */
		if (!slot || slot->state != SLOT_PACKED)
			break;
		queue->next_place++;
		ret = queue_place_locked(queue, slot);
	}
	if (ret) {
		struct error err = ERROR_INIT;

		error_set(&err, ret, "the backup needs more than %u segments; "
			  "raise the segment size", SEGMENT_NUMBER_MAX + 1);
		queue_fail_locked(queue, &err);
	}
	pthread_mutex_unlock(&queue->mutex);
}

void queue_put_sealed(struct queue *queue, struct slot *slot)
{
	pthread_mutex_lock(&queue->mutex);
	queue_sealed_locked(queue, slot);
	pthread_mutex_unlock(&queue->mutex);
}

static void queue_wait_sealed(struct queue *queue)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += QUEUE_POLL_NS;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_nsec -= 1000000000L;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&queue->sealed, &queue->mutex, &until);
}

struct slot *queue_take_sealed(struct queue *queue)
{
	struct error err = ERROR_INIT;
	struct slot *slot = NULL;

	pthread_mutex_lock(&queue->mutex);
	while (!queue_failed(queue) && queue->next_write < queue->pieces) {
		struct slot **place = queue_ring(queue, queue->next_write);

		if (interrupt_check(&err)) {
			queue_fail_locked(queue, &err);
			break;
		}
		if (*place && (*place)->state == SLOT_SEALED) {
			slot = *place;
			*place = NULL;
			queue->next_write++;
			break;
		}
		queue_wait_sealed(queue);
	}
	pthread_mutex_unlock(&queue->mutex);
	return slot;
}

void queue_put_written(struct queue *queue, struct slot *slot)
{
	pthread_mutex_lock(&queue->mutex);
	slot->state = SLOT_FREE;
	slot_list_add(&queue->free, slot);
	queue->busy--;
	pthread_cond_signal(&queue->freed);
	pthread_mutex_unlock(&queue->mutex);
}

void queue_end(struct queue *queue)
{
	pthread_mutex_lock(&queue->mutex);
	queue->ended = true;
	pthread_cond_broadcast(&queue->work);
	pthread_mutex_unlock(&queue->mutex);
}
