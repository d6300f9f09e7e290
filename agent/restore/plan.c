/*
 * What to read for a point: the frames that its full map refers to, newest point
 * first and in stored order, cut into ranges for the store; and the holes.
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
	free(plan->order);
	free(plan->ranges);
	free(plan->points);
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

static int compare_frames(const void *a, const void *b, void *context)
{
	const struct map_frame *frames = context;
	const struct map_frame *x = &frames[*(const uint32_t *)a];
	const struct map_frame *y = &frames[*(const uint32_t *)b];

	if (x->point != y->point)
		return x->point > y->point ? -1 : 1;
	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return 0;
}

static int plan_order(struct plan *plan)
{
	plan->order = calloc(plan->map.frame_count + 1, sizeof(*plan->order));
	if (!plan->order)
		return -ENOMEM;
	for (uint32_t f = 0; f < plan->map.frame_count; f++)
		if (plan->index.first[f] < plan->index.first[f + 1])
			plan->order[plan->frame_count++] = f;
	qsort_r(plan->order, plan->frame_count, sizeof(*plan->order),
		compare_frames, plan->map.frames);
	return 0;
}

/* Whether a frame can join the range: behind its end, near, and not too much. */
static bool range_takes(const struct plan_range *range, uint64_t range_point,
			const struct map_frame *frame)
{
	uint64_t end = range->offset + range->length;

	return frame->point == range_point && frame->segment == range->segment &&
	       frame->offset >= end && frame->offset - end <= RANGE_GAP_MAX &&
	       frame->offset + frame->length - range->offset <= RANGE_BYTES_MAX;
}

static int plan_ranges(struct plan *plan)
{
	struct plan_range *range = NULL;

	plan->ranges = calloc(plan->frame_count + 1, sizeof(*plan->ranges));
	plan->points = calloc(plan->frame_count + 1, sizeof(*plan->points));
	if (!plan->ranges || !plan->points)
		return -ENOMEM;
	for (size_t i = 0; i < plan->frame_count; i++) {
		const struct map_frame *frame = &plan->map.frames[plan->order[i]];

		if (!plan->point_count ||
		    plan->points[plan->point_count - 1] != frame->point)
			plan->points[plan->point_count++] = frame->point;
		if (range && range_takes(range, plan->points[range->source], frame)) {
			range->length = (uint32_t)(frame->offset + frame->length -
						   range->offset);
			range->frame_count++;
			continue;
		}
		range = &plan->ranges[plan->range_count++];
		*range = (struct plan_range){
			.offset = frame->offset, .length = frame->length,
			.segment = frame->segment, .source = plan->point_count - 1,
			.first_frame = i, .frame_count = 1,
		};
	}
	for (size_t i = 0; i < plan->range_count; i++)
		plan->fetch_bytes += plan->ranges[i].length;
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

int plan_make(struct plan *plan, struct repo *repo, const struct point *point,
	      const struct key_ring *ring, const struct restore_known *known,
	      struct error *err)
{
	int ret;

	memset(plan, 0, sizeof(*plan));
	ret = places_open(repo, &point->volume, &plan->places, err);
	if (!ret)
		ret = places_full_map(plan->places, point, ring, &plan->map, err);
	if (ret)
		goto out;
	plan->volume_bytes = point->volume_bytes;
	ret = plan_check(plan, point, err);
	if (ret)
		goto out;
	ret = known ? plan_narrow(plan, known) : 0;
	if (!ret)
		ret = frame_index_init(&plan->index, &plan->map);
	if (!ret)
		ret = plan_order(plan);
	if (!ret)
		ret = plan_ranges(plan);
	if (!ret)
		ret = plan_holes(plan);
	if (ret)
		error_set(err, ret, "planning the restore of point %" PRIu64 " of %s: %s",
			  point->number, point->volume_name, error_text(ret));
out:
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
	};
	plan_fini(&plan);
	return 0;
}
