/*
 * Random histories of points, forgotten points, pins, runs and prunes that were killed
 * at any request, and prunes, against a model: what is visible, what every visible
 * point holds, and which objects are left when all is pruned.
 */
#include "tests/unit/prune_lab.h"

/* ---- steps --------------------------------------------------------------------- */

static void step_commit(struct story *story)
{
	if (!story->has_draft)
		lab_draft(&lab, &story->random, &story->draft);
	story->has_draft = false;
	lab_commit_draft(&lab, &story->random, &story->draft);
}

/* A run under way, which perhaps commits later; or one that died. */
static void step_draft(struct story *story)
{
	if (story->has_draft)
		lab_draft_fini(&story->draft);
	lab_draft(&lab, &story->random, &story->draft);
	story->has_draft = true;
}

static void step_reader(struct story *story)
{
	uint64_t number = 1 + random_below(&story->random, lab.newest);

	if (!lab.points[number].visible)
		return;
	reader_end(story);
	lab_sources_init(&lab, &story->reader_sources);
	lab_open(&lab, number, random_one_in(&story->random, 2), &story->reader_map);
	story->has_reader = true;
	story->reader_number = number;
	story->reader_began_ns = story->now_ns;
}

static int prune(struct story *story, uint64_t grace_ns, bool dry_run,
		 struct prune_result *result, struct error *err)
{
	struct prune_options options = {
		.host_map_key = lab.map_key, .signer = lab.signer, .grace_ns = grace_ns,
		.now_ns = story->now_ns, .dry_run = dry_run, .pack_bytes = story->pack_bytes,
	};
	int ret;

	story->prunes++;
	ret = repo_prune(lab.repo, &lab.volume, &options, result, err);
	story->rebased += result->maps;
	story->packs += dry_run ? 0 : result->packs;
	return ret;
}

/* What a look says is what a prune then does. */
static void step_prune(struct story *story)
{
	struct prune_result look, result;
	struct error err = ERROR_INIT;
	uint64_t grace_ns = story->has_reader || random_one_in(&story->random, 2) ? GRACE_NS : 0;
	uint64_t changes = lab.store.changes;

	if (prune(story, grace_ns, true, &look, &err))
		fail_msg("%s", err.message);
	assert_int_equal(changes, lab.store.changes);
	if (prune(story, grace_ns, false, &result, &err))
		fail_msg("%s", err.message);
	assert_int_equal(look.points, result.points);
	assert_int_equal(look.serving, result.serving);
	assert_int_equal(look.maps, result.maps);
	assert_int_equal(look.packs, result.packs);
	assert_int_equal(look.repacked_bytes, result.repacked_bytes);
	assert_int_equal(look.before_bytes, result.before_bytes);
	assert_in_range(look.after_bytes, look.live_bytes, look.before_bytes +
			look.repacked_bytes + 100000);
	/* A stub that is put in the first sweep may go in the second. */
	assert_in_range(result.deleted_objects + result.waiting_objects,
			look.deleted_objects + look.waiting_objects,
			look.deleted_objects + look.waiting_objects + lab.newest);
	assert_int_equal(look.wait_ns, result.wait_ns);
}

/* Killed at some request; it did or did not come to that. */
static void step_killed(struct story *story)
{
	struct error err = ERROR_INIT;
	struct prune_result result;
	int ret;

	lab.store.kill_at = lab.store.changes + 1 + random_below(&story->random, 12);
	lab.store.kill_after = random_one_in(&story->random, 2);
	ret = prune(story, story->has_reader ? GRACE_NS : 0, false, &result, &err);
	assert_true(!ret || ret == -EIO);
	story->kills += ret != 0;
	lab.store.kill_at = 0;
}

static void step(struct story *story)
{
	struct error err = ERROR_INIT;
	uint64_t what = random_below(&story->random, 20);

	if (!lab.newest || (what < 8 && lab.newest < LAB_POINTS_MAX - 1))
		step_commit(story);
	else if (what < 10 && lab.newest < LAB_POINTS_MAX - 1)
		step_draft(story);
	else if (what < 11)
		step_reader(story);
	else if (what < 14 && (story->forgotten++, lab_forget(&lab, &story->random, &err)))
		fail_msg("%s", err.message);
	else if (what == 14 && lab_pin(&lab, &story->random, &err))
		fail_msg("%s", err.message);
	else if (what == 15 || what == 16)
		step_prune(story);
	else if (what == 17 || what == 18)
		step_killed(story);
	else if (what == 19)
		story->now_ns += random_below(&story->random, 2 * GRACE_NS);
}

/* The same prune twice: the second finds nothing to do. */
static void finish(struct story *story)
{
	struct error err = ERROR_INIT;
	struct prune_result result;

	/* Left-overs of a dead run go with the point that takes its number. */
	step_commit(story);
	remember_map(lab.newest);
	reader_end(story);
	story->now_ns += 3 * GRACE_NS;
	if (prune(story, 0, false, &result, &err))
		fail_msg("%s", err.message);
	assert_int_equal(0, result.waiting_objects);
	lab_check(&lab, &story->random);
	check_left(story);
	if (prune(story, 0, false, &result, &err))
		fail_msg("%s", err.message);
	assert_int_equal(0, result.deleted_objects + result.maps + result.points + result.packs);
}

static void histories(void **state)
{
	struct story story = { .random = random_start("histories") };
	const char *full = getenv("CLAWBACK_FULL");
	unsigned rounds = full && *full == '1' ? 5000 : 60;
	uint64_t points = 0, steps = 0;

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		uint64_t length = 10 + random_below(&story.random, 50);

		story_begin(&story);
		for (uint64_t i = 0; i < length; i++, steps++) {
			uint64_t before = lab.newest;

			step(&story);
			if (lab.newest > before)
				remember_map(lab.newest);
			check_reader(&story);
			check_numbers();
			if (i % 8 == 0)
				lab_check(&lab, &story.random);
		}
		finish(&story);
		points += lab.newest;
		for (uint64_t n = 1; n <= lab.newest; n++)
			map_fini(&own_maps[n]);
		story_end(&story);
	}
	printf("%u histories of %llu steps: %llu points, %llu times forgotten, %llu prunes, "
	       "%llu of them killed, %llu maps rebased, %llu packs; %.1f %% more than needed\n", rounds, (unsigned long long)steps,
	       (unsigned long long)points, (unsigned long long)story.forgotten,
	       (unsigned long long)story.prunes, (unsigned long long)story.kills,
	       (unsigned long long)story.rebased, (unsigned long long)story.packs,
	       100.0 * (double)(story.there - story.needed) / (double)story.needed);
	/* They are made in many of the histories. */
	assert_true(story.packs > rounds / 2);
	assert_true(story.kills > rounds / 2 && story.rebased > rounds);
}

/* ---- two at once --------------------------------------------------------------- */

static struct story racing;
static struct prune_result other;
static bool other_done;

static bool is_record(const char *key)
{
	uint64_t sequence;

	return retention_key_sequence(key, &sequence);
}

static void other_prunes(const char *key)
{
	struct error err = ERROR_INIT;

	if (!is_record(key) || other_done)
		return;
	other_done = true;
	if (prune(&racing, 0, false, &other, &err))
		fail_msg("%s", err.message);
}

static void dies_at_record(const char *key)
{
	if (is_record(key))
		lab.store.kill_at = lab.store.changes + 1;
}

/* The other one dies before it commits; it has swept before that. */
static void other_dies(const char *key)
{
	struct error err = ERROR_INIT;

	if (!is_record(key) || other_done)
		return;
	other_done = true;
	lab.store.before_put = dies_at_record;
	assert_int_equal(-EIO, prune(&racing, 0, false, &other, &err));
	lab.store.before_put = NULL;
	lab.store.kill_at = 0;
}

static void other_forgets(const char *key)
{
	struct error err = ERROR_INIT;

	if (!is_record(key) || other_done)
		return;
	other_done = true;
	if (lab_forget(&lab, &racing.random, &err))
		fail_msg("%s", err.message);
}

/* A run that was under way commits between a prune's look at the points and its record. */
static void other_commits(const char *key)
{
	if (!is_record(key) || other_done)
		return;
	other_done = true;
	step_commit(&racing);
	remember_map(lab.newest);
}

static int race(struct story *story, void (*other_does)(const char *))
{
	struct error err = ERROR_INIT;
	struct prune_result result;
	int ret;

	other_done = false;
	lab.store.before_put = other_does;
	ret = prune(story, 0, false, &result, &err);
	lab.store.before_put = NULL;
	assert_true(!ret || (ret == -EEXIST && err.exit == EXIT_LOCKED));
	lab_check(&lab, &story->random);
	return ret;
}

static void two_at_once(void **state)
{
	static void (*const others[])(const char *) = {
		other_prunes, other_dies, other_forgets, other_commits,
	};
	static const int results[] = { -EEXIST, 0, -EEXIST, 0 };

	(void)state;
	racing = (struct story){ .random = random_start("two_at_once") };
	for (unsigned round = 0; round < 40; round++) {
		story_begin(&racing);
		for (unsigned i = 0; i < 30; i++) {
			struct error err = ERROR_INIT;

			step_commit(&racing);
			remember_map(lab.newest);
			if (i % 6)
				continue;
			if (i && lab_forget(&lab, &racing.random, &err))
				fail_msg("%s", err.message);
			if (random_one_in(&racing.random, 2))
				step_draft(&racing);
			if (race(&racing, others[round % 4]) != results[round % 4])
				assert_false(other_done);
		}
		finish(&racing);
		for (uint64_t n = 1; n <= lab.newest; n++)
			map_fini(&own_maps[n]);
		story_end(&racing);
	}
}

/* ---- many points go at once -------------------------------------------------------- */

/* Killed anywhere among deletions that go on side by side, no number is free behind a
 * point that is there. */
static void many_go(void **state)
{
	struct story story = { .random = random_start("many_go") };
	unsigned kills = 0;

	(void)state;
	for (uint64_t kill = 1; kill < 140; kill += 6) {
		struct extent_list numbers = EXTENT_LIST_INIT;
		struct error err = ERROR_INIT;
		struct prune_result result;
		struct retention retention;

		story_begin(&story);
		while (lab.newest < 100)
			step_commit(&story);
		assert_int_equal(0, extent_list_append(&numbers, 1, 49));
		assert_int_equal(0, extent_list_append(&numbers, 51, 49));
		assert_int_equal(0, retention_load(lab.repo, &lab.volume, &retention, &err));
		assert_int_equal(0, repo_forget(lab.repo, &lab.volume, &retention, &numbers, 100,
						lab.signer, &err));
		for (size_t n = 1; n < 100; n++)
			lab.points[n].visible = n == 50;
		retention_fini(&retention);
		extent_list_fini(&numbers);
		lab.store.kill_at = lab.store.changes + kill;
		kills += prune(&story, 0, false, &result, &err) != 0;
		lab.store.kill_at = 0;
		check_numbers();
		assert_int_equal(0, prune(&story, 0, false, &result, &err));
		check_numbers();
		lab_check(&lab, &story.random);
		assert_in_range(count_objects("points"), 2, 30);
		story_end(&story);
	}
	assert_true(kills > 15);
}

/* ---- a host that was set back ---------------------------------------------------- */

/* Its next number is taken, whether its point is still there or not. */
static void set_back(void **state)
{
	struct story story = { .random = random_start("set_back") };
	struct extent_list numbers = EXTENT_LIST_INIT;
	struct error err = ERROR_INIT;
	struct retention retention;
	struct prune_result result;
	struct lab_draft draft;
	char key[STORE_KEY_MAX];

	(void)state;
	story_begin(&story);
	while (lab.newest < 9)
		step_commit(&story);
	assert_int_equal(0, point_number_check(lab.repo, &lab.volume, 9, &err));
	assert_int_equal(0, extent_list_append(&numbers, 3, 6));
	assert_int_equal(0, retention_load(lab.repo, &lab.volume, &retention, &err));
	assert_int_equal(0, repo_forget(lab.repo, &lab.volume, &retention, &numbers, 9,
					lab.signer, &err));
	retention_fini(&retention);
	extent_list_fini(&numbers);
	assert_int_equal(0, prune(&story, 0, false, &result, &err));
	lab_draft(&lab, &story.random, &draft);
	for (uint64_t number = 2; number <= 9; number++) {
		draft.number = draft.point.number = draft.point.base = number;
		assert_int_equal(-EEXIST, point_number_check(lab.repo, &lab.volume, number, &err));
		assert_int_equal(EXIT_LOCKED, err.exit);
		if (number > 3 && number < 9)
			continue;
		assert_int_equal(-EEXIST, lab_try_commit(&lab, &draft, &err));
		assert_int_equal(EXIT_LOCKED, err.exit);
		/* Point 3 may serve where it is. */
		point_key(&lab.volume, number, key);
		assert_non_null(strstr(err.message, object_bytes(key) == POINT_STUB_BYTES ?
				       "was pruned" : "exists already"));
	}
	lab_draft_fini(&draft);
	assert_int_equal(0, point_number_check(lab.repo, &lab.volume, 10, &err));
	story_end(&story);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(histories), cmocka_unit_test(two_at_once),
		cmocka_unit_test(many_go), cmocka_unit_test(set_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
