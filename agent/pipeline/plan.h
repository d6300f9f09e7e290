/*
 * The plan: cuts a set of extents into pieces, which are read, packed and written one
 * by one. What it gives depends on the extents alone, never on time, memory or the
 * number of workers; nor on how large frames shall be: a piece is packed as one frame
 * or several (worker.c), so small ones do not make small reads.
 *
 * A piece's reads together cover at most PLAN_PIECE_BLOCKS blocks. Neighbouring
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

#define PLAN_PIECE_BLOCKS MAP_FRAME_BLOCKS_MAX
#define PLAN_GAP_BLOCKS 4u
#define PLAN_GAP_PERCENT 4u

/* Blocks [first, first + count) of the volume at `position` of a piece's buffer. */
struct span {
	uint64_t first;
	uint32_t count;
	uint32_t position;
};

struct plan_piece {
	uint32_t number;		/* from 0, without gaps */
	uint32_t blocks;		/* read, gaps included */
	uint32_t read_count;
	uint32_t wanted_count;
	struct span reads[PLAN_PIECE_BLOCKS];
	struct span wanted[PLAN_PIECE_BLOCKS]; /* the extents, without gaps */
};

struct plan {
	const struct extent_list *extents;	/* the caller's */
	size_t index;		/* of the extent to go on with … */
	uint64_t done;		/* … behind this many of its blocks */
	uint64_t pieces;	/* given so far */
	uint64_t wanted_blocks, gap_blocks; /* so far */
};

void plan_init(struct plan *plan, const struct extent_list *extents);

/* The next piece; false when all extents are covered. */
bool plan_next(struct plan *plan, struct plan_piece *piece);

#endif
