/*
 * A volume with very many points, made as runs make them, and what working with it takes:
 * requests, as an S3 store counts them (a listing has 1,000 keys in an answer), and
 * seconds. The quick form asserts the requests; scripts/bench --points prints them for as
 * many points as one likes, CLAWBACK_POINTS, with a store that takes CLAWBACK_RTT_MS
 * milliseconds for a request.
 */
#include "agent/base/cleanup.h"
#include "agent/policy/policy.h"
#include "agent/repo/point_facts_format.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"
#include "tests/fuzz/fixed_keys.h"
#include "tests/unit/crash_store.h"
#include "tests/unit/random.h"

#include <inttypes.h>
#include <time.h>

#define BLOCKS 1024u			/* of the volume */
#define FRAME_BYTES 300u		/* what a block takes when it is stored */
#define INTERVAL_NS UINT64_C(60000000000)
#define START_NS UINT64_C(1700000000000000000)

static struct many {
	struct crash_store store;
	struct repo *repo;
	struct signing_private *signer;
	uint8_t map_key[CRYPTO_KEY_SIZE];
	struct uuid volume;
	char cache[64];
	struct point head;
	struct random_state random;
	uint64_t clock_ns;
} many;

static void many_begin(const char *name)
{
	struct repo_facts facts = { .recipient_count = 1, .signer_count = 1 };
	struct recovery_private *recovery = fixed_recovery_key();
	struct error err = ERROR_INIT;

	memset(&many, 0, sizeof(many));
	many.random = random_start(name);
	many.clock_ns = START_NS;
	crash_store_init(&many.store);
	many.signer = fixed_signing_key();
	memset(many.map_key, 0x3b, sizeof(many.map_key));
	memset(many.volume.b, 0xa7, sizeof(many.volume.b));
	signing_public(many.signer, &facts.signers[0]);
	recovery_private_public(recovery, &facts.recipients[0]);
	recovery_private_free(recovery);
	assert_int_equal(0, repo_init(&many.store.base, &facts, &err));
	assert_int_equal(0, repo_open(&many.store.base, NULL, &many.repo, &err));
	sprintf(many.cache, "/tmp/clawback-many-%d", (int)getpid());
}

static void many_end(void)
{
	unlink(many.cache);
	point_fini(&many.head);
	repo_close(many.repo);
	signing_free(many.signer);
	crash_store_fini(&many.store);
}

/* ---- points ---------------------------------------------------------------- */

/* A block, or all of them for the first point, in one frame each; inline. */
static void draw(struct point *point, struct map *map, uint8_t *frames, size_t *length)
{
	bool full = point->number == 1;
	uint64_t first = full ? 0 : random_below(&many.random, BLOCKS);
	uint64_t count = full ? BLOCKS : 1;

	map_init(map, full ? MAP_FULL : MAP_DELTA, BLOCKS);
	*length = SEGMENT_HEADER_BYTES;
	for (uint64_t i = 0; i < count; i++) {
		struct map_frame frame = {
			.point = point->number, .number = (uint32_t)i, .offset = *length,
			.length = FRAME_BYTES, .blocks = 1,
		};
		struct map_entry entry = { .block = first + i, .count = 1, .frame = (uint32_t)i };

		assert_int_equal(0, map_append_frame(map, &frame));
		assert_int_equal(0, map_append_entry(map, &entry));
		memset(frames + *length, (int)point->number, FRAME_BYTES);
		*length += FRAME_BYTES;
	}
	point->segments = calloc(1, sizeof(*point->segments));
	point->segment_count = 1;
	point->segments[0].bytes = *length;
	point->segments[0].frames = (uint32_t)count;
	digest_of(frames, *length, point->segments[0].sha256);
}

static void checkpoint(struct point *point, struct map *map)
{
	struct key_ring ring = { .host_map_key = many.map_key };
	struct error err = ERROR_INIT;
	struct map before, merged;

	assert_int_equal(0, point_full_map(many.repo, &many.head, &ring, &before, &err));
	assert_int_equal(0, map_overlay(&before, map, &merged));
	map_fini(&before);
	map_fini(map);
	*map = merged;
	point->base = point->number;
	point->depth = 0;
}

/* What a run asks of a store: the repository, its parent, the new point. */
static void run_once(void)
{
	static uint8_t frames[SEGMENT_HEADER_BYTES + BLOCKS * FRAME_BYTES];
	uint64_t number = many.head.number + 1;
	struct point point = {
		.volume = many.volume, .number = number, .base = number,
		.kind = number == 1 ? POINT_FULL : POINT_INCREMENTAL,
		.time_ns = many.clock_ns += INTERVAL_NS, .volume_bytes = BLOCKS * BLOCK_BYTES,
		.logical_block_bytes = 512, .volume_name = "data", .reason = "tracked",
		.host = "host", .device = "/dev/vg/data", .stored_bytes = FRAME_BYTES,
	};
	struct error err = ERROR_INIT;
	struct point_keys keys;
	struct map map;
	size_t length;

	repo_close(many.repo);
	assert_int_equal(0, repo_open(&many.store.base, NULL, &many.repo, &err));
	if (number > 1) {
		point_fini(&many.head);
		assert_int_equal(0, point_load(many.repo, &many.volume, number - 1, &many.head,
					       &err));
		point.parent = many.head.number;
		point.base = many.head.base;
		point.depth = many.head.depth + 1;
		memcpy(point.parent_hash, many.head.hash, sizeof(point.parent_hash));
	}
	point_clock_steps(&point, &many.head);
	assert_int_equal(0, uuid_new(&point.run));
	draw(&point, &map, frames, &length);
	assert_int_equal(0, point_keys_new(&point, many.map_key, &keys, &err));
	if (point.depth > POINT_DEPTH_MAX)
		checkpoint(&point, &map);
	if (point_commit(many.repo, &point, &map, frames, length, &keys, many.signer, &err))
		fail_msg("%s", err.message);
	map_fini(&map);
	point_fini(&many.head);
	many.head = point;
}

/* ---- what is measured -------------------------------------------------------- */

struct cost {
	struct crash_counts counts;
	double seconds;
};

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void cost_begin(struct cost *cost)
{
	cost->counts = many.store.counts;
	cost->seconds = seconds_now();
}

static void cost_end(struct cost *cost, const char *what)
{
	struct crash_counts *counts = &cost->counts;
	const struct crash_counts *now = &many.store.counts;

	cost->seconds = seconds_now() - cost->seconds;
	counts->gets = now->gets - counts->gets;
	counts->puts = now->puts - counts->puts;
	counts->deletes = now->deletes - counts->deletes;
	counts->pages = now->pages - counts->pages;
	printf("| %-34s | %7" PRIu64 " | %6" PRIu64 " | %6" PRIu64 " | %7" PRIu64 " | %8.2f |\n",
	       what, counts->gets, counts->pages, counts->puts, counts->deletes, cost->seconds);
	fflush(stdout);
}

#define assert_cost(cost, g, l, p, d)						\
	do {									\
		if (!asserting)							\
			break;							\
		assert_int_equal(g, (cost).counts.gets);			\
		assert_int_equal(l, (cost).counts.pages);			\
		assert_int_equal(p, (cost).counts.puts);			\
		assert_int_equal(d, (cost).counts.deletes);			\
	} while (0)

static bool asserting;

static uint64_t pages(uint64_t keys)
{
	return (keys + CRASH_PAGE - 1) / CRASH_PAGE;
}

static int count_point(void *context, const struct point *point, struct error *err)
{
	uint64_t *last = context;

	(void)err;
	assert_true(point->number > *last);
	*last = point->number;
	return 0;
}

static void measure_lists(uint64_t count)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	struct error err = ERROR_INIT;
	struct point_facts *facts;
	uint64_t last = 0;
	struct cost cost;
	size_t found;

	cost_begin(&cost);
	assert_int_equal(0, point_numbers(many.repo, &many.volume, &numbers, &found, &err));
	assert_int_equal(count, found);
	assert_int_equal(0, points_load(many.repo, &many.volume, numbers + found - 10, 10,
					count_point, &last, &err));
	assert_int_equal(count, last);
	cost_end(&cost, "points --last 10");
	assert_cost(cost, 10, pages(count) + 1, 0, 0);
	for (int again = 0; again < 3; again++) {
		static const char *const what[] = {
			"points: all, the first time", "points: all, again",
			"points: all, 2 runs later",
		};

		if (again == 2) {
			run_once();
			run_once();
		}
		cost_begin(&cost);
		free(numbers);
		numbers = NULL;
		assert_int_equal(0, point_numbers(many.repo, &many.volume, &numbers, &found, &err));
		assert_int_equal(0, point_facts_load(many.repo, &many.volume, numbers, found,
						     many.cache, true, &facts, &err));
		for (size_t i = 0; i < found; i++) {
			assert_int_equal(numbers[i], facts[i].number);
			assert_int_equal(START_NS + numbers[i] * INTERVAL_NS, facts[i].time_ns);
		}
		free(facts);
		cost_end(&cost, what[again]);
		assert_cost(cost, !again ? count : again == 1 ? 1 : 3, pages(found) + 1, 0, 0);
	}
}

/* A file of another history, or a damaged one, is not believed. */
static void facts_not_believed(void)
{
	struct error err = ERROR_INIT;

	for (int damage = 0; damage < 3; damage++) {
		CLEANUP_FREE uint64_t *numbers = NULL;
		struct point_facts *facts;
		struct facts_header header;
		CLEANUP_FREE char *data = NULL;
		size_t length, count;

		assert_int_equal(0, file_read(many.cache, FACTS_BYTES_MAX, &data, &length));
		data[sizeof(header) + offsetof(struct facts_entry, time_ns)] ^= 1;
		if (damage == 1)
			data[offsetof(struct facts_header, last_hash)] ^= 1;
		if (damage)
			digest_of(data, length - CRYPTO_DIGEST_SIZE,
				  (uint8_t *)data + length - CRYPTO_DIGEST_SIZE);
		assert_int_equal(0, file_replace(many.cache, data, length - (damage == 2), 0600));
		assert_int_equal(0, point_numbers(many.repo, &many.volume, &numbers, &count, &err));
		assert_int_equal(0, point_facts_load(many.repo, &many.volume, numbers, count,
						     many.cache, true, &facts, &err));
		assert_int_equal(START_NS + INTERVAL_NS, facts[0].time_ns);
		free(facts);
	}
}

static void measure_open(const char *what, const char *text, uint64_t wanted)
{
	struct key_ring ring = { .host_map_key = many.map_key };
	struct error err = ERROR_INIT;
	struct places *places;
	struct point point;
	struct cost cost;
	struct map map;

	cost_begin(&cost);
	if (point_find(many.repo, &many.volume, text, &point, &err))
		fail_msg("%s", err.message);
	assert_int_equal(wanted, point.number);
	if (places_open(many.repo, &many.volume, &places, &err) ||
	    places_full_map(places, &point, &ring, &map, &err))
		fail_msg("%s", err.message);
	cost_end(&cost, what);
	assert_int_equal(0, cost.counts.puts + cost.counts.deletes);
	/* The listing, two records, the heads looked at, 33 maps with their heads. */
	assert_true(cost.counts.pages <= pages(many.head.number) + 2);
	assert_true(cost.counts.gets <= 20 + 2 * (POINT_DEPTH_MAX + 1));
	map_fini(&map);
	places_close(places);
	point_fini(&point);
}

static void measure_opens(uint64_t count)
{
	char text[32], when[32];
	uint64_t middle = count / 2;
	time_t second = (time_t)((START_NS + middle * INTERVAL_NS) / 1000000000u);
	struct tm tm;

	gmtime_r(&second, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	sprintf(text, "%" PRIu64, middle);
	measure_open("open for a restore: latest", "latest", many.head.number);
	measure_open("open for a restore: by time", when, middle);
	measure_open("open for a restore: by number", text, middle);
	measure_open("open for a restore: the oldest", "1", 1);
}

/* As few with all these points as with one. */
static void measure_runs(void)
{
	struct cost cost;

	/* Not the one in 33 that has a checkpoint map. */
	while (many.head.depth > POINT_DEPTH_MAX - 4 || many.head.depth < 2)
		run_once();
	cost_begin(&cost);
	run_once();
	cost_end(&cost, "a backup cycle");
	assert_int_equal(2, cost.counts.gets);
	assert_int_equal(1, cost.counts.puts);
	assert_int_equal(0, cost.counts.pages + cost.counts.deletes);
	while (many.head.depth < POINT_DEPTH_MAX)
		run_once();
	cost_begin(&cost);
	run_once();
	cost_end(&cost, "one in 33: with a checkpoint map");
	assert_true(cost.counts.pages == 1 && cost.counts.puts == 1 && !cost.counts.deletes);
	assert_true(cost.counts.gets <= 2 + 2 * (POINT_DEPTH_MAX + 1) + 1);
}

static void forget(struct policy *policy, size_t *forgotten)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	struct extent_list gone = EXTENT_LIST_INIT;
	CLEANUP_FREE struct policy_point *points = NULL;
	struct retention retention;
	struct point_facts *facts;
	struct error err = ERROR_INIT;
	size_t count;

	assert_int_equal(0, retention_load(many.repo, &many.volume, &retention, &err));
	assert_int_equal(0, point_numbers(many.repo, &many.volume, &numbers, &count, &err));
	assert_int_equal(0, point_facts_load(many.repo, &many.volume, numbers, count, many.cache,
					     true, &facts, &err));
	points = calloc(count, sizeof(*points));
	for (size_t i = 0; i < count; i++) {
		points[i].number = facts[i].number;
		points[i].time_ns = facts[i].time_ns;
	}
	free(facts);
	assert_int_equal(0, policy_apply(policy, points, count));
	for (size_t i = 0; i < count; i++)
		if (!points[i].reasons)
			assert_int_equal(0, extent_list_append(&gone, points[i].number, 1));
	*forgotten = extent_list_blocks(&gone);
	if (repo_forget(many.repo, &many.volume, &retention, &gone, many.head.number, many.signer,
			&err))
		fail_msg("%s", err.message);
	extent_list_fini(&gone);
	retention_fini(&retention);
}

static void prune(struct prune_result *result)
{
	struct prune_options options = { .host_map_key = many.map_key, .signer = many.signer };
	struct error err = ERROR_INIT;

	if (repo_prune(many.repo, &many.volume, &options, result, &err))
		fail_msg("%s", err.message);
}

/* One in a hundred stays. */
static void measure_retention(uint64_t count)
{
	struct policy policy = { .count = { [POLICY_LAST] = 1 } };
	struct prune_result result;
	struct error err = ERROR_INIT;
	struct cost cost;
	size_t forgotten;
	char what[64];

	assert_int_equal(0, policy_set(&policy, "minutely", "1", &err));
	policy.count[POLICY_LAST] = (uint32_t)(count / 200 + 1);
	policy.count[POLICY_HOURLY] = (uint32_t)(count / 200 + 1);
	cost_begin(&cost);
	forget(&policy, &forgotten);
	sprintf(what, "forget %zu of %" PRIu64, forgotten, many.head.number);
	cost_end(&cost, what);
	cost_begin(&cost);
	prune(&result);
	cost_end(&cost, "prune");
	printf("  %" PRIu64 " bytes before, %" PRIu64 " after, %" PRIu64 " of them needed; %" PRIu64
	       " repacked into %" PRIu64 " packs, %" PRIu64 " points still serve\n",
	       result.before_bytes, result.after_bytes, result.live_bytes, result.repacked_bytes,
	       result.packs, result.serving);
	assert_true(5 * result.after_bytes <= 6 * result.live_bytes);
	cost_begin(&cost);
	prune(&result);
	cost_end(&cost, "prune, again");
	assert_int_equal(0, result.deleted_objects);
	measure_open("open for a restore: latest", "latest", many.head.number);
	measure_runs();
}

static void many_points(void **state)
{
	const char *wanted = getenv("CLAWBACK_POINTS"), *rtt = getenv("CLAWBACK_RTT_MS");
	uint64_t count = wanted && *wanted ? strtoull(wanted, NULL, 10) : 2000;
	struct cost cost;

	(void)state;
	asserting = true;
	many_begin("many_points");
	while (many.head.number < count)
		run_once();
	many.store.rtt_ms = rtt && *rtt ? (unsigned)atoi(rtt) : 0;
	printf("%" PRIu64 " points, %u ms a request\n", count, many.store.rtt_ms);
	printf("| %-34s | %7s | %6s | %6s | %7s | %8s |\n", "", "GET", "LIST", "PUT", "DELETE",
	       "seconds");
	(void)cost;
	measure_lists(count);
	if (count <= 2000)
		facts_not_believed();
	measure_opens(count);
	measure_runs();
	measure_retention(count);
	many_end();
}

/* By time, where the clock was set back and forth, against a look at all points. */
static void clock_steps(void **state)
{
	uint64_t times[201] = { 0 }, wanted, asked;
	struct error err = ERROR_INIT;
	unsigned steps = 0;

	(void)state;
	for (int round = 0; round < 4; round++) {
		many_begin("clock_steps");
		many.random.value += (uint64_t)round;
		while (many.head.number < 60) {
			if (random_one_in(&many.random, 10)) {
				many.clock_ns += (random_below(&many.random, 20)) * INTERVAL_NS;
				many.clock_ns -= (random_below(&many.random, 20)) * INTERVAL_NS;
			}
			run_once();
			times[many.head.number] = many.head.time_ns;
			steps += many.head.time_ns < times[many.head.number - 1];
		}
		for (int ask = 0; ask < 60; ask++) {
			struct point point;
			char text[32];
			time_t second;
			struct tm tm;
			int ret;

			asked = times[1 + random_below(&many.random, 60)] / 1000000000u -
				random_below(&many.random, 3) * 20;
			for (wanted = 60; wanted && times[wanted] / 1000000000u > asked; wanted--)
				;
			second = (time_t)asked;
			gmtime_r(&second, &tm);
			strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
			ret = point_find(many.repo, &many.volume, text, &point, &err);
			if (ret != (wanted ? 0 : -ENOENT) || (!ret && point.number != wanted))
				fail_msg("%s: %s, %d and not %d", text, err.message,
					 ret ? 0 : (int)point.number, (int)wanted);
			if (!ret)
				point_fini(&point);
		}
		many_end();
	}
	assert_true(steps > 4);
}

/* Only so many are remembered: the newest. */
static void clock_steps_bounded(void **state)
{
	struct point point = { .number = 1, .time_ns = 1000 };

	(void)state;
	for (int i = 0; i < 100; i++) {
		struct point next = { .number = point.number + 1, .time_ns = point.time_ns - 1 };

		point_clock_steps(&next, &point);
		point = next;
	}
	assert_int_equal(POINT_CLOCK_STEPS_MAX, point.clock_step_count);
	assert_int_equal(101, point.clock_steps[POINT_CLOCK_STEPS_MAX - 1]);
	assert_int_equal(102 - POINT_CLOCK_STEPS_MAX, point.clock_steps[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_points), cmocka_unit_test(clock_steps),
		cmocka_unit_test(clock_steps_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
