/*
 * Every allocation of the room fails once. The sources are included, with the
 * allocating functions replaced: so it works under every sanitizer too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long allocations_left = -1;	/* -1: no limit */
static long allocations_held;

static void *hold(void *old, size_t count, size_t size)
{
	void *p;

	if (allocations_left == 0)
		return NULL;
	if (allocations_left > 0)
		allocations_left--;
	p = reallocarray(old, count, size);
	if (p && !old)
		allocations_held++;
	return p;
}

static void *hook_calloc(size_t count, size_t size)
{
	void *p = hold(NULL, count, size);

	if (p)
		memset(p, 0, count * size);
	return p;
}

static void hook_free(void *p)
{
	allocations_held -= p != NULL;
	free(p);
}

#define malloc(size) hold(NULL, 1, size)
#define calloc(count, size) hook_calloc(count, size)
#define reallocarray(old, count, size) hold(old, count, size)
#define free(p) hook_free(p)

#include "blockmap/extent.c"
#include "blockmap/bitmap.c"
#include "blockmap/map.c"
#include "blockmap/map_overlay.c"
#include "blockmap/map_codec.c"

/* Does everything once; stops at the first failure and cleans up. */
static int work_bitmap(void)
{
	struct extent_list list = EXTENT_LIST_INIT, rest = EXTENT_LIST_INIT;
	struct extent_list both = EXTENT_LIST_INIT, either = EXTENT_LIST_INIT;
	struct bitmap bitmap;
	int ret = bitmap_init(&bitmap, 1000);

	for (uint64_t b = 0; !ret && b < 1000; b += 7)
		ret = bitmap_set(&bitmap, b, 3);
	if (!ret)
		ret = bitmap_extents(&bitmap, 2, 2000, &list);
	if (!ret)
		ret = extent_list_subtract(&list, &rest, &either);
	if (!ret)
		ret = extent_list_intersect(&list, &either, &both);
	if (!ret)
		ret = extent_list_union(&list, &both, &rest);
	if (!ret && (rest.count != list.count || !rest.count))
		ret = -EPROTO;
	extent_list_fini(&list);
	extent_list_fini(&rest);
	extent_list_fini(&both);
	extent_list_fini(&either);
	bitmap_fini(&bitmap);
	return ret;
}

static int fill(struct map *map, uint64_t point, uint64_t shift)
{
	int ret = 0;

	for (uint32_t i = 0; !ret && i < 40; i++) {
		struct map_frame frame = { point, 0, i, i * 100, 100, 10 };
		struct map_entry entry = { i * 20 + shift, 10, i, 0 };

		ret = map_append_frame(map, &frame);
		if (!ret)
			ret = map_append_entry(map, &entry);
	}
	return ret;
}

static int work_map(void)
{
	struct map older, newer, out, copy;
	uint8_t *data = NULL;
	size_t length = 0;
	int ret;

	map_init(&older, MAP_FULL, 1000);
	map_init(&newer, MAP_DELTA, 1100);
	map_init(&out, MAP_FULL, 0);
	map_init(&copy, MAP_FULL, 0);
	ret = fill(&older, 1, 0);
	if (!ret)
		ret = fill(&newer, 2, 5);
	if (!ret)
		ret = map_overlay(&older, &newer, &out);
	if (!ret)
		ret = map_encode(&out, &data, &length);
	if (!ret)
		ret = map_decode(data, length, &copy);
	if (!ret && copy.entry_count != out.entry_count)
		ret = -EPROTO;
	hook_free(data);
	map_fini(&older);
	map_fini(&newer);
	map_fini(&out);
	map_fini(&copy);
	return ret;
}

static void each_failure(int (*work)(void))
{
	long n = 0;
	int ret;

	do {
		allocations_left = n++;
		ret = work();
		assert_true(ret == 0 || ret == -ENOMEM);
		assert_int_equal(allocations_held, 0);
		assert_true(n < 1000);
	} while (ret);
	allocations_left = -1;
	printf("%ld allocations, each failed once\n", n - 1);
	assert_true(n > 5);
}

static void test_bitmap(void **state)
{
	(void)state;
	each_failure(work_bitmap);
}

static void test_map(void **state)
{
	(void)state;
	each_failure(work_map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bitmap),
		cmocka_unit_test(test_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
