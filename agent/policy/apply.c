/* Each rule in turn over all points, the newest first. */
#include "agent/policy/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND_NS UINT64_C(1000000000)
#define DAY_SECONDS 86400u

bool policy_empty(const struct policy *policy)
{
	for (size_t rule = 0; rule < POLICY_COUNTS; rule++)
		if (policy->count[rule])
			return false;
	return !policy->within_ns;
}

static int compare_number(const void *a, const void *b)
{
	const struct policy_point *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* Falling by time; of one time the higher number first. */
static int compare_newest(const void *a, const void *b)
{
	const struct policy_point *x = *(struct policy_point *const *)a;
	const struct policy_point *y = *(struct policy_point *const *)b;

	if (x->time_ns != y->time_ns)
		return x->time_ns > y->time_ns ? -1 : 1;
	return x->number > y->number ? -1 : x->number < y->number;
}

/* Which second, … year a time lies in: any number that rises with time. */
static uint64_t calendar(enum policy_rule rule, uint64_t time_ns)
{
	uint64_t seconds = time_ns / SECOND_NS;
	time_t when = (time_t)seconds;
	struct tm tm;

	switch (rule) {
	case POLICY_MINUTELY:
		return seconds / 60;
	case POLICY_HOURLY:
		return seconds / 3600;
	case POLICY_DAILY:
		return seconds / DAY_SECONDS;
	case POLICY_WEEKLY:	/* 1970 began on a Thursday */
		return (seconds / DAY_SECONDS + 3) / 7;
	case POLICY_MONTHLY:
	case POLICY_YEARLY:
		gmtime_r(&when, &tm);
		return (uint64_t)tm.tm_year * 12 +
		       (rule == POLICY_MONTHLY ? (uint64_t)tm.tm_mon : 0);
	default:
		return seconds;
	}
}

static void keep(struct policy_point *point, enum policy_rule rule)
{
	point->reasons |= 1u << rule;
}

static void apply_last(uint32_t wanted, struct policy_point *points, size_t count)
{
	for (size_t i = count; i-- > 0 && wanted; wanted--)
		keep(&points[i], POLICY_LAST);
}

static void apply_calendar(enum policy_rule rule, uint32_t wanted,
			   struct policy_point *const *newest, size_t count)
{
	uint64_t last = 0;

	for (size_t i = 0; i < count && wanted; i++) {
		uint64_t now = calendar(rule, newest[i]->time_ns);

		if (i && now == last)
			continue;
		last = now;
		keep(newest[i], rule);
		wanted--;
	}
}

static void apply_hanoi(uint32_t levels, struct policy_point *const *newest, size_t count)
{
	uint32_t taken = 0;
	uint64_t last = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t day = newest[i]->time_ns / SECOND_NS / DAY_SECONDS;
		unsigned level = day ? (unsigned)__builtin_ctzll(day) : levels - 1;

		if (i && day == last)
			continue;
		last = day;
		if (level >= levels)
			level = levels - 1;
		if (taken >> level & 1)
			continue;
		taken |= 1u << level;
		keep(newest[i], POLICY_HANOI);
	}
}

static void apply_within(uint64_t within_ns, struct policy_point *const *newest, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (newest[0]->time_ns - newest[i]->time_ns <= within_ns)
			keep(newest[i], POLICY_WITHIN);
}

int policy_apply(const struct policy *policy, struct policy_point *points, size_t count)
{
	struct policy_point **newest;

	if (!count)
		return 0;
	newest = calloc(count, sizeof(*newest));
	if (!newest)
		return -ENOMEM;
	qsort(points, count, sizeof(*points), compare_number);
	for (size_t i = 0; i < count; i++) {
		points[i].reasons = points[i].pinned ? 1u << POLICY_PINNED : 0;
		newest[i] = &points[i];
	}
	qsort(newest, count, sizeof(struct policy_point *), compare_newest);
	/* By number, whatever the clocks said: the next backup stands on it. */
	keep(&points[count - 1], POLICY_NEWEST);
	apply_last(policy->count[POLICY_LAST], points, count);
	for (enum policy_rule rule = POLICY_SECONDLY; rule <= POLICY_YEARLY; rule++)
		apply_calendar(rule, policy->count[rule], newest, count);
	if (policy->count[POLICY_HANOI])
		apply_hanoi(policy->count[POLICY_HANOI], newest, count);
	if (policy->within_ns)
		apply_within(policy->within_ns, newest, count);
	free(newest);
	return 0;
}
