/*
 * A bitmap of blocks, kept as 64-bit words: the user-space side of what the
 * tracker collects. Made for OR-ing whole bitmaps and walking runs of set bits.
 * Refuses to grow: its size is the volume's. Pure: no I/O, no globals.
 */
#ifndef CLAWBACK_BLOCKMAP_BITMAP_H
#define CLAWBACK_BLOCKMAP_BITMAP_H

#include "blockmap/extent.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bitmap {
	uint64_t bits;		/* number of valid bits */
	uint64_t *words;	/* owned; bit b is words[b / 64] >> (b % 64) & 1 */
};

/* All clear. -ENOMEM, or -EOVERFLOW beyond 2^40 bits; then *bitmap has no bits. */
int bitmap_init(struct bitmap *bitmap, uint64_t bits);
void bitmap_fini(struct bitmap *bitmap);	/* NULL is fine */

static inline uint64_t bitmap_words(uint64_t bits)
{
	return (bits + 63) / 64;
}

/* Ranges must lie inside the bitmap: -ERANGE else, nothing changed. */
int bitmap_set(struct bitmap *bitmap, uint64_t first, uint64_t count);
/* False behind the end. */
bool bitmap_test(const struct bitmap *bitmap, uint64_t bit);

uint64_t bitmap_count(const struct bitmap *bitmap);

/* target |= source; -EINVAL unless both have the same number of bits. */
int bitmap_or(struct bitmap *target, const struct bitmap *source);

/*
 * target |= the first bitmap_words(target->bits) words at `words`, which may be
 * memory that the kernel is writing (each word is read once). Bits of the last
 * word beyond target->bits are ignored.
 */
void bitmap_or_words(struct bitmap *target, const uint64_t *words);

/* The first run of set bits at or behind `from`; false when there is none. */
bool bitmap_next_run(const struct bitmap *bitmap, uint64_t from,
		     struct extent *run);

/*
 * The set bits as extents of finer blocks: bit b stands for blocks
 * [b * scale, (b + 1) * scale), cut off at `total_blocks`. `list` empty on entry
 * and after a failure. -EINVAL for scale 0 or a list that is not empty.
 */
int bitmap_extents(const struct bitmap *bitmap, uint32_t scale,
		   uint64_t total_blocks, struct extent_list *list);

#endif
