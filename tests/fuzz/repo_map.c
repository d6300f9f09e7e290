/*
 * A sealed map, and the index over it. The harness compresses and seals for the
 * fuzzer, so that what lies behind the seal is reached.
 *
 * Input: one byte of mode, then the map, its packed form, or the sealed object.
 */
#include "agent/repo/point_format.h"
#include "tests/fuzz/fuzz.h"

#include <zstd.h>

enum mode {
	MODE_AS_IT_IS,	/* the object */
	MODE_MAP,	/* a map, as map_encode writes it; compressed and sealed */
	MODE_PACKED,	/* four bytes of length when unpacked, a zstd frame; sealed */
	MODE_COUNT,
};

/* What a writer claims is not doubted: without a ceiling the fuzzer would only show
 * how much memory there is. */
#define PLAIN_MAX (1u << 20)

static const uint8_t key[CRYPTO_KEY_SIZE] = { 42 };
static const struct point point = { .number = 1, .volume_name = "volume" };

static uint8_t *seal_packed(const uint8_t *packed, size_t length, uint64_t plain_length,
			    size_t *sealed_length)
{
	struct {
		struct map_seal_header header;
		struct point_context context;
	} aad = { .header = { .magic = MAP_SEAL_MAGIC, .version = le32(MAP_SEAL_VERSION),
			      .plain_length = le64(plain_length),
			      .packed_length = le64(length) } };
	struct sealer *sealer = sealer_new(key);
	uint8_t *out = malloc(sizeof(aad.header) + length + CRYPTO_TAG_SIZE);

	FUZZ_CHECK(sealer && out);
	point_context(&point, &aad.context);
	memcpy(out, &aad.header, sizeof(aad.header));
	FUZZ_CHECK(!seal(sealer, SEAL_MAP, 0, &aad, sizeof(aad), packed, length,
			 out + sizeof(aad.header)));
	sealer_free(sealer);
	*sealed_length = sizeof(aad.header) + length + CRYPTO_TAG_SIZE;
	return out;
}

static uint8_t *seal_map(const uint8_t *plain, size_t length, size_t *sealed_length)
{
	size_t room = ZSTD_compressBound(length), packed_length;
	uint8_t *packed = malloc(room), *sealed;

	FUZZ_CHECK(packed);
	packed_length = ZSTD_compress(packed, room, plain, length, 1);
	FUZZ_CHECK(!ZSTD_isError(packed_length));
	sealed = seal_packed(packed, packed_length, length, sealed_length);
	free(packed);
	return sealed;
}

static uint8_t *object_make(enum mode mode, const uint8_t *data, size_t length,
			    size_t *sealed_length)
{
	uint32_t plain_length = 0;

	if (mode == MODE_MAP)
		return seal_map(data, length, sealed_length);
	if (mode == MODE_PACKED) {
		for (int i = 0; i < 4; i++)
			plain_length |= (uint32_t)fuzz_byte(&data, &length) << (8 * i);
		return seal_packed(data, length, plain_length % PLAIN_MAX, sealed_length);
	}
	*sealed_length = length;
	return fuzz_copy(data, length);
}

/* Every entry stands under its own frame, once, in rising order. */
static void check_index(const struct map *map)
{
	struct frame_index index;
	size_t listed = 0, in_frames = 0;

	FUZZ_CHECK(!frame_index_init(&index, map));
	for (size_t f = 0; f < map->frame_count; f++) {
		for (uint32_t i = index.first[f]; i < index.first[f + 1]; i++) {
			FUZZ_CHECK(map->entries[index.items[i]].frame == f);
			FUZZ_CHECK(i == index.first[f] || index.items[i - 1] < index.items[i]);
			listed++;
		}
	}
	for (size_t i = 0; i < map->entry_count; i++)
		in_frames += map->entries[i].frame != MAP_FRAME_HOLE;
	FUZZ_CHECK(listed == in_frames);
	frame_index_fini(&index);
}

/* Sealed by ourselves it opens again as the same map. */
static void check_again(const struct map *map)
{
	struct error err = ERROR_INIT;
	struct map again;
	uint8_t *sealed;
	size_t length;

	FUZZ_CHECK(!map_seal(&point, map, key, &sealed, &length, &err));
	FUZZ_CHECK(!map_unseal(&point, sealed, length, key, &again, &err));
	FUZZ_CHECK(again.kind == map->kind && again.volume_blocks == map->volume_blocks);
	FUZZ_CHECK(again.frame_count == map->frame_count);
	FUZZ_CHECK(again.entry_count == map->entry_count);
	map_fini(&again);
	free(sealed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	enum mode mode = fuzz_byte(&data, &length) % MODE_COUNT;
	struct error err = ERROR_INIT;
	size_t sealed_length;
	uint8_t *sealed = object_make(mode, data, length, &sealed_length);
	struct map map;
	int ret = map_unseal(&point, sealed, sealed_length, key, &map, &err);

	if (ret) {
		fuzz_refused(ret, &err);
	} else {
		FUZZ_CHECK(!map_check(&map));
		check_index(&map);
		check_again(&map);
		map_fini(&map);
	}
	free(sealed);
	return 0;
}
