/*
 * Random histories of points, forgotten points, pins, runs and prunes that were killed
 * at any request, and prunes, against a model: what is visible, what every visible
 * point holds, and which objects are left when all is pruned.
 */
#include "agent/repo/pack_format.h"
#include "tests/unit/retention_lab.h"

#include <time.h>

#define GRACE_NS UINT64_C(3600000000000)

static struct retention_lab lab;

struct story {
	struct random_state random;
	uint64_t now_ns, pack_bytes;
	bool has_draft;			/* a run that has not committed yet */
	struct lab_draft draft;
	bool has_reader;		/* a restore that began then, with this map */
	uint64_t reader_number, reader_began_ns;
	struct map reader_map;
	struct lab_sources reader_sources;
	uint64_t packs, there, needed;
	uint64_t kills, prunes, rebased, forgotten;
};

static void story_begin(struct story *story)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	lab_init(&lab);
	/* Records of repo_forget bear the clock's time; hours do not matter here. */
	story->now_ns = (uint64_t)now.tv_sec * 1000000000u + GRACE_NS;
	story->has_draft = story->has_reader = false;
	/* Mostly all is in one; else there are many. */
	story->pack_bytes = random_one_in(&story->random, 3) ?
			    64000 + random_below(&story->random, 128000) : 0;
}

static void reader_end(struct story *story)
{
	if (story->has_reader) {
		map_fini(&story->reader_map);
		lab_sources_fini(&story->reader_sources);
	}
	story->has_reader = false;
}

static void story_end(struct story *story)
{
	reader_end(story);
	if (story->has_draft)
		lab_draft_fini(&story->draft);
	lab_fini(&lab);
}

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

/* ---- what holds after every step ----------------------------------------------- */

/* Who began less than the grace period ago can still read all that he found. */
static void check_reader(struct story *story)
{
	if (!story->has_reader)
		return;
	if (story->now_ns - story->reader_began_ns >= GRACE_NS) {
		reader_end(story);
		return;
	}
	lab_check_map(&lab, &story->reader_map, story->reader_number, &story->reader_sources);
}

/* A host that was set back to an earlier point does not get the next number. */
static void check_numbers(void)
{
	for (uint64_t n = 1; n < lab.newest; n++) {
		char key[STORE_KEY_MAX];
		bool found;
		size_t at;

		point_key(&lab.volume, n, key);
		at = crash_find(&lab.store, key, &found);
		if (!found || lab.store.objects[at].length == POINT_STUB_BYTES)
			continue;
		point_key(&lab.volume, n + 1, key);
		if (!crash_has(&lab.store, key))
			fail_msg("point %d is there and number %d is free", (int)n, (int)n + 1);
	}
}

/* ---- when all is pruned -------------------------------------------------------- */

static size_t count_objects(const char *folder)
{
	char id[UUID_TEXT_SIZE], prefix[64];
	size_t count = 0;

	uuid_format(&lab.volume, id);
	snprintf(prefix, sizeof(prefix), "%s/%s/", id, folder);
	for (size_t i = 0; i < lab.store.count; i++)
		count += !strncmp(lab.store.objects[i].key, prefix, strlen(prefix));
	return count;
}

/* Own maps as they were committed, remembered by the story: pruned ones are gone. */
static struct map own_maps[LAB_POINTS_MAX + 1];

static void remember_map(uint64_t number)
{
	struct key_ring ring = { .host_map_key = lab.map_key };
	struct error err = ERROR_INIT;

	if (point_own_map(lab.repo, &lab.points[number].point, &ring, &own_maps[number], &err))
		fail_msg("%s", err.message);
}

/* Whether a visible image has a token that lies in this frame, by the model. */
static bool frame_wanted(uint64_t number, uint32_t frame, const struct map *own)
{
	for (size_t e = 0; e < own->entry_count; e++) {
		const struct map_entry *entry = &own->entries[e];

		if (entry->frame != frame)
			continue;
		for (uint64_t n = number; n <= lab.newest; n++)
			for (uint64_t b = entry->block; b < entry->block + entry->count; b++)
				if (lab.points[n].visible &&
				    lab.points[n].tokens[b] == lab.points[number].tokens[b])
					return true;
	}
	return false;
}

/* What the model says of a point's frames that are needed. */
struct wanted {
	uint64_t bytes;
	bool segments[4];
};

static void wanted_frames(uint64_t number, struct wanted *wanted)
{
	const struct map *own = &own_maps[number];

	memset(wanted, 0, sizeof(*wanted));
	for (uint32_t f = 0; f < own->frame_count; f++)
		if (own->frames[f].point == number && frame_wanted(number, f, own)) {
			wanted->bytes += own->frames[f].length;
			wanted->segments[own->frames[f].segment] = true;
		}
}

static uint64_t object_bytes(const char *key)
{
	bool found;
	size_t at = crash_find(&lab.store, key, &found);

	return found ? lab.store.objects[at].length : 0;
}

/* Segments that are there have a frame that is needed. */
static uint64_t check_segments(uint64_t n, const struct wanted *wanted)
{
	const struct lab_point *point = &lab.points[n];
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX + 16];
	uint64_t bytes = 0;

	point_segment_prefix(&point->point, prefix);
	for (uint32_t s = 0; s < point->segments; s++) {
		sprintf(key, "%s%06u", prefix, s);
		bytes += object_bytes(key);
		if (crash_has(&lab.store, key) && !wanted->segments[s])
			fail_msg("segment %d of point %d is left", (int)s, (int)n);
		if (!crash_has(&lab.store, key) && point->visible)
			fail_msg("segment %d of point %d is gone", (int)s, (int)n);
	}
	return bytes;
}

static uint64_t packs_bytes(const struct retention *retention)
{
	uint64_t bytes = 0;
	char key[STORE_KEY_MAX];

	assert_int_equal(retention->pack_count, count_objects("packs"));
	for (size_t i = 0; i < retention->pack_count; i++) {
		pack_key(&lab.volume, &retention->packs[i], key);
		assert_int_equal(retention->packs[i].bytes, object_bytes(key));
		bytes += retention->packs[i].bytes;
	}
	return bytes;
}

/* Frames, and the heads of pruned points whose frames are needed, as far as they are in
 * packs; and what is there of such things. */
static void check_space(const struct retention *retention, uint64_t *there, uint64_t *needed)
{
	*there = packs_bytes(retention);
	*needed = 0;
	for (uint64_t n = 1; n <= lab.newest; n++) {
		const struct lab_point *point = &lab.points[n];
		struct wanted wanted;
		char key[STORE_KEY_MAX];

		wanted_frames(n, &wanted);
		*there += check_segments(n, &wanted);
		point_key(&lab.volume, n, key);
		if (point->visible) {
			for (size_t s = 0; s < point->point.segment_count; s++)
				*needed += point->point.segments[s].bytes;
			if (point->point.frames_inline)
				*there += point->point.segments[0].bytes;
			continue;
		}
		*needed += wanted.bytes;
		if (object_bytes(key) > POINT_STUB_BYTES)
			*there += object_bytes(key) - point->point.head_bytes;
		else if (wanted.bytes)
			*needed += point->point.head_bytes;
	}
}

/* A reading over several frames of a segment that was moved, and over what lay between. */
static void check_moved_segment(struct places *places, uint64_t n, uint32_t segment)
{
	static uint8_t buffer[256 << 10];
	const struct map *own = &own_maps[n];
	uint64_t first = UINT64_MAX, end = 0, token;
	struct error err = ERROR_INIT;

	for (int look = 0; look < 2; look++) {
		for (size_t e = 0; e < own->entry_count; e++) {
			const struct map_entry *entry = &own->entries[e];
			const struct map_frame *frame = &own->frames[entry->frame];

			if (entry->frame == MAP_FRAME_HOLE || frame->point != n ||
			    frame->segment != segment || !frame_wanted(n, entry->frame, own))
				continue;
			if (!look) {
				first = frame->offset < first ? frame->offset : first;
				end = frame->offset + frame->length > end ?
				      frame->offset + frame->length : end;
				continue;
			}
			for (uint64_t b = 0; b < entry->count; b++) {
				memcpy(&token, buffer + (frame->offset - first) +
				       LAB_TOKEN_BYTES * (entry->position + b), 8);
				assert_int_equal(lab.points[n].tokens[entry->block + b], token);
			}
		}
		memset(buffer, 0xee, sizeof(buffer));
		if (!look && end && places_read(places, &lab.points[n].point, segment, first, buffer,
						end - first, &err))
			fail_msg("%s", err.message);
	}
}

static void check_moved(const struct retention *retention)
{
	struct error err = ERROR_INIT;
	struct places *places;

	assert_int_equal(0, places_open(lab.repo, &lab.volume, &places, &err));
	for (uint64_t n = 1; n <= lab.newest; n++)
		for (uint32_t s = 0; s < lab.points[n].point.segment_count; s++)
			if (!retention_needs_segment(retention, n, s))
				check_moved_segment(places, n, s);
	places_close(places);
}

/* How many visible points have not all that a restore would read. */
static size_t incomplete(void)
{
	struct key_ring ring = { .host_map_key = lab.map_key };
	size_t count = 0;

	for (uint64_t n = 1; n <= lab.newest; n++) {
		struct error err = ERROR_INIT;
		int ret = lab.points[n].visible ?
			  point_complete(lab.repo, &lab.points[n].point, &ring, &err) : 0;

		assert_true(!ret || ret == -EBADMSG);
		count += ret != 0;
	}
	return count;
}

/* All of it is there; a pack that is not is missed. */
static void check_complete(const struct retention *retention)
{
	char key[STORE_KEY_MAX];
	struct crash_object pack;
	bool found;
	size_t at;

	assert_int_equal(0, incomplete());
	if (!retention->pack_count)
		return;
	pack_key(&lab.volume, &retention->packs[0], key);
	at = crash_find(&lab.store, key, &found);
	pack = lab.store.objects[at];
	pack.data = malloc(pack.length);
	memcpy(pack.data, lab.store.objects[at].data, pack.length);
	crash_drop(&lab.store, at);
	assert_true(incomplete() > 0);
	crash_set(&lab.store, key, pack.data, pack.length);
	free(pack.data);
}

/* Exactly what is needed, and stubs: no more of them than there are points. */
static void check_left(struct story *story)
{
	uint64_t there, needed;
	size_t stay = 0, maps;
	struct error err = ERROR_INIT;
	struct retention retention;

	if (retention_load(lab.repo, &lab.volume, &retention, &err))
		fail_msg("%s", err.message);
	maps = retention.map_count;
	for (uint64_t n = 1; n <= lab.newest; n++) {
		const struct lab_point *point = &lab.points[n];
		bool serves = retention_serving_find(&retention, n);
		char key[STORE_KEY_MAX];

		point_key(&lab.volume, n, key);
		stay += serves || point->visible;
		assert_true(object_bytes(key) > POINT_STUB_BYTES ||
			    !(serves || point->visible));
		maps += point->visible && point->map_object && !retention_map_find(&retention, n);
	}
	assert_in_range(count_objects("points"), stay, 2 * stay);
	assert_int_equal(maps, count_objects("maps"));
	assert_true(count_objects("retention") <= 1);
	check_space(&retention, &there, &needed);
	if (5 * there > 6 * needed)
		fail_msg("%d bytes are there, %d are needed", (int)there, (int)needed);
	check_complete(&retention);
	check_moved(&retention);
	story->there += there;
	story->needed += needed;
	retention_fini(&retention);
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
	unsigned rounds = full && *full == '1' ? 5000 : 150;
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
	assert_true(story.packs > rounds);
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
