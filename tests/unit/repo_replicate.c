/*
 * Random histories of two stores: points, forgotten points, pins and prunes in both, and
 * passes between them that are killed at any request or find damaged objects. After every
 * step each point that shows in the replica opens, and holds what it held when it was
 * committed; a pass that is let through always leads on, so prune deleted nothing that
 * was still to be copied. Now and then a prune is told not to mind the replica: then a pass
 * goes on behind what was pruned, or cannot, because the replica pruned what that stands on.
 */
#include "tests/unit/replicate_lab.h"

/* ---- histories ------------------------------------------------------------------ */

/* Segments have tokens in them here, and no header. */
static void say_problem(void *context, const char *text)
{
	uint64_t *problems = context;

	if (strstr(text, "it is no segment"))
		return;
	print_error("%s\n", text);
	++*problems;
}

/* Nothing that is not whole shows as damage, and nothing is left to be copied. */
static void finish(struct story *story)
{
	uint64_t problems = 0;
	struct verify_options options = { .ring = { .host_map_key = lab.map_key },
					  .problem = say_problem, .context = &problems };
	struct verify_result result;
	struct error err = ERROR_INIT;

	if (!stuck)
		step_pass(story);
	lab_check(&replica, &story->random);
	lab_check(&lab, &story->random);
	story->stuck += stuck;
	if (stuck)
		return;		/* what it has stays good */
	story->now_ns += 3 * GRACE_NS;
	prune(story, &replica, 0);
	prune(story, &lab, place.through);
	lab_check(&replica, &story->random);
	lab_check(&lab, &story->random);
	memset(&result, 0, sizeof(result));
	repo_verify(replica.repo, &replica.volume, 0, &options, &result, &err);
	assert_int_equal(replica.newest, lab.newest);
	assert_true(result.points);
	assert_int_equal(0, problems);
}

static void histories(void **state)
{
	struct story story = { .random = random_start("histories") };
	const char *full = getenv("CLAWBACK_FULL");
	unsigned rounds = full && *full == '1' ? 5000 : 50;
	struct timespec now;

	(void)state;
	clock_gettime(CLOCK_REALTIME, &now);
	for (unsigned round = 0; round < rounds; round++) {
		uint64_t length = 10 + random_below(&story.random, 60);
		/* A store that is added later finds what there is then. */
		uint64_t begins = random_below(&story.random, length);

		story.now_ns = (uint64_t)now.tv_sec * 1000000000u + GRACE_NS;
		lab_init(&lab);
		replica_begin();
		careless = stuck = false;
		for (uint64_t i = 0; i < length && !stuck; i++) {
			struct error err = ERROR_INIT;

			if (i >= begins) {
				step(&story);
			} else {
				step_commit(&story);
				if (random_one_in(&story.random, 3) &&
				    lab_forget(&lab, &story.random, &err))
					fail_msg("%s", err.message);
				if (random_one_in(&story.random, 6))
					prune(&story, &lab, 0);
			}
			if (i % 8 == 0)
				lab_check(&replica, &story.random);
		}
		finish(&story);
		replica_end();
		lab_fini(&lab);
	}
	printf("%u histories: %llu passes, %llu of them killed (%llu before a store was filled), "
	       "%llu stopped by damage, %llu points copied, %llu prunes, %llu times a point held, "
	       "%llu times gone on behind pruned points, %llu times not\n",
	       rounds, (unsigned long long)story.passes, (unsigned long long)story.kills,
	       (unsigned long long)story.filled_later, (unsigned long long)story.damaged,
	       (unsigned long long)story.copied, (unsigned long long)story.prunes,
	       (unsigned long long)story.held, (unsigned long long)story.rejoined,
	       (unsigned long long)story.stuck);
	assert_true(story.kills > rounds / 2 && story.damaged > rounds / 20);
	assert_true(story.held > rounds / 5 && story.filled_later > rounds / 20);
	assert_true(story.rejoined > rounds / 20 && story.stuck < rounds / 5);
}

/* ---- what it costs ----------------------------------------------------------------- */

/* A pass that knows how far it is: the target's head, one read and one write a point, and
 * one of each, and a look for the first, for each object besides. */
static void requests(void **state)
{
	struct story story = { .random = random_start("requests") };
	struct replicate_result result;
	struct error err;

	(void)state;
	lab_init(&lab);
	replica_begin();
	step_commit(&story);
	step_pass(&story);
	while (lab.newest < 40) {
		uint64_t reads = lab.store.gets, looks = replica.store.gets;
		uint64_t writes = replica.store.changes, lists = lab.store.lists + replica.store.lists;
		uint64_t count = 1 + random_below(&story.random, 3), objects = 0, first = 0;
		struct replicate_options options = { .newest = 0 };

		for (uint64_t i = 0; i < count; i++) {
			step_commit(&story);
			objects += lab.points[lab.newest].segments;
			if (!i)
				first = objects;
		}
		reads = lab.store.gets;
		lists = lab.store.lists + replica.store.lists;
		options.newest = lab.newest;
		err = (struct error)ERROR_INIT;
		if (repo_replicate(lab.repo, replica.repo, volume_of(), &place, &options, &result,
				   &err))
			fail_msg("%s", err.message);
		assert_int_equal(count, result.points);
		assert_int_equal(count + objects, result.objects);
		assert_int_equal(count + objects, lab.store.gets - reads);
		assert_int_equal(1 + first, replica.store.gets - looks);
		assert_int_equal(count + objects, replica.store.changes - writes);
		assert_int_equal(lists, lab.store.lists + replica.store.lists);
		replica_take();
	}
	lab_check(&replica, &story.random);
	replica_end();
	lab_fini(&lab);
}

/* ---- what is refused ------------------------------------------------------------------ */

static void another_repository(void **state)
{
	struct repo_facts facts = { .recipient_count = 1, .signer_count = 1 };
	struct error err = ERROR_INIT;
	struct repo *repo = NULL;
	struct crash_store other;

	(void)state;
	lab_init(&lab);
	crash_store_init(&other);
	assert_int_equal(-ENOENT, replica_open(lab.repo, &other.base, false, &repo, &err));
	assert_int_equal(EXIT_NO_REPOSITORY, err.exit);
	assert_int_equal(0, other.count);
	facts.recipients[0] = lab.repo->facts.recipients[0];
	facts.signers[0] = lab.repo->facts.signers[0];
	assert_int_equal(0, repo_init(&other.base, &facts, &err));
	assert_int_equal(-EBADMSG, replica_open(lab.repo, &other.base, true, &repo, &err));
	assert_int_equal(EXIT_UNTRUSTWORTHY, err.exit);
	crash_store_fini(&other);
	lab_fini(&lab);
}

/* Two hosts, or one that was set back, went on from one point: nothing is mixed. */
static void another_history(void **state)
{
	struct story story = { .random = random_start("another_history") };
	static struct retention_lab fork;
	struct replicate_result result;
	struct lab_draft draft;
	struct error err;

	(void)state;
	lab_init(&lab);
	replica_begin();
	for (int i = 0; i < 3; i++)
		step_commit(&story);
	step_pass(&story);
	/* The replica goes on by itself with another point 4. */
	fork = replica;
	lab_draft(&fork, &story.random, &draft);
	replica.store = fork.store;	/* with its segments */
	assert_int_equal(0, lab_try_commit(&fork, &draft, &err));
	lab_draft_fini(&draft);
	step_commit(&story);
	assert_int_equal(-EBADMSG, pass(&story, true, &result, &err));
	assert_non_null(strstr(err.message, "another point 4"));
	step_commit(&story);
	memset(&place, 0, sizeof(place));
	assert_int_equal(-EBADMSG, pass(&story, false, &result, &err));
	assert_non_null(strstr(err.message, "made on another point 4"));
	assert_int_equal(EXIT_UNTRUSTWORTHY, err.exit);
	replica_end();
	lab_fini(&lab);
}

/* Pruned before it was copied, as it was asked for: said, and nothing half done. */
static void pruned_too_early(void **state)
{
	struct story story = { .random = random_start("pruned_too_early"),
			       .at_once = true };
	struct extent_list numbers = EXTENT_LIST_INIT;
	struct replicate_result result;
	struct retention retention;
	struct error err = ERROR_INIT;

	(void)state;
	lab_init(&lab);
	replica_begin();
	for (int i = 0; i < 3; i++)
		step_commit(&story);
	step_pass(&story);
	for (int i = 0; i < 5; i++)
		step_commit(&story);
	assert_int_equal(0, extent_list_append(&numbers, 3, 4));
	assert_int_equal(0, retention_load(lab.repo, &lab.volume, &retention, &err));
	assert_int_equal(0, repo_forget(lab.repo, &lab.volume, &retention, &numbers, 8, lab.signer,
					&err));
	for (uint64_t n = 3; n < 7; n++)
		lab.points[n].visible = false;
	story.now_ns = retention.created_ns + 1;
	retention_fini(&retention);
	extent_list_fini(&numbers);
	prune(&story, &lab, 3);
	assert_int_equal(4, story.held);
	lab_check(&lab, &story.random);
	prune(&story, &lab, 0);
	story.now_ns += 2 * GRACE_NS;
	prune(&story, &lab, 0);
	/* Without the host's key it cannot be put on record. (What still serves is found by
	 * its number as well: listing tells.) */
	memset(&place, 0, sizeof(place));
	assert_int_equal(-ESTALE, repo_replicate(lab.repo, replica.repo, volume_of(), &place,
						 &(struct replicate_options){ .newest = 8 },
						 &result, &err));
	assert_non_null(strstr(err.message, "only the host that writes them"));
	replica_take();
	assert_int_equal(3, replica.newest);
	lab_check(&replica, &story.random);
	careless = true;
	if (pass(&story, true, &result, &err))
		fail_msg("%s", err.message);
	replica_take();
	assert_true(has_all() && replica.points[3].visible && !replica.points[4].visible);
	lab_check(&replica, &story.random);
	finish(&story);
	replica_end();
	lab_fini(&lab);
}

/* Forgets what is from `first` on, `count` of them, and prunes it at once. */
static void give_up(struct story *story, struct retention_lab *of, uint64_t first,
		    uint64_t count)
{
	struct extent_list numbers = EXTENT_LIST_INIT;
	struct error err = ERROR_INIT;
	struct retention retention;

	assert_int_equal(0, extent_list_append(&numbers, first, count));
	assert_int_equal(0, retention_load(of->repo, &of->volume, &retention, &err));
	assert_int_equal(0, repo_forget(of->repo, &of->volume, &retention, &numbers, of->newest,
					of->signer, &err));
	for (uint64_t n = first; n < first + count; n++)
		of->points[n].visible = false;
	story->now_ns = retention.created_ns + 1;
	retention_fini(&retention);
	extent_list_fini(&numbers);
	prune(story, of, 0);
}

/* What follows stands on a point that the replica gave up: said, and nothing changed. */
static void stands_on_nothing(void **state)
{
	struct story story = { .random = random_start("stands_on_nothing"), .at_once = true };
	struct replicate_result result;
	unsigned refused = 0;

	(void)state;
	for (unsigned round = 0; round < 8; round++) {
		const struct retention_map *map;
		struct error err = ERROR_INIT;
		struct retention retention;
		int wanted, ret;

		lab_init(&lab);
		replica_begin();
		careless = stuck = false;
		for (int i = 0; i < 3; i++)
			step_commit(&story);
		step_pass(&story);
		for (int i = 0; i < 5; i++)
			step_commit(&story);
		give_up(&story, &lab, 2, 5);
		give_up(&story, &replica, 1, 1);
		assert_int_equal(0, retention_load(lab.repo, &lab.volume, &retention, &err));
		map = retention_map_find(&retention, 7);
		wanted = map && map->parent == 1 ? -ESTALE : 0;
		retention_fini(&retention);
		memset(&place, 0, sizeof(place));
		ret = pass(&story, false, &result, &err);
		if (ret != wanted)
			fail_msg("%d, not %d: %s", ret, wanted, err.message);
		refused += ret != 0;
		replica_take();
		assert_int_equal(ret ? 3 : 8, replica.newest);
		lab_check(&replica, &story.random);
		replica_end();
		lab_fini(&lab);
	}
	assert_in_range(refused, 1, 7);
}

/* A map that is an object of its own, and a segment larger than a piece. */
static void large_map(void **state)
{
	struct story story = { .random = random_start("large_map") };
	struct replicate_result result;
	struct lab_draft draft;
	struct lab_point *made;
	struct error err = ERROR_INIT;
	struct map map;

	(void)state;
	lab_init(&lab);
	replica_begin();
	made = &lab.points[1];
	memset(&draft, 0, sizeof(draft));
	draft.number = 1;
	lab_describe(&lab, &draft, true);
	draft.point.volume_bytes = UINT64_C(1) << 40;
	map_init(&draft.map, MAP_FULL, draft.point.volume_bytes / BLOCK_BYTES);
	for (uint32_t i = 0; i < 200000; i++) {
		struct map_frame frame = {
			.point = 1, .number = i, .offset = SEGMENT_HEADER_BYTES + 1000000ull * i,
			.length = 1 + (uint32_t)random_below(&story.random, 1000000), .blocks = 1,
		};
		struct map_entry entry = { .block = 1000ull * i + random_below(&story.random, 999),
					   .count = 1, .frame = i };

		assert_int_equal(0, map_append_frame(&draft.map, &frame));
		assert_int_equal(0, map_append_entry(&draft.map, &entry));
	}
	assert_int_equal(0, point_keys_new(&draft.point, lab.map_key, &draft.keys, &err));
	if (lab_try_commit(&lab, &draft, &err))
		fail_msg("%s", err.message);
	assert_false(draft.point.map_inline);
	made->point = draft.point;
	lab.newest = 1;
	if (pass(&story, true, &result, &err))
		fail_msg("%s", err.message);
	assert_int_equal(2, result.objects);
	lab_open(&replica, 1, false, &map);
	assert_int_equal(200000, map.entry_count);
	map_fini(&map);
	draft.point.segments = NULL;
	lab_draft_fini(&draft);
	replica_end();
	lab_fini(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(histories), cmocka_unit_test(requests),
		cmocka_unit_test(another_repository), cmocka_unit_test(another_history),
		cmocka_unit_test(pruned_too_early), cmocka_unit_test(stands_on_nothing),
		cmocka_unit_test(large_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
