/*
 * What to read for a point: the frames that its full map refers to, in which order is
 * sweep.c's business; and the holes.
 *
 * The map is authentic (sealed, hashed by a signed manifest), and yet every
 * number in it is checked before it is used: a mistake of an earlier version must
 * end in a message.
 */
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void plan_fini(struct plan *plan)
{
	places_close(plan->places);
	map_fini(&plan->map);
	frame_index_fini(&plan->index);
	extent_list_fini(&plan->holes);
	extent_list_fini(&plan->fills);
	extent_list_fini(&plan->clears);
	free(plan->order);
	free(plan->ranges);
	free(plan->points);
	free(plan->windows);
	free(plan->uses);
	memset(plan, 0, sizeof(*plan));
}

uint64_t plan_clip(const struct plan *plan, uint64_t block, uint64_t count)
{
	uint64_t offset = block * BLOCK_BYTES, length = count * BLOCK_BYTES;

	if (offset >= plan->volume_bytes)
		return 0;
	return length < plan->volume_bytes - offset ? length :
						      plan->volume_bytes - offset;
}

static int plan_untrustworthy(const struct point *point, const char *why,
			      struct error *err)
{
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
			      "the map of point %" PRIu64 " of %s cannot be used: %s",
			      point->number, point->volume_name, why);
}

static int plan_check(const struct plan *plan, const struct point *point,
		      struct error *err)
{
	const struct map *map = &plan->map;
	uint64_t blocks = plan->volume_bytes / BLOCK_BYTES +
			  !!(plan->volume_bytes % BLOCK_BYTES);

	if (map->kind != MAP_FULL || map->volume_blocks != blocks)
		return plan_untrustworthy(point, "it is not of this volume", err);
	for (size_t i = 0; i < map->frame_count; i++) {
		const struct map_frame *frame = &map->frames[i];

		if (!frame->point || frame->point > point->number)
			return plan_untrustworthy(point, "it refers to a later point",
						  err);
		if (frame->length > FRAME_STORED_MAX ||
		    frame->offset > UINT64_MAX - frame->length)
			return plan_untrustworthy(point, "a frame has no valid place",
						  err);
	}
	return 0;
}

static int plan_holes(struct plan *plan)
{
	const struct map *map = &plan->map;
	uint64_t at = 0;
	int ret = 0;

	for (size_t i = 0; !ret && i < map->entry_count; i++) {
		const struct map_entry *entry = &map->entries[i];

		if (entry->frame == MAP_FRAME_HOLE) {	/* a narrowed map's */
			ret = extent_list_append(&plan->holes, entry->block, entry->count);
			continue;
		}
		if (map->kind == MAP_FULL && entry->block > at)
			ret = extent_list_append(&plan->holes, at, entry->block - at);
		at = entry->block + entry->count;
		plan->data_bytes += plan_clip(plan, entry->block, entry->count);
	}
	if (!ret && map->kind == MAP_FULL && at < map->volume_blocks)
		ret = extent_list_append(&plan->holes, at, map->volume_blocks - at);
	for (size_t i = 0; i < plan->holes.count; i++)
		plan->hole_bytes += plan_clip(plan, plan->holes.items[i].first,
					      plan->holes.items[i].count);
	return ret;
}

static bool plan_has_window(const struct plan *plan, uint64_t number)
{
	size_t low = 0, high = plan->window_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (plan->windows[middle].number == number)
			return true;
		if (plan->windows[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/*
 * Small holes between data are zeros in what is written: one large write is cheaper
 * than two with a command between them. All others are cleared.
 */
static int plan_clears(struct plan *plan)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < plan->holes.count; i++) {
		const struct extent *hole = &plan->holes.items[i];
		bool fill = hole->count < FILL_BLOCKS_MAX &&
			    plan_has_window(plan, hole->first / WINDOW_BLOCKS) &&
			    plan_has_window(plan, (hole->first + hole->count - 1) /
						  WINDOW_BLOCKS);

		ret = extent_list_append(fill ? &plan->fills : &plan->clears, hole->first,
					 hole->count);
	}
	return ret;
}

static int plan_failed(const struct point *point, int code, struct error *err)
{
	return error_set(err, code, "planning the restore of point %" PRIu64 " of %s: %s",
			 point->number, point->volume_name, error_text(code));
}

int plan_open(struct plan *plan, struct repo *repo, const struct point *point,
	      const struct key_ring *ring, const struct restore_known *known,
	      struct error *err)
{
	int ret;

	memset(plan, 0, sizeof(*plan));
	plan->held_max = HELD_BYTES_DEFAULT;
	ret = places_open(repo, &point->volume, &plan->places, err);
	if (!ret)
		ret = places_full_map(plan->places, point, ring, &plan->map, err);
	if (!ret) {
		plan->volume_bytes = point->volume_bytes;
		ret = plan_check(plan, point, err);
	}
	if (ret)
		goto out;
	ret = known ? plan_narrow(plan, known) : 0;
	if (!ret)
		ret = plan_holes(plan);
	if (ret)
		plan_failed(point, ret, err);
out:
	if (ret)
		plan_fini(plan);
	return ret;
}

int plan_finish(struct plan *plan, const struct point *point, struct error *err)
{
	int ret = plan_windows(plan);

	if (!ret)
		ret = frame_index_init(&plan->index, &plan->map);
	if (!ret)
		ret = plan_sweep(plan);
	if (!ret)
		ret = plan_clears(plan);
	return ret ? plan_failed(point, ret, err) : 0;
}

int plan_make(struct plan *plan, struct repo *repo, const struct point *point,
	      const struct key_ring *ring, const struct restore_known *known,
	      struct error *err)
{
	int ret = plan_open(plan, repo, point, ring, known, err);

	if (ret)
		return ret;
	ret = plan_finish(plan, point, err);
	if (ret)
		plan_fini(plan);
	return ret;
}

int restore_plan(struct repo *repo, const struct point *point,
		 const struct key_ring *ring, const struct restore_known *known,
		 struct restore_result *result, struct error *err)
{
	struct plan plan;
	int ret = plan_make(&plan, repo, point, ring, known, err);

	if (ret)
		return ret;
	*result = (struct restore_result){
		.volume_bytes = plan.volume_bytes, .data_bytes = plan.data_bytes,
		.hole_bytes = plan.hole_bytes, .written_bytes = plan.data_bytes,
		.fetched_bytes = plan.fetch_bytes, .frames = plan.frame_count,
		.requests = plan.range_count,
	};
	plan_fini(&plan);
	return 0;
}
