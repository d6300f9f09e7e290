/*
 * The map's encoding: what decodes passes map_check, is encoded as the same bytes,
 * and can be searched, and laid over another map.
 *
 * Input: two maps, the first as long as the two bytes before it say.
 */
#include "blockmap/map.h"
#include "tests/fuzz/fuzz.h"

static void check_encoding(const struct map *map, const uint8_t *data, size_t length)
{
	uint8_t *again;
	size_t again_length;

	FUZZ_CHECK(!map_check(map));
	FUZZ_CHECK(!map_encode(map, &again, &again_length));
	FUZZ_CHECK(again_length == length && !memcmp(again, data, length));
	free(again);
}

/* Walks the map by searching: every block is answered once, and as it is listed. */
static void check_find(const struct map *map)
{
	uint64_t block = 0, listed = 0;
	size_t steps = 0;

	while (block < map->volume_blocks) {
		struct map_entry found;

		if (map_find(map, block, &found) && found.frame != MAP_FRAME_HOLE) {
			FUZZ_CHECK(found.frame < map->frame_count);
			FUZZ_CHECK(found.position + found.count <=
				   map->frames[found.frame].blocks);
			listed += found.count;
		}
		FUZZ_CHECK(found.count && found.count <= map->volume_blocks - block);
		block += found.count;
		FUZZ_CHECK(++steps <= 2 * map->entry_count + 1);
	}
	FUZZ_CHECK(listed == map_data_blocks(map));
}

static void check_overlay(const struct map *older, const struct map *newer)
{
	struct map both, same;
	uint8_t *data;
	size_t length;
	int ret = map_overlay(older, newer, &both);

	if (newer->kind != MAP_DELTA) {
		FUZZ_CHECK(ret);
		return;
	}
	FUZZ_CHECK(!ret);
	FUZZ_CHECK(both.kind == older->kind && both.volume_blocks == newer->volume_blocks);
	FUZZ_CHECK(!map_check(&both));
	check_find(&both);
	FUZZ_CHECK(!map_encode(&both, &data, &length));
	FUZZ_CHECK(!map_decode(data, length, &same));
	map_fini(&same);
	free(data);
	map_fini(&both);
}

static bool decode(const uint8_t *data, size_t length, struct map *map)
{
	uint8_t *copy = fuzz_copy(data, length);
	bool good = !map_decode(copy, length, map);

	if (good) {
		check_encoding(map, copy, length);
		check_find(map);
	}
	free(copy);
	return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	size_t first = fuzz_byte(&data, &length);
	struct map older, newer;

	first |= (size_t)fuzz_byte(&data, &length) << 8;
	if (first > length)
		first = length;
	if (!decode(data, first, &older))
		return 0;
	if (decode(data + first, length - first, &newer)) {
		check_overlay(&older, &newer);
		map_fini(&newer);
	}
	map_fini(&older);
	return 0;
}
