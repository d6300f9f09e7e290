#include "blockmap/map.h"

#include <errno.h>
#include <stdlib.h>

#define MAP_ROOM_FIRST 16

void map_init(struct map *map, enum map_kind kind, uint64_t volume_blocks)
{
	*map = (struct map){ .kind = kind, .volume_blocks = volume_blocks };
}

void map_fini(struct map *map)
{
	if (!map)
		return;
	free(map->frames);
	free(map->entries);
	*map = (struct map){ .kind = map->kind };
}

static bool map_frame_valid(const struct map_frame *frame)
{
	return frame->blocks && frame->blocks <= MAP_FRAME_BLOCKS_MAX &&
	       frame->length && frame->offset <= UINT64_MAX - frame->length;
}

int map_append_frame(struct map *map, const struct map_frame *frame)
{
	if (!map_frame_valid(frame))
		return -EINVAL;
	if (map->frame_count >= MAP_FRAME_HOLE)
		return -EOVERFLOW;
	if (map->frame_count == map->frame_room) {
		size_t room = map->frame_room ? map->frame_room * 2 :
						MAP_ROOM_FIRST;
		struct map_frame *frames = reallocarray(map->frames, room,
							sizeof(*frames));

		if (!frames)
			return -ENOMEM;
		map->frames = frames;
		map->frame_room = room;
	}
	map->frames[map->frame_count++] = *frame;
	return 0;
}

/* Whether an entry makes sense in this map, behind `last` (NULL: the first). */
static bool map_entry_valid(const struct map *map, const struct map_entry *last,
			    const struct map_entry *entry)
{
	uint32_t blocks;

	if (map->volume_blocks > MAP_VOLUME_BLOCKS_MAX || !entry->count ||
	    entry->block > map->volume_blocks ||
	    entry->count > map->volume_blocks - entry->block)
		return false;
	if (last && entry->block < last->block + last->count)
		return false;
	if (entry->frame == MAP_FRAME_HOLE)
		return entry->position == 0;
	if (entry->frame >= map->frame_count)
		return false;
	blocks = map->frames[entry->frame].blocks;
	return entry->position < blocks &&
	       entry->count <= blocks - entry->position;
}

/* Whether `entry`, valid behind `last`, only goes on where `last` stops. */
static bool map_entry_continues(const struct map_entry *last,
				const struct map_entry *entry)
{
	if (last->block + last->count != entry->block ||
	    last->frame != entry->frame)
		return false;
	return entry->frame == MAP_FRAME_HOLE ||
	       last->position + last->count == entry->position;
}

int map_append_entry(struct map *map, const struct map_entry *entry)
{
	struct map_entry *last = map->entry_count ?
				 &map->entries[map->entry_count - 1] : NULL;

	if (!map_entry_valid(map, last, entry))
		return -EINVAL;
	if (map->kind == MAP_FULL && entry->frame == MAP_FRAME_HOLE)
		return 0;
	if (last && map_entry_continues(last, entry)) {
		last->count += entry->count;
		return 0;
	}
	if (map->entry_count == map->entry_room) {
		size_t room = map->entry_room ? map->entry_room * 2 :
						MAP_ROOM_FIRST;
		struct map_entry *entries = reallocarray(map->entries, room,
							 sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		map->entries = entries;
		map->entry_room = room;
	}
	map->entries[map->entry_count++] = *entry;
	return 0;
}

int map_check(const struct map *map)
{
	const struct map_entry *last = NULL;

	if (map->kind != MAP_FULL && map->kind != MAP_DELTA)
		return -EINVAL;
	if (map->volume_blocks > MAP_VOLUME_BLOCKS_MAX ||
	    map->frame_count > MAP_FRAME_HOLE)
		return -EINVAL;
	for (size_t i = 0; i < map->frame_count; i++) {
		if (!map_frame_valid(&map->frames[i]))
			return -EINVAL;
	}
	for (size_t i = 0; i < map->entry_count; i++) {
		const struct map_entry *entry = &map->entries[i];

		if (!map_entry_valid(map, last, entry))
			return -EINVAL;
		if (map->kind == MAP_FULL && entry->frame == MAP_FRAME_HOLE)
			return -EINVAL;
		if (last && map_entry_continues(last, entry))
			return -EINVAL;
		last = entry;
	}
	return 0;
}

/* How many entries start at or before `block`. */
static size_t map_entries_until(const struct map *map, uint64_t block)
{
	size_t low = 0, high = map->entry_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->entries[middle].block <= block)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool map_find(const struct map *map, uint64_t block, struct map_entry *found)
{
	size_t next;
	uint64_t limit;

	*found = (struct map_entry){ .block = block, .frame = MAP_FRAME_HOLE };
	if (block >= map->volume_blocks)
		return false;
	next = map_entries_until(map, block);
	if (next) {
		const struct map_entry *entry = &map->entries[next - 1];
		uint64_t inside = block - entry->block;

		if (inside < entry->count) {
			found->count = entry->count - inside;
			found->frame = entry->frame;
			if (entry->frame != MAP_FRAME_HOLE)
				found->position = entry->position +
						  (uint32_t)inside;
			return true;
		}
	}
	limit = next < map->entry_count ? map->entries[next].block :
					  map->volume_blocks;
	found->count = limit - block;
	return map->kind == MAP_FULL;
}

int map_stored_since(const struct map *map, uint64_t point, struct extent_list *list)
{
	if (list->count)
		return -EINVAL;
	for (size_t i = 0; i < map->entry_count; i++) {
		const struct map_entry *entry = &map->entries[i];
		int ret;

		if (entry->frame == MAP_FRAME_HOLE || map->frames[entry->frame].point <= point)
			continue;
		ret = extent_list_append(list, entry->block, entry->count);
		if (ret) {
			extent_list_fini(list);
			return ret;
		}
	}
	return 0;
}

uint64_t map_data_blocks(const struct map *map)
{
	uint64_t blocks = 0;

	for (size_t i = 0; i < map->entry_count; i++) {
		if (map->entries[i].frame != MAP_FRAME_HOLE)
			blocks += map->entries[i].count;
	}
	return blocks;
}
