/* What a policy keeps: thousands of random histories against a model, and its words. */
#include "agent/policy/policy.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POINTS_MAX 60
#define DAY UINT64_C(86400)
#define NS UINT64_C(1000000000)

/* ---- the model: says for one point and rule whether it stays, from the definition -- */

/* What a calendar shows of a time: equal texts, same period. */
static void period(enum policy_rule rule, uint64_t time_ns, char text[static 40])
{
	static const size_t lengths[] = {
		[POLICY_SECONDLY] = 19, [POLICY_MINUTELY] = 16, [POLICY_HOURLY] = 13,
		[POLICY_DAILY] = 10, [POLICY_MONTHLY] = 7, [POLICY_YEARLY] = 4,
		[POLICY_HANOI] = 10,
	};
	time_t seconds = (time_t)(time_ns / NS);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	if (rule == POLICY_WEEKLY) {
		strftime(text, 40, "%G-W%V", &tm);
		return;
	}
	strftime(text, 40, "%Y-%m-%d %H:%M:%S", &tm);
	text[lengths[rule]] = '\0';
}

static bool newer(const struct policy_point *a, const struct policy_point *b)
{
	return a->time_ns > b->time_ns || (a->time_ns == b->time_ns && a->number > b->number);
}

static bool same_period(enum policy_rule rule, const struct policy_point *a,
			const struct policy_point *b)
{
	char x[40], y[40];

	period(rule, a->time_ns, x);
	period(rule, b->time_ns, y);
	return !strcmp(x, y);
}

static bool newest_of_period(enum policy_rule rule, const struct policy_point *points,
			     size_t count, size_t at)
{
	for (size_t i = 0; i < count; i++)
		if (newer(&points[i], &points[at]) && same_period(rule, &points[i], &points[at]))
			return false;
	return true;
}

/* Newest of its period, and fewer than `wanted` newer periods have a point. */
static bool model_calendar(enum policy_rule rule, uint32_t wanted,
			   const struct policy_point *points, size_t count, size_t at)
{
	uint32_t before = 0;

	if (!newest_of_period(rule, points, count, at))
		return false;
	for (size_t i = 0; i < count; i++)
		before += newer(&points[i], &points[at]) &&
			  newest_of_period(rule, points, count, i);
	return before < wanted;
}

static uint32_t level_of(uint64_t time_ns, uint32_t levels)
{
	uint64_t day = time_ns / NS / DAY;
	uint32_t level = 0;

	while (level + 1 < levels && day % 2 == 0) {
		day /= 2;
		level++;
	}
	return level;
}

static bool model_hanoi(uint32_t levels, const struct policy_point *points, size_t count,
			size_t at)
{
	for (size_t i = 0; i < count; i++)
		if (newer(&points[i], &points[at]) &&
		    level_of(points[i].time_ns, levels) == level_of(points[at].time_ns, levels))
			return false;
	return true;
}

static uint32_t model(const struct policy *policy, const struct policy_point *points,
		      size_t count, size_t at)
{
	uint64_t newest_ns = 0;
	uint32_t after = 0, reasons = 0;

	for (size_t i = 0; i < count; i++) {
		if (points[i].time_ns > newest_ns)
			newest_ns = points[i].time_ns;
		after += points[i].number > points[at].number;
	}
	reasons |= (uint32_t)(!after) << POLICY_NEWEST;
	reasons |= (uint32_t)points[at].pinned << POLICY_PINNED;
	reasons |= (uint32_t)(after < policy->count[POLICY_LAST]) << POLICY_LAST;
	for (enum policy_rule rule = POLICY_SECONDLY; rule <= POLICY_YEARLY; rule++)
		reasons |= (uint32_t)model_calendar(rule, policy->count[rule], points, count, at)
			   << rule;
	if (policy->count[POLICY_HANOI])
		reasons |= (uint32_t)model_hanoi(policy->count[POLICY_HANOI], points, count, at)
			   << POLICY_HANOI;
	if (policy->within_ns && newest_ns - points[at].time_ns <= policy->within_ns)
		reasons |= 1u << POLICY_WITHIN;
	return reasons;
}

/* ---- histories ----------------------------------------------------------------- */

/* From seconds to years apart; now and then of one time, or the clock was set back. */
static size_t random_history(struct random_state *random, struct policy_point *points)
{
	static const uint64_t steps[] = { 1, 40, 900, 5000, DAY / 3, DAY, 5 * DAY, 200 * DAY };
	size_t count = random_below(random, POINTS_MAX);
	uint64_t scale = steps[random_below(random, 8)];
	uint64_t time_ns = 400 * DAY * NS + random_below(random, 50 * 365 * DAY) * NS;
	uint64_t number = 1 + random_below(random, 5);

	for (size_t i = 0; i < count; i++) {
		points[i] = (struct policy_point){
			.number = number, .time_ns = time_ns, .pinned = random_one_in(random, 9),
		};
		number += 1 + random_below(random, 3);
		if (random_one_in(random, 12))
			time_ns -= random_below(random, DAY * NS);
		else if (!random_one_in(random, 10))
			time_ns += random_below(random, 2 * scale * NS);
	}
	return count;
}

static struct policy random_policy(struct random_state *random)
{
	struct policy policy = { .within_ns = 0 };

	for (size_t rule = 0; rule < POLICY_COUNTS; rule++)
		if (random_one_in(random, 3))
			policy.count[rule] = (uint32_t)random_below(random, 9);
	if (random_one_in(random, 3))
		policy.within_ns = random_below(random, 20 * DAY) * NS;
	return policy;
}

static void as_the_model(void **state)
{
	struct random_state random = random_start("as_the_model");
	const char *full = getenv("CLAWBACK_FULL");
	int rounds = full && *full == '1' ? 5000 : 1500;
	size_t kept = 0, all = 0;

	(void)state;
	for (int round = 0; round < rounds; round++) {
		struct policy_point points[POINTS_MAX], was[POINTS_MAX];
		size_t count = random_history(&random, points);
		struct policy policy = random_policy(&random);

		memcpy(was, points, sizeof(was));
		/* In any order. */
		for (size_t i = count; i > 1; i--) {
			size_t j = random_below(&random, i);
			struct policy_point other = points[j];

			points[j] = points[i - 1];
			points[i - 1] = other;
		}
		assert_int_equal(0, policy_apply(&policy, points, count));
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(was[i].number, points[i].number);
			assert_int_equal(model(&policy, was, count, i), points[i].reasons);
			kept += points[i].reasons != 0;
		}
		all += count;
		if (count)
			assert_true(points[count - 1].reasons >> POLICY_NEWEST & 1);
	}
	printf("%zu of %zu points kept\n", kept, all);
	assert_true(kept > all / 10 && kept < all * 9 / 10);
}

/* What is forgotten is never missed: applied to what is left, all of it stays. */
static void stable(void **state)
{
	struct random_state random = random_start("stable");

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct policy_point points[POINTS_MAX];
		size_t count = random_history(&random, points), left = 0;
		struct policy policy = random_policy(&random);

		assert_int_equal(0, policy_apply(&policy, points, count));
		for (size_t i = 0; i < count; i++)
			if (points[i].reasons)
				points[left++] = points[i];
		assert_int_equal(0, policy_apply(&policy, points, left));
		for (size_t i = 0; i < left; i++)
			assert_true(points[i].reasons);
	}
}

/* A point each day for two years, forgotten each day: N levels reach 2^(N-2) days back. */
static void hanoi_reaches(void **state)
{
	struct policy_point points[POLICY_HANOI_MAX + 2];
	struct policy policy = { .count = { [POLICY_HANOI] = 6 } };
	size_t count = 0;

	(void)state;
	for (uint64_t day = 20000; day < 20730; day++) {
		size_t left = 0;

		points[count++] = (struct policy_point){ .number = day, .time_ns = day * DAY * NS };
		assert_int_equal(0, policy_apply(&policy, points, count));
		for (size_t i = 0; i < count; i++)
			if (points[i].reasons)
				points[left++] = points[i];
		count = left;
		assert_in_range(count, 1, 7);
		if (day > 20100) {
			assert_true(count >= 6);
			assert_in_range(day - points[0].number, 16, 63);
		}
	}
}

/* ---- words --------------------------------------------------------------------- */

static void words(void **state)
{
	static const struct { const char *text; enum policy_rule rule; uint32_t count; } good[] = {
		{ "last=3", POLICY_LAST, 3 }, { " daily=7,  weekly=5 ", POLICY_WEEKLY, 5 },
		{ "gfs", POLICY_HOURLY, 24 }, { "gfs", POLICY_YEARLY, 3 },
		{ "gfs monthly=60", POLICY_MONTHLY, 60 }, { "hanoi", POLICY_HANOI, 6 },
		{ "hanoi=30", POLICY_HANOI, 30 }, { "secondly=4294967295", POLICY_SECONDLY, UINT32_MAX },
		{ "minutely=0 yearly=1", POLICY_MINUTELY, 0 },
	};
	static const char *const bad[] = {
		"", " , ", "daily", "daily=", "daily=x", "daily=-1", "daily=7x", "=7", "weekly = 7",
		"last=4294967296", "hanoi=31", "within=", "within=7", "within=d", "within=1x",
		"within=99999999999999999999w", "within=30501w", "GFS", "newest=1", "pinned=1",
		"dailydailydailydailydailydailydailydailydailydailydailydailydailydaily=1",
	};
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct policy policy = { .within_ns = 0 };

		assert_true(policy_empty(&policy));
		assert_int_equal(0, policy_parse(&policy, good[i].text, &err));
		assert_int_equal(good[i].count, policy.count[good[i].rule]);
		assert_false(policy_empty(&policy));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct policy policy = { .count = { 5 } }, before = policy;

		err = (struct error)ERROR_INIT;
		assert_int_equal(-EINVAL, policy_parse(&policy, bad[i], &err));
		assert_int_equal(EXIT_USAGE, err.exit);
		assert_memory_equal(&before, &policy, sizeof(policy));
	}
}

static void durations(void **state)
{
	struct policy policy = { .within_ns = 0 };
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(0, policy_set(&policy, "within", "1w2d3h4m5s", &err));
	assert_int_equal((7 * DAY + 2 * DAY + 3 * 3600 + 4 * 60 + 5) * NS, policy.within_ns);
	assert_false(policy_empty(&policy));
	assert_int_equal(0, policy_set(&policy, "within", "0s", &err));
	assert_true(policy_empty(&policy));
}

static void reasons_read(void **state)
{
	char text[POLICY_REASONS_TEXT];

	(void)state;
	policy_reasons(0, text);
	assert_string_equal("", text);
	policy_reasons(1u << POLICY_DAILY | 1u << POLICY_NEWEST | 1u << POLICY_LAST, text);
	assert_string_equal("newest, last, daily", text);
	policy_reasons((1u << POLICY_REASONS) - 1, text);
	assert_string_equal("newest, pinned, last, secondly, minutely, hourly, daily, weekly, "
			    "monthly, yearly, hanoi, within", text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_model), cmocka_unit_test(stable),
		cmocka_unit_test(hanoi_reaches), cmocka_unit_test(words),
		cmocka_unit_test(durations), cmocka_unit_test(reasons_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
