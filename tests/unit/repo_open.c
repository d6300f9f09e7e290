/* Opening points: keys, maps, chains of parents, stored frames. */
#include "agent/repo/point_format.h"
#include "tests/unit/points_lab.h"

static struct points_lab *chain(struct random_state *random, uint64_t count, bool inlined)
{
	struct points_lab *lab = points_lab_new();

	for (uint64_t i = 1; i <= count; i++) {
		lab->options.inline_bytes = inlined ? 1u << 20 : 1;
		lab_image_change(lab, random, i, 512u << 10, 4, 4);
		memset(lab->images[i].data + i * BLOCK_BYTES, (int)i, BLOCK_BYTES);
		lab_commit(lab, random, i == 1 ? POINT_FULL : POINT_INCREMENTAL, false);
	}
	return lab;
}

static void check_exit(int ret, const struct error *err, enum exit_code exit,
		       const char *message)
{
	assert_true(ret < 0);
	if (err->exit != exit || !strstr(err->message, message))
		fail_msg("exit %d: \"%s\", not %d: \"%s\"", err->exit, err->message, exit,
			 message);
}

/* ---- keys ------------------------------------------------------------------------ */

/* The recovery key opens both keys; the host's opens maps only, to the same. */
static void keys_of_a_point(void **state)
{
	struct random_state random = random_start("keys_of_a_point");
	struct points_lab *lab = chain(&random, 2, true);
	struct key_ring both = lab_ring(lab), host = { NULL, lab->host_map_key };
	struct key_ring recovery = { lab->recovery, NULL }, none = { NULL, NULL };
	struct key_ring stranger = { lab->stranger, lab->host_map_key };
	struct error err = ERROR_INIT;
	struct point_keys one, two;
	struct map map;

	(void)state;
	assert_int_equal(0, point_open_keys(&lab->points[1], &both, &one, &err));
	assert_int_equal(0, point_open_keys(&lab->points[1], &recovery, &two, &err));
	assert_memory_equal(&one, &two, sizeof(one));
	assert_memory_not_equal(one.data, one.map, CRYPTO_KEY_SIZE);
	assert_int_equal(0, point_open_keys(&lab->points[2], &recovery, &two, &err));
	assert_memory_not_equal(one.data, two.data, CRYPTO_KEY_SIZE);
	assert_memory_not_equal(one.map, two.map, CRYPTO_KEY_SIZE);
	check_exit(point_open_keys(&lab->points[1], &host, &one, &err), &err, EXIT_WRONG_KEY,
		   "--recovery-key");
	check_exit(point_open_keys(&lab->points[1], &stranger, &one, &err), &err,
		   EXIT_WRONG_KEY, "not sealed to this recovery key");
	lab->points[1].wrap_count = 0;
	check_exit(point_open_keys(&lab->points[1], &recovery, &one, &err), &err,
		   EXIT_WRONG_KEY, "sealed to nobody");
	lab->points[1].wrap_count = 1;
	/* A wrap is bound to its point: another's does not open. */
	memcpy(lab->points[1].wraps[0].wrap, lab->points[2].wraps[0].wrap, CRYPTO_WRAP_SIZE);
	assert_int_not_equal(0, point_open_keys(&lab->points[1], &recovery, &one, &err));
	assert_int_equal(0, point_own_map(lab->repo, &lab->points[2], &recovery, &map, &err));
	map_fini(&map);
	assert_int_equal(0, point_own_map(lab->repo, &lab->points[2], &host, &map, &err));
	map_fini(&map);
	check_exit(point_own_map(lab->repo, &lab->points[2], &none, &map, &err), &err,
		   EXIT_WRONG_KEY, "--recovery-key");
	points_lab_free(lab);
}

/* Any of several recovery keys opens what one of them is told to. */
static void several_recipients(void **state)
{
	struct random_state random = random_start("several_recipients");
	struct points_lab *lab = points_lab_new();
	struct repo_facts facts = { .recipient_count = 2, .signer_count = 1 };
	struct error err = ERROR_INIT;
	struct point_keys one, two;
	struct store *store;
	struct repo *repo;
	char url[160];

	(void)state;
	snprintf(url, sizeof(url), "file://%s/second", lab->folder);
	assert_int_equal(0, store_open(url, NULL, true, &store, &err));
	recovery_private_public(lab->recovery, &facts.recipients[0]);
	recovery_private_public(lab->stranger, &facts.recipients[1]);
	signing_public(lab->signing, &facts.signers[0]);
	assert_int_equal(0, repo_init(store, &facts, &err));
	assert_int_equal(0, repo_open(store, NULL, &repo, &err));
	repo_close(lab->repo);
	store_close(lab->store);
	lab->repo = repo;
	lab->store = store;
	lab_image_change(lab, &random, 1, 64u << 10, 2, 2);
	lab_commit(lab, &random, POINT_FULL, false);
	assert_int_equal(lab->points[1].wrap_count, 2);
	assert_int_equal(0, point_open_keys(&lab->points[1],
					    &(struct key_ring){ lab->recovery, NULL }, &one,
					    &err));
	assert_int_equal(0, point_open_keys(&lab->points[1],
					    &(struct key_ring){ lab->stranger, NULL }, &two,
					    &err));
	assert_memory_equal(&one, &two, sizeof(one));
	points_lab_free(lab);
}

/* ---- sealed maps ------------------------------------------------------------------- */

/* Every cut and every flipped bit of a sealed map, without the digest before it. */
static void damaged_seal(void **state)
{
	struct random_state random = random_start("damaged_seal");
	struct points_lab *lab = chain(&random, 1, true);
	struct point *point = &lab->points[1];
	struct key_ring ring = lab_ring(lab);
	CLEANUP_FREE char *object = NULL;
	struct error err = ERROR_INIT;
	struct point other = *point;
	struct point_keys keys;
	char key[STORE_KEY_MAX];
	uint8_t *sealed;
	struct map map;
	size_t length;

	(void)state;
	point_key(&lab->volume, 1, key);
	lab_object_read(lab, key, &object, &length);
	sealed = (uint8_t *)object + point->head_bytes;
	length = point->map_bytes;
	assert_int_equal(0, point_open_keys(point, &ring, &keys, &err));
	for (size_t cut = 0; cut < length; cut++) {
		CLEANUP_FREE uint8_t *copy = malloc(cut + 1);	/* a read beyond shows */

		memcpy(copy + 1, sealed, cut);
		check_exit(map_unseal(point, copy + 1, cut, keys.map, &map, &err), &err,
			   EXIT_UNTRUSTWORTHY, cut < sizeof(struct map_seal_header) +
			   CRYPTO_TAG_SIZE ? "is cut short" : "its lengths disagree");
	}
	for (size_t bit = 0; bit < 8 * length; bit++) {
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
		check_exit(map_unseal(point, sealed, length, keys.map, &map, &err), &err,
			   EXIT_UNTRUSTWORTHY, "the map of point 1");
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	/* It is bound to its volume, number and run, and to its key. */
	for (int what = 0; what < 4; what++) {
		other = *point;
		other.volume.b[0] ^= what == 0;
		other.number += what == 1;
		other.run.b[9] ^= what == 2;
		check_exit(map_unseal(&other, sealed, length, what == 3 ? keys.data : keys.map,
				      &map, &err), &err, EXIT_UNTRUSTWORTHY,
			   "not what was sealed");
	}
	assert_int_equal(0, map_unseal(point, sealed, length, keys.map, &map, &err));
	map_fini(&map);
	points_lab_free(lab);
}

/* A sound map, but of another kind or size than the manifest says. */
static void map_of_another_volume(void **state)
{
	struct random_state random = random_start("map_of_another_volume");
	struct points_lab *lab = chain(&random, 1, true);
	struct key_ring ring = lab_ring(lab);
	struct error err = ERROR_INIT;
	struct point point = lab->points[1];
	struct map map;

	(void)state;
	point.volume_bytes += BLOCK_BYTES;
	check_exit(point_own_map(lab->repo, &point, &ring, &map, &err), &err,
		   EXIT_UNTRUSTWORTHY, "not of this volume");
	point.volume_bytes -= BLOCK_BYTES;
	point.map_kind = MAP_DELTA;
	check_exit(point_own_map(lab->repo, &point, &ring, &map, &err), &err,
		   EXIT_UNTRUSTWORTHY, "not of this volume");
	points_lab_free(lab);
}

/* ---- chains ------------------------------------------------------------------------ */

static int full_map(struct points_lab *lab, uint64_t number, struct error *err)
{
	struct key_ring ring = lab_ring(lab);
	struct map map;
	int ret = point_full_map(lab->repo, &lab->points[number], &ring, &map, err);

	if (!ret)
		map_fini(&map);
	return ret;
}

static void missing_and_replaced_parents(void **state)
{
	struct random_state random = random_start("missing_and_replaced_parents");
	struct points_lab *lab = chain(&random, 4, true);
	struct point_keys keys;
	struct error err = ERROR_INIT;
	CLEANUP_FREE char *second = NULL;
	struct point other;
	char key[STORE_KEY_MAX];
	struct map map;
	size_t length;

	(void)state;
	assert_int_equal(0, full_map(lab, 4, &err));
	point_key(&lab->volume, 2, key);
	lab_object_read(lab, key, &second, &length);
	lab_object_remove(lab, key);
	check_exit(full_map(lab, 4, &err), &err, EXIT_UNTRUSTWORTHY,
		   "opening point 4 of data: point 3 of data needs point 2, which is missing");
	check_exit(full_map(lab, 3, &err), &err, EXIT_UNTRUSTWORTHY, "needs point 2");
	assert_int_equal(0, full_map(lab, 1, &err));
	/* Another point 2, of the same host, as good as the first; but not it. */
	other = lab->points[2];
	other.time_ns++;
	map_init(&map, MAP_DELTA, other.volume_bytes / BLOCK_BYTES);
	assert_int_equal(0, point_keys_new(&other, lab->host_map_key, &keys, &err));
	assert_int_equal(0, point_commit(lab->repo, &other, &map, NULL, 0, &keys, lab->signing,
					 &err));
	map_fini(&map);
	check_exit(full_map(lab, 3, &err), &err, EXIT_UNTRUSTWORTHY, "it was replaced");
	lab_object_write(lab, key, second, length);
	assert_int_equal(0, full_map(lab, 4, &err));
	points_lab_free(lab);
}

/* Deltas without end: the walk upwards has one. */
static void chain_without_a_base(void **state)
{
	struct points_lab *lab = points_lab_new();
	struct error err = ERROR_INIT;
	uint8_t hash[CRYPTO_DIGEST_SIZE];
	struct point point;

	(void)state;
	lab->images[1].bytes = 1u << 20;
	for (uint64_t i = 1; i <= POINT_DEPTH_MAX + 2; i++) {
		struct key_ring ring = lab_ring(lab);
		struct point_keys keys;
		struct map map;
		int ret;

		lab_point_start(lab, POINT_FULL, false, &point);
		point.number = i;
		if (i > 1) {	/* its depth lies */
			point.kind = POINT_INCREMENTAL;
			point.parent = i - 1;
			point.base = point.depth = 1;
			memcpy(point.parent_hash, hash, sizeof(hash));
		}
		map_init(&map, i == 1 ? MAP_FULL : MAP_DELTA, 256);
		assert_int_equal(0, point_keys_new(&point, lab->host_map_key, &keys, &err));
		if (point_commit(lab->repo, &point, &map, NULL, 0, &keys, lab->signing, &err))
			fail_msg("%s", err.message);
		map_fini(&map);
		memcpy(hash, point.hash, sizeof(hash));
		ret = point_full_map(lab->repo, &point, &ring, &map, &err);
		if (i <= POINT_DEPTH_MAX + 1) {
			assert_int_equal(0, ret);
			map_fini(&map);
			continue;
		}
		check_exit(ret, &err, EXIT_UNTRUSTWORTHY, "no full map within 32 parents");
	}
	points_lab_free(lab);
}

/* ---- frames -------------------------------------------------------------------------- */

/* All of a segment, in pieces, is what was stored; nothing beyond it can be asked for. */
static void stored_frames(void **state)
{
	struct random_state random = random_start("stored_frames");

	(void)state;
	for (int inlined = 0; inlined < 2; inlined++) {
		struct points_lab *lab = chain(&random, 1, inlined);
		const struct point *point = &lab->points[1];
		uint64_t bytes = point->segments[0].bytes;
		CLEANUP_FREE uint8_t *data = malloc(bytes + 1);
		uint8_t digest[CRYPTO_DIGEST_SIZE];
		struct error err = ERROR_INIT;
		char key[STORE_KEY_MAX];
		const struct { uint32_t segment; uint64_t offset, length; } outside[] = {
			{ 1, 0, 1 }, { UINT32_MAX, 0, 0 }, { 0, 0, bytes + 1 },
			{ 0, bytes, 1 }, { 0, bytes + 1, 0 }, { 0, UINT64_MAX, 1 },
			{ 0, 1, bytes }, { 0, UINT64_MAX, 2 }, { 0, 1, UINT64_MAX },
		};

		assert_int_equal(point->frames_inline, inlined);
		for (uint64_t at = 0, n; at < bytes; at += n) {
			n = 1 + random_below(&random, bytes - at);
			assert_int_equal(0, point_read_segment(lab->repo, point, 0, at,
							       data + at, n, &err));
		}
		digest_of(data, bytes, digest);
		assert_memory_equal(digest, point->segments[0].sha256, sizeof(digest));
		for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
			check_exit(point_read_segment(lab->repo, point, outside[i].segment,
						      outside[i].offset, data,
						      outside[i].length, &err), &err,
				   EXIT_UNTRUSTWORTHY, "outside the segments of point 1");
		if (inlined) {
			point_key(&lab->volume, 1, key);
		} else {
			point_segment_prefix(point, key);
			strcat(key, "000000");
		}
		lab_object_write(lab, key, data, bytes - 1);
		check_exit(point_read_segment(lab->repo, point, 0, bytes - 1, data, 1, &err),
			   &err, EXIT_UNTRUSTWORTHY, "shorter than its manifest says");
		lab_object_remove(lab, key);
		check_exit(point_read_segment(lab->repo, point, 0, 0, data, 1, &err), &err,
			   EXIT_UNTRUSTWORTHY, "is missing");
		points_lab_free(lab);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_of_a_point),
		cmocka_unit_test(several_recipients),
		cmocka_unit_test(damaged_seal),
		cmocka_unit_test(map_of_another_volume),
		cmocka_unit_test(missing_and_replaced_parents),
		cmocka_unit_test(chain_without_a_base),
		cmocka_unit_test(stored_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
