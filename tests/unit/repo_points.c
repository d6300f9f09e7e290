/* Points of one volume on a store: committing, listing, finding, opening. */
#include "agent/repo/point_format.h"
#include "tests/unit/points_lab.h"

#include <pthread.h>

/* A full, then incrementals, small and quick. */
static struct points_lab *chain(struct random_state *random, uint64_t count)
{
	struct points_lab *lab = points_lab_new();

	for (uint64_t i = 1; i <= count; i++) {
		lab_image_change(lab, random, i, 256u << 10, 4, 4);
		memset(lab->images[i].data + i * BLOCK_BYTES, (int)i, BLOCK_BYTES);
		lab_commit(lab, random, i == 1 ? POINT_FULL : POINT_INCREMENTAL, false);
	}
	return lab;
}

/* An empty delta (or a full map of nothing) as point `number`, without a pipeline. */
static int commit_empty(struct points_lab *lab, const struct point *point, enum map_kind kind,
			uint64_t blocks, struct error *err)
{
	struct point copy = *point;
	struct point_keys keys;
	struct map map;
	int ret;

	map_init(&map, kind, blocks);
	if (point_keys_new(&copy, lab->host_map_key, &keys, err))
		fail_msg("%s", err->message);
	ret = point_commit(lab->repo, &copy, &map, NULL, 0, &keys, lab->signing, err);
	map_fini(&map);
	return ret;
}

/* ---- committing ---------------------------------------------------------------- */

#define RACERS 8

struct racer {
	struct points_lab *lab;
	struct point point;
	pthread_barrier_t *start;
	struct error err;
	int ret;
};

static void *race(void *context)
{
	struct racer *racer = context;

	pthread_barrier_wait(racer->start);
	racer->ret = commit_empty(racer->lab, &racer->point, MAP_FULL,
				  racer->point.volume_bytes / BLOCK_BYTES, &racer->err);
	return NULL;
}

/* Of several writers of one number one wins; the others are told; its point stays. */
static void one_writer_wins(void **state)
{
	struct points_lab *lab = points_lab_new();
	pthread_barrier_t start;

	(void)state;
	pthread_barrier_init(&start, NULL, RACERS);
	lab->images[1].bytes = 1u << 20;
	for (uint64_t number = 1; number <= 12; number++) {
		struct racer racers[RACERS];
		pthread_t threads[RACERS];
		struct error err = ERROR_INIT;
		struct point point;
		int winners = 0;

		for (int i = 0; i < RACERS; i++) {
			racers[i] = (struct racer){ .lab = lab, .start = &start };
			lab_point_start(lab, POINT_FULL, false, &racers[i].point);
			racers[i].point.number = racers[i].point.base = number;
			pthread_create(&threads[i], NULL, race, &racers[i]);
		}
		for (int i = 0; i < RACERS; i++)
			pthread_join(threads[i], NULL);
		if (point_load(lab->repo, &lab->volume, number, &point, &err))
			fail_msg("%s", err.message);
		for (int i = 0; i < RACERS; i++) {
			bool stored = uuid_equal(&point.run, &racers[i].point.run);

			assert_int_equal(racers[i].ret, stored ? 0 : -EEXIST);
			winners += stored;
			if (stored)
				continue;
			assert_int_equal(racers[i].err.exit, EXIT_LOCKED);
			/* All racers have one key: copies of one machine. */
			assert_non_null(strstr(racers[i].err.message, "is a copy of another"));
			assert_non_null(strstr(racers[i].err.message, point.host));
		}
		assert_int_equal(winners, 1);
		point_fini(&point);
	}
	pthread_barrier_destroy(&start);
	points_lab_free(lab);
}

/* point_load gives what point_commit was given and filled in. */
static void loaded_is_committed(void **state)
{
	struct random_state random = random_start("loaded_is_committed");
	struct points_lab *lab = points_lab_new();
	struct error err = ERROR_INIT;

	(void)state;
	lab_build(lab, &random, 8, 1u << 20);
	for (uint64_t i = 1; i <= 8; i++) {
		struct point point, committed = lab->points[i];
		struct pipeline_segment *segments;

		if (point_load(lab->repo, &lab->volume, i, &point, &err))
			fail_msg("%s", err.message);
		segments = STEAL(point.segments);
		assert_memory_equal(segments, committed.segments,
				    committed.segment_count * sizeof(*segments));
		free(segments);
		committed.segments = NULL;
		assert_memory_equal(&point, &committed, sizeof(point));
	}
	points_lab_free(lab);
}

/* What cannot be stored leaves no point. */
static void failed_commit_leaves_nothing(void **state)
{
	struct points_lab *lab = points_lab_new();
	struct error err = ERROR_INIT;
	uint64_t *numbers;
	size_t count;
	char path[700];

	(void)state;
	lab->images[1].bytes = 1u << 20;
	lab_point_start(lab, POINT_FULL, false, &lab->points[1]);
	strcpy(lab->points[1].host, "\xff");	/* JSON cannot say this */
	assert_int_not_equal(0, commit_empty(lab, &lab->points[1], MAP_FULL, 256, &err));
	assert_non_null(strstr(err.message, "committing point 1 of data"));
	assert_non_null(strstr(err.message, "UTF-8"));
	assert_int_equal(0, point_numbers(lab->repo, &lab->volume, &numbers, &count, &err));
	assert_int_equal(count, 0);
	free(numbers);
	/* A store whose folder for points cannot be made. */
	strcpy(lab->points[1].host, "h");
	lab_object_path(lab, "a7a7a7a7-a7a7-a7a7-a7a7-a7a7a7a7a7a7", path);
	assert_int_equal(0, file_replace(path, "", 0, 0600));
	assert_int_not_equal(0, commit_empty(lab, &lab->points[1], MAP_FULL, 256, &err));
	assert_int_equal(err.exit, EXIT_FAILED);
	assert_non_null(strstr(err.message, "committing point 1 of data"));
	points_lab_free(lab);
}

/* ---- listing and finding ---------------------------------------------------------- */

/* Names that a stranger, a crash or another program left are no points. */
static void strangers_are_not_listed(void **state)
{
	static const char *const names[] = {
		"0000000000", "000000001", "00000000011", "-000000001", "000000001x",
		"x000000001", "0000000001.json", "0000000001~", "..........", "0x00000001",
		"+000000001", " 000000001", "readme",
	};
	struct random_state random = random_start("strangers_are_not_listed");
	struct points_lab *lab = chain(&random, 3);
	struct error err = ERROR_INIT;
	uint64_t *numbers;
	size_t count;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char key[STORE_KEY_MAX];

		point_key(&lab->volume, 1, key);
		strcpy(strrchr(key, '/') + 1, names[i]);
		lab_object_write(lab, key, "x", 1);
	}
	lab_deeper_write(lab, "0000000002", 1);
	if (point_numbers(lab->repo, &lab->volume, &numbers, &count, &err))
		fail_msg("%s", err.message);
	assert_int_equal(count, 3);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(numbers[i], i + 1);
	free(numbers);
	points_lab_free(lab);
}

/* Rising numbers, also where their digits change, of one volume only. */
static void numbers_rise(void **state)
{
	static const uint64_t made[] = { 1, 2, 9, 10, 11, 99, 100, 1000000000, 9999999999 };
	struct points_lab *lab = points_lab_new();
	struct uuid other = { { 1 } };
	struct error err = ERROR_INIT;
	uint64_t *numbers;
	size_t count, all = sizeof(made) / sizeof(made[0]);

	(void)state;
	lab->images[1].bytes = 1u << 20;
	lab_point_start(lab, POINT_FULL, false, &lab->points[1]);
	for (size_t i = all; i--;) {
		lab->points[1].number = lab->points[1].base = made[i];
		if (commit_empty(lab, &lab->points[1], MAP_FULL, 256, &err))
			fail_msg("%s", err.message);
	}
	lab->points[1].volume = other;
	lab->points[1].number = lab->points[1].base = 5;
	assert_int_equal(0, commit_empty(lab, &lab->points[1], MAP_FULL, 256, &err));
	assert_int_equal(0, point_numbers(lab->repo, &lab->volume, &numbers, &count, &err));
	assert_int_equal(count, all);
	assert_memory_equal(numbers, made, sizeof(made));
	free(numbers);
	assert_int_equal(0, point_numbers(lab->repo, &other, &numbers, &count, &err));
	assert_int_equal(count, 1);
	assert_int_equal(numbers[0], 5);
	free(numbers);
	points_lab_free(lab);
}

/* 0: none. */
static void check_finds(struct points_lab *lab, const char *text, uint64_t number, int code)
{
	struct error err = ERROR_INIT;
	struct point point;
	int ret = point_find(lab->repo, &lab->volume, text, &point, &err);

	if (ret != code)
		fail_msg("%s: %d, not %d: %s", text ? text : "NULL", ret, code, err.message);
	if (ret) {
		assert_int_equal(err.exit, code == -EINVAL ? EXIT_USAGE : EXIT_FAILED);
		assert_true(*err.message);
		return;
	}
	if (point.number != number)
		fail_msg("%s finds point %d, not %d", text, (int)point.number, (int)number);
	point_fini(&point);
}

static void find_by_name(void **state)
{
	static const char *const bad[] = {
		"", "newest", "1x", "-1", " 1", "99999999999999999999", "2026-11-23",
		"2026-11-23T20:15:00", "2026-11-23T20:15:00+01:00", "2026-13-01T00:00:00Z",
		"2026-11-23T20:15:00ZZ", "1969-12-31T23:59:59Z", "2026-11-23T20:15:00.Zx",
	};
	struct random_state random = random_start("find_by_name");
	struct points_lab *lab = points_lab_new();

	(void)state;
	check_finds(lab, "latest", 0, -ENOENT);
	check_finds(lab, NULL, 0, -ENOENT);
	check_finds(lab, "1", 0, -ENOENT);
	points_lab_free(lab);
	lab = chain(&random, 4);
	check_finds(lab, "latest", 4, 0);
	check_finds(lab, NULL, 4, 0);
	check_finds(lab, "2", 2, 0);
	check_finds(lab, "0000000003", 3, 0);
	check_finds(lab, "5", 0, -ENOENT);
	check_finds(lab, "0", 0, -ENOENT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_finds(lab, bad[i], 0, -EINVAL);
	points_lab_free(lab);
}

/* Against counting: the newest point that is not later. */
static void find_by_time(void **state)
{
	struct random_state random = random_start("find_by_time");
	struct points_lab *lab = points_lab_new();
	uint64_t times[LAB_POINTS + 1], time = 1700000000000000000;
	struct error err = ERROR_INIT;

	(void)state;
	lab->images[1].bytes = 1u << 20;
	lab_point_start(lab, POINT_FULL, false, &lab->points[1]);
	for (uint64_t i = 1; i <= LAB_POINTS; i++) {
		struct point *point = &lab->points[1];

		times[i] = time;
		point->number = point->base = i;
		point->time_ns = time;
		if (commit_empty(lab, point, MAP_FULL, 256, &err))
			fail_msg("%s", err.message);
		time += random_one_in(&random, 3) ? random_below(&random, 1000000000) :
						    random_below(&random, 1000000000000000);
	}
	for (int round = 0; round < 300; round++) {
		uint64_t at = times[1 + random_below(&random, LAB_POINTS)], number = 0;
		bool fraction = random_one_in(&random, 2);
		char text[64];
		time_t seconds;
		struct tm tm;
		size_t used;

		at += random_below(&random, 3) - 1;
		seconds = (time_t)(at / 1000000000);
		used = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
		if (fraction)
			snprintf(text + used, sizeof(text) - used, ".%09dZ",
				 (int)(at % 1000000000));
		else	/* a whole second stands for all of it */
			strcpy(text + used, "Z");
		at = fraction ? at : (uint64_t)seconds * 1000000000 + 999999999;
		for (uint64_t i = 1; i <= LAB_POINTS && times[i] <= at; i++)
			number = i;
		check_finds(lab, text, number, number ? 0 : -ENOENT);
	}
	check_finds(lab, "2001-01-01T00:00:00Z", 0, -ENOENT);
	/* Beyond what 64 bits of nanoseconds hold, and digits beyond nanoseconds. */
	check_finds(lab, "2555-01-01T00:00:00Z", LAB_POINTS, 0);
	check_finds(lab, "9999-12-31T23:59:59.999999999999Z", LAB_POINTS, 0);
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_writer_wins),
		cmocka_unit_test(loaded_is_committed),
		cmocka_unit_test(failed_commit_leaves_nothing),
		cmocka_unit_test(strangers_are_not_listed),
		cmocka_unit_test(numbers_rise),
		cmocka_unit_test(find_by_name),
		cmocka_unit_test(find_by_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
