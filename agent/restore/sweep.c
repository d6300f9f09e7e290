/*
 * The order of a restore. The target is written from front to back, so frames are
 * wanted in the order of their first blocks; but they lie in the store by point, and
 * one request should fetch many. So the windows are cut into bands, of some MiB as
 * stored: what a band wants first is fetched before what the next one does, and within
 * it in the order in which it lies in the store.
 */
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <stdlib.h>

/* ---- windows ------------------------------------------------------------- */

static int window_append(struct plan *plan, size_t *room, uint64_t number, size_t entry)
{
	if (plan->window_count == *room) {
		size_t more = *room ? 2 * *room : 1024;
		struct plan_window *windows = reallocarray(plan->windows, more,
							   sizeof(*windows));

		if (!windows)
			return -ENOMEM;
		plan->windows = windows;
		*room = more;
	}
	plan->windows[plan->window_count++] = (struct plan_window){ number, (uint32_t)entry };
	return plan->window_count < UINT32_MAX ? 0 : -EOVERFLOW;
}

int plan_windows(struct plan *plan)
{
	const struct map *map = &plan->map;
	size_t room = 0;

	free(plan->windows);
	plan->windows = NULL;
	plan->window_count = 0;
	for (size_t i = 0; i < map->entry_count; i++) {
		const struct map_entry *entry = &map->entries[i];
		uint64_t last = (entry->block + entry->count - 1) / WINDOW_BLOCKS;

		if (entry->frame == MAP_FRAME_HOLE)
			continue;
		for (uint64_t n = entry->block / WINDOW_BLOCKS; n <= last; n++) {
			int ret = 0;

			if (!plan->window_count ||
			    plan->windows[plan->window_count - 1].number != n)
				ret = window_append(plan, &room, n, i);
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* Which windows want blocks of which frames. */
static int plan_uses(struct plan *plan)
{
	const struct map *map = &plan->map;
	size_t window = 0;

	plan->uses = calloc(map->frame_count + 1, sizeof(*plan->uses));
	if (!plan->uses)
		return -ENOMEM;
	for (size_t i = 0; i < map->entry_count; i++) {
		const struct map_entry *entry = &map->entries[i];
		uint64_t last = (entry->block + entry->count - 1) / WINDOW_BLOCKS;
		struct plan_use *use;

		if (entry->frame == MAP_FRAME_HOLE)
			continue;
		use = &plan->uses[entry->frame];
		while (plan->windows[window].number < entry->block / WINDOW_BLOCKS)
			window++;
		/* Windows follow one another here: each of them holds data. */
		for (uint64_t n = entry->block / WINDOW_BLOCKS; n <= last; n++) {
			uint32_t w = (uint32_t)(window + (n - entry->block / WINDOW_BLOCKS));

			if (!use->windows)
				use->first = w;
			if (!use->windows || use->last != w)
				use->windows++;
			use->last = w;
		}
	}
	return 0;
}

/* ---- strays ---------------------------------------------------------------- */

/* The frames that are kept at some window, that which is wanted longest on top. */
struct holds {
	const struct plan *plan;
	uint32_t *heap;
	size_t count;
	uint64_t bytes;
	uint64_t *release;	/* by window: what is let go behind it */
};

static uint32_t hold_last(const struct holds *holds, size_t at)
{
	return holds->plan->uses[holds->heap[at]].last;
}

static void holds_swap(struct holds *holds, size_t a, size_t b)
{
	uint32_t frame = holds->heap[a];

	holds->heap[a] = holds->heap[b];
	holds->heap[b] = frame;
}

static void holds_push(struct holds *holds, uint32_t frame)
{
	size_t at = holds->count++;

	holds->heap[at] = frame;
	while (at && hold_last(holds, (at - 1) / 2) < hold_last(holds, at)) {
		holds_swap(holds, at, (at - 1) / 2);
		at = (at - 1) / 2;
	}
}

static uint32_t holds_pop(struct holds *holds)
{
	uint32_t top = holds->heap[0];
	size_t at = 0;

	holds->heap[0] = holds->heap[--holds->count];
	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < holds->count &&
		    hold_last(holds, child + 1) > hold_last(holds, child))
			child++;
		if (child >= holds->count || hold_last(holds, child) <= hold_last(holds, at))
			return top;
		holds_swap(holds, at, child);
		at = child;
	}
}

/* What is wanted longest makes way: that leaves the fewest strays. */
static int plan_strays(struct plan *plan)
{
	struct holds holds = { .plan = plan };
	uint32_t window = 0;

	holds.heap = calloc(plan->frame_count + 1, sizeof(*holds.heap));
	holds.release = calloc(plan->window_count + 1, sizeof(*holds.release));
	for (size_t i = 0; holds.heap && holds.release && i < plan->frame_count; i++) {
		uint32_t frame = plan->order[i];
		const struct plan_use *use = &plan->uses[frame];
		uint64_t bytes = plan->map.frames[frame].blocks * (uint64_t)BLOCK_BYTES;

		while (window < use->first)
			holds.bytes -= holds.release[window++];
		if (use->windows < 2)
			continue;
		holds_push(&holds, frame);
		holds.bytes += bytes;
		holds.release[use->last] += bytes;
		while (holds.bytes > plan->held_max) {
			uint32_t top = holds_pop(&holds);

			bytes = plan->map.frames[top].blocks * (uint64_t)BLOCK_BYTES;
			plan->uses[top].stray = true;
			holds.bytes -= bytes;
			holds.release[plan->uses[top].last] -= bytes;
		}
	}
	free(holds.heap);
	free(holds.release);
	return holds.heap && holds.release ? 0 : -ENOMEM;
}

/* ---- bands and ranges ---------------------------------------------------- */

/* Until ranges are cut, uses[].range is the band; strays are in band 0. */
static void plan_bands(struct plan *plan)
{
	uint64_t band_bytes = 0, window_bytes = 0;
	uint32_t band = 1, band_first = 0, window = 0;

	for (size_t i = 0; i < plan->frame_count; i++) {
		struct plan_use *use = &plan->uses[plan->order[i]];
		uint32_t length = plan->map.frames[plan->order[i]].length;

		if (use->first != window) {
			window = use->first;
			window_bytes = 0;
			if (band_bytes >= BAND_BYTES || window - band_first >= BAND_WINDOWS) {
				band++;
				band_bytes = 0;
				band_first = window;
			}
		}
		if (window_bytes + length > WINDOW_STORED_MAX)
			use->stray = true;
		use->range = use->stray ? 0 : band;
		plan->stray_count += use->stray;
		if (!use->stray) {
			window_bytes += length;
			band_bytes += length;
		}
	}
}

static int compare_first(const void *a, const void *b, void *context)
{
	const struct plan_use *uses = context;
	uint32_t x = uses[*(const uint32_t *)a].first, y = uses[*(const uint32_t *)b].first;

	return x < y ? -1 : x > y;
}

static int compare_place(const void *a, const void *b, void *context)
{
	const struct plan *plan = context;
	const struct map_frame *x = &plan->map.frames[*(const uint32_t *)a];
	const struct map_frame *y = &plan->map.frames[*(const uint32_t *)b];
	uint32_t band_x = plan->uses[*(const uint32_t *)a].range;
	uint32_t band_y = plan->uses[*(const uint32_t *)b].range;

	if (band_x != band_y)
		return band_x < band_y ? -1 : 1;
	if (x->point != y->point)
		return x->point > y->point ? -1 : 1;
	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return 0;
}

/* Needed frames by point, and these. */
static int plan_points(struct plan *plan)
{
	plan->order = calloc(plan->map.frame_count + 1, sizeof(*plan->order));
	if (!plan->order)
		return -ENOMEM;
	for (uint32_t f = 0; f < plan->map.frame_count; f++)
		if (plan->index.first[f] < plan->index.first[f + 1])
			plan->order[plan->frame_count++] = f;
	plan->points = calloc(plan->frame_count + 1, sizeof(*plan->points));
	if (!plan->points)
		return -ENOMEM;
	qsort_r(plan->order, plan->frame_count, sizeof(*plan->order), compare_place, plan);
	for (size_t i = 0; i < plan->frame_count; i++) {
		uint64_t point = plan->map.frames[plan->order[i]].point;

		if (!plan->point_count || plan->points[plan->point_count - 1] != point)
			plan->points[plan->point_count++] = point;
	}
	return 0;
}

static size_t plan_source(const struct plan *plan, uint64_t point)
{
	size_t low = 0, high = plan->point_count;

	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (plan->points[middle] < point)
			high = middle;
		else
			low = middle;
	}
	return low;
}

/* Whether a frame can join the range: behind its end, near, and not too much. */
static bool range_takes(const struct plan_range *range, uint64_t range_point,
			const struct map_frame *frame, uint32_t gap_max)
{
	uint64_t end = range->offset + range->length;

	return frame->point == range_point && frame->segment == range->segment &&
	       frame->offset >= end && frame->offset - end <= gap_max &&
	       frame->offset + frame->length - range->offset <= RANGE_BYTES_MAX;
}

/* Ranges of order[first] … order[stop - 1]; their bytes. */
static uint64_t ranges_cut(struct plan *plan, size_t first, size_t stop, uint32_t gap_max)
{
	struct plan_range *range = NULL;
	uint64_t bytes = 0;

	for (size_t i = first; i < stop; i++) {
		const struct map_frame *frame = &plan->map.frames[plan->order[i]];

		if (range && range_takes(range, plan->points[range->source], frame, gap_max)) {
			bytes -= range->length;
			range->length = (uint32_t)(frame->offset + frame->length -
						   range->offset);
			range->frame_count++;
		} else {
			range = &plan->ranges[plan->range_count++];
			*range = (struct plan_range){
				.offset = frame->offset, .length = frame->length,
				.segment = frame->segment,
				.source = plan_source(plan, frame->point),
				.first_frame = i, .frame_count = 1,
			};
		}
		bytes += range->length;
	}
	return bytes;
}

/* A rewind promises to move little more than what differs. */
static bool ranges_fit(const struct plan *plan, uint32_t band, uint64_t bytes, uint64_t wanted)
{
	if (plan->map.kind == MAP_DELTA && bytes - wanted > wanted / READ_OVER_PART)
		return false;
	return !band || bytes <= BAND_FETCH_MAX;
}

static int plan_ranges(struct plan *plan)
{
	plan->ranges = calloc(plan->frame_count + 1, sizeof(*plan->ranges));
	if (!plan->ranges)
		return -ENOMEM;
	for (size_t first = 0, stop; first < plan->frame_count; first = stop) {
		uint32_t band = plan->uses[plan->order[first]].range, gap = RANGE_GAP_MAX;
		size_t ranges = plan->range_count;
		uint64_t bytes, wanted = 0;

		for (stop = first; stop < plan->frame_count; stop++) {
			if (plan->uses[plan->order[stop]].range != band)
				break;
			wanted += plan->map.frames[plan->order[stop]].length;
		}
		bytes = ranges_cut(plan, first, stop, gap);
		while (gap && !ranges_fit(plan, band, bytes, wanted)) {
			gap = gap > RANGE_GAP_LEAST ? gap / 4 : 0;
			plan->range_count = ranges;
			bytes = ranges_cut(plan, first, stop, gap);
		}
		plan->fetch_bytes += bytes;
	}
	for (size_t i = 0; i < plan->range_count; i++)
		for (size_t f = 0; f < plan->ranges[i].frame_count; f++)
			plan->uses[plan->order[plan->ranges[i].first_frame + f]].range =
				(uint32_t)i;
	return 0;
}

int plan_sweep(struct plan *plan)
{
	int ret = plan_uses(plan);

	if (!ret)
		ret = plan_points(plan);
	if (ret)
		return ret;
	qsort_r(plan->order, plan->frame_count, sizeof(*plan->order), compare_first,
		plan->uses);
	ret = plan_strays(plan);
	if (ret)
		return ret;
	plan_bands(plan);
	qsort_r(plan->order, plan->frame_count, sizeof(*plan->order), compare_place, plan);
	return plan_ranges(plan);
}
