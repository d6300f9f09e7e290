#include "blockmap/extent.h"

#include <errno.h>
#include <stdlib.h>

#define EXTENT_ROOM_FIRST 16

static uint64_t extent_end(const struct extent *extent)
{
	return extent->first + extent->count;
}

void extent_list_fini(struct extent_list *list)
{
	if (!list)
		return;
	free(list->items);
	*list = (struct extent_list)EXTENT_LIST_INIT;
}

static int extent_list_grow(struct extent_list *list)
{
	size_t room = list->room ? list->room * 2 : EXTENT_ROOM_FIRST;
	struct extent *items;

	if (list->count < list->room)
		return 0;
	items = reallocarray(list->items, room, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	list->room = room;
	return 0;
}

int extent_list_append(struct extent_list *list, uint64_t first, uint64_t count)
{
	struct extent *last = list->count ? &list->items[list->count - 1] : NULL;
	int ret;

	if (!count || first > UINT64_MAX - count)
		return -EINVAL;
	if (last && first < extent_end(last))
		return -EINVAL;
	if (last && first == extent_end(last)) {
		last->count += count;
		return 0;
	}
	ret = extent_list_grow(list);
	if (ret)
		return ret;
	list->items[list->count++] = (struct extent){ first, count };
	return 0;
}

uint64_t extent_list_blocks(const struct extent_list *list)
{
	uint64_t blocks = 0;

	for (size_t i = 0; i < list->count; i++)
		blocks += list->items[i].count;
	return blocks;
}

bool extent_list_contains(const struct extent_list *list, uint64_t block)
{
	size_t low = 0, high = list->count;

	/* The items before `low` start at or before the block. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list->items[middle].first <= block)
			low = middle + 1;
		else
			high = middle;
	}
	return low && block < extent_end(&list->items[low - 1]);
}

/* Like append, but the run may begin inside the last one: only its rest is new. */
static int extent_list_cover(struct extent_list *list, const struct extent *run)
{
	uint64_t first = run->first, end = extent_end(run);

	if (list->count) {
		uint64_t covered = extent_end(&list->items[list->count - 1]);

		if (end <= covered)
			return 0;
		if (first < covered)
			first = covered;
	}
	return extent_list_append(list, first, end - first);
}

int extent_list_union(const struct extent_list *a, const struct extent_list *b,
		      struct extent_list *out)
{
	size_t i = 0, j = 0;
	int ret = 0;

	if (out->count)
		return -EINVAL;
	while (!ret && (i < a->count || j < b->count)) {
		bool from_a = j == b->count ||
			      (i < a->count &&
			       a->items[i].first <= b->items[j].first);

		ret = extent_list_cover(out, from_a ? &a->items[i++] :
						      &b->items[j++]);
	}
	if (ret)
		extent_list_fini(out);
	return ret;
}

int extent_list_intersect(const struct extent_list *a,
			  const struct extent_list *b, struct extent_list *out)
{
	size_t i = 0, j = 0;
	int ret = 0;

	if (out->count)
		return -EINVAL;
	while (!ret && i < a->count && j < b->count) {
		const struct extent *x = &a->items[i], *y = &b->items[j];
		uint64_t x_end = extent_end(x), y_end = extent_end(y);
		uint64_t first = x->first > y->first ? x->first : y->first;
		uint64_t end = x_end < y_end ? x_end : y_end;

		if (first < end)
			ret = extent_list_append(out, first, end - first);
		if (x_end <= y_end)
			i++;
		if (y_end <= x_end)
			j++;
	}
	if (ret)
		extent_list_fini(out);
	return ret;
}

/* Adds what is left of `run`; `*j` is the first item of b that may touch it. */
static int extent_subtract_run(const struct extent *run,
			       const struct extent_list *b, size_t *j,
			       struct extent_list *out)
{
	uint64_t first = run->first, end = extent_end(run);

	while (*j < b->count && extent_end(&b->items[*j]) <= first)
		(*j)++;
	/* An item may reach into the next run too, so *j stays at the last one. */
	for (size_t k = *j; k < b->count && b->items[k].first < end; k++) {
		const struct extent *hole = &b->items[k];

		*j = k;
		if (hole->first > first) {
			int ret = extent_list_append(out, first,
						     hole->first - first);

			if (ret)
				return ret;
		}
		first = extent_end(hole);
		if (first >= end)
			return 0;
	}
	return extent_list_append(out, first, end - first);
}

int extent_list_subtract(const struct extent_list *a,
			 const struct extent_list *b, struct extent_list *out)
{
	size_t j = 0;
	int ret = 0;

	if (out->count)
		return -EINVAL;
	for (size_t i = 0; !ret && i < a->count; i++)
		ret = extent_subtract_run(&a->items[i], b, &j, out);
	if (ret)
		extent_list_fini(out);
	return ret;
}
