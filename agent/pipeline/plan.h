/*
 * The plan: cuts a set of extents into frames. What it gives depends on the
 * extents alone, never on time, memory or the number of workers.
 *
 * A frame's reads together cover at most MAP_FRAME_BLOCKS_MAX blocks. Neighbouring
 * extents are read in one go across a gap of up to PLAN_GAP_BLOCKS, as long as
 * all gaps together stay below PLAN_GAP_PERCENT of the wanted blocks so far:
 * seeking costs more than a few blocks read in vain, but the promise is that
 * bytes read stay within 5 % of bytes marked. Pure; one thread per plan.
 */
#ifndef CLAWBACK_PIPELINE_PLAN_H
#define CLAWBACK_PIPELINE_PLAN_H

#include "blockmap/extent.h"
#include "blockmap/map.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAN_GAP_BLOCKS 4u
#define PLAN_GAP_PERCENT 4u

/* Blocks [first, first + count) of the volume at `position` of a frame's buffer. */
struct span {
	uint64_t first;
	uint32_t count;
	uint32_t position;
};

struct plan_frame {
	uint32_t number;		/* from 0, without gaps */
	uint32_t blocks;		/* read, gaps included */
	uint32_t read_count;
	uint32_t wanted_count;
	struct span reads[MAP_FRAME_BLOCKS_MAX];
	struct span wanted[MAP_FRAME_BLOCKS_MAX]; /* the extents, without gaps */
};

struct plan {
	const struct extent_list *extents;	/* the caller's */
	size_t index;		/* of the extent to go on with … */
	uint64_t done;		/* … behind this many of its blocks */
	uint64_t frames;	/* given so far */
	uint64_t wanted_blocks, gap_blocks; /* so far */
};

void plan_init(struct plan *plan, const struct extent_list *extents);

/* The next frame; false when all extents are covered. */
bool plan_next(struct plan *plan, struct plan_frame *frame);

#endif
