/* Part of a check: how many frames are drawn, which, what is found by them, and in which
 * order points are taken. */
#include "agent/repo/verify_private.h"
#include "tests/unit/points_lab.h"

/* ---- drawing ----------------------------------------------------------------- */

/* As many as are wanted, whatever the numbers are like. */
static void share(void **state)
{
	static const uint32_t wanted[] = { 1000, 10000, 50000, 333333, 900000 };
	struct random_state random = random_start("share");

	(void)state;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		uint64_t seed = random_next(&random), drawn = 0, n = 0, sigma = 1;
		uint64_t mean;

		for (uint64_t number = 1; number <= 100; number++)
			for (uint64_t frame = 0; frame < 4000; frame++, n++)
				drawn += verify_sampled(seed, wanted[i], number,
							(uint32_t)(frame / 512),
							64 + frame % 512 * 4096);
		mean = n * wanted[i] / 1000000;
		while (sigma * sigma < mean)
			sigma++;
		if (drawn + 6 * sigma < mean || drawn > mean + 6 * sigma)
			fail_msg("seed %llu: %llu drawn, about %llu wanted",
				 (unsigned long long)seed, (unsigned long long)drawn,
				 (unsigned long long)mean);
	}
}

/* Each frame comes up with some seed; the same seed says the same. */
static void each(void **state)
{
	(void)state;
	for (uint64_t offset = 0; offset < 200; offset++) {
		unsigned drawn = 0;

		for (uint64_t seed = 0; seed < 2000; seed++) {
			bool is = verify_sampled(seed, 20000, 7, 1, offset);

			assert_true(is == verify_sampled(seed, 20000, 7, 1, offset));
			drawn += is;
		}
		assert_true(drawn >= 10 && drawn <= 80);
	}
	assert_true(verify_sampled(1, 1000000, 1, 1, 1));
	assert_false(verify_sampled(1, 0, 1, 1, 1));
}

/* ---- order --------------------------------------------------------------------- */

static void order(void **state)
{
	static struct verify_known known[] = { { .number = 3 }, { .number = 5 }, { .number = 6 },
					       { .number = 9 } };
	static const struct { uint64_t from, wanted[4]; } cases[] = {
		{ 0, { 9, 6, 5, 3 } }, { 6, { 5, 3, 9, 6 } }, { 7, { 6, 5, 3, 9 } },
		{ 3, { 9, 6, 5, 3 } }, { 100, { 9, 6, 5, 3 } }, { 4, { 3, 9, 6, 5 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct verify_options options = { .max_time_ns = 1, .from = cases[i].from };
		struct verify verify = { .options = &options, .known = known, .count = 4 };

		verify_order(&verify);
		for (size_t n = 0; n < 4; n++)
			assert_int_equal(cases[i].wanted[n], verify_nth(&verify, n)->number);
		options.max_time_ns = 0;
		for (size_t n = 0; n < 4; n++)
			assert_ptr_equal(&known[n], verify_nth(&verify, n));
	}
}

/* ---- a repository ---------------------------------------------------------------- */

static void ignore(void *context, const char *text)
{
	(void)context;
	(void)text;
}

static int check(struct points_lab *lab, struct verify_options options,
		 struct verify_result *result)
{
	struct error err = ERROR_INIT;

	options.data = true;
	options.ring = lab_ring(lab);
	options.problem = ignore;
	memset(result, 0, sizeof(*result));
	return repo_verify(lab->repo, &lab->volume, 0, &options, result, &err);
}

static struct points_lab *many_frames(struct random_state *random)
{
	struct points_lab *lab = points_lab_new();

	lab->options = (struct pipeline_options){
		.inline_bytes = 1, .segment_bytes = 4 << 20,
	};
	for (uint64_t i = 1; i <= 4; i++) {
		lab_image_change(lab, random, i, 24u << 20, i == 1 ? 600 : 60, 16);
		memset(lab->images[i].data + i * BLOCK_BYTES, (int)i, BLOCK_BYTES);
		lab_commit(lab, random, i == 1 ? POINT_FULL : POINT_INCREMENTAL, false);
	}
	return lab;
}

static void flip(struct points_lab *lab, const char *key, size_t at)
{
	CLEANUP_FREE char *data = NULL;
	size_t length;

	lab_object_read(lab, key, &data, &length);
	data[at % length] ^= 1;
	lab_object_write(lab, key, data, length);
}

/* What is drawn is read and no more; damage is found if, and only if, its frame is. */
static void found_if_drawn(void **state)
{
	struct random_state random = random_start("found_if_drawn");
	struct points_lab *lab = many_frames(&random);
	struct verify_result all, part, none;
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX + 8];
	unsigned found = 0, drawn = 0;

	(void)state;
	assert_int_equal(0, check(lab, (struct verify_options){ .data = true }, &all));
	assert_int_equal(0, check(lab, (struct verify_options){ .sample_ppm = 1 }, &none));
	assert_in_range(all.frames, 20, 1000);
	point_segment_prefix(&lab->points[1], prefix);
	snprintf(key, sizeof(key), "%s000000", prefix);
	/* The first frame begins behind the segment's header. */
	flip(lab, key, SEGMENT_HEADER_BYTES + 200);
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct verify_options options = { .sample_ppm = 200000, .seed = seed };
		bool is = verify_sampled(seed, 200000, 1, 0, SEGMENT_HEADER_BYTES);
		int ret = check(lab, options, &part);

		assert_int_equal(is ? -EBADMSG : 0, ret);
		assert_int_equal(is, part.problems);
		assert_int_equal(all.frames, part.all_frames);
		assert_true(part.frames < all.frames && part.frame_bytes < part.all_frame_bytes);
		assert_int_equal(part.bytes, none.bytes - none.frame_bytes + part.frame_bytes);
		found += ret != 0;
		drawn += (unsigned)part.frames;
	}
	assert_true(found > 2 && found < 40);
	/* 60 times a fifth. */
	assert_in_range(drawn, 60 * all.frames / 5 - 10 * all.frames / 5,
			60 * all.frames / 5 + 10 * all.frames / 5);
	assert_int_equal(-EBADMSG, check(lab, (struct verify_options){ .data = true }, &all));
	points_lab_free(lab);
}

static void missing_is_found(void **state)
{
	struct random_state random = random_start("missing_is_found");
	struct points_lab *lab = many_frames(&random);
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX + 8];
	struct verify_result part;

	(void)state;
	point_segment_prefix(&lab->points[2], prefix);
	snprintf(key, sizeof(key), "%s000000", prefix);
	lab_object_remove(lab, key);
	assert_int_equal(-EBADMSG, check(lab, (struct verify_options){ .sample_ppm = 1 }, &part));
	points_lab_free(lab);
}

static void limits(void **state)
{
	struct random_state random = random_start("limits");
	struct points_lab *lab = many_frames(&random);
	struct verify_result result;

	(void)state;
	assert_int_equal(0, check(lab, (struct verify_options){ .max_time_ns = 1 }, &result));
	assert_true(result.out_of_time);
	assert_int_equal(4, result.all_points);
	assert_int_equal(0, result.points);
	assert_int_equal(0, check(lab, (struct verify_options){
		.max_time_ns = UINT64_C(3600000000000) }, &result));
	assert_false(result.out_of_time);
	assert_int_equal(4, result.points);
	/* Older points: their heads, and so their chain, and no frame. */
	assert_int_equal(0, check(lab, (struct verify_options){
		.since_ns = lab->points[4].time_ns }, &result));
	assert_int_equal(4, result.points);
	assert_int_equal(3, result.passed_over);
	assert_true(result.frames > 0);
	assert_int_equal(0, check(lab, (struct verify_options){ .since_ns = UINT64_MAX },
				  &result));
	assert_int_equal(0, result.frames);
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(share), cmocka_unit_test(each), cmocka_unit_test(order),
		cmocka_unit_test(found_if_drawn), cmocka_unit_test(missing_is_found),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
