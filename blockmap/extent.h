/*
 * Sets of blocks as sorted, disjoint, non-adjacent runs.
 *
 * Shape of the workload: built once in rising order (from a bitmap or a map),
 * then walked from front to back. Random insertion is refused, not made slow.
 * Pure: no I/O, no globals; one thread at a time per list.
 */
#ifndef CLAWBACK_BLOCKMAP_EXTENT_H
#define CLAWBACK_BLOCKMAP_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Blocks [first, first + count); count > 0 in a list; the sum never overflows. */
struct extent {
	uint64_t first;
	uint64_t count;
};

/* Zero-initialise or use EXTENT_LIST_INIT; owned array. */
struct extent_list {
	struct extent *items;
	size_t count;
	size_t room;
};

#define EXTENT_LIST_INIT { NULL, 0, 0 }

void extent_list_fini(struct extent_list *list);	/* NULL is fine */

/*
 * Adds a run at the end; it must start at or behind the end of the last one
 * (-EINVAL else, and for count 0 or overflow). An adjacent run is merged.
 */
int extent_list_append(struct extent_list *list, uint64_t first, uint64_t count);

/* Number of blocks in the set. */
uint64_t extent_list_blocks(const struct extent_list *list);

bool extent_list_contains(const struct extent_list *list, uint64_t block);

/*
 * out (empty on entry: -EINVAL else) = a united with / cut with / less b. Linear
 * time. On failure out is empty.
 */
int extent_list_union(const struct extent_list *a, const struct extent_list *b,
		      struct extent_list *out);
int extent_list_intersect(const struct extent_list *a,
			  const struct extent_list *b, struct extent_list *out);
int extent_list_subtract(const struct extent_list *a,
			 const struct extent_list *b, struct extent_list *out);

#endif
