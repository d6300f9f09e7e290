/*
 * Laying a delta over a map. One walk through both, each entry looked at a
 * bounded number of times: a checkpoint of a large volume merges with a small
 * delta in the time it takes to copy the checkpoint.
 */
#include "blockmap/map.h"

#include <errno.h>
#include <stdlib.h>

/* Both tables one behind the other: newer's frame i becomes older's count + i. */
static int overlay_frames(const struct map *older, const struct map *newer,
			  struct map *out)
{
	const struct map *sources[2] = { older, newer };

	/* Before copying: each index, holes' too, must keep its meaning. */
	if (older->frame_count + newer->frame_count > MAP_FRAME_HOLE)
		return -EOVERFLOW;
	for (int s = 0; s < 2; s++) {
		for (size_t i = 0; i < sources[s]->frame_count; i++) {
			int ret = map_append_frame(out, &sources[s]->frames[i]);

			if (ret)
				return ret;
		}
	}
	return 0;
}

/* Adds the part of `entry` that lies in blocks [from, to). */
static int overlay_part(const struct map_entry *entry, uint64_t from, uint64_t to,
			struct map *out)
{
	uint64_t end = entry->block + entry->count;
	struct map_entry part = *entry;

	if (part.block < from) {
		if (part.frame != MAP_FRAME_HOLE)
			part.position += (uint32_t)(from - part.block);
		part.block = from;
	}
	if (end > to)
		end = to;
	part.count = end - part.block;
	return map_append_entry(out, &part);
}

/*
 * Adds what the older map says of blocks [from, to). `*next` is the first of its
 * entries that may reach behind `from`; `from` rises from call to call.
 */
static int overlay_older(const struct map *older, uint64_t from, uint64_t to,
			 size_t *next, struct map *out)
{
	struct map_entry grown = { .frame = MAP_FRAME_HOLE };

	if (from == to)
		return 0;
	for (; *next < older->entry_count; (*next)++) {
		const struct map_entry *entry = &older->entries[*next];
		uint64_t end = entry->block + entry->count;
		int ret;

		if (entry->block >= to)
			break;
		if (end > from) {
			ret = overlay_part(entry, from, to, out);
			if (ret)
				return ret;
		}
		if (end > to)
			break;
	}
	/*
	 * What the volume gained since `older` is a hole. A delta must list it:
	 * below an earlier shrink, its parent may still hold old data there.
	 */
	if (to <= older->volume_blocks)
		return 0;
	grown.block = from > older->volume_blocks ? from : older->volume_blocks;
	grown.count = to - grown.block;
	return grown.count ? map_append_entry(out, &grown) : 0;
}

static int overlay_entries(const struct map *older, const struct map *newer,
			   struct map *out)
{
	uint64_t done = 0;
	size_t next = 0;

	for (size_t i = 0; i < newer->entry_count; i++) {
		struct map_entry entry = newer->entries[i];
		int ret = overlay_older(older, done, entry.block, &next, out);

		if (ret)
			return ret;
		if (entry.frame != MAP_FRAME_HOLE)
			entry.frame += (uint32_t)older->frame_count;
		ret = map_append_entry(out, &entry);
		if (ret)
			return ret;
		done = entry.block + entry.count;
	}
	return overlay_older(older, done, newer->volume_blocks, &next, out);
}

/* Drops frames that no entry refers to; the others move up, in order. */
static int overlay_drop_frames(struct map *map)
{
	uint32_t *index;	/* first: is it used; then: its new place */
	uint32_t kept = 0;

	if (!map->frame_count)
		return 0;
	index = calloc(map->frame_count, sizeof(*index));
	if (!index)
		return -ENOMEM;
	for (size_t i = 0; i < map->entry_count; i++) {
		if (map->entries[i].frame != MAP_FRAME_HOLE)
			index[map->entries[i].frame] = 1;
	}
	for (size_t i = 0; i < map->frame_count; i++) {
		if (!index[i])
			continue;
		map->frames[kept] = map->frames[i];
		index[i] = kept++;
	}
	map->frame_count = kept;
	for (size_t i = 0; i < map->entry_count; i++) {
		if (map->entries[i].frame != MAP_FRAME_HOLE)
			map->entries[i].frame = index[map->entries[i].frame];
	}
	free(index);
	return 0;
}

int map_overlay(const struct map *older, const struct map *newer,
		struct map *out)
{
	struct map result;
	int ret;

	if (newer->kind != MAP_DELTA ||
	    newer->volume_blocks > MAP_VOLUME_BLOCKS_MAX)
		return -EINVAL;
	map_init(&result, older->kind, newer->volume_blocks);
	ret = overlay_frames(older, newer, &result);
	if (!ret)
		ret = overlay_entries(older, newer, &result);
	if (!ret)
		ret = overlay_drop_frames(&result);
	if (ret) {
		map_fini(&result);
		return ret;
	}
	*out = result;
	return 0;
}
