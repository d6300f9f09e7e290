#include "agent/protect/schedule.h"

#include <string.h>

#define SECOND_NS INT64_C(1000000000)
#define DAY_NS (86400 * SECOND_NS)
#define PAUSE_MAX_NS (300 * SECOND_NS)
#define GUESS_MAX_NS (30 * SECOND_NS)

static int64_t lesser(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t greater(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

void schedule_init(struct schedule_unit *unit, int64_t now, int64_t run_ns)
{
	memset(unit, 0, sizeof(*unit));
	unit->since_ns = now;
	unit->open = true;
	unit->opened_ns = unit->retry_ns = INT64_MIN;
	unit->calendar_ns = SCHEDULE_NEVER;
	if (run_ns > 0)
		unit->runs_ns[unit->run_count++] = run_ns;
}

void schedule_point(struct schedule_unit *unit, int64_t instant)
{
	unit->point_ns = instant;
	unit->covered_ns = instant;
	unit->has_point = true;
	unit->dirty = false;
}

/* ---- when ------------------------------------------------------------------ */

int64_t schedule_duration(const struct schedule_unit *unit)
{
	unsigned known = unit->run_count < SCHEDULE_RUNS ? unit->run_count : SCHEDULE_RUNS;
	int64_t longest = 0;

	if (!known)
		return lesser(unit->rpo_ns / 4, GUESS_MAX_NS);
	for (unsigned i = 0; i < known; i++)
		longest = greater(longest, unit->runs_ns[i]);
	return longest;
}

int64_t schedule_lead(const struct schedule_unit *units, size_t count, size_t index)
{
	const struct schedule_unit *unit = &units[index];
	int64_t others = 0, lead;

	for (size_t i = 0; i < count; i++)
		if (i != index)
			others += schedule_duration(&units[i]);
	lead = schedule_duration(unit) + lesser(others, unit->rpo_ns / 2) +
	       lesser(unit->rpo_ns / 10, SECOND_NS);
	/* What cannot be met all the same is no reason to look without a pause. */
	return lesser(lead, unit->rpo_ns - unit->rpo_ns / 8);
}

int64_t schedule_due(const struct schedule_unit *units, size_t count, size_t index)
{
	const struct schedule_unit *unit = &units[index];
	int64_t due = unit->since_ns;

	if (unit->has_point)
		due = lesser(unit->covered_ns + unit->rpo_ns - schedule_lead(units, count, index),
			     unit->calendar_ns);
	if (unit->has_point && unit->idle_ns)
		due = lesser(due, unit->point_ns + unit->idle_ns);
	/* One that fails again and again waits behind those that did not. */
	return greater(due, unit->retry_ns);
}

struct schedule_room schedule_room(unsigned most, unsigned running, unsigned whole)
{
	unsigned most_whole = most > 1 ? most - 1 : most;
	struct schedule_room room = { running < most ? most - running : 0,
				      whole < most_whole ? most_whole - whole : 0 };

	return room;
}

static bool may_begin(const struct schedule_unit *unit, struct schedule_room room)
{
	return unit->wanted && !unit->busy && room.runs && (!unit->whole || room.whole);
}

static bool is_due(const struct schedule_unit *unit, int64_t due, int64_t now)
{
	return !unit->wanted && due <= now;
}

/* `room` NULL: to be looked at; else to be run. */
static ssize_t longest_due(const struct schedule_unit *units, size_t count, int64_t now,
			   const struct schedule_room *room)
{
	int64_t oldest = SCHEDULE_NEVER;
	ssize_t found = -1;

	for (size_t i = 0; i < count; i++) {
		int64_t due = schedule_due(units, count, i);

		if (units[i].running || !units[i].open || (found >= 0 && due >= oldest) ||
		    !(room ? may_begin(&units[i], *room) : is_due(&units[i], due, now)))
			continue;
		oldest = due;
		found = (ssize_t)i;
	}
	return found;
}

ssize_t schedule_look(const struct schedule_unit *units, size_t count, int64_t now)
{
	return longest_due(units, count, now, NULL);
}

ssize_t schedule_pick(const struct schedule_unit *units, size_t count,
		      struct schedule_room room)
{
	return longest_due(units, count, SCHEDULE_NEVER, &room);
}

/* ---- what happened --------------------------------------------------------- */

bool schedule_clean(struct schedule_unit *unit, int64_t now)
{
	unit->covered_ns = now;
	unit->dirty = false;
	unit->met = true;
	unit->failures = 0;
	unit->retry_ns = INT64_MIN;
	unit->wanted = unit->calendar_ns <= now ||
		       (unit->idle_ns && now - unit->point_ns >= unit->idle_ns);
	return !unit->wanted;
}

void schedule_dirty(struct schedule_unit *unit, bool trusted)
{
	unit->dirty = unit->wanted = true;
	if (!trusted)
		unit->covered_ns = unit->point_ns;
}

static int64_t schedule_deadline(const struct schedule_unit *unit)
{
	return greater(unit->has_point ? unit->covered_ns : unit->since_ns, unit->opened_ns) +
	       unit->rpo_ns;
}

void schedule_open(struct schedule_unit *units, size_t count, size_t index, int64_t now,
		   bool window)
{
	struct schedule_unit *unit = &units[index];

	unit->open = true;
	unit->opened_ns = now;
	if (!window || unit->rpo_ns >= DAY_NS)
		unit->opened_ns += schedule_lead(units, count, index) - unit->rpo_ns;
}

void schedule_begin(struct schedule_unit *unit, int64_t now)
{
	unit->running = true;
	unit->wanted = false;
	unit->started_ns = now;
}

int64_t schedule_pause(unsigned failures, int64_t rpo_ns, uint32_t random)
{
	int64_t most = greater(lesser(rpo_ns, PAUSE_MAX_NS), SECOND_NS);
	int64_t pause = SECOND_NS;

	for (unsigned i = 1; i < failures && pause < most; i++)
		pause *= 2;
	pause = lesser(pause, most);
	return pause - (pause / 2 >> 16) * (int64_t)(random >> 16);
}

int64_t schedule_end(struct schedule_unit *unit, int64_t now,
		     const struct schedule_outcome *outcome)
{
	int64_t age = unit->has_point ? now - unit->covered_ns : 0;

	unit->running = false;
	if (!outcome->stored) {
		unit->failures++;
		unit->dirty = true;	/* perhaps meanwhile */
		unit->retry_ns = now + schedule_pause(unit->failures, unit->rpo_ns,
						      outcome->random);
		return age;
	}
	unit->late = unit->has_point && now > schedule_deadline(unit);
	/* A run so long that the next is late already meets nothing. */
	unit->met = (!unit->has_point || now <= schedule_deadline(unit)) &&
		    now - outcome->instant_ns <= unit->rpo_ns;
	unit->failures = 0;
	unit->retry_ns = INT64_MIN;
	schedule_point(unit, outcome->instant_ns);
	if (!outcome->whole)
		unit->runs_ns[unit->run_count++ % SCHEDULE_RUNS] = now - unit->started_ns;
	return age;
}

/* ---- the objective --------------------------------------------------------- */

/* What is written while it runs, or waits for that, is not looked for. */
static bool maybe_dirty(const struct schedule_unit *unit)
{
	return unit->dirty || unit->wanted || unit->running;
}

int64_t schedule_age(const struct schedule_unit *unit, int64_t now)
{
	return unit->has_point && maybe_dirty(unit) ? now - unit->covered_ns : 0;
}

static bool at_risk(const struct schedule_unit *unit)
{
	return unit->open && (maybe_dirty(unit) || !unit->has_point);
}

enum schedule_change schedule_objective(struct schedule_unit *units, size_t count,
					size_t index, int64_t now)
{
	struct schedule_unit *unit = &units[index];
	int64_t run_ns = schedule_duration(unit), end;

	if (unit->missed && unit->met) {
		unit->missed = unit->met = false;
		return SCHEDULE_MET;
	}
	unit->met = false;
	end = unit->running ? greater(now, unit->started_ns + run_ns)
			    : greater(now, schedule_due(units, count, index)) + run_ns;
	if (unit->missed ||
	    (!unit->late && (!at_risk(unit) || end <= schedule_deadline(unit))))
		return SCHEDULE_SAME;
	unit->missed = true;
	unit->late = false;
	return SCHEDULE_MISSED;
}

int64_t schedule_wake(const struct schedule_unit *units, size_t count, int64_t now)
{
	int64_t wake = SCHEDULE_NEVER;

	for (size_t i = 0; i < count; i++) {
		const struct schedule_unit *unit = &units[i];
		int64_t latest = schedule_deadline(unit) - schedule_duration(unit) + 1;

		if (!unit->open)
			wake = lesser(wake, unit->opens_ns);
		else if (!unit->running && !unit->wanted)
			wake = lesser(wake, schedule_due(units, count, i));
		if (!unit->missed && at_risk(unit))
			wake = lesser(wake, greater(unit->running ? schedule_deadline(unit) + 1
								  : latest, now + 1));
	}
	return wake;
}
