/*
 * How two whole maps differ, and what of a map lies in some blocks: the two
 * halves of going from one recovery point to another. Each one walk through what
 * it is given, block order throughout.
 */
#include "blockmap/map.h"

#include <errno.h>

/* Reads a map from front to back: `next` is the first entry that may reach so far. */
struct cursor {
	const struct map *map;
	size_t next;
};

/*
 * What a full map says of `block`, which rises from call to call; `count` is how far
 * that holds, beyond the volume's end perhaps.
 */
static struct map_entry cursor_at(struct cursor *cursor, uint64_t block)
{
	const struct map *map = cursor->map;
	struct map_entry found = { .block = block, .frame = MAP_FRAME_HOLE };
	const struct map_entry *entry;

	while (cursor->next < map->entry_count &&
	       map->entries[cursor->next].block + map->entries[cursor->next].count <= block)
		cursor->next++;
	if (cursor->next == map->entry_count) {
		found.count = UINT64_MAX - block;
		return found;
	}
	entry = &map->entries[cursor->next];
	if (entry->block > block) {
		found.count = entry->block - block;
		return found;
	}
	found.count = entry->block + entry->count - block;
	found.frame = entry->frame;
	if (entry->frame != MAP_FRAME_HOLE)
		found.position = entry->position + (uint32_t)(block - entry->block);
	return found;
}

/* A frame is what its point and number say; the rest agrees, or is not believed. */
static bool frame_equal(const struct map_frame *a, const struct map_frame *b)
{
	return a->point == b->point && a->number == b->number && a->segment == b->segment &&
	       a->offset == b->offset && a->length == b->length && a->blocks == b->blocks;
}

static bool same_place(const struct map *a, const struct map_entry *x, const struct map *b,
		       const struct map_entry *y)
{
	if (x->frame == MAP_FRAME_HOLE || y->frame == MAP_FRAME_HOLE)
		return x->frame == y->frame;
	return x->position == y->position &&
	       frame_equal(&a->frames[x->frame], &b->frames[y->frame]);
}

int map_differ(const struct map *wanted, const struct map *there, struct extent_list *list)
{
	struct cursor x = { wanted, 0 }, y = { there, 0 };
	uint64_t at = 0, both = wanted->volume_blocks;
	int ret = 0;

	if (wanted->kind != MAP_FULL || there->kind != MAP_FULL || list->count)
		return -EINVAL;
	if (both > there->volume_blocks)
		both = there->volume_blocks;
	while (!ret && at < both) {
		struct map_entry a = cursor_at(&x, at), b = cursor_at(&y, at);
		uint64_t count = a.count < b.count ? a.count : b.count;

		if (count > both - at)
			count = both - at;
		if (!same_place(wanted, &a, there, &b))
			ret = extent_list_append(list, at, count);
		at += count;
	}
	if (!ret && both < wanted->volume_blocks)
		ret = extent_list_append(list, both, wanted->volume_blocks - both);
	if (ret)
		extent_list_fini(list);
	return ret;
}

static int cut_run(struct cursor *cursor, const struct extent *run, struct map *out)
{
	uint64_t at = run->first, left = run->count;
	int ret = 0;

	while (!ret && left) {
		struct map_entry entry = cursor_at(cursor, at);

		if (entry.count > left)
			entry.count = left;
		ret = map_append_entry(out, &entry);
		at += entry.count;
		left -= entry.count;
	}
	return ret;
}

int map_cut(const struct map *full, const struct extent_list *blocks, struct map *out)
{
	struct cursor cursor = { full, 0 };
	struct map result;
	int ret = full->kind == MAP_FULL ? 0 : -EINVAL;

	map_init(&result, MAP_DELTA, full->volume_blocks);
	for (size_t i = 0; !ret && i < full->frame_count; i++)
		ret = map_append_frame(&result, &full->frames[i]);
	for (size_t i = 0; !ret && i < blocks->count; i++)
		ret = cut_run(&cursor, &blocks->items[i], &result);
	if (ret) {
		map_fini(&result);
		return ret;
	}
	*out = result;
	return 0;
}
