/*
 * A story of prunes over a retention_lab, and what must hold of it: after every step, and
 * when all is pruned: which objects are left, whether they are needed, and how much space
 * they take beside what is.
 */
#ifndef CLAWBACK_TESTS_PRUNE_LAB_H
#define CLAWBACK_TESTS_PRUNE_LAB_H

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

#endif
