/*
 * Two stores, a retention_lab each, and passes from one to the other that are killed at any
 * request or find damaged objects: the story's state and its steps.
 */
#ifndef CLAWBACK_TESTS_REPLICATE_LAB_H
#define CLAWBACK_TESTS_REPLICATE_LAB_H

#include "agent/repo/repo_private.h"
#include "tests/unit/retention_lab.h"

#include <time.h>

#define GRACE_NS UINT64_C(3600000000000)

static struct retention_lab lab, replica;
static struct replica_place place;
static bool careless, stuck;	/* a prune did not mind the replica; which cannot go on */

static const struct repo_volume *volume_of(void)
{
	static struct repo_volume volume = { .name = "data" };

	volume.id = lab.volume;
	return &volume;
}

struct story {
	struct random_state random;
	uint64_t now_ns;
	bool at_once;			/* prune without a grace period */
	uint64_t passes, kills, damaged, copied, prunes, held, filled_later, rejoined, stuck;
};

/* ---- the replica ----------------------------------------------------------- */

static void replica_begin(void)
{
	struct error err = ERROR_INIT;

	memset(&replica, 0, sizeof(replica));
	memset(&place, 0, sizeof(place));
	crash_store_init(&replica.store);
	replica.signer = lab.signer;
	replica.recovery = lab.recovery;
	memcpy(replica.map_key, lab.map_key, sizeof(lab.map_key));
	replica.volume = lab.volume;
	if (replica_open(lab.repo, &replica.store.base, true, &replica.repo, &err))
		fail_msg("%s", err.message);
}

static void replica_end(void)
{
	repo_close(replica.repo);
	crash_store_fini(&replica.store);
}

/* Points that came: as the source had them; hidden if the record says so that came
 * with them. */
static void replica_take(void)
{
	struct error err = ERROR_INIT;
	struct retention record;

	if (retention_load(replica.repo, &replica.volume, &record, &err))
		fail_msg("%s", err.message);
	for (uint64_t n = replica.newest + 1; n <= lab.newest; n++) {
		char key[STORE_KEY_MAX];
		bool found;
		size_t at;

		point_key(&lab.volume, n, key);
		at = crash_find(&replica.store, key, &found);
		replica.points[n] = lab.points[n];
		replica.points[n].visible = found && !retention_hides(&record, n) &&
			replica.store.objects[at].length != POINT_STUB_BYTES;
		replica.points[n].pinned = extent_list_contains(&record.pinned, n);
		if (found && replica.store.objects[at].length != POINT_STUB_BYTES)
			replica.newest = n;
	}
	retention_fini(&record);
}

/* What the point needs is there before its object is. */
static void on_put(const char *key)
{
	uint64_t number;
	struct error err = ERROR_INIT;
	struct retention record;
	char prefix[STORE_KEY_MAX], segment[STORE_KEY_MAX + 16];

	if (!point_key_number(key, &number))
		return;
	if (retention_load(replica.repo, &replica.volume, &record, &err))
		return;		/* killed */
	point_segment_prefix(&lab.points[number].point, prefix);
	for (uint32_t s = 0; s < lab.points[number].segments; s++) {
		sprintf(segment, "%s%06u", prefix, s);
		if (retention_needs_segment(&record, number, s))
			assert_true(crash_has(&replica.store, segment));
	}
	if (!extent_list_contains(&record.pruned, number)) {
		struct point as;
		uint64_t offset;

		retention_apply(&record, &lab.points[number].point, &as, segment, &offset);
		assert_true(as.map_inline || crash_has(&replica.store, segment));
	}
	retention_fini(&record);
}

static int pass(struct story *story, bool hint, struct replicate_result *result,
		struct error *err)
{
	struct replicate_options options = {
		.newest = hint ? lab.newest : 0, .signer = lab.signer, .piece_bytes = 16 + random_below(&story->random, 200),
	};
	uint64_t before = lab.newest ? place.through : 0;
	int ret;

	*err = (struct error)ERROR_INIT;
	story->passes++;
	replica.store.before_put = on_put;
	ret = repo_replicate(lab.repo, replica.repo, volume_of(), &place, &options, result, err);
	replica.store.before_put = NULL;
	story->copied += result->points;
	story->rejoined += !ret && careless && place.through > before;
	stuck |= ret == -ESTALE;
	if (!ret)
		careless = false;
	return ret;
}

static bool has_all(void)
{
	return place.filled && place.through == lab.newest;
}

/* ---- steps ------------------------------------------------------------------- */

static void step_commit(struct story *story)
{
	struct lab_draft draft;

	lab_draft(&lab, &story->random, &draft);
	lab_commit_draft(&lab, &story->random, &draft);
}

static void step_pass(struct story *story)
{
	struct replicate_result result;
	struct error err;

	if (random_one_in(&story->random, 6))
		memset(&place, 0, sizeof(place));	/* the state was lost */
	if (pass(story, random_one_in(&story->random, 2), &result, &err)) {
		if (!careless || !stuck)
			fail_msg("%s", err.message);
		replica_take();
		return;
	}
	replica_take();
	assert_true(has_all());
	assert_int_equal(replica.newest, lab.newest);
}

/* Either store may go away at any request. */
static void step_killed(struct story *story)
{
	struct crash_store *victim = random_one_in(&story->random, 8) ? &lab.store
								      : &replica.store;
	struct replicate_result result;
	struct error err;
	int ret;

	victim->kill_at = victim->changes + 1 + random_below(&story->random, 9);
	victim->kill_after = random_one_in(&story->random, 2);
	ret = pass(story, random_one_in(&story->random, 2), &result, &err);
	assert_true(!ret || ret == -EIO || (careless && stuck));
	story->kills += ret != 0;
	story->filled_later += ret && !place.filled;
	victim->kill_at = 0;
	replica_take();
}

static bool is_data(const char *key)
{
	return strstr(key, "/points/") || strstr(key, "/segments/") || strstr(key, "-r");
}

/* A byte of one object of the source is wrong: nothing with it comes over. */
static void step_damaged(struct story *story)
{
	size_t at = random_below(&story->random, lab.store.count);
	struct crash_object *object = &lab.store.objects[at];
	struct replicate_result result;
	struct error err;
	size_t byte, there;
	bool had, found;
	int ret;

	if (!is_data(object->key) || object->length <= POINT_STUB_BYTES)
		return;
	had = crash_has(&replica.store, object->key);
	byte = random_below(&story->random, object->length);
	object->data[byte] ^= 0x40;
	ret = pass(story, random_one_in(&story->random, 2), &result, &err);
	there = crash_find(&replica.store, object->key, &found);
	if (!had && found && replica.store.objects[there].length == object->length)
		assert_memory_not_equal(object->data, replica.store.objects[there].data,
					object->length);
	object->data[byte] ^= 0x40;
	if (ret && err.exit != EXIT_UNTRUSTWORTHY && ret != -EPROTONOSUPPORT &&
	    !(careless && stuck))
		fail_msg("%d: %s", ret, err.message);
	story->damaged += ret != 0;
	replica_take();
}

static void prune(struct story *story, struct retention_lab *of, uint64_t hold_from)
{
	struct prune_options options = {
		.host_map_key = of->map_key, .signer = of->signer, .now_ns = story->now_ns,
		.grace_ns = !story->at_once && random_one_in(&story->random, 3) ? GRACE_NS : 0,
		.hold_from = hold_from,
	};
	struct prune_result result;
	struct error err = ERROR_INIT;
	int ret = repo_prune(of->repo, &of->volume, &options, &result, &err);

	story->prunes++;
	story->held += result.held;
	/* One that is not whole yet is left alone. */
	if (ret && !(of == &replica && !has_all() && strstr(err.message, "has not filled")))
		fail_msg("%s", err.message);
}

static void step_prune(struct story *story)
{
	if (random_one_in(&story->random, 2) && replica.newest)
		prune(story, &replica, 0);
	else if (!random_one_in(&story->random, 6))
		prune(story, &lab, place.filled ? place.through : 1);
	else {
		careless |= replica.newest != lab.newest;
		prune(story, &lab, 0);
	}
}

static void step_forget(struct story *story)
{
	bool there = random_one_in(&story->random, 2) && replica.newest > 1;
	struct error err = ERROR_INIT;

	if (lab_forget(there ? &replica : &lab, &story->random, &err))
		fail_msg("%s", err.message);
}

static void step_pin(struct story *story)
{
	bool there = random_one_in(&story->random, 2) && replica.newest;
	struct error err = ERROR_INIT;

	if (lab_pin(there ? &replica : &lab, &story->random, &err))
		fail_msg("%s", err.message);
}

static void step(struct story *story)
{
	uint64_t what = random_below(&story->random, 20);

	if (!lab.newest || (what < 7 && lab.newest < LAB_POINTS_MAX - 1))
		step_commit(story);
	else if (what < 9)
		step_pass(story);
	else if (what < 12)
		step_killed(story);
	else if (what < 13)
		step_damaged(story);
	else if (what < 16)
		step_forget(story);
	else if (what < 17)
		step_pin(story);
	else if (what < 19)
		step_prune(story);
	else
		story->now_ns += random_below(&story->random, 2 * GRACE_NS);
}

#endif
