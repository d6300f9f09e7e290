/*
 * Frames read back: nothing but what was written, where it was written, is ever
 * accepted, and sealed nonsense does no harm.
 */
#include "agent/pipeline/frame.h"
#include "tests/unit/pipeline_lab.h"

#include <zstd.h>

#define FRAMES 4

struct fixture {
	struct lab *lab;
	struct pipeline_result result;
	struct frame_decoder *decoder;
	struct sealer *sealer;
	uint8_t *segment;
	uint8_t plain[FRAME_PLAIN_MAX];
};

/* Four frames: two compressed, two raw. */
static int setup(void **state)
{
	struct random_state random = { 42 };
	struct fixture *f = calloc(1, sizeof(*f));
	struct pipeline_job job;

	assert_non_null(f);
	f->lab = lab_new();
	lab_volume(f->lab, &random, FRAMES * FRAME_PLAIN_MAX);
	for (uint64_t b = 0; b < f->lab->blocks; b++) {
		uint8_t *block = f->lab->image + b * BLOCK_BYTES;

		memset(block, (int)(b % 7) + 1, BLOCK_BYTES);
		if (b % 512 >= 256)
			fill_random(&random, block, BLOCK_BYTES);
		if (b % 16 == 3)
			memset(block, 0, BLOCK_BYTES);
	}
	{
		char path[128];

		lab_path(f->lab, "volume", path);
		assert_int_equal(0, file_replace(path, f->lab->image, f->lab->bytes, 0600));
		lab_open_volume(f->lab);
	}
	lab_extents_all(f->lab);
	job = lab_job(f->lab, MAP_FULL);
	job.options.inline_bytes = FRAMES * FRAME_STORED_MAX;
	lab_run(&job, &f->result);
	assert_int_equal(f->result.map.frame_count, FRAMES);
	f->segment = lab_segment(f->lab, &f->result, 0);
	f->decoder = frame_decoder_new();
	f->sealer = sealer_new(f->lab->key);
	assert_non_null(f->decoder);
	assert_non_null(f->sealer);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	frame_decoder_free(f->decoder);
	sealer_free(f->sealer);
	free(f->segment);
	pipeline_result_fini(&f->result);
	lab_free(f->lab);
	free(f);
	return 0;
}

static struct map_frame frame_where(struct fixture *f, size_t i)
{
	return f->result.map.frames[i];
}

static uint8_t *frame_bytes(struct fixture *f, size_t i)
{
	return f->segment + f->result.map.frames[i].offset;
}

static void decode_ok(struct fixture *f, size_t i)
{
	struct map_frame where = frame_where(f, i);
	struct error err = ERROR_INIT;

	if (frame_decode(f->decoder, f->sealer, &f->lab->volume, &where,
			 frame_bytes(f, i), where.length, f->plain, NULL, &err))
		fail_msg("%s", err.message);
}

static void refused(struct fixture *f, const struct uuid *volume,
		    const struct map_frame *where, const uint8_t *data, size_t length)
{
	struct error err = ERROR_INIT;

	assert_int_equal(-EBADMSG, frame_decode(f->decoder, f->sealer, volume, where,
						data, length, f->plain, NULL, &err));
	assert_int_equal(err.code, -EBADMSG);
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	assert_true(err.message[0]);
}

static void test_kinds(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < FRAMES; i++) {
		struct frame_header header;

		memcpy(&header, frame_bytes(f, i), sizeof(header));
		assert_int_equal(get_le16(header.flags), i % 2 ? 0 : FRAME_ZSTD);
		assert_int_equal(get_le32(header.blocks), 240);
		decode_ok(f, i);
	}
}

static void test_bit_flips(void **state)
{
	struct fixture *f = *state;
	struct random_state random = random_start("pipeline_frame");

	for (int n = 0; n < 3000; n++) {
		/* Compressed frames are short: they get every second flip. */
		size_t i = n % 2 ? 0 : random_below(&random, FRAMES);
		struct map_frame where = frame_where(f, i);
		/* Every bit of the header, then any bit. */
		uint64_t bit = n < (int)FRAME_HEADER_BYTES * 8 ? (uint64_t)n :
			       random_below(&random, where.length * UINT64_C(8));
		uint8_t *at = frame_bytes(f, i) + bit / 8;

		*at ^= (uint8_t)(1u << bit % 8);
		refused(f, &f->lab->volume, &where, frame_bytes(f, i), where.length);
		*at ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t i = 0; i < FRAMES; i++)
		decode_ok(f, i);
}

static void test_wrong_lengths(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < FRAMES; i++) {
		struct map_frame where = frame_where(f, i);

		for (size_t length = 0; length < FRAME_HEADER_BYTES + 40; length++) {
			/* In memory of exactly that size, for ASan to watch. */
			uint8_t *copy = malloc(length ? length : 1);

			assert_non_null(copy);
			memcpy(copy, frame_bytes(f, i), length);
			refused(f, &f->lab->volume, &where, copy, length);
			where.length = (uint32_t)length;
			refused(f, &f->lab->volume, &where, copy, length);
			where.length = frame_where(f, i).length;
			free(copy);
		}
		where.length++;
		refused(f, &f->lab->volume, &where, frame_bytes(f, i), where.length - 1);
		where.length--;
		refused(f, &f->lab->volume, &where, frame_bytes(f, i), where.length - 1);
		refused(f, &f->lab->volume, &where, frame_bytes(f, i), where.length + 1);
	}
}

/* Frames put in each other's place, also with headers forged to fit it. */
static void test_swapped(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < FRAMES; i++) {
		for (size_t k = 0; k < FRAMES; k++) {
			struct map_frame where = frame_where(f, i);
			struct frame_header header;

			if (i == k)
				continue;
			refused(f, &f->lab->volume, &where, frame_bytes(f, k),
				frame_where(f, k).length);
			where.length = frame_where(f, k).length;
			refused(f, &f->lab->volume, &where, frame_bytes(f, k),
				where.length);
			memcpy(&header, frame_bytes(f, k), sizeof(header));
			header.number = le32(where.number);
			memcpy(frame_bytes(f, k), &header, sizeof(header));
			refused(f, &f->lab->volume, &where, frame_bytes(f, k),
				where.length);
			header.number = le32(frame_where(f, k).number);
			memcpy(frame_bytes(f, k), &header, sizeof(header));
			decode_ok(f, k);
		}
	}
}

static void test_wrong_identity(void **state)
{
	struct fixture *f = *state;
	struct map_frame where = frame_where(f, 1);
	struct uuid volume = f->lab->volume;
	uint8_t *data = frame_bytes(f, 1);
	struct sealer *other, *own = f->sealer;
	struct frame_header header;

	volume.b[15] ^= 1;
	refused(f, &volume, &where, data, where.length);
	where.point++;
	refused(f, &f->lab->volume, &where, data, where.length);
	where = frame_where(f, 1);
	where.segment++;
	refused(f, &f->lab->volume, &where, data, where.length);
	memcpy(&header, data, sizeof(header));
	header.segment = le32(where.segment);
	memcpy(data, &header, sizeof(header));
	refused(f, &f->lab->volume, &where, data, where.length);
	header.segment = le32(frame_where(f, 1).segment);
	memcpy(data, &header, sizeof(header));
	where = frame_where(f, 1);
	where.blocks--;
	refused(f, &f->lab->volume, &where, data, where.length);

	f->lab->key[0] ^= 1;
	other = sealer_new(f->lab->key);
	f->lab->key[0] ^= 1;
	f->sealer = other;
	where = frame_where(f, 1);
	refused(f, &f->lab->volume, &where, data, where.length);
	f->sealer = own;
	sealer_free(other);
	decode_ok(f, 1);
}

static void test_segment_header(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	struct uuid volume = f->lab->volume;

	assert_int_equal(0, segment_check(f->segment, SEGMENT_HEADER_BYTES, &volume,
					  7, 0, &err));
	assert_int_equal(-EBADMSG, segment_check(f->segment, SEGMENT_HEADER_BYTES - 1,
						 &volume, 7, 0, &err));
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	assert_int_equal(-EBADMSG, segment_check(f->segment, 64, &volume, 8, 0, &err));
	assert_int_equal(-EBADMSG, segment_check(f->segment, 64, &volume, 7, 1, &err));
	for (unsigned bit = 0; bit < SEGMENT_HEADER_BYTES * 8; bit++) {
		f->segment[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(-EBADMSG, segment_check(f->segment, 64, &volume, 7,
							 0, &err));
		f->segment[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

/* Seals `inner` with whatever facts; decodes it in memory of exactly its size. */
static int decode_forged(struct fixture *f, struct frame_facts *facts,
			 const uint8_t *inner, struct error *err)
{
	struct extent_list extents = EXTENT_LIST_INIT;
	struct map_frame where = {
		.point = 7, .segment = facts->segment, .number = facts->number,
		.length = frame_stored_bytes(facts), .blocks = facts->blocks,
	};
	uint8_t *frame = malloc(where.length);
	uint8_t *plain = malloc((size_t)facts->blocks * BLOCK_BYTES);
	int ret;

	assert_non_null(frame);
	assert_non_null(plain);
	memcpy(frame + FRAME_HEADER_BYTES, inner,
	       facts->extents_bytes + facts->payload_bytes);
	assert_int_equal(0, frame_seal(f->sealer, &f->lab->volume, 7, facts, frame));
	ret = frame_decode(f->decoder, f->sealer, &f->lab->volume, &where, frame,
			   where.length, plain, &extents, err);
	extent_list_fini(&extents);
	free(frame);
	free(plain);
	return ret;
}

/* Whoever holds the key may still be mistaken: lists that make no sense. */
static void test_forged_lists(void **state)
{
	static const struct {
		uint8_t bytes[24];
		uint32_t length, count, blocks;
		int result;
	} cases[] = {
		{ { 5, 2 }, 2, 1, 2, 0 },
		{ { 5, 1, 3, 1 }, 4, 2, 2, 0 },
		{ { 5, 1, 0, 1 }, 4, 2, 2, -EBADMSG },		/* adjacent */
		{ { 5, 1 }, 2, 1, 2, -EBADMSG },		/* too few */
		{ { 5, 3 }, 2, 1, 2, -EBADMSG },		/* too many */
		{ { 5, 0, 3, 2 }, 4, 2, 2, -EBADMSG },		/* empty extent */
		{ { 5, 2, 9 }, 3, 1, 2, -EBADMSG },		/* bytes left over */
		{ { 5 }, 1, 1, 2, -EBADMSG },			/* cut short */
		{ { 0x85 }, 1, 1, 2, -EBADMSG },		/* cut in a number */
		{ { 0x85, 0, 2 }, 3, 1, 2, -EBADMSG },		/* longer form */
		{ { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7, 2 }, 9, 1, 2, -EBADMSG },
		{ { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2 },
		  12, 1, 2, -EBADMSG },
	};
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t inner[24 + 2 * BLOCK_BYTES] = { 0 };
		struct frame_facts facts = {
			.blocks = cases[i].blocks, .number = (uint32_t)i,
			.extent_count = cases[i].count,
			.extents_bytes = cases[i].length,
			.payload_bytes = cases[i].blocks * BLOCK_BYTES,
		};

		memcpy(inner, cases[i].bytes, cases[i].length);
		assert_int_equal(cases[i].result, decode_forged(f, &facts, inner, &err));
	}
}

/* A payload that decompresses well, but to more or less than the frame's blocks. */
static void test_forged_payload(void **state)
{
	static const size_t sizes[] = { 0, 1, BLOCK_BYTES - 1, BLOCK_BYTES,
					2 * BLOCK_BYTES - 1, 2 * BLOCK_BYTES,
					2 * BLOCK_BYTES + 1, 3 * BLOCK_BYTES };
	static const uint8_t source[3 * BLOCK_BYTES];
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t inner[2 + 256] = { 5, 2 };
		size_t got = ZSTD_compress(inner + 2, 256, source, sizes[i], 1);
		struct frame_facts facts = {
			.flags = FRAME_ZSTD, .number = (uint32_t)i, .blocks = 2,
			.extent_count = 1, .extents_bytes = 2,
			.payload_bytes = (uint32_t)got,
		};

		assert_false(ZSTD_isError(got));
		assert_int_equal(sizes[i] == 2 * BLOCK_BYTES ? 0 : -EBADMSG,
				 decode_forged(f, &facts, inner, &err));
	}
}

/* Random headers and contents, properly sealed: refused or decoded, no more. */
static void test_forged_random(void **state)
{
	struct fixture *f = *state;
	struct random_state random = random_start("pipeline_frame forged");
	static uint8_t inner[FRAME_STORED_MAX];
	unsigned refusals = 0;

	for (int n = 0; n < 2000; n++) {
		uint32_t blocks = 1 + (uint32_t)random_below(&random, 4);
		struct frame_facts facts = {
			.flags = (uint16_t)random_below(&random, 3),
			.number = (uint32_t)n,
			.blocks = blocks,
			.extent_count = 1 + (uint32_t)random_below(&random, blocks),
			.extents_bytes = 2 + (uint32_t)random_below(&random, 4),
			.payload_bytes = facts.flags & FRAME_ZSTD ?
				(uint32_t)random_below(&random, 300) :
				blocks * BLOCK_BYTES,
		};
		struct error err = ERROR_INIT;
		int ret;

		for (uint32_t i = 0; i < 512; i++)
			inner[i] = (uint8_t)random_below(&random, 6);
		/* Now and then a true zstd magic. */
		if (random_one_in(&random, 2))
			memcpy(inner + facts.extents_bytes, "\x28\xb5\x2f\xfd", 4);
		ret = decode_forged(f, &facts, inner, &err);
		assert_true(ret == 0 || ret == -EBADMSG);
		refusals += ret != 0;
	}
	assert_true(refusals > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_bit_flips),
		cmocka_unit_test(test_wrong_lengths),
		cmocka_unit_test(test_swapped),
		cmocka_unit_test(test_wrong_identity),
		cmocka_unit_test(test_segment_header),
		cmocka_unit_test(test_forged_lists),
		cmocka_unit_test(test_forged_payload),
		cmocka_unit_test(test_forged_random),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
