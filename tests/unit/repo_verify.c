/* repo_verify: what it counts, what it finds, what it leaves alone. */
#include "tests/unit/points_lab.h"

#include <sys/syscall.h>

/*
 * The program's own openat: a disk or a network that does not give an object
 * whose name contains `unreachable`. "": all can be reached.
 */
static char unreachable[64];

int openat(int folder_fd, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, mode_t);
	va_end(args);
	if (*unreachable && !(flags & O_DIRECTORY) && strstr(path, unreachable)) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_openat, folder_fd, path, flags, mode);
}

#define LINES_MAX 64

struct talk {
	char *lines[LINES_MAX];
	size_t count;
	uint64_t done, total;
};

static void line_seen(void *context, const char *text)
{
	struct talk *talk = context;

	assert_true(talk->count < LINES_MAX);
	talk->lines[talk->count++] = strdup(text);
}

static void progress_seen(void *context, uint64_t done, uint64_t total)
{
	struct talk *talk = context;

	assert_true(done >= talk->done);
	assert_true(done <= total);
	talk->done = done;
	talk->total = total;
}

static void talk_clear(struct talk *talk)
{
	while (talk->count)
		free(talk->lines[--talk->count]);
	memset(talk, 0, sizeof(*talk));
}

static unsigned talk_about(const struct talk *talk, const char *text)
{
	unsigned found = 0;

	for (size_t i = 0; i < talk->count; i++)
		found += strstr(talk->lines[i], text) != NULL;
	return found;
}

static int verify(struct points_lab *lab, uint64_t number, bool data,
		  const struct key_ring *ring, struct talk *talk,
		  struct verify_result *result, struct error *err)
{
	struct verify_options options = {
		.data = data, .ring = ring ? *ring : lab_ring(lab),
		.report = progress_seen, .problem = line_seen, .context = talk,
	};

	talk_clear(talk);
	*err = (struct error)ERROR_INIT;
	return repo_verify(lab->repo, &lab->volume, number, &options, result, err);
}

/* Full, incremental, full, incremental, incremental with a full map of its own;
 * every one in segments. */
static struct points_lab *five_points(struct random_state *random)
{
	struct points_lab *lab = points_lab_new();

	lab->options = (struct pipeline_options){
		.inline_bytes = 1, .segment_bytes = 256 << 10,
	};
	for (uint64_t i = 1; i <= 5; i++) {
		lab_image_change(lab, random, i, 2u << 20, i == 1 ? 60 : 12, 16);
		/* Never nothing but zeros: every point has a segment. */
		memset(lab->images[i].data + i * BLOCK_BYTES, (int)i, BLOCK_BYTES);
		lab_commit(lab, random, i == 1 || i == 3 ? POINT_FULL : POINT_INCREMENTAL,
			   i == 5);
	}
	return lab;
}

static void volume_keys(struct points_lab *lab, struct lab_keys *keys)
{
	char prefix[UUID_TEXT_SIZE + 1];

	uuid_format(&lab->volume, prefix);
	strcat(prefix, "/");
	lab_keys_list(lab, prefix, keys);
}

static uint64_t stored_bytes(struct points_lab *lab, const struct lab_keys *keys)
{
	uint64_t sum = 0, bytes;
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < keys->count; i++) {
		assert_int_equal(0, store_size(lab->store, keys->items[i], &bytes, &err));
		sum += bytes;
	}
	return sum;
}

/* Flips a bit in the middle of a point's first segment; again to mend it. */
static void flip_segment(struct points_lab *lab, uint64_t number)
{
	CLEANUP_FREE char *data = NULL;
	char key[STORE_KEY_MAX];
	size_t length;

	point_segment_prefix(&lab->points[number], key);
	strcat(key, "000000");
	lab_object_read(lab, key, &data, &length);
	data[length / 2] ^= 4;
	lab_object_write(lab, key, data, length);
}

/* ---- tests ----------------------------------------------------------------- */

/* With every combination of keys, all bytes of all objects are read once. */
static void sound_repository(void **state)
{
	struct random_state random = random_start("sound_repository");
	struct talk talk = { .count = 0 };

	(void)state;
	for (int round = 0; round < 4; round++) {
		struct points_lab *lab = points_lab_new();
		uint64_t frames = 0;
		struct lab_keys keys;

		lab_build(lab, &random, 8, 3u << 20);
		volume_keys(lab, &keys);
		for (uint64_t i = 1; i <= lab->count; i++)
			for (size_t s = 0; s < lab->points[i].segment_count; s++)
				frames += lab->points[i].segments[s].frames;
		for (int mode = 0; mode < 4; mode++) {
			struct key_ring ring = {
				.recovery = mode > 1 ? lab->recovery : NULL,
				.host_map_key = mode == 1 ? lab->host_map_key : NULL,
			};
			struct verify_result result;
			struct error err;

			if (verify(lab, 0, mode == 3, &ring, &talk, &result, &err))
				fail_msg("mode %d: %s", mode, err.message);
			assert_int_equal(result.points, lab->count);
			assert_int_equal(result.objects, keys.count);
			assert_int_equal(result.bytes, stored_bytes(lab, &keys));
			assert_int_equal(result.frames, mode == 3 ? frames : 0);
			assert_int_equal(result.problems, 0);
			assert_int_equal(talk.count, 0);
			assert_int_equal(talk.done, result.bytes);
			assert_int_equal(talk.total, result.bytes);
		}
		lab_keys_free(&keys);
		points_lab_free(lab);
	}
	talk_clear(&talk);
}

/* Frames that lie across the pieces in which a segment is read. */
static void long_segment(void **state)
{
	struct random_state random = random_start("long_segment");
	struct points_lab *lab = points_lab_new();
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct error err;

	(void)state;
	lab_image_change(lab, &random, 1, 36u << 20, 0, 1);
	for (uint64_t b = 0; b < lab->images[1].blocks; b++)
		if (b % 300)	/* incompressible, frames of many lengths */
			for (size_t i = 0; i < BLOCK_BYTES; i += 8) {
				uint64_t value = random_next(&random);

				memcpy(lab->images[1].data + b * BLOCK_BYTES + i, &value, 8);
			}
	lab_commit(lab, &random, POINT_FULL, false);
	assert_int_equal(lab->points[1].segment_count, 1);
	assert_true(lab->points[1].segments[0].bytes > 32u << 20);
	assert_int_equal(0, verify(lab, 0, true, NULL, &talk, &result, &err));
	assert_int_equal(result.frames, lab->points[1].segments[0].frames);
	flip_segment(lab, 1);
	assert_int_equal(-EBADMSG, verify(lab, 0, true, NULL, &talk, &result, &err));
	assert_int_equal(result.frames, lab->points[1].segments[0].frames - 1);
	assert_int_equal(result.problems, 2);	/* the frame and the digest */
	talk_clear(&talk);
	points_lab_free(lab);
}

/* One point, and what it needs, is checked; what it does not need is left alone. */
static void one_point(void **state)
{
	static const uint64_t needs[6][6] = {
		{ 0 }, { 1, 1 }, { 2, 1, 2 }, { 1, 3 }, { 2, 3, 4 }, { 3, 3, 4, 5 },
	};
	struct random_state random = random_start("one_point");
	struct points_lab *lab = five_points(&random);
	struct key_ring none = { NULL, NULL };
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct error err;

	(void)state;
	for (uint64_t damaged = 0; damaged <= 5; damaged++) {
		if (damaged)
			flip_segment(lab, damaged);
		for (uint64_t number = 1; number <= 5; number++)
			for (int with_keys = 0; with_keys < 2; with_keys++) {
				bool needed = false;
				int ret = verify(lab, number, with_keys,
						 with_keys ? NULL : &none, &talk, &result,
						 &err);

				for (uint64_t i = 1; i <= needs[number][0]; i++)
					needed |= needs[number][i] == damaged;
				assert_int_equal(ret, needed ? -EBADMSG : 0);
				assert_int_equal(result.points, needs[number][0]);
			}
		if (damaged)
			flip_segment(lab, damaged);
	}
	assert_int_equal(-ENOENT, verify(lab, 77, true, NULL, &talk, &result, &err));
	talk_clear(&talk);
	points_lab_free(lab);
}

/* Each damage is told, and none hides another's. */
static void several_damages(void **state)
{
	struct random_state random = random_start("several_damages");
	struct points_lab *lab = five_points(&random);
	struct key_ring none = { NULL, NULL };
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct error err;
	char key[STORE_KEY_MAX];

	(void)state;
	flip_segment(lab, 1);
	flip_segment(lab, 4);
	point_key(&lab->volume, 2, key);
	lab_object_write(lab, key, "", 0);
	for (int with_keys = 0; with_keys < 2; with_keys++) {
		assert_int_equal(-EBADMSG, verify(lab, 0, with_keys,
						  with_keys ? NULL : &none, &talk, &result,
						  &err));
		assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
		assert_int_equal(result.points, 4);
		assert_true(talk_about(&talk, "manifest of point 1 of data") == 1);
		assert_true(talk_about(&talk, "manifest of point 4 of data") == 1);
		assert_true(talk_about(&talk, "0000000002") == 1);
		assert_int_equal(result.problems, talk.count);
	}
	talk_clear(&talk);
	points_lab_free(lab);
}

static void gaps(void **state)
{
	struct random_state random = random_start("gaps");
	struct points_lab *lab = five_points(&random);
	struct talk talk = { .count = 0 };
	struct verify_result result;
	CLEANUP_FREE char *first = NULL;
	struct error err;
	char key[STORE_KEY_MAX];
	size_t length;

	(void)state;
	point_key(&lab->volume, 1, key);
	lab_object_read(lab, key, &first, &length);
	lab_object_remove(lab, key);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, NULL, &talk, &result, &err));
	assert_int_equal(talk_about(&talk, "point 1 is missing"), 1);
	assert_int_equal(talk_about(&talk, "needs its parent, point 1"), 1);
	point_key(&lab->volume, 2, key);
	lab_object_remove(lab, key);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, NULL, &talk, &result, &err));
	assert_int_equal(talk_about(&talk, "points 1 to 2 are missing"), 1);
	assert_int_equal(result.problems, 1);
	point_key(&lab->volume, 1, key);
	lab_object_write(lab, key, first, length);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, NULL, &talk, &result, &err));
	assert_int_equal(talk_about(&talk, "point 2 is missing"), 1);
	assert_int_equal(result.problems, 1);
	talk_clear(&talk);
	points_lab_free(lab);
}

/* A key that does not fit is no damage. */
static void wrong_keys(void **state)
{
	struct random_state random = random_start("wrong_keys");
	struct points_lab *lab = five_points(&random);
	uint8_t other[CRYPTO_KEY_SIZE] = { 9 };
	struct key_ring stranger = { lab->stranger, NULL };
	struct key_ring no_recovery = { NULL, lab->host_map_key };
	struct key_ring other_host = { NULL, other };
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct error err;

	(void)state;
	assert_int_not_equal(0, verify(lab, 0, true, &stranger, &talk, &result, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_int_equal(result.points, 0);	/* before any work */
	assert_int_not_equal(0, verify(lab, 0, true, &no_recovery, &talk, &result, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_int_not_equal(0, verify(lab, 0, false, &other_host, &talk, &result, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_int_equal(result.problems, 0);
	assert_int_equal(result.points, 5);	/* hashes need no key */
	assert_int_equal(talk_about(&talk, "cannot be checked"), 5);
	talk_clear(&talk);
	points_lab_free(lab);
}

static void unreachable_is_not_damaged(void **state)
{
	struct random_state random = random_start("unreachable_is_not_damaged");
	struct points_lab *lab = five_points(&random);
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct error err;
	int ret;

	(void)state;
	strcpy(unreachable, "0000000003-");	/* segments of point 3 */
	ret = verify(lab, 0, true, NULL, &talk, &result, &err);
	assert_int_equal(ret, -EIO);
	assert_int_equal(err.exit, EXIT_FAILED);
	assert_int_equal(result.problems, 0);
	assert_int_equal(talk_about(&talk, "cannot be checked"),
			 lab->points[3].segment_count);
	/* Damage elsewhere is found all the same, and weighs more. */
	flip_segment(lab, 5);
	assert_int_equal(-EBADMSG, verify(lab, 0, false, NULL, &talk, &result, &err));
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	assert_int_equal(result.problems, 1);
	assert_non_null(strstr(err.message, "not be checked"));
	*unreachable = '\0';
	talk_clear(&talk);
	points_lab_free(lab);
}

/* When nothing answers any more, the check ends. */
static void dead_store_ends_the_check(void **state)
{
	struct random_state random = random_start("dead_store_ends_the_check");
	struct points_lab *lab = points_lab_new();
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct error err;

	(void)state;
	lab_build(lab, &random, LAB_POINTS, 64u << 10);
	strcpy(unreachable, "00000000");	/* every point; the listing works */
	assert_int_equal(-EIO, verify(lab, 0, false, NULL, &talk, &result, &err));
	*unreachable = '\0';
	assert_int_equal(err.exit, EXIT_FAILED);
	assert_int_equal(result.problems, 0);
	assert_true(talk.count >= 8 && talk.count < LAB_POINTS);
	talk_clear(&talk);
	points_lab_free(lab);
}

/* What a dead run left does no harm. */
static void left_overs(void **state)
{
	struct random_state random = random_start("left_overs");
	struct points_lab *lab = five_points(&random);
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct point dead;
	struct error err;
	char key[STORE_KEY_MAX];

	(void)state;
	dead = lab->points[5];
	dead.run.b[0] ^= 1;
	point_segment_prefix(&dead, key);
	strcat(key, "000000");
	lab_object_write(lab, key, "rubbish", 7);
	/* A copy beside a point: its size is not the point's. */
	point_key(&lab->volume, 2, key);
	strcat(key, ".copy");
	lab_object_write(lab, key, "rubbish", 7);
	lab_deeper_write(lab, "0000000003", 7);
	assert_int_equal(0, verify(lab, 0, true, NULL, &talk, &result, &err));
	talk_clear(&talk);
	points_lab_free(lab);
}

/* ---- maps ------------------------------------------------------------------ */

/* A delta of holes, scattered over a huge volume: more than a point carries inline. */
static void commit_large_map(struct points_lab *lab, struct random_state *random)
{
	struct point *point = &lab->points[2];
	struct point_keys keys;
	struct error err = ERROR_INIT;
	uint64_t block = 0;
	struct map map;

	lab_point_start(lab, POINT_INCREMENTAL, false, point);
	point->volume_bytes = UINT64_C(1) << 47;
	map_init(&map, MAP_DELTA, point->volume_bytes / BLOCK_BYTES);
	for (int i = 0; i < 500000; i++) {
		struct map_entry hole = {
			.block = block += 2 + random_below(random, 1 << 16),
			.count = 1 + random_below(random, 256), .frame = MAP_FRAME_HOLE,
		};

		block += hole.count;
		assert_int_equal(0, map_append_entry(&map, &hole));
	}
	if (point_keys_new(point, lab->host_map_key, &keys, &err) ||
	    point_commit(lab->repo, point, &map, NULL, 0, &keys, lab->signing, &err))
		fail_msg("%s", err.message);
	map_fini(&map);
	lab->count++;
}

static void map_object(void **state)
{
	struct random_state random = random_start("map_object");
	struct points_lab *lab = points_lab_new();
	struct key_ring none = { NULL, NULL };
	struct talk talk = { .count = 0 };
	struct verify_result result;
	CLEANUP_FREE char *data = NULL;
	char key[STORE_KEY_MAX];
	struct error err;
	size_t length;

	(void)state;
	lab_image_change(lab, &random, 1, 1u << 20, 40, 8);
	lab_commit(lab, &random, POINT_FULL, false);
	lab->images[2].bytes = UINT64_C(1) << 47;
	commit_large_map(lab, &random);
	assert_false(lab->points[2].map_inline);
	assert_int_equal(0, verify(lab, 0, true, NULL, &talk, &result, &err));
	assert_int_equal(0, verify(lab, 0, false, &none, &talk, &result, &err));
	assert_true(result.bytes > lab->points[2].map_bytes);
	point_map_key(&lab->points[2], key);
	lab_object_read(lab, key, &data, &length);
	for (int how = 0; how < 4; how++) {
		if (how == 0)
			data[length / 2] ^= 1;
		lab_object_write(lab, key, data, how == 1 ? length - 1 : length);
		if (how == 2)
			lab_object_remove(lab, key);
		for (int with_keys = 0; with_keys < 2; with_keys++) {
			int ret = verify(lab, 0, with_keys, with_keys ? NULL : &none,
					 &talk, &result, &err);

			assert_int_equal(ret, how < 3 ? -EBADMSG : 0);
			assert_int_equal(result.problems, how < 3);
		}
		if (how == 0)
			data[length / 2] ^= 1;
	}
	talk_clear(&talk);
	points_lab_free(lab);
}

/* Mistakes of our own: sealed and signed, and yet wrong. */
static void spoil_block(struct map *map)
{
	map->entries[map->entry_count - 1].block++;
}

static void spoil_offset(struct map *map)
{
	map->frames[0].offset++;
}

static void spoil_frames(struct map *map)
{
	struct map shorter;

	map_init(&shorter, map->kind, map->volume_blocks);
	for (size_t f = 0; f + 1 < map->frame_count; f++)
		assert_int_equal(0, map_append_frame(&shorter, &map->frames[f]));
	for (size_t i = 0; i < map->entry_count; i++)
		if (map->entries[i].frame < shorter.frame_count)
			assert_int_equal(0, map_append_entry(&shorter, &map->entries[i]));
	map_fini(map);
	*map = shorter;
}

static void spoil_point(struct map *map)
{
	map->frames[0].point = 9;
}

static void wrong_maps(void **state)
{
	static const struct { void (*spoil)(struct map *); bool shows_without_data; }
	cases[] = {
		{ spoil_block, false }, { spoil_offset, true }, { spoil_frames, true },
		{ spoil_point, true },
	};
	struct random_state random = random_start("wrong_maps");
	struct talk talk = { .count = 0 };
	struct verify_result result;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct points_lab *lab = points_lab_new();

		lab_image_change(lab, &random, 1, 4u << 20, 0, 1);
		memset(lab->images[1].data + 9 * BLOCK_BYTES, 8, 2u << 20);
		lab->spoil = cases[i].spoil;
		lab_commit(lab, &random, POINT_FULL, false);
		assert_int_equal(-EBADMSG, verify(lab, 0, true, NULL, &talk, &result,
						  &err));
		assert_int_equal(cases[i].shows_without_data ? -EBADMSG : 0,
				 verify(lab, 0, false, NULL, &talk, &result, &err));
		points_lab_free(lab);
	}
	talk_clear(&talk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_repository),
		cmocka_unit_test(long_segment),
		cmocka_unit_test(one_point),
		cmocka_unit_test(several_damages),
		cmocka_unit_test(gaps),
		cmocka_unit_test(wrong_keys),
		cmocka_unit_test(unreachable_is_not_damaged),
		cmocka_unit_test(dead_store_ends_the_check),
		cmocka_unit_test(left_overs),
		cmocka_unit_test(map_object),
		cmocka_unit_test(wrong_maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
