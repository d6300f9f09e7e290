/* What two maps place differently, and what of a map lies in some blocks, by the model. */
#include "tests/unit/blockmap_model.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>

#define ROUNDS 4000

/* A volume of `blocks` with a life of some points. */
static void random_volume(struct random_state *random, uint64_t blocks, uint64_t first,
			  struct map *map, struct model *model)
{
	uint64_t points = random_below(random, 4);

	assert_int_equal(random_map(random, MAP_FULL, blocks, first, map, model), 0);
	for (uint64_t point = first + 1; point <= first + points; point++) {
		static struct model delta_model, next_model;
		struct map delta, next;

		assert_int_equal(random_map(random, MAP_DELTA, blocks, point, &delta,
					    &delta_model), 0);
		model_overlay(model, &delta_model, &next_model);
		assert_int_equal(map_overlay(map, &delta, &next), 0);
		map_fini(map);
		map_fini(&delta);
		*map = next;
		*model = next_model;
	}
}

/* The same map with a delta on top, or one that has nothing to do with it. */
static void random_other(struct random_state *random, const struct map *map,
			 const struct model *model, struct map *other,
			 struct model *other_model)
{
	static struct model delta_model;
	uint64_t blocks = map->volume_blocks;
	struct map delta;

	if (random_one_in(random, 4))
		blocks = random_below(random, MODEL_BLOCKS_MAX + 1);
	if (random_one_in(random, 6)) {
		random_volume(random, blocks, 1 + random_below(random, 9), other, other_model);
		return;
	}
	assert_int_equal(random_map(random, MAP_DELTA, blocks, 20, &delta, &delta_model), 0);
	model_overlay(model, &delta_model, other_model);
	assert_int_equal(map_overlay(map, &delta, other), 0);
	map_fini(&delta);
}

static void random_blocks(struct random_state *random, uint64_t blocks, struct extent_list *list)
{
	uint64_t at = random_below(random, blocks / 2 + 1);

	while (at < blocks) {
		uint64_t count = 1 + random_below(random, 40);

		if (count > blocks - at)
			count = blocks - at;
		assert_int_equal(extent_list_append(list, at, count), 0);
		at += count + 1 + random_below(random, 60);
	}
}

/* How many of them; each is listed if, and only if, the models say it differs. */
static uint64_t check_differ(const struct map *wanted, const struct model *wanted_model,
			     const struct map *there, const struct model *there_model)
{
	struct extent_list list = EXTENT_LIST_INIT;
	uint64_t blocks = 0;

	assert_int_equal(map_differ(wanted, there, &list), 0);
	for (uint64_t b = 0; b < wanted_model->blocks; b++) {
		bool differs = b >= there_model->blocks ||
			       !cell_equal(&wanted_model->cells[b], &there_model->cells[b]);

		if (differs != extent_list_contains(&list, b))
			fail_msg("block %llu: %s", (unsigned long long)b,
				 differs ? "not listed" : "listed without need");
		blocks += differs;
	}
	assert_int_equal(extent_list_blocks(&list), blocks);
	extent_list_fini(&list);
	return blocks;
}

static void test_differ(void **state)
{
	struct random_state random = random_start("maps that differ");
	static struct model a_model, b_model;
	uint64_t listed = 0, equal = 0;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct map a, b;

		random_volume(&random, random_below(&random, MODEL_BLOCKS_MAX + 1), 1, &a,
			      &a_model);
		random_other(&random, &a, &a_model, &b, &b_model);
		assert_int_equal(check_differ(&a, &a_model, &a, &a_model), 0);
		listed += check_differ(&a, &a_model, &b, &b_model);
		equal += check_differ(&b, &b_model, &a, &a_model) < b_model.blocks;
		map_fini(&a);
		map_fini(&b);
	}
	assert_true(listed > ROUNDS && equal > ROUNDS / 2);
}

static void test_cut(void **state)
{
	struct random_state random = random_start("maps cut");
	static struct model model, cut_model;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct extent_list list = EXTENT_LIST_INIT;
		struct map map, cut;

		random_volume(&random, random_below(&random, MODEL_BLOCKS_MAX + 1), 1, &map,
			      &model);
		random_blocks(&random, model.blocks, &list);
		assert_int_equal(map_cut(&map, &list, &cut), 0);
		assert_int_equal(cut.kind, MAP_DELTA);
		cut_model = model;
		for (uint64_t b = 0; b < model.blocks; b++)
			if (!extent_list_contains(&list, b))
				cut_model.cells[b] = (struct cell){ .kind = CELL_UNLISTED };
		assert_true(model_holds(&cut_model, &cut));
		map_fini(&map);
		map_fini(&cut);
		extent_list_fini(&list);
	}
}

/* What differs, laid over the one, is the other. */
static void test_there_and_back(void **state)
{
	struct random_state random = random_start("there and back");
	static struct model a_model, b_model;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct extent_list list = EXTENT_LIST_INIT;
		struct map a, b, cut, back;

		random_volume(&random, random_below(&random, MODEL_BLOCKS_MAX + 1), 1, &a,
			      &a_model);
		random_other(&random, &a, &a_model, &b, &b_model);
		assert_int_equal(map_differ(&a, &b, &list), 0);
		assert_int_equal(map_cut(&a, &list, &cut), 0);
		assert_int_equal(map_overlay(&b, &cut, &back), 0);
		assert_true(model_holds(&a_model, &back));
		map_fini(&a);
		map_fini(&b);
		map_fini(&cut);
		map_fini(&back);
		extent_list_fini(&list);
	}
}

/* One block in every place that is the same or not. */
static void test_places(void **state)
{
	const struct map_frame frame = { .point = 3, .segment = 1, .number = 2, .offset = 10,
					 .length = 20, .blocks = 8 };
	struct map_frame others[6] = { frame, frame, frame, frame, frame, frame };

	(void)state;
	others[0].point++;
	others[1].segment++;
	others[2].number++;
	others[3].offset++;
	others[4].length++;
	others[5].blocks++;
	for (int i = 0; i < 9; i++) {
		struct extent_list list = EXTENT_LIST_INIT;
		struct map a, b;

		map_init(&a, MAP_FULL, 5);
		map_init(&b, MAP_FULL, 5);
		assert_int_equal(map_append_frame(&a, &frame), 0);
		assert_int_equal(map_append_frame(&b, i < 6 ? &others[i] : &frame), 0);
		assert_int_equal(map_append_entry(&a, &(struct map_entry){ 2, 1, 0, 4 }), 0);
		/* 6: another position, 7: a hole, 8: the same. */
		if (i != 7)
			assert_int_equal(map_append_entry(&b, &(struct map_entry){
				2, 1, 0, i == 6 ? 5 : 4 }), 0);
		assert_int_equal(map_differ(&a, &b, &list), 0);
		assert_int_equal(extent_list_blocks(&list), i != 8);
		assert_int_equal(extent_list_contains(&list, 2), i != 8);
		extent_list_fini(&list);
		map_fini(&a);
		map_fini(&b);
	}
}

static void test_refusals(void **state)
{
	struct extent_list list = EXTENT_LIST_INIT, beyond = EXTENT_LIST_INIT;
	struct map full, delta, out;

	(void)state;
	map_init(&full, MAP_FULL, 10);
	map_init(&delta, MAP_DELTA, 10);
	assert_int_equal(map_differ(&full, &delta, &list), -EINVAL);
	assert_int_equal(map_differ(&delta, &full, &list), -EINVAL);
	assert_int_equal(map_cut(&delta, &list, &out), -EINVAL);
	assert_int_equal(extent_list_append(&beyond, 9, 2), 0);
	assert_int_equal(map_cut(&full, &beyond, &out), -EINVAL);
	assert_int_equal(map_differ(&full, &full, &beyond), -EINVAL);
	assert_int_equal(map_differ(&full, &full, &list), 0);
	assert_int_equal(list.count, 0);
	extent_list_fini(&beyond);
	map_fini(&full);
	map_fini(&delta);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_differ),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
