#include "agent/protect/notify_rules.h"

#include <errno.h>

unsigned notify_class(enum notify_kind kind)
{
	static const unsigned classes[NOTIFY_KINDS] = {
		[NOTIFY_RPO_MISSED] = NOTIFY_ON_WARNING,
		[NOTIFY_RPO_RECOVERED] = NOTIFY_ON_RECOVERY,
		[NOTIFY_CYCLE_FAILED] = NOTIFY_ON_FAILURE,
		[NOTIFY_CYCLE_RECOVERED] = NOTIFY_ON_RECOVERY,
		[NOTIFY_RESCAN] = NOTIFY_ON_WARNING,
		[NOTIFY_SPOT_MISMATCH] = NOTIFY_ON_FAILURE,
		[NOTIFY_SUCCESS] = NOTIFY_ON_SUCCESS,
		[NOTIFY_STORE_LAGS] = NOTIFY_ON_WARNING,
		[NOTIFY_STORE_RECOVERED] = NOTIFY_ON_RECOVERY,
		[NOTIFY_DRILL_FAILED] = NOTIFY_ON_FAILURE,
		[NOTIFY_DRILL_RECOVERED] = NOTIFY_ON_RECOVERY,
		[NOTIFY_RETENTION_FAILED] = NOTIFY_ON_FAILURE,
		[NOTIFY_RETENTION_RECOVERED] = NOTIFY_ON_RECOVERY,
	};

	return classes[kind];
}

/* ---- what an event means ------------------------------------------------------- */

/* All was read although nobody asked for that: a first full and a calendar's are wanted. */
static bool read_all(const struct protect_event *event)
{
	for (size_t i = 0; i < event->part_count; i++) {
		const struct protect_part *part = &event->parts[i];

		if (part->committed && (part->rescan || (part->kind == POINT_FULL &&
							  event->asked != BACKUP_FULL &&
							  part->number > 1)))
			return true;
	}
	return false;
}

/* As protect_backup says it: the points stand, those before are in doubt. */
static bool spot_mismatch(const struct error *error)
{
	return error->code == -EBADMSG && error->exit == EXIT_UNTRUSTWORTHY;
}

static bool all_stored(const struct protect_event *event)
{
	for (size_t i = 0; i < event->part_count; i++)
		if (!event->parts[i].committed)
			return false;
	return event->part_count > 0;
}

static size_t failure_kinds(const struct protect_event *event, enum notify_kind *kinds)
{
	if (event->error->exit == EXIT_INTERRUPTED)
		return 0;
	if (!spot_mismatch(event->error) || !all_stored(event)) {
		kinds[0] = NOTIFY_CYCLE_FAILED;
		return 1;
	}
	kinds[0] = NOTIFY_SPOT_MISMATCH;
	kinds[1] = NOTIFY_CYCLE_RECOVERED;
	return 2;
}

size_t notify_kinds(const struct protect_event *event,
		    enum notify_kind kinds[static NOTIFY_KINDS_AT_ONCE])
{
	size_t count = 0;

	switch (event->type) {
	case PROTECT_RPO_MISSED:
		kinds[count++] = NOTIFY_RPO_MISSED;
		break;
	case PROTECT_RPO_RECOVERED:
		kinds[count++] = NOTIFY_RPO_RECOVERED;
		break;
	case PROTECT_CYCLE_FAILED:
		return failure_kinds(event, kinds);
	case PROTECT_STORE_LAGS:
		kinds[count++] = NOTIFY_STORE_LAGS;
		break;
	case PROTECT_STORE_RECOVERED:
		kinds[count++] = NOTIFY_STORE_RECOVERED;
		break;
	case PROTECT_DRILL_FAILED:
		kinds[count++] = NOTIFY_DRILL_FAILED;
		break;
	case PROTECT_DRILL_PASSED:
		kinds[count++] = NOTIFY_DRILL_RECOVERED;
		break;
	case PROTECT_RETENTION_FAILED:
		if (event->error->exit != EXIT_INTERRUPTED)
			kinds[count++] = NOTIFY_RETENTION_FAILED;
		break;
	case PROTECT_RETAINED:
		kinds[count++] = NOTIFY_RETENTION_RECOVERED;
		break;
	case PROTECT_CYCLE_ENDED:
		kinds[count++] = NOTIFY_CYCLE_RECOVERED;
		kinds[count++] = NOTIFY_SUCCESS;
		if (read_all(event))
			kinds[count++] = NOTIFY_RESCAN;
		break;
	default:
		break;
	}
	return count;
}

/* ---- what is told ---------------------------------------------------------------- */

static bool interval_over(const struct notify_history *history,
			  const struct notify_rules *rules, enum notify_kind kind, int64_t now)
{
	return !history->kinds[kind].told ||
	       now - history->kinds[kind].told_ns >= rules->interval_ns;
}

static void told(struct notify_history *history, enum notify_kind kind, int64_t now,
		 unsigned *held)
{
	*held = history->kinds[kind].held;
	history->kinds[kind].held = 0;
	history->kinds[kind].told = true;
	history->kinds[kind].told_ns = now;
}

static bool limited(struct notify_history *history, const struct notify_rules *rules,
		    enum notify_kind kind, int64_t now, unsigned *held)
{
	if (!(rules->on & notify_class(kind)))
		return false;
	if (!interval_over(history, rules, kind, now)) {
		history->kinds[kind].held++;
		return false;
	}
	told(history, kind, now, held);
	return true;
}

static bool over(const struct notify_rules *rules, bool *trouble_told)
{
	bool tell = *trouble_told && rules->on & NOTIFY_ON_RECOVERY;

	*trouble_told = false;
	return tell;
}

bool notify_decide(struct notify_history *history, const struct notify_rules *rules,
		   enum notify_kind kind, int64_t now, unsigned *held)
{
	bool tell;

	*held = 0;
	switch (kind) {
	case NOTIFY_RPO_MISSED:
		if (!history->missed)
			history->missed_ns = now;
		history->missed = true;
		tell = limited(history, rules, kind, now, held);
		history->miss_told |= tell;
		return tell;
	case NOTIFY_RPO_RECOVERED:
		history->missed = false;
		return over(rules, &history->miss_told);
	case NOTIFY_CYCLE_FAILED:
		if (!history->failures)
			history->failing_ns = now;
		if (history->failures < rules->failures)
			history->failures++;
		if (history->failures < rules->failures)
			return false;
		tell = limited(history, rules, kind, now, held);
		history->failure_told |= tell;
		return tell;
	case NOTIFY_CYCLE_RECOVERED:
		history->failures = 0;
		return over(rules, &history->failure_told);
	case NOTIFY_STORE_LAGS:
		tell = limited(history, rules, kind, now, held);
		history->lag_told |= tell;
		return tell;
	case NOTIFY_STORE_RECOVERED:
		return over(rules, &history->lag_told);
	case NOTIFY_DRILL_FAILED:
		tell = limited(history, rules, kind, now, held);
		history->drill_told |= tell;
		return tell;
	case NOTIFY_DRILL_RECOVERED:
		return over(rules, &history->drill_told);
	case NOTIFY_RETENTION_FAILED:
		tell = limited(history, rules, kind, now, held);
		history->retention_told |= tell;
		return tell;
	case NOTIFY_RETENTION_RECOVERED:
		return over(rules, &history->retention_told);
	default:
		return limited(history, rules, kind, now, held);
	}
}

bool notify_overdue(struct notify_history *history, const struct notify_rules *rules,
		    int64_t now, unsigned *held)
{
	if (!history->missed || history->miss_told || !(rules->on & NOTIFY_ON_WARNING) ||
	    !interval_over(history, rules, NOTIFY_RPO_MISSED, now))
		return false;
	told(history, NOTIFY_RPO_MISSED, now, held);
	/* The one that is told now is among them. */
	*held -= *held > 0;
	history->miss_told = true;
	return true;
}
