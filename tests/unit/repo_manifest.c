/*
 * The manifest: what is written is read back, to the byte; what no clawback wrote
 * is refused. Signatures stand before the parser, but it trusts nobody.
 */
#include "tests/unit/manifest_lab.h"

/* ---- there and back ------------------------------------------------------------ */

static void round_trip(void **state)
{
	struct random_state random = random_start("round_trip");

	(void)state;
	for (int round = 0; round < 2000; round++) {
		CLEANUP_FREE char *text = NULL;
		CLEANUP_FREE char *again = NULL;
		struct point point, back;

		random_point(&random, &point);
		text = point_manifest_text(&point);
		assert_non_null(text);
		manifest_parse(text, strlen(text), &back);
		assert_true(points_same(&point, &back));
		again = point_manifest_text(&back);
		assert_string_equal(text, again);
		point_fini(&point);
		point_fini(&back);
	}
}

static void text_is_canonical(void **state)
{
	CLEANUP_FREE char *text = NULL;
	struct point point, back;

	(void)state;
	golden_point(&point);
	text = point_manifest_text(&point);
	assert_string_equal(text, golden);
	manifest_parse(golden, strlen(golden), &back);
	assert_true(points_same(&point, &back));
	point_fini(&point);
	point_fini(&back);
}

/* A name with bytes that are no UTF-8 has no JSON: no text rather than another. */
static void names_that_are_no_text(void **state)
{
	struct point point;

	(void)state;
	golden_point(&point);
	strcpy(point.dm_name, "\xff\xfe");
	assert_null(point_manifest_text(&point));
	point_fini(&point);
}

/* A disk's layout goes along as it is, and no other kind of thing in its place. */
static void the_layout_of_a_disk(void **state)
{
	static const char layout[] = "{\"version\":1,\"b\":[1,{\"ä\":null}]}";
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *other = NULL;
	struct point point, back;

	(void)state;
	golden_point(&point);
	point.disk_layout = strdup(layout);
	text = point_manifest_text(&point);
	assert_non_null(text);
	manifest_parse(text, strlen(text), &back);
	assert_string_equal(back.disk_layout, layout);
	point_fini(&back);
	assert_null(back.disk_layout);
	if (asprintf(&other, "%.*s\"disk\": 7\n}", (int)(strstr(text, "\"disk\": {") - text),
		     text) < 0)
		fail();
	manifest_check_refused(other, strlen(other));
	/* What is no JSON is not written. */
	strcpy(point.disk_layout, "{");
	assert_null(point_manifest_text(&point));
	point_fini(&point);
}

/* What is there must make sense; 0 is said by leaving it out. */
static void the_full_of_a_differential(void **state)
{
	static const char *const wrong[] = { "0", "7", "8", "-1", "\"6\"", "6.0", "null" };
	char text[sizeof(golden) + 32];
	struct point point;

	(void)state;
	snprintf(text, sizeof(text), "{\"full\": 6,%s", golden + 1);
	manifest_parse(text, strlen(text), &point);
	assert_int_equal(point.full, 6);
	point_fini(&point);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(text, sizeof(text), "{\"full\": %s,%s", wrong[i], golden + 1);
		manifest_check_refused(text, strlen(text));
	}
}

/* ---- damage -------------------------------------------------------------------- */

static void truncated(void **state)
{
	struct random_state random = random_start("truncated");

	(void)state;
	for (int round = 0; round < 4; round++) {
		CLEANUP_FREE char *text = NULL;
		struct point point;

		random_point(&random, &point);
		text = point_manifest_text(&point);
		for (size_t length = 0; length < strlen(text); length++) {
			/* At its very end, for ASan to see a read beyond. */
			char *cut = malloc(length ? length : 1);

			memcpy(cut, text, length);
			manifest_check_refused(cut, length);
			free(cut);
		}
		point_fini(&point);
	}
}

/* What a parser let through must be a point that could have been written. */
static void check_any(const char *text, size_t length, unsigned *accepted)
{
	CLEANUP_FREE char *written = NULL;
	struct error err = ERROR_INIT;
	struct point point, again;

	if (point_manifest_parse(text, length, &point, &err)) {
		assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
		return;
	}
	(*accepted)++;
	assert_true(point.number > 0 && point.parent < point.number);
	assert_true(point.base > 0 && point.base <= point.number);
	assert_true(point.depth <= POINT_DEPTH_MAX);
	assert_true(point.full < point.number);
	assert_true(point.volume_bytes > 0 && point.volume_bytes <= 1ull << 62);
	assert_true(point.wrap_count <= REPO_RECIPIENTS_MAX);
	assert_true(point.map_bytes <= POINT_MAP_MAX);
	assert_true(!point.frames_inline || point.segment_count <= 1);
	assert_int_equal(point.map_kind == MAP_FULL, point.base == point.number);
	assert_true(point.map_kind == MAP_FULL || (point.parent && point.depth));
	written = point_manifest_text(&point);
	assert_non_null(written);
	manifest_parse(written, strlen(written), &again);
	assert_true(points_same(&point, &again));
	point_fini(&point);
	point_fini(&again);
}

static void flipped_bits(void **state)
{
	struct random_state random = random_start("flipped_bits");
	CLEANUP_FREE char *text = NULL;
	unsigned accepted = 0;
	struct point point;
	size_t length;

	(void)state;
	random_point(&random, &point);
	text = point_manifest_text(&point);
	length = strlen(text);
	for (size_t bit = 0; bit < 8 * length; bit++) {
		text[bit / 8] ^= (char)(1 << bit % 8);
		check_any(text, length, &accepted);
		text[bit / 8] ^= (char)(1 << bit % 8);
	}
	point_fini(&point);
	assert_true(accepted > 0);	/* digits, letters: a signature has to find them */
}

static void mangled(void **state)
{
	struct random_state random = random_start("mangled");
	unsigned accepted = 0;

	(void)state;
	for (int round = 0; round < 5000; round++) {
		char text[sizeof(golden)];

		memcpy(text, golden, sizeof(golden));
		for (size_t i = 1 + random_below(&random, 4); i--;)
			text[random_below(&random, sizeof(golden) - 1)] =
				"{}[]\",:0-9.eEtn \\\0\xff"[random_below(&random, 19)];
		check_any(text, sizeof(golden) - 1, &accepted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(text_is_canonical),
		cmocka_unit_test(names_that_are_no_text),
		cmocka_unit_test(the_layout_of_a_disk),
		cmocka_unit_test(the_full_of_a_differential),
		cmocka_unit_test(truncated),
		cmocka_unit_test(flipped_bits),
		cmocka_unit_test(mangled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
