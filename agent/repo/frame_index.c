/*
 * Entries of a map grouped by frame: a counting sort over the entries, eight
 * bytes or less an entry. The map itself stays in block order.
 */
#include "agent/repo/repo.h"

#include <errno.h>
#include <stdlib.h>

int frame_index_init(struct frame_index *index, const struct map *map)
{
	uint32_t *first, *items;

	if (map->entry_count >= UINT32_MAX || map->frame_count >= UINT32_MAX)
		return -EOVERFLOW;
	first = calloc(map->frame_count + 2, sizeof(*first));
	items = calloc(map->entry_count + 1, sizeof(*items));
	if (!first || !items) {
		free(first);
		free(items);
		return -ENOMEM;
	}
	/* first[F + 2] counts; after the sums, first[F + 1] is where F begins, and
	 * filling moves it to where F ends: where F + 1 begins. */
	for (size_t i = 0; i < map->entry_count; i++)
		if (map->entries[i].frame < map->frame_count)
			first[map->entries[i].frame + 2]++;
	for (size_t i = 2; i < map->frame_count + 2; i++)
		first[i] += first[i - 1];
	for (size_t i = 0; i < map->entry_count; i++)
		if (map->entries[i].frame < map->frame_count)
			items[first[map->entries[i].frame + 1]++] = (uint32_t)i;
	index->first = first;
	index->items = items;
	return 0;
}

void frame_index_fini(struct frame_index *index)
{
	if (!index)
		return;
	free(index->first);
	free(index->items);
	index->first = NULL;
	index->items = NULL;
}

int frame_index_check(const struct frame_index *index, const struct map *map,
		      uint32_t frame, const struct extent_list *extents)
{
	size_t at = 0;
	uint64_t before = 0;	/* blocks of the frame in front of extents[at] */

	for (uint32_t i = index->first[frame]; i < index->first[frame + 1]; i++) {
		const struct map_entry *entry = &map->entries[index->items[i]];
		const struct extent *run;

		/* Blocks of a frame rise with their positions, as entries do. */
		while (at < extents->count &&
		       entry->position >= before + extents->items[at].count)
			before += extents->items[at++].count;
		if (at == extents->count || entry->position < before)
			return -EBADMSG;
		run = &extents->items[at];
		if (entry->block != run->first + (entry->position - before) ||
		    entry->position - before + entry->count > run->count)
			return -EBADMSG;
	}
	return 0;
}
