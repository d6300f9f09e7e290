/*
 * Real points, forgotten and pruned: what is left is restored with the recovery key
 * alone, byte for byte, and what was pruned is gone.
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
			prune_all(lab, &result);
			all.points += result.points;
			all.maps += result.maps;
			all.deleted_bytes += result.deleted_bytes;
			for (uint64_t n = 1; n <= lab->count; n++)
				if (visible[n])
					restore_check(lab, n);
		}
		points_lab_free(lab);
	}
	printf("%d points pruned, %d maps rebased, %d bytes freed\n", (int)all.points,
	       (int)all.maps, (int)all.deleted_bytes);
	assert_true(all.points > 20 && all.maps > 8);
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
	/* clawback.json; the point, its segment, the record. */
	lab_keys_list(lab, "", &keys);
	assert_int_equal(4, keys.count);
	lab_keys_free(&keys);
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pruned_restores), cmocka_unit_test(space_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
