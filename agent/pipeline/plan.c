#include "agent/pipeline/plan.h"

void plan_init(struct plan *plan, const struct extent_list *extents)
{
	*plan = (struct plan){ .extents = extents };
}

/*
 * Whether the read before may go on across `gap` blocks to the next extent. One
 * block of it at least must still fit: a piece never ends with a gap.
 */
static bool plan_bridges(const struct plan *plan, const struct plan_piece *piece,
			 uint64_t gap)
{
	return gap <= PLAN_GAP_BLOCKS &&
	       piece->blocks + gap < PLAN_PIECE_BLOCKS &&
	       (plan->gap_blocks + gap) * 100 <
	       plan->wanted_blocks * PLAN_GAP_PERCENT;
}

/* Adds up to `count` blocks from `first` on; returns how many had room. */
static uint32_t plan_add(struct plan *plan, struct plan_piece *piece,
			 uint64_t first, uint64_t count)
{
	struct span *read = piece->read_count ?
			    &piece->reads[piece->read_count - 1] : NULL;
	uint64_t gap = read ? first - (read->first + read->count) : 0;
	uint32_t added;

	if (read && plan_bridges(plan, piece, gap)) {
		read->count += (uint32_t)gap;
		piece->blocks += (uint32_t)gap;
		plan->gap_blocks += gap;
	} else {
		read = &piece->reads[piece->read_count++];
		*read = (struct span){ first, 0, piece->blocks };
	}
	added = PLAN_PIECE_BLOCKS - piece->blocks;
	if (added > count)
		added = (uint32_t)count;
	piece->wanted[piece->wanted_count++] =
		(struct span){ first, added, piece->blocks };
	read->count += added;
	piece->blocks += added;
	plan->wanted_blocks += added;
	return added;
}

bool plan_next(struct plan *plan, struct plan_piece *piece)
{
	piece->number = (uint32_t)plan->pieces;
	piece->blocks = 0;
	piece->read_count = 0;
	piece->wanted_count = 0;
	while (plan->index < plan->extents->count &&
	       piece->blocks < PLAN_PIECE_BLOCKS) {
		const struct extent *extent = &plan->extents->items[plan->index];

		plan->done += plan_add(plan, piece, extent->first + plan->done,
				       extent->count - plan->done);
		if (plan->done == extent->count) {
			plan->index++;
			plan->done = 0;
		}
	}
	if (!piece->blocks)
		return false;
	plan->pieces++;
	return true;
}
