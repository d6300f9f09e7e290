/*
 * How much the reader may ask of a disk while others work with it: decided from what
 * the kernel counted for the protected volume, and a target; pure, no clock, no I/O.
 *
 * Between two samples the volume's requests that ended took so long on average: from
 * their arrival at the volume to their end, so with queueing and, while a snapshot
 * stands, with the copy that a write waits for. Above the target the reader's share is
 * halved, at or below it grows by a sixteenth of the whole: as with congestion on a
 * network, that finds what the disk bears, and gives way fast. The share never
 * becomes nothing: a snapshot that stands costs writes, so a run must come to its end.
 *
 * What it cannot see: which single request was slow (an average of few slow and many
 * fast ones is low); requests that are still under way, unless none ended at all;
 * whether it was the reader that made them slow. A disk that is above the target by
 * itself, or for what the copies cost, makes runs long and gains nothing. A device that
 * the run itself reads (provider none) tells nothing of others.
 */
#ifndef CLAWBACK_PIPELINE_YIELD_H
#define CLAWBACK_PIPELINE_YIELD_H

#include "agent/pipeline/pipeline.h"

#include <stdbool.h>
#include <stdint.h>

#define YIELD_EVERY_NS UINT64_C(100000000)	/* how often a sample is worth having */

struct yield {
	uint64_t target_ns;
	uint32_t depth;			/* reads in flight, when nothing holds back */
	double allowed;			/* of these; below 1: one with pauses */
	uint64_t yields;		/* how often the target was exceeded */

	struct pipeline_io last;	/* where the present span began */
	uint64_t last_ns;
	bool started;
};

void yield_init(struct yield *yield, uint64_t target_ns, uint32_t depth);
/* What was counted until `now`, of a clock that does not jump. */
void yield_sample(struct yield *yield, uint64_t now_ns, const struct pipeline_io *io);
/* Reads in flight, 1 to the depth. */
uint32_t yield_depth(const struct yield *yield);
/* To be waited before the next frame. */
uint64_t yield_pause_ns(const struct yield *yield);

#endif
