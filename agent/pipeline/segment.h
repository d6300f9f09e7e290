/*
 * Where frames go: segments are filled in order, and a new one is started when the
 * frames of a piece would make the present one longer than wanted.
 */
#ifndef CLAWBACK_PIPELINE_SEGMENT_H
#define CLAWBACK_PIPELINE_SEGMENT_H

#include "agent/pipeline/frame_format.h"

struct segment_cursor {
	uint64_t limit_bytes;
	uint64_t offset;	/* of what comes next; 0: nothing placed yet */
	uint32_t segment;
};

/* Gives the frames of the next piece, `bytes` together, their place. -EOVERFLOW: out of segments. */
int segment_place(struct segment_cursor *cursor, uint32_t bytes,
		  uint32_t *segment, uint64_t *offset);

void segment_header_put(const struct uuid *volume, uint64_t point,
			uint32_t segment, struct segment_header *header);

#endif
