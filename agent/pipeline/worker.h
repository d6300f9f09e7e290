/*
 * The middle of the pipeline: finds zero blocks, packs, compresses and seals.
 * Each worker has its own contexts and one buffer to make frames in, which it
 * swaps with the slot's, so nothing is copied back.
 */
#ifndef CLAWBACK_PIPELINE_WORKER_H
#define CLAWBACK_PIPELINE_WORKER_H

#include "agent/pipeline/queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker;

struct worker_options {
	struct queue *queue;
	struct buffer *scratch;		/* the worker's until worker_free */
	const struct uuid *volume;
	uint64_t point;
	const uint8_t *data_key;	/* CRYPTO_KEY_SIZE */
	int level;
	uint32_t frame_blocks;		/* in a frame at most */
	const struct fingerprints *fingerprints; /* NULL: none */
	bool compare;
};

/* NULL with `err` filled. */
struct worker *worker_new(const struct worker_options *options,
			  struct error *err);
void worker_free(struct worker *worker);
/* The CPU time that worker_run took, once it returned. */
uint64_t worker_cpu_ns(const struct worker *worker);

/* Thread body: works until the queue ends or the run fails. Returns NULL. */
void *worker_run(void *worker);

#endif
