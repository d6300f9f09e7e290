/* Extent sets against plain arrays of bool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blockmap/extent.h"
#include "tests/unit/random.h"

#include <errno.h>
#include <string.h>

#define BLOCKS 400
#define ROUNDS 3000

/* Whether list and model hold the same blocks and the list is in its only form. */
static bool same(const struct extent_list *list, const bool *model)
{
	bool seen[BLOCKS] = { false };
	uint64_t blocks = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct extent *item = &list->items[i];

		if (!item->count || item->first + item->count > BLOCKS)
			return false;
		if (i && item->first <= item[-1].first + item[-1].count)
			return false;
		memset(seen + item->first, 1, item->count);
	}
	for (uint64_t b = 0; b < BLOCKS; b++) {
		blocks += model[b];
		if (seen[b] != model[b] ||
		    extent_list_contains(list, b) != model[b])
			return false;
	}
	return extent_list_blocks(list) == blocks &&
	       !extent_list_contains(list, BLOCKS) &&
	       !extent_list_contains(list, UINT64_MAX);
}

static void fill(struct random_state *random, struct extent_list *list,
		 bool *model)
{
	uint64_t at = 0, spread = 1 + random_below(random, 60);

	memset(model, 0, BLOCKS);
	for (;;) {
		uint64_t first = at + random_below(random, spread);
		uint64_t count = 1 + random_below(random, spread);

		if (first + count > BLOCKS)
			return;
		assert_int_equal(extent_list_append(list, first, count), 0);
		memset(model + first, 1, count);
		at = first + count;
	}
}

static void test_operations(void **state)
{
	struct random_state random = random_start("extent operations");

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct extent_list a = EXTENT_LIST_INIT, b = EXTENT_LIST_INIT;
		struct extent_list either = EXTENT_LIST_INIT;
		struct extent_list both = EXTENT_LIST_INIT;
		struct extent_list rest = EXTENT_LIST_INIT;
		bool x[BLOCKS], y[BLOCKS], m[BLOCKS];

		fill(&random, &a, x);
		fill(&random, &b, y);
		assert_true(same(&a, x));
		assert_true(same(&b, y));

		assert_int_equal(extent_list_union(&a, &b, &either), 0);
		for (int i = 0; i < BLOCKS; i++)
			m[i] = x[i] || y[i];
		assert_true(same(&either, m));

		assert_int_equal(extent_list_intersect(&a, &b, &both), 0);
		for (int i = 0; i < BLOCKS; i++)
			m[i] = x[i] && y[i];
		assert_true(same(&both, m));

		assert_int_equal(extent_list_subtract(&a, &b, &rest), 0);
		for (int i = 0; i < BLOCKS; i++)
			m[i] = x[i] && !y[i];
		assert_true(same(&rest, m));

		extent_list_fini(&a);
		extent_list_fini(&b);
		extent_list_fini(&either);
		extent_list_fini(&both);
		extent_list_fini(&rest);
	}
}

/* The comparison itself must notice one wrong block. */
static void test_comparison_bites(void **state)
{
	struct random_state random = random_start("extent comparison");
	struct extent_list list = EXTENT_LIST_INIT;
	bool model[BLOCKS];

	(void)state;
	fill(&random, &list, model);
	assert_true(list.count > 0);
	for (int b = 0; b < BLOCKS; b++) {
		model[b] = !model[b];
		assert_false(same(&list, model));
		model[b] = !model[b];
	}
	list.items[list.count / 2].count--;
	assert_false(same(&list, model));
	extent_list_fini(&list);
}

static void test_append_refuses(void **state)
{
	struct extent_list list = EXTENT_LIST_INIT;

	(void)state;
	assert_int_equal(extent_list_append(&list, 5, 0), -EINVAL);
	assert_int_equal(extent_list_append(&list, UINT64_MAX, 1), -EINVAL);
	assert_int_equal(extent_list_append(&list, 2, UINT64_MAX), -EINVAL);
	assert_int_equal(list.count, 0);
	assert_int_equal(extent_list_append(&list, 10, 5), 0);
	assert_int_equal(extent_list_append(&list, 14, 1), -EINVAL);
	assert_int_equal(extent_list_append(&list, 3, 2), -EINVAL);
	assert_int_equal(extent_list_append(&list, 15, 1), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].count, 6);
	assert_int_equal(extent_list_append(&list, UINT64_MAX - 1, 1), 0);
	assert_true(extent_list_contains(&list, UINT64_MAX - 1));
	assert_false(extent_list_contains(&list, UINT64_MAX));
	assert_int_equal(extent_list_blocks(&list), 7);
	extent_list_fini(&list);
	assert_null(list.items);
	extent_list_fini(NULL);
}

static void test_output_must_be_empty(void **state)
{
	struct extent_list a = EXTENT_LIST_INIT, out = EXTENT_LIST_INIT;

	(void)state;
	assert_int_equal(extent_list_append(&a, 1, 1), 0);
	assert_int_equal(extent_list_append(&out, 9, 1), 0);
	assert_int_equal(extent_list_union(&a, &a, &out), -EINVAL);
	assert_int_equal(extent_list_intersect(&a, &a, &out), -EINVAL);
	assert_int_equal(extent_list_subtract(&a, &a, &out), -EINVAL);
	assert_int_equal(out.count, 1);
	extent_list_fini(&a);
	extent_list_fini(&out);
}

/* Runs that touch the last block number there is. */
static void test_far_end(void **state)
{
	struct extent_list a = EXTENT_LIST_INIT, b = EXTENT_LIST_INIT;
	struct extent_list out = EXTENT_LIST_INIT;

	(void)state;
	assert_int_equal(extent_list_append(&a, 0, UINT64_MAX), 0);
	assert_int_equal(extent_list_append(&b, UINT64_MAX - 3, 3), 0);
	assert_int_equal(extent_list_union(&a, &b, &out), 0);
	assert_int_equal(out.count, 1);
	assert_true(out.items[0].count == UINT64_MAX);
	extent_list_fini(&out);
	assert_int_equal(extent_list_intersect(&a, &b, &out), 0);
	assert_int_equal(extent_list_blocks(&out), 3);
	extent_list_fini(&out);
	assert_int_equal(extent_list_subtract(&a, &b, &out), 0);
	assert_true(extent_list_blocks(&out) == UINT64_MAX - 3);
	extent_list_fini(&out);
	extent_list_fini(&a);
	extent_list_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_comparison_bites),
		cmocka_unit_test(test_append_refuses),
		cmocka_unit_test(test_output_must_be_empty),
		cmocka_unit_test(test_far_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
