/*
 * Which events of the daemon become messages to people: decided from the event, what
 * was told of the unit before, and `now` (of a clock that never jumps, in ns). Nothing
 * is done here and no clock is read.
 *
 * - A failure is told from the `failures`-th in a row on: the daemon's first is tried
 *   again within seconds, and what it may cost, the objective, has a message of its own.
 * - At most one message a unit and kind in an interval; the next says how many it
 *   stands for. A miss of the objective that fell into one and lasts is told at its end.
 * - A trouble that was told is told to be over once, whatever the interval; one that
 *   was not told is not.
 *
 * Threads: no globals.
 */
#ifndef CLAWBACK_PROTECT_NOTIFY_RULES_H
#define CLAWBACK_PROTECT_NOTIFY_RULES_H

#include "agent/protect/protect.h"

enum notify_kind {
	NOTIFY_RPO_MISSED,	/* warning */
	NOTIFY_RPO_RECOVERED,	/* recovery */
	NOTIFY_CYCLE_FAILED,	/* failure */
	NOTIFY_CYCLE_RECOVERED,	/* recovery */
	NOTIFY_RESCAN,		/* warning: all was read, for marks were not believed */
	NOTIFY_SPOT_MISMATCH,	/* failure: the tracker missed a write */
	NOTIFY_SUCCESS,		/* success */
	NOTIFY_STORE_LAGS,	/* warning */
	NOTIFY_STORE_RECOVERED,	/* recovery */
	NOTIFY_DRILL_FAILED,	/* failure */
	NOTIFY_DRILL_RECOVERED,	/* recovery: one passed */
	NOTIFY_RETENTION_FAILED, /* failure */
	NOTIFY_RETENTION_RECOVERED, /* recovery */
	NOTIFY_KINDS,
};

/* NOTIFY_ON_… of a kind. */
unsigned notify_class(enum notify_kind kind);

/* What an event means; at most NOTIFY_KINDS_AT_ONCE. */
#define NOTIFY_KINDS_AT_ONCE 3
size_t notify_kinds(const struct protect_event *event,
		    enum notify_kind kinds[static NOTIFY_KINDS_AT_ONCE]);

/* Of one unit, one store, or one volume's drills; all zero at first. */
struct notify_history {
	struct {
		bool told;
		int64_t told_ns;
		unsigned held;		/* back since then */
	} kinds[NOTIFY_KINDS];
	unsigned failures;		/* in a row */
	bool failure_told;
	bool missed, miss_told;
	bool lag_told, retention_told, drill_told;
	int64_t failing_ns, missed_ns;	/* when the last trouble began; 0: there was none */
};

struct notify_rules {
	unsigned on;			/* NOTIFY_ON_… */
	int64_t interval_ns;
	unsigned failures;		/* from 1 on */
};

/* Whether to tell it; then `held`: how many of its kind were held back before it. */
bool notify_decide(struct notify_history *history, const struct notify_rules *rules,
		   enum notify_kind kind, int64_t now, unsigned *held);

/* Whether a miss is to be told now that was held back; asked now and then. */
bool notify_overdue(struct notify_history *history, const struct notify_rules *rules,
		    int64_t now, unsigned *held);

#endif
