/*
 * Encoding of frames. A frame is built in one piece of memory: extent list and
 * payload are put behind room for the header, then sealed in place.
 * Re-entrant; a sealer belongs to one thread.
 */
#ifndef CLAWBACK_PIPELINE_FRAME_H
#define CLAWBACK_PIPELINE_FRAME_H

#include "agent/pipeline/frame_format.h"

#include <stddef.h>
#include <stdint.h>

/* What a frame's header says. */
struct frame_facts {
	uint16_t flags;
	uint32_t segment;
	uint32_t number;
	uint32_t blocks;
	uint32_t extent_count;
	uint32_t extents_bytes;
	uint32_t payload_bytes;
};

static inline uint32_t frame_stored_bytes(const struct frame_facts *facts)
{
	return FRAME_HEADER_BYTES + facts->extents_bytes +
	       facts->payload_bytes + CRYPTO_TAG_SIZE;
}

/*
 * Adds one extent to the encoded list at `out + *used` (room for
 * FRAME_EXTENTS_MAX in all); `*end` is where the extent before it ended, 0 first.
 */
void frame_extent_put(uint8_t *out, uint32_t *used, uint64_t *end,
		      uint64_t first, uint32_t count);

/*
 * Writes the header to `frame` and seals what follows it (extents_bytes +
 * payload_bytes) in place; frame_stored_bytes(facts) bytes are then ready.
 */
int frame_seal(struct sealer *sealer, const struct uuid *volume, uint64_t point,
	       const struct frame_facts *facts, uint8_t *frame);

/* What is authenticated beside the ciphertext; `header` as it is stored. */
void frame_aad_put(const struct frame_header *header, const struct uuid *volume,
		   uint64_t point, struct frame_aad *aad);

#endif
