/*
 * A stored frame. The fuzzer has no key, so the harness seals what the fuzzer made:
 * extent list and payload are fuzzed behind a seal that holds.
 *
 * Input: one byte of mode, a frame header, and what is sealed behind it.
 */
#include "agent/pipeline/frame.h"
#include "tests/fuzz/fuzz.h"

#include <zstd.h>

enum mode {
	MODE_AS_IT_IS,		/* the header too: it may contradict what follows */
	MODE_LENGTHS,		/* the header's lengths are made right */
	MODE_PACKED,		/* … and the payload a sound zstd frame */
	MODE_PLAIN,		/* … or blocks as they are */
	MODE_COUNT,
};

#define POINT 7

static const struct uuid volume = { { 1, 2, 3 } };
static struct frame_decoder *decoder;
static struct sealer *sealer;
static uint8_t blocks_plain[FRAME_PLAIN_MAX];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const uint8_t key[CRYPTO_KEY_SIZE] = { 42 };

	(void)argc;
	(void)argv;
	decoder = frame_decoder_new();
	sealer = sealer_new(key);
	FUZZ_CHECK(decoder && sealer);
	for (size_t i = 0; i < sizeof(blocks_plain); i++)
		blocks_plain[i] = (uint8_t)(i / BLOCK_BYTES + 1);
	return 0;
}

/* The same for every frame of so many blocks, so made once. */
static size_t packed_blocks(uint32_t blocks, const uint8_t **packed)
{
	static struct { uint8_t *data; size_t length; } kept[MAP_FRAME_BLOCKS_MAX + 1];

	if (!kept[blocks].data) {
		size_t plain = (size_t)blocks * BLOCK_BYTES, room = ZSTD_compressBound(plain);

		kept[blocks].data = malloc(room);
		FUZZ_CHECK(kept[blocks].data);
		kept[blocks].length = ZSTD_compress(kept[blocks].data, room, blocks_plain,
						    plain, 1);
	}
	*packed = kept[blocks].data;
	return kept[blocks].length;
}

static void facts_get(const uint8_t *data, struct frame_facts *facts)
{
	struct frame_header header;

	memcpy(&header, data, sizeof(header));
	*facts = (struct frame_facts){
		.flags = get_le16(header.flags), .segment = get_le32(header.segment),
		.number = get_le32(header.number), .blocks = get_le32(header.blocks),
		.extent_count = get_le32(header.extent_count),
		.extents_bytes = get_le32(header.extents_bytes),
	};
}

/* A frame as a writer seals it, of the fuzzer's extents and perhaps its payload. */
static uint8_t *frame_written(enum mode mode, const uint8_t *data, size_t length,
			      size_t *stored)
{
	size_t inner = length - FRAME_HEADER_BYTES;
	struct frame_facts facts;
	const uint8_t *payload;
	uint8_t *frame;

	facts_get(data, &facts);
	facts.blocks = 1 + (facts.blocks - 1) % MAP_FRAME_BLOCKS_MAX;
	if (mode == MODE_LENGTHS) {
		if (facts.extents_bytes > inner)
			facts.extents_bytes = (uint32_t)inner;
		facts.payload_bytes = (uint32_t)inner - facts.extents_bytes;
		payload = data + FRAME_HEADER_BYTES + facts.extents_bytes;
	} else {
		facts.extents_bytes = (uint32_t)inner;
		facts.flags = mode == MODE_PACKED ? FRAME_ZSTD : 0;
		payload = blocks_plain;
		facts.payload_bytes = facts.blocks * BLOCK_BYTES;
		if (mode == MODE_PACKED)
			facts.payload_bytes = (uint32_t)packed_blocks(facts.blocks, &payload);
	}
	*stored = frame_stored_bytes(&facts);
	frame = malloc(*stored);
	FUZZ_CHECK(frame);
	memcpy(frame + FRAME_HEADER_BYTES, data + FRAME_HEADER_BYTES, facts.extents_bytes);
	memcpy(frame + FRAME_HEADER_BYTES + facts.extents_bytes, payload,
	       facts.payload_bytes);
	FUZZ_CHECK(!frame_seal(sealer, &volume, POINT, &facts, frame));
	return frame;
}

/* The fuzzer's own header, with a seal that holds over whatever follows. */
static uint8_t *frame_as_it_is(const uint8_t *data, size_t length, size_t *stored)
{
	struct frame_header header;
	struct frame_aad aad;
	uint8_t *frame;

	*stored = length + CRYPTO_TAG_SIZE;
	frame = malloc(*stored);
	FUZZ_CHECK(frame);
	memcpy(&header, data, sizeof(header));
	memcpy(frame, data, length);
	frame_aad_put(&header, &volume, POINT, &aad);
	FUZZ_CHECK(!seal(sealer, SEAL_FRAME, get_le32(header.number), &aad, sizeof(aad),
			 frame + sizeof(header), length - sizeof(header),
			 frame + sizeof(header)));
	return frame;
}

/* Rising, apart, of so many blocks; and written again they are what was sealed. */
static void check_extents(const struct map_frame *where, const struct extent_list *extents,
			  const uint8_t *inner)
{
	uint8_t again[FRAME_EXTENTS_MAX];
	uint64_t end = 0, total = 0, coded = 0;
	uint32_t used = 0;

	FUZZ_CHECK(extents->count && extents->count <= where->blocks);
	for (size_t i = 0; i < extents->count; i++) {
		const struct extent *extent = &extents->items[i];

		FUZZ_CHECK(extent->count && (!i || extent->first > end));
		end = extent->first + extent->count;
		FUZZ_CHECK(end <= FRAME_BLOCK_LIMIT);
		total += extent->count;
		frame_extent_put(again, &used, &coded, extent->first,
				 (uint32_t)extent->count);
	}
	FUZZ_CHECK(total == where->blocks);
	FUZZ_CHECK(!memcmp(again, inner, used));
}

/* `inner`: what was sealed. `ours`: the payload is blocks_plain. */
static void decode(const uint8_t *frame, size_t stored, const uint8_t *inner, bool ours)
{
	struct map_frame where = { .point = POINT, .length = (uint32_t)stored, .blocks = 1 };
	struct extent_list extents = EXTENT_LIST_INIT;
	struct error err = ERROR_INIT;
	uint8_t *plain;
	int ret = frame_peek(frame, stored, POINT, SEGMENT_HEADER_BYTES, &where, &err);

	if (ret) {
		fuzz_refused(ret, &err);
	} else {
		FUZZ_CHECK(where.blocks && where.blocks <= MAP_FRAME_BLOCKS_MAX);
		FUZZ_CHECK(where.length <= FRAME_STORED_MAX);
	}
	plain = malloc((size_t)where.blocks * BLOCK_BYTES);
	FUZZ_CHECK(plain);
	err = (struct error)ERROR_INIT;
	ret = frame_decode(decoder, sealer, &volume, &where, frame, stored, plain,
			   &extents, &err);
	if (ret) {
		fuzz_refused(ret, &err);
	} else {
		check_extents(&where, &extents, inner);
		FUZZ_CHECK(!ours || !memcmp(plain, blocks_plain,
					    (size_t)where.blocks * BLOCK_BYTES));
	}
	extent_list_fini(&extents);
	free(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	enum mode mode = fuzz_byte(&data, &length) % MODE_COUNT;
	uint8_t *frame;
	size_t stored;

	if (length < FRAME_HEADER_BYTES) {
		frame = fuzz_copy(data, length);
		decode(frame, length, NULL, false);
	} else {
		frame = mode == MODE_AS_IT_IS ? frame_as_it_is(data, length, &stored) :
						frame_written(mode, data, length, &stored);
		decode(frame, stored, data + FRAME_HEADER_BYTES,
		       mode == MODE_PACKED || mode == MODE_PLAIN);
	}
	free(frame);
	return 0;
}
