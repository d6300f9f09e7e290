#include "agent/pipeline/plan.h"

void plan_init(struct plan *plan, const struct extent_list *extents)
{
	*plan = (struct plan){ .extents = extents };
}

/*
 * Whether the read before may go on across `gap` blocks to the next extent. One
 * block of it at least must still fit: a frame never ends with a gap.
 */
static bool plan_bridges(const struct plan *plan, const struct plan_frame *frame,
			 uint64_t gap)
{
	return gap <= PLAN_GAP_BLOCKS &&
	       frame->blocks + gap < MAP_FRAME_BLOCKS_MAX &&
	       (plan->gap_blocks + gap) * 100 <
	       plan->wanted_blocks * PLAN_GAP_PERCENT;
}

/* Adds up to `count` blocks from `first` on; returns how many had room. */
static uint32_t plan_add(struct plan *plan, struct plan_frame *frame,
			 uint64_t first, uint64_t count)
{
	struct span *read = frame->read_count ?
			    &frame->reads[frame->read_count - 1] : NULL;
	uint64_t gap = read ? first - (read->first + read->count) : 0;
	uint32_t added;

	if (read && plan_bridges(plan, frame, gap)) {
		read->count += (uint32_t)gap;
		frame->blocks += (uint32_t)gap;
		plan->gap_blocks += gap;
	} else {
		read = &frame->reads[frame->read_count++];
		*read = (struct span){ first, 0, frame->blocks };
	}
	added = MAP_FRAME_BLOCKS_MAX - frame->blocks;
	if (added > count)
		added = (uint32_t)count;
	frame->wanted[frame->wanted_count++] =
		(struct span){ first, added, frame->blocks };
	read->count += added;
	frame->blocks += added;
	plan->wanted_blocks += added;
	return added;
}

bool plan_next(struct plan *plan, struct plan_frame *frame)
{
	frame->number = (uint32_t)plan->frames;
	frame->blocks = 0;
	frame->read_count = 0;
	frame->wanted_count = 0;
	while (plan->index < plan->extents->count &&
	       frame->blocks < MAP_FRAME_BLOCKS_MAX) {
		const struct extent *extent = &plan->extents->items[plan->index];

		plan->done += plan_add(plan, frame, extent->first + plan->done,
				       extent->count - plan->done);
		if (plan->done == extent->count) {
			plan->index++;
			plan->done = 0;
		}
	}
	if (!frame->blocks)
		return false;
	plan->frames++;
	return true;
}
