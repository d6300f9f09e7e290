/*
 * The front of the pipeline: follows the plan, reads into slots, hands full ones
 * to the workers. One thread. Reads go through io_uring where the kernel lets us,
 * several at a time; else through pread, one after another.
 */
#ifndef CLAWBACK_PIPELINE_READER_H
#define CLAWBACK_PIPELINE_READER_H

#include "agent/pipeline/plan.h"
#include "agent/pipeline/queue.h"
#include "agent/pipeline/yield.h"

#include <stdbool.h>
#include <stdint.h>

struct reader {
	/* set by the caller */
	const struct pipeline_job *job;
	struct queue *queue;
	struct pool *pool;
	uint32_t depth;			/* reads in flight */
	pthread_mutex_t *callbacks;	/* held while a callback runs */

	/* the reader's */
	struct plan plan;
	uint64_t pace_ns;		/* when the next piece may be read */
	struct yield yield;		/* for whoever else uses the disk */
	uint64_t look_ns;		/* when to look at them next; UINT64_MAX: never */
	uint64_t pause_ns;		/* until when they are left alone */
	uint64_t read_bytes;		/* asked of the device so far */
	uint64_t cpu_ns;		/* at the last block */
};

/* Thread body. Returns NULL; failures go to the queue. */
void *reader_run(void *reader);

/* ---- for the two ways of reading ---------------------------------------- */

/* One read of the plan, in progress. */
struct read_request {
	struct slot *slot;
	uint64_t offset;	/* in the volume, bytes */
	uint8_t *to;
	uint32_t bytes;		/* asked for: whole blocks */
	uint32_t needed;	/* what must come: less in the volume's last block */
	uint32_t done;		/* whole blocks that have come */
	uint32_t stalls;	/* attempts without progress */
	struct read_request *next; /* in a list of free requests */
};

/*
 * A slot with the next piece of the plan. False with *slot NULL: the plan is at its
 * end, or the run failed; or, if !wait, none is free or the read rate forbids.
 */
bool reader_next(struct reader *reader, bool wait, struct slot **slot);

/* Reads that may be in flight now, at least 1. */
uint32_t reader_depth(const struct reader *reader);

/* Starts read number `index` of the slot's plan. */
void read_request_start(struct reader *reader, struct slot *slot, uint32_t index,
			struct read_request *request);

enum read_outcome { READ_DONE = 1, READ_AGAIN = 0 };

/*
 * Takes in what one attempt gave (a byte count or a negative errno): READ_DONE;
 * READ_AGAIN: ask for the rest, from `done` on; or a failure with `err` filled.
 * The rest of the last block, beyond the volume, is zeroed.
 */
int read_request_advance(struct read_request *request, int64_t result,
			 struct error *err);

/*
 * Reads all pieces of the plan through io_uring. -ENOSYS: nothing was read, as the
 * kernel refuses to set up a ring (*why says how).
 */
int ring_read(struct reader *reader, int *why, struct error *err);

#endif
