/*
 * When which unit (a volume, or a group) is run next, and whether its objective
 * holds: decided from numbers alone. Nothing is done here and no clock is read; `now`
 * is handed in, of a clock that never jumps and goes on while the machine sleeps
 * (CLOCK_BOOTTIME), in ns. Instants before the boot are negative. Shaped for some
 * hundred units that share a few places to run in.
 *
 * A unit is *covered* up to an instant when every write before it is in a stored
 * point: the last point's, or a later one at which nothing was found written since.
 * Its objective is that a dirty unit was covered at most `rpo_ns` ago. So its next
 * point must be stored by covered + rpo. The run is due earlier by
 *
 *   lead = the longest of its own last runs + those of all others (at most rpo/2)
 *          + margin (a tenth of rpo, at most 1 s)
 *
 * The others count because one of each may stand in front of it; with the oldest due
 * first, not more: as long as no run takes longer than the ones before, and all
 * together twice fit into the shortest rpo, no objective is missed. That is so with one
 * place to run in. Of several, one is never taken by a run that reads a whole volume, so
 * in the worst case the usual runs have that one; a unit that waits while all places are
 * taken waits for what one of them alone would have done, at most. Where they do not
 * fit, runs follow one another without a pause, in turn; lead ends at 7/8 of rpo.
 *
 * Runs of a unit that fail are repeated after 1, 2, 4 … s, at most the smaller of rpo
 * and 5 min; by chance up to half of that less, so that many hosts do not
 * come back to a broken store at once.
 *
 * Threads: none of its own; no globals.
 */
#ifndef CLAWBACK_PROTECT_SCHEDULE_H
#define CLAWBACK_PROTECT_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SCHEDULE_RUNS 8			/* whose durations are remembered */
#define SCHEDULE_NEVER INT64_MAX

struct schedule_unit {
	/* The caller's, at any time. */
	int64_t rpo_ns;			/* above 0 */
	int64_t idle_ns;		/* 0: no points while nothing is written */
	bool open;			/* runs may begin */
	int64_t opened_ns;		/* since when */
	int64_t opens_ns;		/* when not: from when on, as far as is known */
	int64_t calendar_ns;		/* since when the calendar asks for a run; SCHEDULE_NEVER */
	bool whole;			/* its next run may well read the whole volume */
	bool busy;			/* another run has one of its volumes */

	/* For reading only. */
	bool has_point;
	int64_t point_ns;		/* the last point's instant */
	int64_t covered_ns;
	bool dirty;			/* something was found written since */
	bool wanted;			/* to be run as soon as there is room */
	bool running;
	bool missed;			/* said so, and not met since */
	unsigned failures;		/* since the last success */
	int64_t retry_ns;		/* not before, when it failed */

	/* Nobody else's. */
	int64_t since_ns;
	int64_t started_ns;
	bool met, late;			/* its last run */
	int64_t runs_ns[SCHEDULE_RUNS];
	unsigned run_count;
};

/* A unit just heard of; `run_ns` as a run took once, or 0. */
void schedule_init(struct schedule_unit *unit, int64_t now, int64_t run_ns);

/* A point of that instant stands, whoever made it. */
void schedule_point(struct schedule_unit *unit, int64_t instant);

/*
 * The first unit that is due and has not been looked at for that, or -1. The caller
 * finds out and tells one of:
 * clean: at `now` nothing had been written since the last point, beyond doubt. True
 * when no run is needed for it, which moves its due time.
 * dirty: a run is wanted. `trusted` false: also what was found clean is in doubt.
 */
ssize_t schedule_look(const struct schedule_unit *units, size_t count, int64_t now);
bool schedule_clean(struct schedule_unit *unit, int64_t now);
void schedule_dirty(struct schedule_unit *unit, bool trusted);

/* How many runs may begin now, and how many of these may read whole volumes. */
struct schedule_room { unsigned runs, whole; };
/*
 * With `most` runs at once, of which `running` go on, `whole` of them over whole
 * volumes. If there are two or more, one is kept for usual runs.
 */
struct schedule_room schedule_room(unsigned most, unsigned running, unsigned whole);

/* Of the units that are wanted, the one due longest for which there is room, or -1. */
ssize_t schedule_pick(const struct schedule_unit *units, size_t count,
		      struct schedule_room room);
void schedule_begin(struct schedule_unit *unit, int64_t now);

struct schedule_outcome {
	bool stored;			/* all its points */
	int64_t instant_ns;		/* of the oldest, when stored */
	bool whole;			/* a full, a rescan: says nothing about the usual run */
	uint32_t random;
};
/* The age that the oldest write had reached, at most; 0 before there was a point. */
int64_t schedule_end(struct schedule_unit *unit, int64_t now,
		     const struct schedule_outcome *outcome);

/*
 * It may run again. A window that opens begins the objective anew, for there was none; but
 * an objective of a day or more spans windows, which would begin it anew for ever. After a
 * blackout (`window` false) it holds on, and what was due meanwhile has as long as a run
 * may take.
 */
void schedule_open(struct schedule_unit *units, size_t count, size_t index, int64_t now,
		   bool window);
/* When it is due; never in the past of a failure's pause. */
int64_t schedule_due(const struct schedule_unit *units, size_t count, size_t index);
/* By how much the run that is to keep the objective begins before its end. */
int64_t schedule_lead(const struct schedule_unit *units, size_t count, size_t index);
/* The longest of its last runs, or a guess. */
int64_t schedule_duration(const struct schedule_unit *unit);
/* How old its oldest write may be by now; 0 while none is known of. */
int64_t schedule_age(const struct schedule_unit *unit, int64_t now);
/* When there is something new to decide; above `now` unless there is now. */
int64_t schedule_wake(const struct schedule_unit *units, size_t count, int64_t now);

/*
 * Told once each: the objective is missed, or will be before a run can end; and it
 * was met again, by a point stored in time or because nothing is written.
 */
enum schedule_change { SCHEDULE_SAME, SCHEDULE_MISSED, SCHEDULE_MET };
enum schedule_change schedule_objective(struct schedule_unit *units, size_t count,
					size_t index, int64_t now);

int64_t schedule_pause(unsigned failures, int64_t rpo_ns, uint32_t random);

#endif
