/* One unit's turns: is it due, was anything written, its run and what came of it. */
#include "agent/protect/calendar.h"
#include "agent/protect/daemon.h"

#include "agent/base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* A longer one would be a full, or a mistake. */
#define RUN_SEED_MAX_NS (3600 * INT64_C(1000000000))

void daemon_tell(struct daemon *daemon, struct protect_event event)
{
	event.time_ns = daemon->now.real_ns;
	if (!event.why)
		event.why = "";
	daemon->record = true;
	daemon->options->tell(daemon->options->context, &event);
	daemon_notify(daemon, &event);
}

void daemon_tell_of(struct daemon *daemon, size_t i, struct protect_event event)
{
	event.unit = daemon->list.units[i].name;
	event.group = daemon->list.units[i].group;
	event.rpo_ns = daemon->list.units[i].schedule.rpo_ns;
	daemon_tell(daemon, event);
}

/* ---- units and the clock on the wall -------------------------------------------- */

/* When the next full is due: the first elapse after the last full. */
static void unit_calendar(struct daemon *daemon, size_t i, uint64_t last_full_ns)
{
	struct unit *unit = &daemon->list.units[i];
	uint64_t after = last_full_ns ? last_full_ns : unit->seen_ns;
	struct error err = ERROR_INIT;

	if (!*unit->schedule.full || after == unit->full_after_ns)
		return;
	if (after > daemon->now.real_ns)
		after = daemon->now.real_ns;
	unit->full_after_ns = after;
	if (calendar_next(unit->schedule.full, after, &unit->full_at_ns, &err)) {
		log_warning("%s: %s", unit->name, err.message);
		unit->full_at_ns = CALENDAR_NEVER;
		unit->full_after_ns = 0;
	}
}

void unit_clock(struct daemon *daemon, size_t i)
{
	const struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	uint64_t until;
	bool open = calendar_open(unit->schedule.window_from, unit->schedule.window_to,
				  daemon->now.real_ns, &until);

	if (open && !plan->open)
		plan->opened_ns = daemon->now.boot_ns;
	plan->open = open;
	plan->opens_ns = daemon->now.boot_ns + (int64_t)until;
	if (!*unit->schedule.full || !unit->full_after_ns ||
	    unit->full_at_ns > daemon->now.real_ns)
		plan->full_ns = SCHEDULE_NEVER;
	else if (plan->full_ns == SCHEDULE_NEVER)
		plan->full_ns = daemon->now.boot_ns;
}

/* What others may have done, too. The first look at a unit tells what there is. */
static void unit_take_look(struct daemon *daemon, size_t i, const struct look *look)
{
	struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	int64_t instant;

	if (look->has_point && look->points != unit->points) {
		instant = instant_of_real(daemon->now, look->point_ns);
		schedule_point(plan, instant < daemon->now.boot_ns ? instant
								   : daemon->now.boot_ns);
		unit->points = look->points;
	}
	unit_calendar(daemon, i, look->full_ns == UINT64_MAX ? 0 : look->full_ns);
	unit_clock(daemon, i);
}

void unit_decide(struct daemon *daemon, size_t i)
{
	struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	struct look look;

	/* Before it looks: what is written meanwhile is not what was looked for. */
	daemon->now = instant_now();
	unit_look(daemon->config, unit, &look);
	unit_take_look(daemon, i, &look);
	if (!look.has_point || !look.clean) {
		schedule_dirty(plan, look.trusted);
		unit->quiet = false;
		return;
	}
	if (!schedule_clean(plan, daemon->now.boot_ns))
		return;
	unit->counts.skipped++;
	if (unit->quiet)
		return;
	unit->quiet = true;
	daemon_tell_of(daemon, i, (struct protect_event){ .type = PROTECT_CYCLE_SKIPPED,
		.why = "nothing was written since the last point" });
}

/* What is known at the start, so that units take their turns by it. */
void units_look(struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->list.count; i++) {
		struct look look;

		unit_look(daemon->config, &daemon->list.units[i], &look);
		unit_take_look(daemon, i, &look);
	}
}

/* How long runs took before a restart. */
void units_seed(struct daemon *daemon)
{
	struct protect_facts facts;
	struct error err = ERROR_INIT;

	if (protect_facts_load(daemon->config->agent.state, &facts, &err))
		return;
	for (size_t i = 0; i < facts.count; i++) {
		const struct protect_unit *was = &facts.units[i];
		ssize_t at = units_find(&daemon->list, was->name, was->group);
		struct schedule_unit *plan = at < 0 ? NULL : &daemon->list.schedules[at];

		if (plan && !plan->run_count && was->run_ns &&
		    was->run_ns <= (uint64_t)RUN_SEED_MAX_NS)
			plan->runs_ns[plan->run_count++] = (int64_t)was->run_ns;
	}
	protect_facts_fini(&facts);
}

/* ---- runs ---------------------------------------------------------------------- */

/* What a run says of its volumes, as the schedule wants it. */
static uint64_t run_outcome(struct daemon *daemon, const struct unit *unit,
			    struct run_report *report, struct schedule_outcome *outcome)
{
	uint64_t points = 0;

	outcome->stored = report->count > 0;
	outcome->instant_ns = daemon->now.boot_ns;
	for (size_t p = 0; p < report->count; p++) {
		struct protect_part *part = &report->parts[p];
		int64_t instant = instant_of_real(daemon->now, part->time_ns);

		part->volume = unit && p < unit->count ? unit->volumes[p]->name : "";
		outcome->stored &= part->committed;
		outcome->whole |= part->rescan || part->kind == POINT_FULL;
		points += part->number;
		if (instant < outcome->instant_ns)
			outcome->instant_ns = instant;
	}
	/* The clock on the wall may have been set meanwhile. */
	if (outcome->instant_ns < daemon->started_ns)
		outcome->instant_ns = daemon->started_ns;
	if (getrandom(&outcome->random, sizeof(outcome->random), 0) < 0)
		outcome->random = 0;
	return points;
}

static void run_counts(struct daemon *daemon, const struct run_report *report)
{
	daemon->runs++;
	if (!report->ret)
		return;
	daemon->failed++;
	daemon->failure = report->err;
}

static void unit_count(struct unit *unit, const struct run_report *report, bool stored,
		       uint64_t now_ns, uint64_t duration_ns)
{
	struct metrics_counts *counts = &unit->counts;

	counts->ran = true;
	counts->duration_ns = duration_ns;
	if (stored)
		counts->success_ns = now_ns;
	*(report->ret ? &counts->failed : &counts->stored) += 1;
	for (size_t p = 0; p < report->count; p++) {
		counts->read_bytes += report->parts[p].read_bytes;
		counts->stored_bytes += report->parts[p].stored_bytes;
	}
}

static void unit_ended(struct daemon *daemon, size_t i, struct run_report *report,
		       struct protect_event *event)
{
	struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	struct schedule_outcome outcome = { 0 };
	uint64_t points = run_outcome(daemon, unit, report, &outcome);
	struct look look;

	event->age_ns = (uint64_t)schedule_end(plan, daemon->now.boot_ns, &outcome);
	event->rpo_ns = unit->schedule.rpo_ns;
	if (outcome.stored)
		unit->points = points;
	unit_count(unit, report, outcome.stored, daemon->now.real_ns, event->duration_ns);
	if (report->ret) {
		unit->error_ns = daemon->now.real_ns;
		snprintf(unit->error, sizeof(unit->error), "%.255s", report->err.message);
	}
	unit_look(daemon->config, unit, &look);
	unit_take_look(daemon, i, &look);
	event->due_ns = instant_to_real(daemon->now, schedule_due(daemon->list.schedules,
								  daemon->list.count, i));
}

void run_ended(struct daemon *daemon, struct run_report *report)
{
	ssize_t i = units_find(&daemon->list, daemon->running, daemon->running_group);
	struct protect_event event = {
		.type = report->ret ? PROTECT_CYCLE_FAILED : PROTECT_CYCLE_ENDED,
		.unit = daemon->running, .group = daemon->running_group,
		.full = daemon->running_full,
		.duration_ns = (uint64_t)(daemon->now.boot_ns - daemon->started_ns),
		.parts = report->parts, .part_count = report->count,
		.error = report->ret ? &report->err : NULL,
	};
	struct schedule_outcome ignored = { 0 };

	run_counts(daemon, report);
	daemon_metrics_forget(daemon);
	if (i >= 0)
		unit_ended(daemon, (size_t)i, report, &event);
	else
		run_outcome(daemon, NULL, report, &ignored);
	for (size_t p = 0; p < report->count; p++)
		if (report->parts[p].committed)
			daemon_stores_want(daemon);
	daemon_tell(daemon, event);
}

void run_start(struct daemon *daemon, size_t i)
{
	struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	bool full = plan->full_ns <= daemon->now.boot_ns;
	struct run_report report = { .err = ERROR_INIT };

	schedule_begin(plan, daemon->now.boot_ns);
	unit->quiet = false;
	unit->tried = true;
	strcpy(daemon->running, unit->name);
	daemon->running_group = unit->group;
	daemon->running_full = full;
	daemon->started_ns = daemon->now.boot_ns;
	daemon_tell_of(daemon, i, (struct protect_event){ .type = PROTECT_CYCLE_STARTED, .full = full,
		.why = full ? "the calendar asks for a full" :
		       !plan->has_point ? "there is no point yet" :
		       plan->dirty ? "" : "there was none for long" });
	report.ret = child_start(daemon->config, unit, full ? BACKUP_FULL : BACKUP_AUTO,
				 daemon->lock_fd, &daemon->child, &report.err);
	if (report.ret)
		run_ended(daemon, &report);
}
