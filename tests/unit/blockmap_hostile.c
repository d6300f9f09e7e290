/* Damaged maps: cut off anywhere, or with a few bytes changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blockmap/map_format.h"
#include "tests/unit/blockmap_model.h"

#include <errno.h>

#define HEADER sizeof(struct map_header)

/* Decodes a copy of exactly this size; 1 when accepted, and then re-encodable. */
static int feed(const uint8_t *data, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1), *again;
	size_t again_length;
	struct map map;
	int ret;

	assert_non_null(copy);
	memcpy(copy, data, length);
	ret = map_decode(copy, length, &map);
	if (ret) {
		assert_true(ret == -EBADMSG || ret == -EPROTONOSUPPORT);
		free(copy);
		return 0;
	}
	assert_int_equal(map_check(&map), 0);
	assert_int_equal(map_encode(&map, &again, &again_length), 0);
	assert_int_equal(again_length, length);
	assert_memory_equal(again, copy, length);
	map_fini(&map);
	free(again);
	free(copy);
	return 1;
}

/* Changes up to four bytes, or inserts or removes one; returns the new length. */
static size_t mutate(struct random_state *random, uint8_t *data, size_t length)
{
	uint64_t changes = 1 + random_below(random, 4);
	size_t at = random_below(random, length), payload;
	uint8_t byte = (uint8_t)random_next(random);
	struct map_header header;

	switch (random_below(random, 4)) {
	case 0:
		memmove(data + at + 1, data + at, length - at);
		data[at] = byte;
		length++;
		break;
	case 1:
		memmove(data + at, data + at + 1, length - at - 1);
		length--;
		break;
	default:
		for (uint64_t i = 0; i < changes; i++) {
			at = random_below(random, length);
			data[at] = random_one_in(random, 2) ?
				   (uint8_t)random_next(random) :
				   data[at] ^ (uint8_t)(1u << random_below(random, 8));
		}
	}
	/* Mostly make the lengths right again, to get past the header. */
	if (length < HEADER || random_one_in(random, 4))
		return length;
	memcpy(&header, data, HEADER);
	payload = length - HEADER;
	if (get_le64(header.frame_bytes) > payload)
		header.frame_bytes = le64(payload);
	header.entry_bytes = le64(payload - get_le64(header.frame_bytes));
	if (random_one_in(random, 2))
		header.entry_count = le64(get_le64(header.entry_count) +
					  random_below(random, 3) - 1);
	memcpy(data, &header, HEADER);
	return length;
}

static void test_mutations(void **state)
{
	struct random_state random = random_start("codec mutations");
	static struct model ignored;
	int accepted = 0, tried = 0;

	(void)state;
	for (int i = 0; i < 300; i++) {
		enum map_kind kind = random_one_in(&random, 2) ? MAP_FULL : MAP_DELTA;
		uint8_t *data, *copy;
		struct map map;
		size_t length;

		assert_int_equal(random_map(&random, kind, 300, 5, &map, &ignored), 0);
		assert_int_equal(map_encode(&map, &data, &length), 0);
		copy = malloc(length + 1);
		assert_non_null(copy);
		for (int j = 0; j < 200; j++) {
			memcpy(copy, data, length);
			accepted += feed(copy, mutate(&random, copy, length));
			tried++;
		}
		for (size_t cut = 0; cut < length; cut++)
			assert_int_equal(feed(data, cut), 0);
		assert_int_equal(feed(data, length), 1);
		map_fini(&map);
		free(data);
		free(copy);
	}
	printf("codec mutations: %d of %d accepted\n", accepted, tried);
	/* If nothing got through, the mutations would test the header only. */
	assert_true(accepted > tried / 100);
	assert_true(accepted < tried);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
