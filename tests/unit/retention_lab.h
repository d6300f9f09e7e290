/*
 * A repository in memory with points whose blocks are numbers: what a block holds is
 * a token that was never used before, and a frame's stored bytes are the tokens of its
 * blocks, each with some bytes behind it. So a restore is a look into maps and segments, and quick enough for
 * thousands of histories, with real maps, seals, signatures and records. The model is
 * an array of tokens a point.
 */
#ifndef CLAWBACK_TESTS_RETENTION_LAB_H
#define CLAWBACK_TESTS_RETENTION_LAB_H

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"
#include "tests/fuzz/fixed_keys.h"
#include "tests/unit/crash_store.h"
#include "tests/unit/random.h"

#define LAB_POINTS_MAX 120
#define LAB_BLOCKS_MAX 96
#define LAB_FRAME_BLOCKS 6
#define LAB_TOKEN_BYTES 2048	/* of a frame, for each of its blocks */

struct lab_point {
	uint64_t tokens[LAB_BLOCKS_MAX];	/* 0: a hole */
	uint64_t blocks;
	struct point point;
	bool visible, pinned;
	bool map_object;			/* something lies where its map would be */
	uint32_t segments;			/* objects of their own */
};

struct retention_lab {
	struct crash_store store;
	struct repo *repo;
	struct signing_private *signer;
	struct recovery_private *recovery;
	uint8_t map_key[CRYPTO_KEY_SIZE];
	struct uuid volume;
	struct lab_point points[LAB_POINTS_MAX + 1];
	uint64_t newest;
	uint64_t token;
};

/* A point that is ready to be committed: its segments are stored. */
struct lab_draft {
	uint64_t number;
	struct point point;
	struct point_keys keys;
	struct map map;
	uint8_t *inline_frames;
	size_t inline_length;
};

static inline void lab_init(struct retention_lab *lab)
{
	struct repo_facts facts = { .recipient_count = 1, .signer_count = 1 };
	struct error err = ERROR_INIT;

	memset(lab, 0, sizeof(*lab));
	crash_store_init(&lab->store);
	lab->signer = fixed_signing_key();
	lab->recovery = fixed_recovery_key();
	memset(lab->map_key, 0x3b, sizeof(lab->map_key));
	memset(lab->volume.b, 0xa7, sizeof(lab->volume.b));
	signing_public(lab->signer, &facts.signers[0]);
	recovery_private_public(lab->recovery, &facts.recipients[0]);
	assert_int_equal(0, repo_init(&lab->store.base, &facts, &err));
	assert_int_equal(0, repo_open(&lab->store.base, facts.fingerprint, &lab->repo, &err));
}

static inline void lab_fini(struct retention_lab *lab)
{
	for (uint64_t n = 1; n <= lab->newest; n++)
		point_fini(&lab->points[n].point);
	repo_close(lab->repo);
	signing_free(lab->signer);
	recovery_private_free(lab->recovery);
	crash_store_fini(&lab->store);
}

/* ---- points ---------------------------------------------------------------- */

/* The segments' bytes of a point that is being made. */
struct lab_segments {
	uint8_t data[4][256 << 10];
	uint64_t bytes[4];
	uint32_t frames[4], count;
};

/* One frame of the blocks [block, block + count), and its entry. */
static inline void lab_frame(struct lab_draft *draft, const uint64_t *tokens, uint64_t block,
			     uint64_t count, uint32_t number, struct lab_segments *segments)
{
	uint32_t s = segments->count - 1;
	struct map_frame frame = {
		.point = draft->number, .segment = s, .number = number,
		.offset = segments->bytes[s], .length = (uint32_t)(LAB_TOKEN_BYTES * count),
		.blocks = (uint32_t)count,
	};
	struct map_entry entry = { .block = block, .count = count,
				   .frame = (uint32_t)draft->map.frame_count };

	for (uint64_t i = 0; i < count; i++)
		memcpy(segments->data[s] + segments->bytes[s] + LAB_TOKEN_BYTES * i, &tokens[i],
		       8);
	segments->bytes[s] += LAB_TOKEN_BYTES * count;
	segments->frames[s]++;
	assert_int_equal(0, map_append_frame(&draft->map, &frame));
	assert_int_equal(0, map_append_entry(&draft->map, &entry));
}

/* New tokens for runs of blocks, holes for others; all of it for a full. */
static inline void lab_change(struct retention_lab *lab, struct random_state *random,
			      struct lab_draft *draft, bool full, struct lab_point *made,
			      struct lab_segments *segments)
{
	uint32_t number = 0;
	uint64_t block = 0;

	while (block < made->blocks) {
		uint64_t count = 1 + random_below(random, LAB_FRAME_BLOCKS);
		uint64_t what = random_below(random, full ? 3 : 10);
		struct map_entry hole = { .block = block, .frame = MAP_FRAME_HOLE };

		if (count > made->blocks - block)
			count = made->blocks - block;
		hole.count = count;
		if (what == 0) {
			memset(&made->tokens[block], 0, 8 * count);
			assert_int_equal(0, map_append_entry(&draft->map, &hole));
		} else if (full || what < 3) {
			if (!segments->count || (segments->count < 4 && random_one_in(random, 5)))
				segments->bytes[segments->count++] = SEGMENT_HEADER_BYTES;
			for (uint64_t i = 0; i < count; i++)
				made->tokens[block + i] = ++lab->token;
			lab_frame(draft, &made->tokens[block], block, count, number++, segments);
		}
		block += count;
	}
}

static inline void lab_store_segments(struct retention_lab *lab, struct random_state *random,
				      struct lab_draft *draft,
				      const struct lab_segments *segments)
{
	struct point *point = &draft->point;
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX + 16];

	point->segments = calloc(segments->count + 1, sizeof(*point->segments));
	point->segment_count = segments->count;
	for (uint32_t s = 0; s < segments->count; s++) {
		point->segments[s].bytes = segments->bytes[s];
		point->segments[s].frames = segments->frames[s];
		digest_of(segments->data[s], segments->bytes[s], point->segments[s].sha256);
	}
	if (segments->count == 1 && random_one_in(random, 2)) {
		draft->inline_frames = malloc(segments->bytes[0]);
		draft->inline_length = segments->bytes[0];
		memcpy(draft->inline_frames, segments->data[0], segments->bytes[0]);
		return;
	}
	point_segment_prefix(point, prefix);
	for (uint32_t s = 0; s < segments->count; s++) {
		sprintf(key, "%s%06u", prefix, s);
		crash_set(&lab->store, key, segments->data[s], segments->bytes[s]);
	}
}

static inline void lab_describe(struct retention_lab *lab, struct lab_draft *draft, bool full)
{
	struct point *point = &draft->point;
	const struct point *parent = &lab->points[lab->newest].point;

	point->volume = lab->volume;
	assert_int_equal(0, uuid_new(&point->run));
	strcpy(point->volume_name, "data");
	point->number = point->base = draft->number;
	point->kind = full ? POINT_FULL : POINT_INCREMENTAL;
	point->time_ns = 1000000000u * draft->number;
	point->logical_block_bytes = 512;
	point->parent = parent->number;
	memcpy(point->parent_hash, parent->hash, sizeof(point->parent_hash));
	if (!full) {
		point->base = parent->base;
		point->depth = parent->depth + 1;
	}
}

/* What a run has done when it is about to commit. */
static inline void lab_draft(struct retention_lab *lab, struct random_state *random,
			     struct lab_draft *draft)
{
	struct lab_point *made = &lab->points[lab->newest + 1];
	static struct lab_segments segments;
	bool full = !lab->newest || random_one_in(random, 8);
	struct error err = ERROR_INIT;

	memset(draft, 0, sizeof(*draft));
	memset(&segments, 0, sizeof(segments));
	memset(made, 0, sizeof(*made));
	memcpy(made->tokens, lab->points[lab->newest].tokens, sizeof(made->tokens));
	made->blocks = lab->newest && !random_one_in(random, 6) ?
		       lab->points[lab->newest].blocks :
		       LAB_BLOCKS_MAX / 2 + random_below(random, LAB_BLOCKS_MAX / 2);
	memset(&made->tokens[made->blocks], 0, 8 * (LAB_BLOCKS_MAX - made->blocks));
	draft->number = lab->newest + 1;
	lab_describe(lab, draft, full);
	draft->point.volume_bytes = made->blocks * BLOCK_BYTES;
	map_init(&draft->map, full ? MAP_FULL : MAP_DELTA, made->blocks);
	lab_change(lab, random, draft, full, made, &segments);
	lab_store_segments(lab, random, draft, &segments);
	if (point_keys_new(&draft->point, lab->map_key, &draft->keys, &err))
		fail_msg("%s", err.message);
}

static inline void lab_draft_fini(struct lab_draft *draft)
{
	map_fini(&draft->map);
	free(draft->inline_frames);
	point_fini(&draft->point);
}

/* As protect/commit.c: one that would be too deep, and now and then another, gets the
 * whole volume's map. */
static inline void lab_checkpoint(struct retention_lab *lab, struct lab_draft *draft)
{
	struct key_ring ring = { .host_map_key = lab->map_key };
	struct error err = ERROR_INIT;
	struct map before, merged;

	if (point_full_map(lab->repo, &lab->points[lab->newest].point, &ring, &before, &err))
		fail_msg("%s", err.message);
	assert_int_equal(0, map_overlay(&before, &draft->map, &merged));
	map_fini(&before);
	map_fini(&draft->map);
	draft->map = merged;
	draft->point.base = draft->number;
	draft->point.depth = 0;
}

static inline int lab_try_commit(struct retention_lab *lab, struct lab_draft *draft,
				 struct error *err)
{
	return point_commit(lab->repo, &draft->point, &draft->map, draft->inline_frames,
			    draft->inline_length, &draft->keys, lab->signer, err);
}

static inline void lab_commit_draft(struct retention_lab *lab, struct random_state *random,
				    struct lab_draft *draft)
{
	struct lab_point *made = &lab->points[draft->number];
	struct error err = ERROR_INIT;
	char key[STORE_KEY_MAX];

	if (draft->map.kind == MAP_DELTA &&
	    (draft->point.depth > POINT_DEPTH_MAX || random_one_in(random, 12)))
		lab_checkpoint(lab, draft);
	if (lab_try_commit(lab, draft, &err))
		fail_msg("%s", err.message);
	made->point = draft->point;
	made->visible = true;
	made->segments = draft->point.frames_inline ? 0 : (uint32_t)draft->point.segment_count;
	draft->point.segments = NULL;
	/* Maps here are small, and inline; what a large one would leave is planted. */
	made->map_object = random_one_in(random, 3);
	point_map_key(&made->point, key);
	if (made->map_object)
		crash_set(&lab->store, key, "map", 3);
	lab->newest++;
	lab_draft_fini(draft);
}

/* ---- looking --------------------------------------------------------------- */

/* Points that hold frames, each loaded once a check; where they lie, as it was known
 * when the check began. */
struct lab_sources {
	struct places *places;
	struct point points[LAB_POINTS_MAX + 1];
	bool there[LAB_POINTS_MAX + 1];
};

static inline void lab_sources_init(struct retention_lab *lab, struct lab_sources *sources)
{
	struct error err = ERROR_INIT;

	memset(sources, 0, sizeof(*sources));
	if (places_open(lab->repo, &lab->volume, &sources->places, &err))
		fail_msg("%s", err.message);
}

static inline void lab_sources_fini(struct lab_sources *sources)
{
	places_close(sources->places);
	sources->places = NULL;
	for (uint64_t n = 1; n <= LAB_POINTS_MAX; n++)
		if (sources->there[n])
			point_fini(&sources->points[n]);
	memset(sources->there, 0, sizeof(sources->there));
}

/* What block `block` of a map holds, read from where the map says it lies. */
static inline uint64_t lab_read_block(const struct map *map, uint64_t block,
				      struct lab_sources *sources, struct error *err)
{
	const struct map_frame *frame;
	struct map_entry entry;
	uint64_t token;

	assert_true(map_find(map, block, &entry));
	if (entry.frame == MAP_FRAME_HOLE)
		return 0;
	frame = &map->frames[entry.frame];
	if (!sources->there[frame->point] &&
	    places_point(sources->places, frame->point, &sources->points[frame->point], err))
		return UINT64_MAX;
	sources->there[frame->point] = true;
	return places_read(sources->places, &sources->points[frame->point], frame->segment,
			   frame->offset + LAB_TOKEN_BYTES * entry.position, &token, 8, err) ?
	       UINT64_MAX : token;
}

static inline void lab_check_map(struct retention_lab *lab, const struct map *map,
				 uint64_t number, struct lab_sources *sources)
{
	const struct lab_point *point = &lab->points[number];
	struct error err = ERROR_INIT;

	assert_int_equal(MAP_FULL, map->kind);
	assert_int_equal(point->blocks, map->volume_blocks);
	for (uint64_t block = 0; block < point->blocks; block++) {
		uint64_t token = lab_read_block(map, block, sources, &err);

		if (token != point->tokens[block])
			fail_msg("point %d, block %d: token %d and not %d: %s", (int)number,
				 (int)block, (int)token, (int)point->tokens[block], err.message);
	}
}

/* With the recovery key alone, or with the host's map key alone. */
static inline void lab_open(struct retention_lab *lab, uint64_t number, bool recovery,
			    struct map *map)
{
	struct key_ring ring = { recovery ? lab->recovery : NULL,
				 recovery ? NULL : lab->map_key };
	struct error err = ERROR_INIT;
	char text[24];
	struct point point;

	sprintf(text, "%d", (int)number);
	if (point_find(lab->repo, &lab->volume, text, &point, &err) ||
	    point_full_map(lab->repo, &point, &ring, map, &err))
		fail_msg("point %d: %s", (int)number, err.message);
	point_fini(&point);
}

/* What is visible is what the model says, and no more. */
static inline void lab_check_visible(struct retention_lab *lab)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	struct error err = ERROR_INIT;
	size_t count, at = 0, hidden = 0;

	if (point_numbers(lab->repo, &lab->volume, &numbers, &count, &err))
		fail_msg("%s", err.message);
	for (uint64_t n = 1; n <= lab->newest; n++) {
		struct point point;
		char text[24];

		if (lab->points[n].visible) {
			assert_true(at < count);
			assert_int_equal(n, numbers[at++]);
			continue;
		}
		if (hidden++ % 8)
			continue;
		sprintf(text, "%d", (int)n);
		assert_int_equal(-ENOENT, point_find(lab->repo, &lab->volume, text, &point, &err));
	}
	assert_int_equal(at, count);
}

static inline void lab_check(struct retention_lab *lab, struct random_state *random)
{
	static struct lab_sources sources;

	lab_check_visible(lab);
	lab_sources_init(lab, &sources);
	for (uint64_t n = 1; n <= lab->newest; n++) {
		struct map map;

		if (!lab->points[n].visible)
			continue;
		lab_open(lab, n, random_one_in(random, 6), &map);
		lab_check_map(lab, &map, n, &sources);
		map_fini(&map);
	}
	lab_sources_fini(&sources);
}

/* ---- forgetting ------------------------------------------------------------ */

/* Some of what may be forgotten, or a point pinned or unpinned. Whether it worked. */
static inline int lab_forget(struct retention_lab *lab, struct random_state *random,
			     struct error *err)
{
	struct extent_list numbers = EXTENT_LIST_INIT;
	uint64_t often = 1 + random_below(random, 4);
	struct retention retention;
	int ret;

	for (uint64_t n = 1; n < lab->newest; n++)
		if (lab->points[n].visible && !lab->points[n].pinned &&
		    random_one_in(random, often))
			assert_int_equal(0, extent_list_append(&numbers, n, 1));
	ret = retention_load(lab->repo, &lab->volume, &retention, err);
	if (!ret) {
		ret = repo_forget(lab->repo, &lab->volume, &retention, &numbers, lab->newest,
				  lab->signer, err);
		retention_fini(&retention);
	}
	for (uint64_t n = 1; !ret && n < lab->newest; n++)
		if (extent_list_contains(&numbers, n))
			lab->points[n].visible = false;
	extent_list_fini(&numbers);
	return ret;
}

static inline int lab_pin(struct retention_lab *lab, struct random_state *random,
			  struct error *err)
{
	uint64_t number = 1 + random_below(random, lab->newest);
	bool pinned = random_one_in(random, 2);
	struct retention retention;
	int ret;

	if (!lab->points[number].visible)
		return 0;
	ret = retention_load(lab->repo, &lab->volume, &retention, err);
	if (ret)
		return ret;
	ret = repo_pin(lab->repo, &lab->volume, &retention, number, pinned, lab->newest,
		       lab->signer, err);
	retention_fini(&retention);
	if (!ret)
		lab->points[number].pinned = pinned;
	return ret;
}

#endif
