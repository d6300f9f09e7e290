/* The map encoding: one golden map, hand-made refusals, sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blockmap/map_format.h"
#include "tests/unit/blockmap_model.h"

#include <errno.h>

#define HEADER sizeof(struct map_header)

/* Written by hand from docs/format.md, not by the encoder. Never to change. */
static const char golden_hex[] =
	/* header: magic, version 1, DELTA, no flags, zero */
	"434c41574d415031" "01000000" "02" "00" "0000"
	"e803000000000000"	/* 1000 blocks in the volume */
	"0400000000000000"	/* 4 frames */
	"0600000000000000"	/* 6 entries */
	"1800000000000000"	/* 24 bytes of frames */
	"1300000000000000"	/* 19 bytes of entries */
	/* frames */
	"02" "0e" "00" "00" "00" "ac02"	/* 256 blocks, point +7, 300 bytes */
	"04" "05"			/* 255 blocks, follows, 5 bytes */
	"fd07" "02" "ee0a" "c801"	/* 1 block, number +1, offset +695 */
	"8204" "01" "01" "00" "10" "8001" /* 128 blocks, point -1, segment 1 */
	/* entries */
	"0a" "7d"			/* gap 10, 32 of the next frame */
	"08" "00"			/* gap 8, 1 more of it */
	"00" "8f03"			/* hole of 100 */
	"00" "05"			/* 2 of the next frame */
	"f701" "fe03" "04" "00"		/* gap 247, 128 of frame +2, position 0 */
	"00" "0a" "05" "64";		/* 3 of frame -3, position 100 */

static const struct map_frame golden_frames[] = {
	{ 7, 0, 0, 0, 300, 256 },
	{ 7, 0, 1, 300, 5, 255 },
	{ 7, 0, 3, 1000, 200, 1 },
	{ 6, 1, 0, 16, 128, 128 },
};

static const struct map_entry golden_entries[] = {
	{ 10, 32, 0, 0 },
	{ 50, 1, 0, 32 },
	{ 51, 100, MAP_FRAME_HOLE, 0 },
	{ 151, 2, 1, 0 },
	{ 400, 128, 3, 0 },
	{ 528, 3, 0, 100 },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static size_t unhex(const char *text, uint8_t *out)
{
	size_t length = strlen(text) / 2;

	for (size_t i = 0; i < length; i++) {
		char pair[3] = { text[2 * i], text[2 * i + 1], '\0' };

		out[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return length;
}

static void test_golden(void **state)
{
	uint8_t expected[200], *data;
	size_t expected_length = unhex(golden_hex, expected), length;
	struct map map;

	(void)state;
	map_init(&map, MAP_DELTA, 1000);
	for (size_t i = 0; i < COUNT(golden_frames); i++)
		assert_int_equal(map_append_frame(&map, &golden_frames[i]), 0);
	for (size_t i = 0; i < COUNT(golden_entries); i++)
		assert_int_equal(map_append_entry(&map, &golden_entries[i]), 0);
	assert_int_equal(map_encode(&map, &data, &length), 0);
	assert_int_equal(length, expected_length);
	assert_memory_equal(data, expected, length);
	map_fini(&map);
	free(data);

	assert_int_equal(map_decode(expected, expected_length, &map), 0);
	assert_int_equal(map.kind, MAP_DELTA);
	assert_int_equal(map.volume_blocks, 1000);
	assert_int_equal(map.frame_count, COUNT(golden_frames));
	assert_int_equal(map.entry_count, COUNT(golden_entries));
	assert_memory_equal(map.frames, golden_frames, sizeof(golden_frames));
	assert_memory_equal(map.entries, golden_entries, sizeof(golden_entries));
	map_fini(&map);
}

static void test_empty(void **state)
{
	struct map map;
	uint8_t *data;
	size_t length;

	(void)state;
	map_init(&map, MAP_FULL, 0);
	assert_int_equal(round_trip(&map), 0);
	map_init(&map, MAP_FULL, MAP_VOLUME_BLOCKS_MAX);
	assert_int_equal(map_encode(&map, &data, &length), 0);
	assert_int_equal(length, HEADER);
	assert_int_equal(map_decode(data, length, &map), 0);
	assert_true(map.volume_blocks == MAP_VOLUME_BLOCKS_MAX);
	map_fini(&map);
	free(data);
}

/* ---- one thing wrong at a time -------------------------------------------- */

/*
 * Decodes a map of 1000 blocks with these payloads, each in hexadecimal, from a
 * buffer of exactly its size. Whatever is accepted must be encoded the same.
 */
static int decode_parts(uint8_t kind, uint64_t frame_count, const char *frames,
			uint64_t entry_count, const char *entries)
{
	size_t frame_bytes = strlen(frames) / 2, entry_bytes = strlen(entries) / 2;
	size_t length = HEADER + frame_bytes + entry_bytes, again_length = 0;
	struct map_header header = { .version = le32(1), .kind = kind };
	uint8_t *data = malloc(length), *again = NULL;
	struct map map;
	int ret;

	assert_non_null(data);
	memcpy(header.magic, MAP_MAGIC, sizeof(header.magic));
	header.volume_blocks = le64(1000);
	header.frame_count = le64(frame_count);
	header.entry_count = le64(entry_count);
	header.frame_bytes = le64(frame_bytes);
	header.entry_bytes = le64(entry_bytes);
	memcpy(data, &header, HEADER);
	unhex(frames, data + HEADER);
	unhex(entries, data + HEADER + frame_bytes);
	ret = map_decode(data, length, &map);
	if (!ret) {
		assert_int_equal(map_encode(&map, &again, &again_length), 0);
		assert_int_equal(again_length, length);
		assert_memory_equal(again, data, length);
		map_fini(&map);
	}
	free(again);
	free(data);
	return ret;
}

static int decode_frame(const char *frames)
{
	return decode_parts(MAP_FULL, 1, frames, 0, "");
}

/* One frame of 256 blocks, one of 1. */
#define TWO_FRAMES 2, "0001" "fc0701"

static int decode_delta(uint64_t count, const char *entries)
{
	return decode_parts(MAP_DELTA, TWO_FRAMES, count, entries);
}

static int decode_full(uint64_t count, const char *entries)
{
	return decode_parts(MAP_FULL, TWO_FRAMES, count, entries);
}

static void test_refuses_frames(void **state)
{
	(void)state;
	assert_int_equal(decode_frame("0001"), 0);
	assert_int_equal(decode_frame("fc0701"), 0);
	assert_int_equal(decode_frame("00" "ffffffff0f"), 0);
	assert_int_equal(decode_frame("01" "02" "00" "01"), 0);
	assert_int_equal(decode_frame("02" "02" "00" "00" "00" "01"), 0);
	assert_int_equal(decode_frame("01" "00" "01" "01"), -EBADMSG); /* offset -1 */

	assert_int_equal(decode_frame("0000"), -EBADMSG);	/* length 0 */
	assert_int_equal(decode_frame("00" "8080808010"), -EBADMSG); /* 2^32 */
	assert_int_equal(decode_frame("800801"), -EBADMSG);	/* 0 blocks */
	assert_int_equal(decode_frame("ffffffffffffffffff01" "01"), -EBADMSG);
	assert_int_equal(decode_frame("8080808040" "01"), -EBADMSG); /* - 2^32 blocks */
	assert_int_equal(decode_frame("03" "01"), -EBADMSG);	/* no such mode */
	assert_int_equal(decode_frame("00" "8100"), -EBADMSG);	/* over-long */
	assert_int_equal(decode_frame("8000" "01"), -EBADMSG);
	assert_int_equal(decode_frame("00" "ffffffffffffffffff02"), -EBADMSG);
	assert_int_equal(decode_frame("00" "ffffffffffffffffffff01"), -EBADMSG);
	/* an offset of 2^64, and one of eleven bytes */
	assert_int_equal(decode_frame("02" "02" "00" "00" "80808080808080808002" "01"),
			 -EBADMSG);
	assert_int_equal(decode_frame("02" "02" "00" "00" "8080808080808080808001" "01"),
			 -EBADMSG);
	assert_int_equal(decode_frame("00" "81"), -EBADMSG);	/* cut off */
	assert_int_equal(decode_frame("0001" "00"), -EBADMSG);	/* left over */
	assert_int_equal(decode_frame("0001" "0001"), -EBADMSG);
	/* said in a longer way than needed */
	assert_int_equal(decode_frame("01" "00" "00" "01"), -EBADMSG);
	assert_int_equal(decode_frame("02" "00" "00" "05" "00" "01"), -EBADMSG);
	/* number -1, number 2^32, segment 2^32, offset + length = 2^64 */
	assert_int_equal(decode_frame("01" "01" "00" "01"), -EBADMSG);
	assert_int_equal(decode_frame("01" "8080808020" "00" "01"), -EBADMSG);
	assert_int_equal(decode_frame("02" "02" "8080808010" "00" "00" "01"), -EBADMSG);
	assert_int_equal(decode_frame("02" "02" "00" "8080808010" "00" "01"), -EBADMSG);
	assert_int_equal(decode_frame("02" "02" "00" "00" "ffffffffffffffffff01" "01"),
			 -EBADMSG);
	/* the frame before has number 2^32 - 1: none can follow */
	assert_int_equal(decode_parts(MAP_FULL, 2,
				      "02" "02" "00" "ffffffff0f" "00" "01" "00" "01",
				      0, ""), -EBADMSG);
}

static void test_refuses_entries(void **state)
{
	(void)state;
	assert_int_equal(decode_delta(0, ""), 0);
	assert_int_equal(decode_delta(1, "0001"), 0);
	assert_int_equal(decode_delta(1, "0003"), 0);
	assert_int_equal(decode_delta(1, "00" "fd07"), 0);	/* all 256 */
	assert_int_equal(decode_delta(2, "0001" "0001"), 0);
	assert_int_equal(decode_delta(1, "e707" "01"), 0);	/* the last block */
	assert_int_equal(decode_delta(1, "00" "02" "02" "05"), 0);

	assert_int_equal(decode_full(1, "0003"), -EBADMSG);	/* hole in a full */
	assert_int_equal(decode_delta(2, "0003" "0003"), -EBADMSG); /* beside a hole */
	assert_int_equal(decode_delta(2, "0001" "0000"), -EBADMSG); /* to be merged */
	assert_int_equal(decode_delta(1, "0000"), -EBADMSG);	/* continues what? */
	assert_int_equal(decode_delta(1, "00" "8108"), -EBADMSG); /* 257 of 256 */
	assert_int_equal(decode_delta(2, "0001" "0005"), -EBADMSG); /* 2 of 1 */
	assert_int_equal(decode_delta(2, "00" "fd07" "0100"), -EBADMSG); /* behind it */
	assert_int_equal(decode_delta(3, "0001" "0001" "0001"), -EBADMSG); /* frame 2 */
	assert_int_equal(decode_delta(1, "00" "02" "02" "8002"), -EBADMSG);
	assert_int_equal(decode_delta(1, "00" "02" "02" "8080808010"), -EBADMSG);
	assert_int_equal(decode_delta(1, "00" "02" "00" "05"), -EBADMSG); /* frame -1 */
	assert_int_equal(decode_delta(1, "00" "02" "06" "05"), -EBADMSG); /* frame 2 */
	assert_int_equal(decode_delta(1, "00" "02" "8080808020" "00"), -EBADMSG);
	assert_int_equal(decode_delta(1, "00" "02" "8280808020" "00"), -EBADMSG);
	assert_int_equal(decode_delta(1, "00" "02" "8280808020" "05"), -EBADMSG);
	assert_int_equal(decode_delta(1, "00" "02" "02" "00"), -EBADMSG); /* mode 1 */
	assert_int_equal(decode_delta(2, "0001" "01" "02" "00" "01"), -EBADMSG);
	assert_int_equal(decode_delta(1, "e807" "01"), -EBADMSG); /* behind the end */
	assert_int_equal(decode_delta(1, "e807" "03"), -EBADMSG);
	assert_int_equal(decode_delta(1, "e607" "0b"), -EBADMSG); /* across the end */
	assert_int_equal(decode_delta(1, "00" "ffffffffffffffffff01"), -EBADMSG);
	assert_int_equal(decode_delta(1, "ffffffffffffffffff01" "01"), -EBADMSG);
	assert_int_equal(decode_delta(1, "8000" "01"), -EBADMSG); /* over-long */
	assert_int_equal(decode_delta(1, "00" "8100"), -EBADMSG);
	assert_int_equal(decode_delta(1, "00" "81"), -EBADMSG);	/* cut off */
	assert_int_equal(decode_delta(2, "000103"), -EBADMSG);
	assert_int_equal(decode_delta(1, "0001" "00"), -EBADMSG); /* left over */
	assert_int_equal(decode_delta(0, "0001"), -EBADMSG);
}

/* The golden map with one byte changed; at its end, with one byte more. */
static int decode_patched(size_t offset, uint8_t value)
{
	uint8_t data[200];
	size_t length = unhex(golden_hex, data);
	struct map map;
	int ret;

	data[offset] = value;
	length += offset == length;
	ret = map_decode(data, length, &map);
	if (!ret)
		map_fini(&map);
	return ret;
}

static void test_refuses_headers(void **state)
{
	struct map map;

	(void)state;
	assert_int_equal(decode_patched(0, 'C'), 0);
	assert_int_equal(decode_patched(7, '2'), -EBADMSG);	/* magic */
	assert_int_equal(decode_patched(8, 0), -EBADMSG);	/* version 0 */
	assert_int_equal(decode_patched(8, 2), -EPROTONOSUPPORT);
	assert_int_equal(decode_patched(11, 1), -EPROTONOSUPPORT);
	assert_int_equal(decode_patched(12, 0), -EBADMSG);	/* kind */
	assert_int_equal(decode_patched(12, 1), -EBADMSG);	/* it has a hole */
	assert_int_equal(decode_patched(12, 3), -EBADMSG);
	assert_int_equal(decode_patched(13, 1), -EPROTONOSUPPORT); /* flags */
	assert_int_equal(decode_patched(14, 1), -EBADMSG);	/* reserved */
	assert_int_equal(decode_patched(15, 1), -EBADMSG);
	assert_int_equal(decode_patched(22, 8), -EBADMSG);	/* 2^51 and more */
	assert_int_equal(decode_patched(24, 3), -EBADMSG);	/* frame count */
	assert_int_equal(decode_patched(24, 5), -EBADMSG);
	assert_int_equal(decode_patched(31, 1), -EBADMSG);
	assert_int_equal(decode_patched(32, 5), -EBADMSG);	/* entry count */
	assert_int_equal(decode_patched(32, 7), -EBADMSG);
	assert_int_equal(decode_patched(39, 255), -EBADMSG);
	assert_int_equal(decode_patched(40, 0x17), -EBADMSG);	/* frame bytes */
	assert_int_equal(decode_patched(47, 255), -EBADMSG);
	assert_int_equal(decode_patched(48, 0x14), -EBADMSG);	/* entry bytes */
	assert_int_equal(decode_patched(55, 255), -EBADMSG);
	assert_int_equal(decode_patched(strlen(golden_hex) / 2, 0), -EBADMSG);
	assert_int_equal(map_decode((const uint8_t *)"", 0, &map), -EBADMSG);
}

/* Every stream of two bytes, as one entry and as one frame. */
static void test_exhaustive(void **state)
{
	static const char digits[] = "0123456789abcdef";
	int entries = 0, frames = 0;

	(void)state;
	for (unsigned v = 0; v < 65536; v++) {
		char hex[5] = { digits[v >> 12], digits[v >> 8 & 15],
				digits[v >> 4 & 15], digits[v & 15], '\0' };

		entries += decode_delta(1, hex) == 0;
		frames += decode_frame(hex) == 0;
	}
	/* gap 0–127; next frame or hole, count 1–32 */
	assert_int_equal(entries, 128 * 64);
	/* follows, 32 block counts, length 1–127 */
	assert_int_equal(frames, 32 * 127);
}

/* ---- size --------------------------------------------------------------------- */

static void test_common_cases_are_small(void **state)
{
	struct map full, delta;
	struct map_frame frame = { 9, 0, 0, 0, 0, 256 };
	uint8_t *data;
	size_t length;

	(void)state;
	/* 1 GiB of full frames. */
	map_init(&full, MAP_FULL, 1024 * 256);
	/* 4 MiB of single blocks, each some 100 blocks from the last. */
	map_init(&delta, MAP_DELTA, 1024 * 256);
	for (uint32_t i = 0; i < 1024; i++) {
		struct map_entry whole = { i * 256, 256, i, 0 };

		frame.number = i;
		frame.length = 300000 + i;
		assert_int_equal(map_append_frame(&full, &frame), 0);
		assert_int_equal(map_append_entry(&full, &whole), 0);
		if (i < 4)
			assert_int_equal(map_append_frame(&delta, &frame), 0);
		frame.offset += frame.length;
	}
	for (uint32_t i = 0; i < 1024; i++) {
		struct map_entry single = { i * 100, 1, i / 256, i % 256 };

		assert_int_equal(map_append_entry(&delta, &single), 0);
	}
	assert_int_equal(map_encode(&full, &data, &length), 0);
	assert_true(length <= HEADER + 8 + 1024 * 7);
	free(data);
	assert_int_equal(map_encode(&delta, &data, &length), 0);
	assert_true(length <= HEADER + 8 + 4 * 4 + 1024 * 2);
	free(data);
	map_fini(&full);
	map_fini(&delta);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_refuses_frames),
		cmocka_unit_test(test_refuses_entries),
		cmocka_unit_test(test_refuses_headers),
		cmocka_unit_test(test_exhaustive),
		cmocka_unit_test(test_common_cases_are_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
