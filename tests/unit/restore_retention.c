/*
 * Real points, forgotten and pruned: what is left is restored with the recovery key
 * alone, byte for byte, and verified; what was pruned is gone, and not missed.
 */
#include "agent/restore/restore.h"
#include "tests/unit/points_lab.h"

static bool visible[LAB_POINTS + 1];

static void restore_check(struct points_lab *lab, uint64_t number)
{
	struct key_ring ring = { .recovery = lab->recovery };
	struct restore_target_options how = { .bytes = lab->images[number].bytes, .force = true };
	struct restore_options options = { .verify = true };
	struct restore_target *target;
	struct restore_result result;
	struct error err = ERROR_INIT;
	CLEANUP_FREE char *data = NULL;
	char path[700], text[24];
	struct point point;
	size_t length;

	lab_path(lab, "target", path);
	sprintf(text, "%d", (int)number);
	if (point_find(lab->repo, &lab->volume, text, &point, &err) ||
	    restore_target_open(path, &how, &target, &err))
		fail_msg("%s", err.message);
	if (restore_run(lab->repo, &point, &ring, target, &options, &result, &err))
		fail_msg("%s", err.message);
	assert_int_equal(0, restore_target_close(target, &err));
	point_fini(&point);
	assert_int_equal(0, file_read(path, 1u << 30, &data, &length));
	assert_int_equal(lab->images[number].bytes, length);
	assert_memory_equal(lab->images[number].data, data, length);
}

static void forget_some(struct points_lab *lab, struct random_state *random)
{
	struct extent_list numbers = EXTENT_LIST_INIT;
	struct retention retention;
	struct error err = ERROR_INIT;

	for (uint64_t n = 1; n < lab->count; n++)
		if (visible[n] && random_one_in(random, 2)) {
			visible[n] = false;
			assert_int_equal(0, extent_list_append(&numbers, n, 1));
		}
	if (retention_load(lab->repo, &lab->volume, &retention, &err) ||
	    repo_forget(lab->repo, &lab->volume, &retention, &numbers, lab->count, lab->signing,
			&err))
		fail_msg("%s", err.message);
	retention_fini(&retention);
	extent_list_fini(&numbers);
}

static void prune_all(struct points_lab *lab, struct prune_result *result)
{
	struct prune_options options = {
		.host_map_key = lab->host_map_key, .signer = lab->signing,
	};
	struct error err = ERROR_INIT;

	if (repo_prune(lab->repo, &lab->volume, &options, result, &err))
		fail_msg("%s", err.message);
}

/* ---- verify ------------------------------------------------------------------ */

static void told(void *context, const char *text)
{
	snprintf(context, 600, "%s", text);
}

static int verify(struct points_lab *lab, uint64_t number, bool data,
		  const struct key_ring *ring, char told_text[static 600])
{
	struct verify_options options = {
		.data = data, .ring = *ring, .problem = told, .context = told_text,
	};
	struct verify_result result;
	struct error err = ERROR_INIT;

	*told_text = '\0';
	return repo_verify(lab->repo, &lab->volume, number, &options, &result, &err);
}

/* Nothing is wrong, whatever keys there are; of the whole, and of each visible point. */
static void verify_check(struct points_lab *lab)
{
	struct key_ring none = { NULL, NULL }, host = { NULL, lab->host_map_key };
	struct key_ring all = { lab->recovery, lab->host_map_key };
	char text[600];

	if (verify(lab, 0, true, &all, text) || verify(lab, 0, false, &host, text) ||
	    verify(lab, 0, false, &none, text))
		fail_msg("%s", text);
	for (uint64_t n = 1; n <= lab->count; n++)
		if (visible[n] && (verify(lab, n, false, &host, text) ||
				   verify(lab, n, false, &none, text)))
			fail_msg("point %d: %s", (int)n, text);
}

/* Whatever object is taken away is missed: by who has all keys, and by who has none. */
static void verify_misses(struct points_lab *lab)
{
	struct key_ring none = { NULL, NULL }, all = { lab->recovery, lab->host_map_key };
	struct lab_keys keys;
	char text[600];

	lab_keys_list(lab, "", &keys);
	for (size_t i = 0; i < keys.count; i++) {
		CLEANUP_FREE char *data = NULL;
		size_t length;

		lab_object_read(lab, keys.items[i], &data, &length);
		/* A stub only keeps its number taken; without records all may be seen. */
		if (length == 64 || strstr(keys.items[i], "/retention/") ||
		    !strchr(keys.items[i], '/'))
			continue;
		lab_object_remove(lab, keys.items[i]);
		if (!verify(lab, 0, false, &all, text) || !verify(lab, 0, false, &none, text))
			fail_msg("nobody misses %s", keys.items[i]);
		lab_object_write(lab, keys.items[i], data, length);
	}
	lab_keys_free(&keys);
	verify_check(lab);
}

/* The next point, of any shape: inline or in segments, whole or changed blocks. */
static void next_point(struct points_lab *lab, struct random_state *random)
{
	uint64_t next = lab->count + 1;
	bool full = next == 1 || random_one_in(random, 6);
	uint64_t bytes = next == 1 || random_one_in(random, 4) ?
			 (1u << 20) + 512 * random_below(random, 999) :
			 lab->images[lab->count].bytes;

	lab->options = (struct pipeline_options){
		.inline_bytes = random_one_in(random, 2) ? 1u : 1u << 20,
		.segment_bytes = 64u << 10, .workers = 1,
	};
	lab_image_change(lab, random, next, bytes, next == 1 ? 24 : 6, 12);
	lab_commit(lab, random, full ? POINT_FULL : POINT_INCREMENTAL,
		   !full && random_one_in(random, 5));
	visible[next] = true;
}

static void pruned_restores(void **state)
{
	struct random_state random = random_start("pruned_restores");
	struct prune_result result, all = { .points = 0 };

	(void)state;
	for (int round = 0; round < 8; round++) {
		struct points_lab *lab = points_lab_new();

		while (lab->count < LAB_POINTS) {
			next_point(lab, &random);
			if (!random_one_in(&random, 4))
				continue;
			forget_some(lab, &random);
			verify_check(lab);
			prune_all(lab, &result);
			all.points += result.points;
			all.maps += result.maps;
			all.deleted_bytes += result.deleted_bytes;
			all.packs += result.packs;
			all.repacked_bytes += result.repacked_bytes;
			for (uint64_t n = 1; n <= lab->count; n++)
				if (visible[n])
					restore_check(lab, n);
			verify_check(lab);
		}
		/* Records remember up to which point there were some. */
		forget_some(lab, &random);
		prune_all(lab, &result);
		verify_misses(lab);
		points_lab_free(lab);
	}
	printf("%d points pruned, %d maps rebased, %d bytes freed, %d packs of %d bytes\n",
	       (int)all.points, (int)all.maps, (int)all.deleted_bytes, (int)all.packs,
	       (int)all.repacked_bytes);
	assert_true(all.points > 20 && all.maps > 8 && all.packs > 8);
}

/* Only the newest left: of all that changed in between nothing remains. */
static void space_comes_back(void **state)
{
	struct random_state random = random_start("space_comes_back");
	struct points_lab *lab = points_lab_new();
	struct extent_list numbers = EXTENT_LIST_INIT;
	struct prune_result result;
	struct retention retention;
	struct error err = ERROR_INIT;
	struct lab_keys keys;

	(void)state;
	lab->options = (struct pipeline_options){ .inline_bytes = 1, .workers = 1 };
	for (uint64_t n = 1; n <= 12; n++) {
		lab_image_change(lab, &random, n, 1u << 20, 0, 1);
		/* All blocks, every time. */
		lab_fill(&random, lab->images[n].data, lab->images[n].blocks);
		memset(lab->images[n].data, (int)n, 8);
		lab_commit(lab, &random, n == 1 || n == 12 ? POINT_FULL : POINT_INCREMENTAL, false);
	}
	assert_int_equal(0, extent_list_append(&numbers, 1, 11));
	assert_int_equal(0, retention_load(lab->repo, &lab->volume, &retention, &err));
	assert_int_equal(0, repo_forget(lab->repo, &lab->volume, &retention, &numbers, 12,
					lab->signing, &err));
	retention_fini(&retention);
	extent_list_fini(&numbers);
	prune_all(lab, &result);
	assert_int_equal(11, result.points);
	assert_int_equal(0, result.serving);
	assert_int_equal(0, result.maps);
	restore_check(lab, 12);
	memset(visible, 0, sizeof(visible));
	visible[12] = true;
	verify_misses(lab);
	/* clawback.json; the point, its segment, the record. */
	lab_keys_list(lab, "", &keys);
	assert_int_equal(4, keys.count);
	lab_keys_free(&keys);
	points_lab_free(lab);
}

/* Points 1 to 5, of which only the newest is left; what the others still hold is in a pack. */
static struct points_lab *lab_with_pack(struct random_state *random, char pack[static 512])
{
	struct points_lab *lab = points_lab_new();
	struct extent_list numbers = EXTENT_LIST_INIT;
	struct prune_result result;
	struct retention retention;
	struct error err = ERROR_INIT;
	struct lab_keys keys;
	char prefix[STORE_KEY_MAX];

	lab->options = (struct pipeline_options){ .workers = 1 };
	for (uint64_t n = 1; n <= 5; n++) {
		lab_image_change(lab, random, n, 4u << 20, n == 1 ? 0 : 6, 40);
		if (n == 1)
			for (size_t i = 0; i < lab->images[1].bytes; i += 8)
				memcpy(lab->images[1].data + i, &(uint64_t){ random_next(random) }, 8);
		lab_commit(lab, random, n == 1 ? POINT_FULL : POINT_INCREMENTAL, false);
	}
	assert_int_equal(0, extent_list_append(&numbers, 1, 4));
	assert_int_equal(0, retention_load(lab->repo, &lab->volume, &retention, &err));
	assert_int_equal(0, repo_forget(lab->repo, &lab->volume, &retention, &numbers, 5,
					lab->signing, &err));
	retention_fini(&retention);
	extent_list_fini(&numbers);
	prune_all(lab, &result);
	assert_int_equal(1, result.packs);
	uuid_format(&lab->volume, prefix);
	strcat(prefix, "/packs/");
	lab_keys_list(lab, prefix, &keys);
	assert_int_equal(1, keys.count);
	strcpy(pack, keys.items[0]);
	lab_keys_free(&keys);
	memset(visible, 0, sizeof(visible));
	visible[5] = true;
	return lab;
}

/* Whatever byte of a pack is wrong, whoever looks is told that it is that pack; and what
 * is restored is right, or nothing is. */
static void pack_damage_told(void **state)
{
	struct random_state random = random_start("pack_damage_told");
	char pack[512], text[600];
	struct points_lab *lab = lab_with_pack(&random, pack);
	struct key_ring none = { NULL, NULL }, all = { lab->recovery, lab->host_map_key };
	CLEANUP_FREE char *data = NULL;
	size_t length;

	(void)state;
	verify_check(lab);
	restore_check(lab, 5);
	lab_object_read(lab, pack, &data, &length);
	for (int round = 0; round < 60; round++) {
		size_t at = round < 32 ? (size_t)round : random_below(&random, length);

		if (round % 4 == 1)
			at = length - 1 - random_below(&random, 200);
		data[at] ^= 0x10;
		lab_object_write(lab, pack, data, length);
		assert_int_equal(-EBADMSG, verify(lab, 0, false, &none, text));
		assert_non_null(strstr(text, pack));
		assert_int_equal(-EBADMSG, verify(lab, 5, true, &all, text));
		assert_non_null(strstr(text, pack));
		data[at] ^= 0x10;
	}
	lab_object_write(lab, pack, data, length - 1);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, &none, text));
	assert_non_null(strstr(text, pack));
	lab_object_write(lab, pack, data, length);
	verify_check(lab);
	points_lab_free(lab);
}

/* What is damaged is not moved, where nobody without keys would find it. */
static void damage_stays(void **state)
{
	struct random_state random = random_start("damage_moves_along");
	struct points_lab *lab = points_lab_new();
	struct key_ring none = { NULL, NULL }, all = { lab->recovery, lab->host_map_key };
	struct prune_result result;
	CLEANUP_FREE char *data = NULL;
	char text[600], key[STORE_KEY_MAX];
	struct retention retention;
	struct extent_list numbers = EXTENT_LIST_INIT;
	struct error err = ERROR_INIT;
	size_t length;

	(void)state;
	lab->options = (struct pipeline_options){ .workers = 1 };
	for (uint64_t n = 1; n <= 2; n++) {
		lab_image_change(lab, &random, n, 256u << 10, n == 1 ? 24 : 1, n == 1 ? 16 : 1);
		lab_commit(lab, &random, n == 1 ? POINT_FULL : POINT_INCREMENTAL, false);
	}
	assert_true(lab->points[1].frames_inline);
	point_key(&lab->volume, 1, key);
	lab_object_read(lab, key, &data, &length);
	data[length - 30] ^= 1;
	lab_object_write(lab, key, data, length);
	assert_int_equal(0, extent_list_append(&numbers, 1, 1));
	assert_int_equal(0, retention_load(lab->repo, &lab->volume, &retention, &err));
	assert_int_equal(0, repo_forget(lab->repo, &lab->volume, &retention, &numbers, 2,
					lab->signing, &err));
	retention_fini(&retention);
	extent_list_fini(&numbers);
	prune_all(lab, &result);
	assert_int_equal(0, result.packs);
	assert_int_equal(1, result.serving);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, &none, text));
	assert_int_equal(-EBADMSG, verify(lab, 0, true, &all, text));
	assert_non_null(strstr(text, key));
	data[length - 30] ^= 1;
	lab_object_write(lab, key, data, length);
	memset(visible, 0, sizeof(visible));
	visible[2] = true;
	verify_check(lab);
	restore_check(lab, 2);
	points_lab_free(lab);
}

/* A record taken out of the middle, or the newest, on which pruned points rest. */
static void records_missed(void **state)
{
	struct random_state random = random_start("records_missed");
	struct points_lab *lab = points_lab_new();
	struct key_ring ring = lab_ring(lab);
	struct prune_result result;
	char text[600], key[STORE_KEY_MAX];
	struct lab_keys keys;

	(void)state;
	memset(visible, 0, sizeof(visible));
	while (lab->count < 5)
		next_point(lab, &random);
	for (int i = 0; i < 3; i++)
		forget_some(lab, &random);
	verify_check(lab);
	uuid_format(&lab->volume, key);
	strcat(key, "/retention/");
	lab_keys_list(lab, key, &keys);
	assert_int_equal(3, keys.count);
	lab_object_remove(lab, keys.items[1]);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, &ring, text));
	assert_non_null(strstr(text, "the sequence has a gap"));
	lab_keys_free(&keys);
	prune_all(lab, &result);
	verify_check(lab);
	lab_keys_list(lab, key, &keys);
	assert_int_equal(1, keys.count);
	lab_object_remove(lab, keys.items[0]);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, &ring, text));
	lab_keys_free(&keys);
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pruned_restores), cmocka_unit_test(space_comes_back),
		cmocka_unit_test(records_missed), cmocka_unit_test(pack_damage_told),
		cmocka_unit_test(damage_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
