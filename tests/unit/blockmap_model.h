/*
 * The naive model of a map: one cell a block. Shared by the map tests; every
 * comparison returns whether it holds, so that a test can show that it bites.
 */
#ifndef CLAWBACK_TESTS_BLOCKMAP_MODEL_H
#define CLAWBACK_TESTS_BLOCKMAP_MODEL_H

#include "blockmap/map.h"
#include "tests/unit/random.h"

#include <string.h>

#define MODEL_BLOCKS_MAX 600

enum cell_kind { CELL_UNLISTED, CELL_HOLE, CELL_DATA };

struct cell {
	enum cell_kind kind;
	struct map_frame frame;
	uint32_t position;
};

struct model {
	uint64_t blocks;
	struct cell cells[MODEL_BLOCKS_MAX];
};

static inline bool cell_equal(const struct cell *a, const struct cell *b)
{
	if (a->kind != b->kind)
		return false;
	return a->kind != CELL_DATA ||
	       (a->position == b->position && a->frame.point == b->frame.point &&
		a->frame.segment == b->frame.segment &&
		a->frame.number == b->frame.number &&
		a->frame.offset == b->frame.offset &&
		a->frame.length == b->frame.length &&
		a->frame.blocks == b->frame.blocks);
}

/* What the map says of one block, as a cell. */
static inline struct cell cell_of(const struct map *map, uint64_t block,
				  uint64_t *count)
{
	struct cell cell = { .kind = CELL_UNLISTED };
	struct map_entry found;

	if (map_find(map, block, &found)) {
		cell.kind = CELL_HOLE;
		if (found.frame != MAP_FRAME_HOLE) {
			cell.kind = CELL_DATA;
			cell.frame = map->frames[found.frame];
			cell.position = found.position;
		}
	}
	*count = found.block == block ? found.count : 0;
	return cell;
}

static inline bool model_holds(const struct model *model, const struct map *map)
{
	uint64_t data = 0, count;

	if (map_check(map) || map->volume_blocks != model->blocks)
		return false;
	for (uint64_t b = 0; b < model->blocks; b++) {
		struct cell cell = cell_of(map, b, &count);

		if (!cell_equal(&cell, &model->cells[b]))
			return false;
		data += cell.kind == CELL_DATA;
		/* The answer holds for `count` blocks, and no longer than true. */
		if (!count || b + count > model->blocks)
			return false;
		for (uint64_t i = 1; i < count; i++) {
			struct cell expected = cell;

			expected.position += (uint32_t)i;
			if (!cell_equal(&expected, &model->cells[b + i]))
				return false;
		}
	}
	return data == map_data_blocks(map) &&
	       cell_of(map, model->blocks, &count).kind == CELL_UNLISTED && !count;
}

/* What map_overlay is to make. */
static inline void model_overlay(const struct model *older, const struct model *newer,
				 struct model *out)
{
	*out = *newer;
	for (uint64_t b = 0; b < newer->blocks; b++) {
		if (newer->cells[b].kind != CELL_UNLISTED)
			continue;
		if (b < older->blocks)
			out->cells[b] = older->cells[b];
		else
			out->cells[b].kind = CELL_HOLE;
	}
}

/* A random frame of `point`; `last` is the one before, or zero. */
static inline struct map_frame random_frame(struct random_state *random,
					    uint64_t point,
					    const struct map_frame *last)
{
	struct map_frame frame = *last;
	uint32_t most = random_one_in(random, 2) ? MAP_FRAME_BLOCKS_MAX : 8;

	frame.point = point;
	frame.number = last->length ? last->number + 1 : 0;
	frame.offset = last->offset + last->length;
	frame.blocks = 1 + (uint32_t)random_below(random, most);
	frame.length = 1 + (uint32_t)random_below(random, 1 << 20);
	if (random_one_in(random, 5))
		frame.offset += random_below(random, 100000);
	if (random_one_in(random, 5))
		frame.number += (uint32_t)random_below(random, 20);
	if (random_one_in(random, 6)) {
		frame.segment++;
		frame.offset = random_below(random, 64);
	}
	if (random_one_in(random, 30)) {
		frame.point = random_next(random);
		frame.segment = (uint32_t)random_next(random);
		frame.number = (uint32_t)random_next(random);
		frame.offset = random_next(random) >> 1;
	}
	return frame;
}

/* Where a random run starts in its frame: most go on, some jump. */
static inline void random_place(struct random_state *random, size_t frames,
				uint64_t *frame, uint64_t *position,
				const struct map *map)
{
	switch (random_below(random, 4)) {
	case 0:
		*frame = (*frame + 1) % frames;
		*position = 0;
		break;
	case 1:
		*frame = random_below(random, frames);
		*position = random_below(random, map->frames[*frame].blocks);
		break;
	default:
		break;
	}
	if (*position >= map->frames[*frame].blocks) {
		*frame = (*frame + 1) % frames;
		*position = 0;
	}
}

/* A random map and its model. Both are written together. Returns 0 or an errno. */
static inline int random_map(struct random_state *random, enum map_kind kind,
			     uint64_t blocks, uint64_t point, struct map *map,
			     struct model *model)
{
	uint64_t frames = random_below(random, 9), frame = 0, position = 0;
	uint64_t spread = 1 + random_below(random, 40), at = 0;
	struct map_frame last = { 0 };

	map_init(map, kind, blocks);
	memset(model, 0, sizeof(*model));
	model->blocks = blocks;
	for (uint64_t b = 0; b < blocks && kind == MAP_FULL; b++)
		model->cells[b].kind = CELL_HOLE;
	for (uint64_t i = 0; i < frames; i++) {
		last = random_frame(random, point, &last);
		if (map_append_frame(map, &last))
			return -1;
	}
	for (;;) {
		struct map_entry entry = { .frame = MAP_FRAME_HOLE };

		entry.block = at + random_below(random, spread);
		entry.count = 1 + random_below(random, spread);
		if (frames && !random_one_in(random, 4)) {
			random_place(random, frames, &frame, &position, map);
			entry.frame = (uint32_t)frame;
			entry.position = (uint32_t)position;
			if (entry.count > map->frames[frame].blocks - position)
				entry.count = map->frames[frame].blocks - position;
			position += entry.count;
		}
		if (entry.block + entry.count > blocks)
			return 0;
		if (map_append_entry(map, &entry))
			return -1;
		for (uint64_t i = 0; i < entry.count; i++) {
			struct cell *cell = &model->cells[entry.block + i];

			cell->kind = CELL_HOLE;
			if (entry.frame == MAP_FRAME_HOLE)
				continue;
			cell->kind = CELL_DATA;
			cell->frame = map->frames[entry.frame];
			cell->position = entry.position + (uint32_t)i;
		}
		at = entry.block + entry.count;
	}
}

/* Encodes, decodes, encodes: 0 when the second encoding equals the first. */
static inline int round_trip(const struct map *map)
{
	uint8_t *first = NULL, *second = NULL;
	size_t first_length = 0, second_length = 0;
	struct map copy;
	int ret = map_encode(map, &first, &first_length);

	if (ret)
		return ret;
	ret = map_decode(first, first_length, &copy);
	if (!ret) {
		ret = map_encode(&copy, &second, &second_length);
		if (!ret && (first_length != second_length ||
			     memcmp(first, second, first_length) != 0))
			ret = 1;
		if (copy.frame_count != map->frame_count ||
		    copy.entry_count != map->entry_count ||
		    copy.kind != map->kind ||
		    copy.volume_blocks != map->volume_blocks)
			ret = 1;
		map_fini(&copy);
	}
	free(first);
	free(second);
	return ret;
}

/* Whether two maps are the same to the last byte of their encoding. */
static inline bool map_same(const struct map *a, const struct map *b)
{
	uint8_t *x = NULL, *y = NULL;
	size_t x_length = 0, y_length = 0;
	bool same = !map_encode(a, &x, &x_length) &&
		    !map_encode(b, &y, &y_length) && x_length == y_length &&
		    memcmp(x, y, x_length) == 0;

	free(x);
	free(y);
	return same;
}

#endif
