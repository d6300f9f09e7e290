/* Maps, and chains of deltas laid over them, against one cell a block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/blockmap_model.h"

#include <errno.h>

#define CHAINS 400
#define CHAIN_LENGTH 12

/* Takes frames of `source` in order until `frame` is met; false when it is not. */
static bool frames_skip_to(const struct map *source, size_t *at,
			   const struct map_frame *frame)
{
	struct cell wanted = { .kind = CELL_DATA, .frame = *frame };

	while (*at < source->frame_count) {
		struct cell cell = { .kind = CELL_DATA,
				     .frame = source->frames[(*at)++] };

		if (cell_equal(&cell, &wanted))
			return true;
	}
	return false;
}

/* Every frame is used, and they stand in the order they had, older's first. */
static bool frames_tidy(const struct map *map, const struct map *older,
			const struct map *newer)
{
	bool used[1024] = { false };
	size_t o = 0, n = 0;

	for (size_t i = 0; i < map->frame_count; i++) {
		if (!frames_skip_to(older, &o, &map->frames[i]) &&
		    !frames_skip_to(newer, &n, &map->frames[i]))
			return false;
	}
	if (map->frame_count > 1024)
		return false;
	for (size_t i = 0; i < map->entry_count; i++) {
		if (map->entries[i].frame != MAP_FRAME_HOLE)
			used[map->entries[i].frame] = true;
	}
	for (size_t i = 0; i < map->frame_count; i++) {
		if (!used[i])
			return false;
	}
	return true;
}

static uint64_t resize(struct random_state *random, uint64_t blocks)
{
	if (random_one_in(random, 3))
		return random_below(random, MODEL_BLOCKS_MAX + 1);
	return blocks;
}

/* What lies in frames of points behind some point, and no holes. */
static void check_stored_since(struct random_state *random, const struct map *map,
			       const struct model *model, uint64_t newest)
{
	uint64_t since = random_below(random, newest + 2);
	struct extent_list list = EXTENT_LIST_INIT;
	uint64_t blocks = 0;

	assert_int_equal(map_stored_since(map, since, &list), 0);
	for (uint64_t b = 0; b < model->blocks; b++) {
		const struct cell *cell = &model->cells[b];
		bool wanted = cell->kind == CELL_DATA && cell->frame.point > since;

		assert_int_equal(extent_list_contains(&list, b), wanted);
		blocks += wanted;
	}
	assert_int_equal(extent_list_blocks(&list), blocks);
	if (list.count)
		assert_int_equal(map_stored_since(map, since, &list), -EINVAL);
	extent_list_fini(&list);
}

static void run_chain(struct random_state *random)
{
	static struct model model, delta_model, next_model;
	enum map_kind kind = random_one_in(random, 3) ? MAP_DELTA : MAP_FULL;
	uint64_t blocks = random_below(random, MODEL_BLOCKS_MAX + 1);
	struct map map, delta, next;

	assert_int_equal(random_map(random, kind, blocks, 1, &map, &model), 0);
	assert_true(model_holds(&model, &map));
	assert_int_equal(round_trip(&map), 0);
	for (uint64_t point = 2; point < 2 + CHAIN_LENGTH; point++) {
		blocks = resize(random, blocks);
		assert_int_equal(random_map(random, MAP_DELTA, blocks, point,
					    &delta, &delta_model), 0);
		assert_true(model_holds(&delta_model, &delta));
		assert_int_equal(round_trip(&delta), 0);
		model_overlay(&model, &delta_model, &next_model);
		assert_int_equal(map_overlay(&map, &delta, &next), 0);
		assert_int_equal(next.kind, kind);
		assert_true(frames_tidy(&next, &map, &delta));
		assert_true(model_holds(&next_model, &next));
		assert_int_equal(round_trip(&next), 0);
		check_stored_since(random, &next, &next_model, point);
		map_fini(&map);
		map_fini(&delta);
		map = next;
		model = next_model;
	}
	map_fini(&map);
}

static void test_chains(void **state)
{
	struct random_state random = random_start("map chains");

	(void)state;
	for (int i = 0; i < CHAINS; i++)
		run_chain(&random);
}

/*
 * Deltas merged first and laid over then must give the same bytes as one after
 * the other: this is what deleting a point in the middle of a chain relies on,
 * also when the volume shrank and grew again in between.
 */
static void test_merging_is_associative(void **state)
{
	struct random_state random = random_start("map merging");
	static struct model ignored;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		enum map_kind kind = random_one_in(&random, 2) ? MAP_DELTA : MAP_FULL;
		uint64_t blocks = random_below(&random, 200);
		struct map a, b, c, ab, bc, ab_c, a_bc;

		assert_int_equal(random_map(&random, kind, blocks, 1, &a, &ignored), 0);
		blocks = random_one_in(&random, 2) ? random_below(&random, 200) : blocks;
		assert_int_equal(random_map(&random, MAP_DELTA, blocks, 2, &b, &ignored), 0);
		blocks = random_one_in(&random, 2) ? random_below(&random, 200) : blocks;
		assert_int_equal(random_map(&random, MAP_DELTA, blocks, 3, &c, &ignored), 0);
		assert_int_equal(map_overlay(&a, &b, &ab), 0);
		assert_int_equal(map_overlay(&ab, &c, &ab_c), 0);
		assert_int_equal(map_overlay(&b, &c, &bc), 0);
		assert_int_equal(map_overlay(&a, &bc, &a_bc), 0);
		assert_true(map_same(&ab_c, &a_bc));
		map_fini(&a);
		map_fini(&b);
		map_fini(&c);
		map_fini(&ab);
		map_fini(&bc);
		map_fini(&ab_c);
		map_fini(&a_bc);
	}
}

/* A hundred thousand entries under a delta of one: linear, so no time at all. */
static void test_large_overlay(void **state)
{
	struct map older, newer, out;
	struct map_frame frame = { .point = 1, .length = 1000, .blocks = 256 };
	struct map_entry entry;

	(void)state;
	map_init(&older, MAP_FULL, 100000 * 300);
	map_init(&newer, MAP_DELTA, 100000 * 300);
	for (uint32_t i = 0; i < 100000; i++) {
		frame.number = i;
		assert_int_equal(map_append_frame(&older, &frame), 0);
		entry = (struct map_entry){ i * 300, 256, i, 0 };
		assert_int_equal(map_append_entry(&older, &entry), 0);
		frame.offset += frame.length;
	}
	frame = (struct map_frame){ .point = 2, .length = 10, .blocks = 1 };
	assert_int_equal(map_append_frame(&newer, &frame), 0);
	entry = (struct map_entry){ 300 * 777 + 5, 1, 0, 0 };
	assert_int_equal(map_append_entry(&newer, &entry), 0);
	assert_int_equal(map_overlay(&older, &newer, &out), 0);
	assert_int_equal(out.frame_count, 100001);
	assert_int_equal(out.entry_count, 100002);
	assert_int_equal(map_data_blocks(&out), 25600000);
	assert_true(map_find(&out, 300 * 777 + 5, &entry));
	assert_int_equal(entry.frame, 100000);
	assert_true(map_find(&out, 300 * 777 + 6, &entry));
	assert_int_equal(entry.frame, 777);
	assert_int_equal(entry.position, 6);
	assert_int_equal(entry.count, 250);
	map_fini(&older);
	map_fini(&newer);
	map_fini(&out);
}

/* One cell wrong, or one entry wrong: the comparison must say so. */
static void test_comparison_bites(void **state)
{
	struct random_state random = random_start("map comparison");
	static struct model model;
	struct map map;
	int shifted = 0;

	(void)state;
	do {
		assert_int_equal(random_map(&random, MAP_DELTA, 500, 9, &map, &model), 0);
		if (map_data_blocks(&map) > 50)
			break;
		map_fini(&map);
	} while (true);
	assert_true(model_holds(&model, &map));
	for (uint64_t b = 0; b < model.blocks; b++) {
		struct cell kept = model.cells[b];

		model.cells[b].kind = (enum cell_kind)((kept.kind + 1) % 3);
		assert_false(model_holds(&model, &map));
		model.cells[b] = kept;
		if (kept.kind != CELL_DATA)
			continue;
		model.cells[b].position++;
		assert_false(model_holds(&model, &map));
		model.cells[b] = kept;
	}
	for (size_t i = 0; i < map.entry_count; i++) {
		struct map_entry kept = map.entries[i];

		map.entries[i].block++;
		if (map_check(&map) == 0)
			shifted++;
		assert_false(model_holds(&model, &map));
		map.entries[i] = kept;
	}
	assert_true(shifted > 0);
	assert_true(model_holds(&model, &map));
	map_fini(&map);
}

static int try_entry(struct map *map, uint64_t block, uint64_t count,
		     uint32_t frame, uint32_t position)
{
	struct map_entry entry = { block, count, frame, position };

	return map_append_entry(map, &entry);
}

static void test_append_refuses_frames(void **state)
{
	struct map_frame good = { .length = 1, .blocks = MAP_FRAME_BLOCKS_MAX };
	struct map_frame frame;
	struct map map;

	(void)state;
	map_init(&map, MAP_FULL, 10);
	frame = good;
	frame.blocks = 0;
	assert_int_equal(map_append_frame(&map, &frame), -EINVAL);
	frame.blocks = MAP_FRAME_BLOCKS_MAX + 1;
	assert_int_equal(map_append_frame(&map, &frame), -EINVAL);
	frame = good;
	frame.length = 0;
	assert_int_equal(map_append_frame(&map, &frame), -EINVAL);
	frame = good;
	frame.offset = UINT64_MAX;
	assert_int_equal(map_append_frame(&map, &frame), -EINVAL);
	frame.offset--;
	assert_int_equal(map_append_frame(&map, &frame), 0);
	map.frame_count = MAP_FRAME_HOLE;
	assert_int_equal(map_append_frame(&map, &frame), -EOVERFLOW);
	map.frame_count = 1;
	map_fini(&map);
	map_fini(NULL);
}

static void test_append_refuses_entries(void **state)
{
	struct map_frame frame = { .length = 9, .blocks = 20 };
	struct map map;

	(void)state;
	map_init(&map, MAP_DELTA, 100);
	assert_int_equal(map_append_frame(&map, &frame), 0);
	assert_int_equal(try_entry(&map, 0, 0, 0, 0), -EINVAL);
	assert_int_equal(try_entry(&map, 0, 1, 1, 0), -EINVAL);
	assert_int_equal(try_entry(&map, 0, 21, 0, 0), -EINVAL);
	assert_int_equal(try_entry(&map, 0, 20, 0, 1), -EINVAL);
	assert_int_equal(try_entry(&map, 0, 1, 0, 20), -EINVAL);
	assert_int_equal(try_entry(&map, 0, UINT64_MAX, 0, 5), -EINVAL);
	assert_int_equal(try_entry(&map, 5, UINT64_MAX, MAP_FRAME_HOLE, 0), -EINVAL);
	assert_int_equal(try_entry(&map, 0, 1, MAP_FRAME_HOLE, 1), -EINVAL);
	assert_int_equal(try_entry(&map, 100, 1, MAP_FRAME_HOLE, 0), -EINVAL);
	assert_int_equal(try_entry(&map, UINT64_MAX, 1, 0, 0), -EINVAL);
	assert_int_equal(try_entry(&map, 91, 10, 0, 0), -EINVAL);
	assert_int_equal(map.entry_count, 0);

	assert_int_equal(try_entry(&map, 10, 5, 0, 0), 0);
	assert_int_equal(try_entry(&map, 14, 1, 0, 5), -EINVAL);
	assert_int_equal(try_entry(&map, 3, 1, 0, 5), -EINVAL);
	assert_int_equal(try_entry(&map, 15, 5, 0, 5), 0);	/* merged */
	assert_int_equal(map.entry_count, 1);
	assert_int_equal(try_entry(&map, 21, 5, 0, 10), 0);	/* a gap: not */
	assert_int_equal(try_entry(&map, 26, 5, 0, 10), 0);	/* same place: not */
	assert_int_equal(map.entry_count, 3);
	assert_int_equal(try_entry(&map, 31, 4, MAP_FRAME_HOLE, 0), 0);
	assert_int_equal(try_entry(&map, 35, 4, MAP_FRAME_HOLE, 0), 0);
	assert_int_equal(map.entry_count, 4);
	assert_int_equal(map.entries[3].count, 8);
	assert_int_equal(map_data_blocks(&map), 20);
	assert_int_equal(map_check(&map), 0);
	map_fini(&map);

	map_init(&map, MAP_FULL, MAP_VOLUME_BLOCKS_MAX + 1);
	assert_int_equal(try_entry(&map, 0, 1, MAP_FRAME_HOLE, 0), -EINVAL);
	map_init(&map, MAP_FULL, MAP_VOLUME_BLOCKS_MAX);
	assert_int_equal(try_entry(&map, 0, MAP_VOLUME_BLOCKS_MAX, MAP_FRAME_HOLE, 0), 0);
	assert_int_equal(map.entry_count, 0);			/* dropped */
	map_fini(&map);
}

/* What nobody could have appended is never encoded. */
static void test_check_refuses(void **state)
{
	struct map_frame frames[1] = { { .length = 9, .blocks = 20 } };
	struct map_entry entries[2] = { { 0, 5, 0, 0 }, { 5, 5, 0, 10 } };
	struct map good = { MAP_FULL, 100, frames, 1, 1, entries, 2, 2 }, map;
	uint8_t *data = NULL;
	size_t length = 0;

	(void)state;
	assert_int_equal(map_check(&good), 0);
	map = good;
	map.kind = (enum map_kind)3;
	assert_int_equal(map_encode(&map, &data, &length), -EINVAL);
	map = good;
	map.volume_blocks = MAP_VOLUME_BLOCKS_MAX + 1;
	assert_int_equal(map_encode(&map, &data, &length), -EINVAL);
	map = good;
	map.volume_blocks = 9;
	assert_int_equal(map_encode(&map, &data, &length), -EINVAL);
	map = good;
	map.frame_count = (size_t)MAP_FRAME_HOLE + 1;
	assert_int_equal(map_encode(&map, &data, &length), -EINVAL);
	frames[0].length = 0;
	assert_int_equal(map_encode(&good, &data, &length), -EINVAL);
	frames[0].length = 9;
	entries[1].position = 5;		/* should have been merged */
	assert_int_equal(map_encode(&good, &data, &length), -EINVAL);
	entries[1] = (struct map_entry){ 5, 5, MAP_FRAME_HOLE, 0 };
	assert_int_equal(map_encode(&good, &data, &length), -EINVAL);
	good.kind = MAP_DELTA;
	assert_int_equal(map_check(&good), 0);
	assert_null(data);
}

static void test_overlay_refuses(void **state)
{
	struct map full, delta, out;

	(void)state;
	map_init(&full, MAP_FULL, 10);
	map_init(&delta, MAP_DELTA, MAP_VOLUME_BLOCKS_MAX + 1);
	assert_int_equal(map_overlay(&full, &full, &out), -EINVAL);
	assert_int_equal(map_overlay(&full, &delta, &out), -EINVAL);
	/* More frames than an index can name: refused before any is copied. */
	delta.volume_blocks = 10;
	full.frame_count = delta.frame_count = (size_t)1 << 31;
	assert_int_equal(map_overlay(&full, &delta, &out), -EOVERFLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_merging_is_associative),
		cmocka_unit_test(test_large_overlay),
		cmocka_unit_test(test_comparison_bites),
		cmocka_unit_test(test_append_refuses_frames),
		cmocka_unit_test(test_append_refuses_entries),
		cmocka_unit_test(test_check_refuses),
		cmocka_unit_test(test_overlay_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
