/*
 * Block maps: where each block of a recovery point is stored.
 *
 * A map lists runs of blocks, each lying in a *frame* (a compressed, sealed
 * piece of a segment object, see docs/format.md) or being a hole (all zero).
 * A FULL map describes the whole volume: what it does not list is a hole.
 * A DELTA map describes what one point changed: what it does not list is as in
 * the parent. Overlaying deltas on a full map, oldest first, gives the full map
 * of the newest.
 *
 * Workload: appended in rising block order, encoded once, decoded whole, walked
 * from front to back or searched by block. Pure: no I/O, no globals.
 */
#ifndef CLAWBACK_BLOCKMAP_MAP_H
#define CLAWBACK_BLOCKMAP_MAP_H

#include "blockmap/extent.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAP_FRAME_HOLE UINT32_MAX	/* map_entry.frame of a hole */
#define MAP_FRAME_BLOCKS_MAX 256u	/* blocks in one frame (1 MiB of 4 KiB) */
/* Of a volume: its size in bytes (blocks of 4 KiB) still fits an off_t. */
#define MAP_VOLUME_BLOCKS_MAX (UINT64_C(1) << 51)

enum map_kind { MAP_FULL = 1, MAP_DELTA = 2 };

/* One frame that entries of this map point into. */
struct map_frame {
	uint64_t point;		/* number of the recovery point that wrote it */
	uint32_t segment;	/* segment of that point, from 0 */
	uint32_t number;	/* frame of that point, from 0 across its segments */
	uint64_t offset;	/* bytes from the start of the segment */
	uint32_t length;	/* bytes stored, header and tag included */
	uint32_t blocks;	/* blocks in it, 1 … MAP_FRAME_BLOCKS_MAX */
};

/* Blocks [block, block + count) = blocks [position, position + count) of a frame. */
struct map_entry {
	uint64_t block;
	uint64_t count;
	uint32_t frame;		/* index into map.frames, or MAP_FRAME_HOLE */
	uint32_t position;	/* 0 for a hole */
};

struct map {
	enum map_kind kind;
	uint64_t volume_blocks;	/* every entry lies below this; at most
				 * MAP_VOLUME_BLOCKS_MAX */
	struct map_frame *frames;
	size_t frame_count, frame_room;
	struct map_entry *entries;
	size_t entry_count, entry_room;
};

/* A volume that is too large is refused by the first entry, overlay or encode. */
void map_init(struct map *map, enum map_kind kind, uint64_t volume_blocks);
void map_fini(struct map *map);	/* NULL is fine; empty afterwards */

/*
 * Adds a frame; its index is frame_count - 1 afterwards. -EINVAL for no blocks,
 * too many, no bytes or an offset that overflows; -EOVERFLOW beyond 2^32 - 1.
 */
int map_append_frame(struct map *map, const struct map_frame *frame);

/*
 * Adds a run behind the last one (-EINVAL when it overlaps or goes backwards,
 * lies beyond the volume, or points outside its frame). A run that continues
 * the last one in the same frame, or a hole beside a hole, is merged into it.
 * In a FULL map a hole is accepted and dropped. On failure the map is as before.
 */
int map_append_entry(struct map *map, const struct map_entry *entry);

/* -EINVAL unless the append functions could have built this map. */
int map_check(const struct map *map);

/*
 * out = older with newer on top; `out` uninitialised on entry, initialised on
 * success only. `newer` must be a DELTA; out->kind is older's. volume_blocks is
 * newer's: a volume that grew gains holes (listed when out is a DELTA), one that
 * shrank is cut. Frames that nothing refers to any more are left out; the rest
 * keep their order, older's first. Linear time. -EINVAL for a newer that is no
 * DELTA, -EOVERFLOW for more than 2^32 - 1 frames in both, -ENOMEM.
 */
int map_overlay(const struct map *older, const struct map *newer,
		struct map *out);

/*
 * The entry that covers `block`. For a block that no entry lists: an entry with
 * frame MAP_FRAME_HOLE in a FULL map, false in a DELTA. `count` is how far the
 * answer holds from `block` on (also when it is false: so many blocks are not
 * listed); `position` is that of `block` itself. At or beyond the volume's end:
 * false, count 0.
 */
bool map_find(const struct map *map, uint64_t block, struct map_entry *found);

/*
 * The blocks that lie in frames of points behind `point`: what was stored since, and is
 * no hole now. `list` empty on entry (-EINVAL else) and after a failure.
 */
int map_stored_since(const struct map *map, uint64_t point, struct extent_list *list);

/*
 * The blocks of `wanted` that do not lie in the same place of the same frame in `there`,
 * nor are holes in both: only these can be unlike in the two points, however these came
 * about. What `wanted` has more of the volume is unlike. Both FULL; `list` empty on entry
 * (-EINVAL else) and after a failure.
 */
int map_differ(const struct map *wanted, const struct map *there, struct extent_list *list);

/*
 * What a FULL map says of these blocks and of no others: a DELTA, so its holes are listed,
 * with all of its frames under their old numbers. -EINVAL for another map, or blocks
 * beyond the volume; `out` as for map_overlay.
 */
int map_cut(const struct map *full, const struct extent_list *blocks, struct map *out);

/* Blocks that lie in frames (not holes). */
uint64_t map_data_blocks(const struct map *map);

/*
 * Encoding, docs/format.md "Map". `map_encode` allocates *data (caller frees);
 * -EINVAL for what map_check refuses, so nothing unreadable is ever written. A
 * map has exactly one encoding: equal maps give equal bytes, and bytes that were
 * decoded are encoded again as the same bytes.
 * `map_decode` trusts nothing: -EBADMSG when the bytes are not a map that
 * map_encode could have written, -EPROTONOSUPPORT for a newer version or unknown
 * flags, -ENOMEM. On failure *map is not initialised. Memory: at most 16 times
 * `length`.
 */
int map_encode(const struct map *map, uint8_t **data, size_t *length);
int map_decode(const uint8_t *data, size_t length, struct map *map);

#endif
