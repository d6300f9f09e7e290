/* Bitmaps against plain arrays of bool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blockmap/bitmap.h"
#include "tests/unit/random.h"

#include <errno.h>
#include <string.h>

#define BITS_MAX 700
#define ROUNDS 2000

static bool same(const struct bitmap *bitmap, const bool *model)
{
	bool seen[BITS_MAX] = { false };
	struct extent run = { 0, 0 };
	uint64_t count = 0, from = 0;

	/* Runs must be maximal, rising and separate: so each bit is seen once. */
	while (bitmap_next_run(bitmap, from, &run)) {
		if (run.first < from || !run.count ||
		    run.first + run.count > bitmap->bits ||
		    (from && run.first == from))
			return false;
		memset(seen + run.first, 1, run.count);
		from = run.first + run.count;
	}
	for (uint64_t b = 0; b < bitmap->bits; b++) {
		count += model[b];
		if (seen[b] != model[b] || bitmap_test(bitmap, b) != model[b])
			return false;
	}
	return bitmap_count(bitmap) == count &&
	       !bitmap_test(bitmap, bitmap->bits) &&
	       !bitmap_test(bitmap, UINT64_MAX);
}

static void fill(struct random_state *random, struct bitmap *bitmap, bool *model)
{
	uint64_t runs = random_below(random, 12);

	memset(model, 0, BITS_MAX);
	for (uint64_t i = 0; i < runs; i++) {
		uint64_t first = random_below(random, bitmap->bits + 1);
		uint64_t most = bitmap->bits - first;
		uint64_t count = random_below(random, most + 1);

		if (random_one_in(random, 2) && count > 3)
			count = random_below(random, 4);
		assert_int_equal(bitmap_set(bitmap, first, count), 0);
		memset(model + first, 1, count);
	}
}

static void check_next_run(struct random_state *random,
			   const struct bitmap *bitmap, const bool *model)
{
	uint64_t from = random_below(random, bitmap->bits + 70), first = from, end;
	struct extent run;
	bool found = bitmap_next_run(bitmap, from, &run);

	while (first < bitmap->bits && !model[first])
		first++;
	for (end = first; end < bitmap->bits && model[end];)
		end++;
	assert_int_equal(found, first < bitmap->bits);
	if (found) {
		assert_int_equal(run.first, first);
		assert_int_equal(run.count, end - first);
	}
}

static void check_extents(struct random_state *random,
			  const struct bitmap *bitmap, const bool *model)
{
	uint32_t scale = 1 + (uint32_t)random_below(random, 5);
	uint64_t total = random_below(random, bitmap->bits * scale + 20);
	struct extent_list list = EXTENT_LIST_INIT;

	assert_int_equal(bitmap_extents(bitmap, scale, total, &list), 0);
	for (uint64_t block = 0; block < bitmap->bits * scale + 20; block++)
		assert_int_equal(extent_list_contains(&list, block),
				 block < total && block / scale < bitmap->bits &&
				 model[block / scale]);
	extent_list_fini(&list);
}

static void test_model(void **state)
{
	struct random_state random = random_start("bitmap model");

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t bits = random_below(&random, BITS_MAX);
		bool x[BITS_MAX], y[BITS_MAX];
		struct bitmap a, b;

		if (random_one_in(&random, 3))
			bits &= ~UINT64_C(63);
		assert_int_equal(bitmap_init(&a, bits), 0);
		assert_int_equal(bitmap_init(&b, bits), 0);
		fill(&random, &a, x);
		fill(&random, &b, y);
		assert_true(same(&a, x));
		check_next_run(&random, &a, x);
		check_extents(&random, &a, x);
		for (uint64_t i = 0; i < bits; i++)
			x[i] |= y[i];
		if (random_one_in(&random, 2)) {
			assert_int_equal(bitmap_or(&a, &b), 0);
		} else {
			/* As from the kernel: anything may stand behind the end. */
			if (bits % 64)
				b.words[bits / 64] |= random_next(&random) << bits % 64;
			assert_true(same(&b, y));
			bitmap_or_words(&a, b.words);
			if (bits % 64)
				assert_int_equal(a.words[bits / 64] >> bits % 64, 0);
		}
		assert_true(same(&a, x));
		bitmap_fini(&a);
		bitmap_fini(&b);
	}
}

static void test_comparison_bites(void **state)
{
	struct random_state random = random_start("bitmap comparison");
	bool model[BITS_MAX];
	struct bitmap bitmap;

	(void)state;
	assert_int_equal(bitmap_init(&bitmap, 200), 0);
	fill(&random, &bitmap, model);
	for (uint64_t b = 0; b < 200; b++) {
		bitmap.words[b / 64] ^= UINT64_C(1) << b % 64;
		assert_false(same(&bitmap, model));
		bitmap.words[b / 64] ^= UINT64_C(1) << b % 64;
	}
	assert_true(same(&bitmap, model));
	bitmap_fini(&bitmap);
}

static void test_refusals(void **state)
{
	struct bitmap bitmap, other, empty;
	struct extent_list list = EXTENT_LIST_INIT;
	struct extent run;

	(void)state;
	assert_int_equal(bitmap_init(&bitmap, (UINT64_C(1) << 40) + 1), -EOVERFLOW);
	bitmap_fini(&bitmap);
	assert_int_equal(bitmap_init(&bitmap, UINT64_MAX), -EOVERFLOW);
	assert_int_equal(bitmap_init(&bitmap, 100), 0);
	assert_int_equal(bitmap_init(&other, 101), 0);
	assert_int_equal(bitmap_init(&empty, 0), 0);
	assert_int_equal(bitmap_set(&bitmap, 100, 1), -ERANGE);
	assert_int_equal(bitmap_set(&bitmap, 90, 11), -ERANGE);
	assert_int_equal(bitmap_set(&bitmap, 101, 0), -ERANGE);
	assert_int_equal(bitmap_set(&bitmap, 50, UINT64_MAX), -ERANGE);
	assert_int_equal(bitmap_set(&bitmap, 100, 0), 0);
	assert_int_equal(bitmap_count(&bitmap), 0);
	assert_int_equal(bitmap_or(&bitmap, &other), -EINVAL);
	assert_false(bitmap_next_run(&empty, 0, &run));
	assert_int_equal(bitmap_extents(&empty, 1, 10, &list), 0);
	assert_int_equal(bitmap_extents(&bitmap, 0, 10, &list), -EINVAL);
	assert_int_equal(extent_list_append(&list, 1, 1), 0);
	assert_int_equal(bitmap_extents(&bitmap, 1, 10, &list), -EINVAL);
	extent_list_fini(&list);
	bitmap_fini(&bitmap);
	bitmap_fini(&other);
	bitmap_fini(&empty);
	bitmap_fini(NULL);
}

/* Beyond 2^32 bits, times 2^32 - 1, leaves 64 bits: it must be cut, not wrap. */
static void test_scale_overflow(void **state)
{
	struct extent_list list = EXTENT_LIST_INIT;
	struct bitmap bitmap;
	uint64_t first = UINT32_MAX;

	(void)state;
	/* 512 MiB of address space, of which only one page is ever written. */
	assert_int_equal(bitmap_init(&bitmap, first + 65), 0);
	assert_int_equal(bitmap_set(&bitmap, first, 4), 0);
	assert_int_equal(bitmap_extents(&bitmap, UINT32_MAX, UINT64_MAX, &list), 0);
	assert_int_equal(list.count, 1);
	assert_true(list.items[0].first == first * UINT32_MAX);
	assert_true(list.items[0].first + list.items[0].count == UINT64_MAX);
	extent_list_fini(&list);
	bitmap_fini(&bitmap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_comparison_bites),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_scale_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
