/*
 * Frames and segments as they are stored; docs/format.md "Segment", "Frame".
 *
 *   segment:  +----------------+-------+-------+ … +-------+
 *             | segment_header | frame | frame |   | frame |
 *             +----------------+-------+-------+ … +-------+
 *
 *   frame:    +--------------+=========================+-----+
 *             | frame_header | extent list |  payload  | tag |
 *             +--------------+=========================+-----+
 *                             AES-256-GCM ciphertext
 *
 * The header is readable without a key, so that a segment can be walked, but it
 * is authenticated with the rest: it opens the additional data (frame_aad).
 */
#ifndef CLAWBACK_PIPELINE_FRAME_FORMAT_H
#define CLAWBACK_PIPELINE_FRAME_FORMAT_H

#include "agent/base/le.h"
#include "agent/base/uuid.h"
#include "agent/pipeline/pipeline.h"

#define SEGMENT_MAGIC "cbsegmnt"
#define SEGMENT_VERSION 1
#define SEGMENT_NUMBER_MAX 999999u	/* object names have six digits */

struct segment_header {
	uint8_t magic[8];
	struct le16 version;
	struct le16 flags;		/* 0 */
	struct le32 segment;
	uint8_t volume[16];
	struct le64 point;
};

#define FRAME_MAGIC "cbfr"
#define FRAME_VERSION 1
#define FRAME_ZSTD 1u			/* flag: the payload is one zstd frame */
#define FRAME_FLAGS_KNOWN FRAME_ZSTD

struct frame_header {
	uint8_t magic[4];
	struct le16 version;
	struct le16 flags;
	struct le32 segment;
	struct le32 number;
	struct le32 blocks;		/* 1 … MAP_FRAME_BLOCKS_MAX */
	struct le32 extent_count;	/* 1 … blocks */
	struct le32 extents_bytes;	/* of the encoded extent list */
	struct le32 payload_bytes;	/* as sealed: compressed or raw */
	struct le32 plain_bytes;	/* blocks * BLOCK_BYTES */
	struct le32 sealed_bytes;	/* extents + payload + tag: all that follows */
	uint8_t reserved[8];		/* 0 */
};

/* The additional authenticated data of a frame. */
struct frame_aad {
	struct frame_header header;
	uint8_t volume[16];
	struct le64 point;
	struct le32 segment;
	struct le32 number;
};

/*
 * An extent is two base-128 numbers of at most 8 and 2 bytes: blocks since the
 * end of the extent before it (since block 0 for the first), number of blocks.
 */
#define FRAME_BLOCK_LIMIT (UINT64_C(1) << 51)	/* as maps; offsets in bytes fit off_t */
#define FRAME_EXTENTS_MAX (MAP_FRAME_BLOCKS_MAX * 10u)

_Static_assert(sizeof(struct segment_header) == SEGMENT_HEADER_BYTES,
	       "segment_header layout");
_Static_assert(sizeof(struct frame_header) == FRAME_HEADER_BYTES,
	       "frame_header layout");
_Static_assert(sizeof(struct frame_aad) == FRAME_HEADER_BYTES + 32,
	       "frame_aad layout");
_Static_assert(FRAME_PLAIN_MAX + FRAME_HEADER_BYTES + FRAME_EXTENTS_MAX + CRYPTO_TAG_SIZE <=
	       FRAME_STORED_MAX, "the largest frame");

#endif
