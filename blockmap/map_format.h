/*
 * A map's bytes, version 1 (docs/format.md "Map"):
 *
 *   +-----------------+ 0
 *   | map_header      |
 *   +-----------------+ 56
 *   | frames          |  frame_bytes, at least 2 a frame
 *   +-----------------+
 *   | entries         |  entry_bytes, at least 2 an entry
 *   +-----------------+  nothing behind
 *
 * The numbers of frames and entries are unsigned LEB128 in its shortest form.
 * Each is told as its difference to a guess that reader and writer both make
 * from what went before; a tag's low two bits say how good the guess was. Of
 * several ways to say a thing only the first that fits is valid, so a map has
 * exactly one encoding and equal bytes mean equal maps.
 *
 * No checksum: the caller compresses and seals the whole.
 */
#ifndef CLAWBACK_BLOCKMAP_MAP_FORMAT_H
#define CLAWBACK_BLOCKMAP_MAP_FORMAT_H

#include "agent/base/le.h"

#include <stddef.h>
#include <stdint.h>

#define MAP_MAGIC "CLAWMAP1"
#define MAP_VERSION 1

struct map_header {
	uint8_t magic[8];
	struct le32 version;
	uint8_t kind;			/* enum map_kind */
	uint8_t flags;			/* none known: 0 */
	uint8_t reserved[2];		/* 0 */
	struct le64 volume_blocks;	/* at most MAP_VOLUME_BLOCKS_MAX */
	struct le64 frame_count;	/* below 2^32 */
	struct le64 entry_count;
	struct le64 frame_bytes;
	struct le64 entry_bytes;
};

_Static_assert(sizeof(struct map_header) == 56, "map_header layout");
_Static_assert(offsetof(struct map_header, volume_blocks) == 16, "map_header layout");
_Static_assert(offsetof(struct map_header, entry_bytes) == 48, "map_header layout");

/* The fewest bytes of a frame and of an entry; they bound what a count may claim. */
#define MAP_FRAME_BYTES_MIN 2
#define MAP_ENTRY_BYTES_MIN 2

/*
 * A frame: tag, the fields its mode asks for, length.
 * tag = (MAP_FRAME_BLOCKS_MAX - blocks) << 2 | mode: a whole frame costs 1 byte.
 * The guess: same point and segment as the frame before, next number, right
 * behind it. Before the first frame: point 0, segment 0, number 0, offset 0.
 */
enum map_frame_mode {
	MAP_FRAME_FOLLOWS = 0,	/* all as guessed */
	MAP_FRAME_APART = 1,	/* same segment: zigzag(number), zigzag(offset) */
	MAP_FRAME_ELSEWHERE = 2, /* zigzag(point), segment, number, offset */
};

/*
 * An entry: gap to the end of the one before, tag, the fields its mode asks for.
 * tag = (count - 1) << 2 | mode. The guess: the frame of the last entry that was
 * no hole, behind that entry's blocks. Before the first: frame -1.
 */
enum map_entry_mode {
	MAP_ENTRY_CONTINUES = 0, /* as guessed */
	MAP_ENTRY_NEXT_FRAME = 1, /* the next frame, position 0 */
	MAP_ENTRY_ELSEWHERE = 2, /* zigzag(frame), position */
	MAP_ENTRY_HOLE = 3,
};

#define MAP_MODE_BITS 2
#define MAP_MODE_MASK 3u

#endif
