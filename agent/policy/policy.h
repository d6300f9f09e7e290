/*
 * Which recovery points a retention policy keeps, and why. Pure: no I/O, no clock,
 * no globals; ages count from the newest point, so that a host that stood still for
 * a month loses nothing.
 *
 * Rules, as in restic and borg. LAST keeps the N newest points. SECONDLY … YEARLY
 * keep the newest point of each of the N newest seconds … years that have a point.
 * Calendars are UTC, so that no change of the clocks moves a boundary; weeks begin
 * on Monday (ISO 8601). WITHIN keeps all that are at most so much older than the
 * newest. HANOI is the Tower of Hanoi with N levels: a day (counted from 1970) is on
 * the level that is the number of times two divides it (the ruler sequence, OEIS
 * A007814), the last level takes all above; kept is the newest point of each level's
 * newest day. So N points reach back at least 2^(N-2) days, if there is one each day.
 *
 * A point is kept if any rule keeps it; the newest always is, and one that is pinned.
 *
 * Threads: no state.
 */
#ifndef CLAWBACK_POLICY_POLICY_H
#define CLAWBACK_POLICY_POLICY_H

#include "agent/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum policy_rule {
	POLICY_LAST, POLICY_SECONDLY, POLICY_MINUTELY, POLICY_HOURLY, POLICY_DAILY,
	POLICY_WEEKLY, POLICY_MONTHLY, POLICY_YEARLY, POLICY_HANOI, POLICY_WITHIN,
	/* … and what is no rule, but a reason. */
	POLICY_NEWEST, POLICY_PINNED,
	POLICY_REASONS
};

#define POLICY_COUNTS (POLICY_HANOI + 1)	/* rules that have a number */
#define POLICY_HANOI_MAX 30
#define POLICY_REASONS_TEXT 128

/* All zero: no rule. */
struct policy {
	uint32_t count[POLICY_COUNTS];
	uint64_t within_ns;
};

struct policy_point {
	uint64_t number, time_ns;
	bool pinned;
	uint32_t reasons;	/* out: bit R for enum policy_rule R; 0: forget it */
};

/* Whether there is no rule, so that only the newest and pinned points would stay. */
bool policy_empty(const struct policy *policy);

/*
 * Sets one rule: "last" … "yearly" to a number, "hanoi" to one of 1 …
 * POLICY_HANOI_MAX, "within" to a duration ("36h", "1d12h"; s, m, h, d, w).
 * EXIT_USAGE for anything else; the policy is then as before.
 */
int policy_set(struct policy *policy, const char *rule, const char *value,
	       struct error *err);

/*
 * Adds the rules of a text: words "RULE=VALUE"; or "gfs" (grandfather, father, son)
 * for "hourly=24 daily=7 weekly=5 monthly=12 yearly=3"; or "hanoi" for "hanoi=6".
 * Spaces or commas lie between. EXIT_USAGE, also for a text without any rule.
 */
int policy_parse(struct policy *policy, const char *text, struct error *err);

/* "36h", "1d12h": -EINVAL for anything else, and beyond 2^64 ns. */
int policy_duration(const char *text, uint64_t *ns);

/* Fills `reasons` of all points; they are sorted by number. -ENOMEM. */
int policy_apply(const struct policy *policy, struct policy_point *points, size_t count);

/* "newest, daily, weekly"; "" for none. */
void policy_reasons(uint32_t reasons, char text[static POLICY_REASONS_TEXT]);

#endif
