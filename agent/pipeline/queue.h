/*
 * How pieces go round. A fixed number of slots circulates:
 *
 *   free → (reader) → read → (worker packs) → packed → placed, in order
 *        → (worker seals) → sealed → (writer, in order) → free
 *
 * Slots are handed out in piece order, so the oldest piece always has one and
 * the circle cannot block; a stage that finds none waits, which is the
 * back-pressure. Packing does not need the frames' places; sealing does, as the
 * place is authenticated, and a place depends on the packed sizes of all frames
 * before. So packed pieces are given their places in order, by whichever
 * worker completes the sequence, and are then sealed in any order again. The frames
 * of a piece lie together in one segment.
 *
 * One mutex guards everything: there are a few thousand hand-overs a second, each
 * a few instructions. The first failure is kept, and wakes everyone.
 */
#ifndef CLAWBACK_PIPELINE_QUEUE_H
#define CLAWBACK_PIPELINE_QUEUE_H

#include "agent/pipeline/frame.h"
#include "agent/pipeline/plan.h"
#include "agent/pipeline/pool.h"
#include "agent/pipeline/segment.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum slot_state { SLOT_FREE, SLOT_READ, SLOT_PACKED, SLOT_PLACED, SLOT_SEALED };

/* A frame of a slot's buffer. */
struct slot_frame {
	struct frame_facts facts;	/* segment and number from placing on */
	uint32_t start;			/* in the buffer: header and what follows */
	uint64_t offset;		/* in segment facts.segment */
};

/* A piece on its way. Owned by the stage that took it; `state` and `next` by the queue. */
struct slot {
	enum slot_state state;
	struct slot *next;
	struct buffer *buffer;
	struct plan_piece plan;		/* what is read into the buffer */
	uint32_t reads_left;		/* the reader's */

	/* from packing on; plan.wanted is then without what has not changed */
	uint32_t unchanged;		/* blocks left out */
	uint64_t tags[PLAN_PIECE_BLOCKS]; /* fingerprints by position as read;
					 * only where the job has a table */
	uint32_t run_count;		/* data (position in all frames' data together; in
					 * one frame) and holes */
	struct span runs[PLAN_PIECE_BLOCKS];
	uint32_t frame_count;		/* 0: all zero, nothing is stored */
	uint32_t frame_bytes;		/* of all: they follow one another */
	struct slot_frame frames[PLAN_PIECE_BLOCKS];
};

#define SPAN_HOLE UINT32_MAX		/* position of a run of zeros */

struct slot_list {
	struct slot *first, *last;
};

struct queue {
	struct slot *slots;		/* owned, as all below */
	uint32_t slot_count;
	uint64_t pieces;		/* in the whole run */
	atomic_bool failed;		/* readable without the mutex */

	pthread_mutex_t mutex;		/* guards what follows */
	pthread_cond_t freed;		/* the reader waits */
	pthread_cond_t work;		/* workers wait */
	pthread_cond_t sealed;		/* the writer waits; monotonic clock */
	struct slot_list free, read, placed;
	struct slot **ring;		/* packed and later, by piece number % slot_count */
	uint64_t next_place;		/* number of the next piece to be placed */
	uint64_t next_write;		/* … to be written */
	struct segment_cursor cursor;
	uint32_t frames;		/* placed so far */
	bool ended;
	uint32_t busy, peak;		/* slots not free, now and at most */
	struct error error;		/* the first */
};

/* The slots take the first `slot_count` buffers of the pool. -ENOMEM, -errno. */
int queue_init(struct queue *queue, struct pool *pool, uint32_t slot_count,
	       uint64_t pieces, uint64_t segment_bytes);
void queue_fini(struct queue *queue);

/* The reader's: an empty slot. NULL after a failure, or none free if !wait. */
struct slot *queue_take_free(struct queue *queue, bool wait);
void queue_put_read(struct queue *queue, struct slot *slot);

/* The workers': a slot to seal (SLOT_PLACED) or to pack (SLOT_READ); NULL: end. */
struct slot *queue_take_work(struct queue *queue);
void queue_put_packed(struct queue *queue, struct slot *slot);
void queue_put_sealed(struct queue *queue, struct slot *slot);

/*
 * The writer's: the next piece in order, sealed. NULL when all are written, or
 * after a failure. Notices an interrupt, which fails the run.
 */
struct slot *queue_take_sealed(struct queue *queue);
void queue_put_written(struct queue *queue, struct slot *slot);

/* No more work will come: workers that wait return. */
void queue_end(struct queue *queue);

/* Any thread. The first error is kept. */
void queue_fail(struct queue *queue, const struct error *err);
static inline bool queue_failed(struct queue *queue)
{
	return atomic_load_explicit(&queue->failed, memory_order_relaxed);
}

#endif
