/* One unit's turns: is it due, was anything written, its run and what came of it. */
#include "agent/protect/calendar.h"
#include "agent/protect/daemon.h"
#include "agent/protect/tune.h"

#include "agent/base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

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

void unit_clock(struct daemon *daemon, size_t i)
{
	struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	enum backup_type asked = unit_asked(unit, daemon->now.real_ns);
	uint64_t until;
	bool open = calendar_open(&unit->schedule, daemon->now.real_ns, &until);

	if (open && !plan->open) {
		schedule_open(daemon->list.schedules, daemon->list.count, i, daemon->now.boot_ns,
			      unit->outside);
		unit->outside = false;
	} else if (!open) {
		unit->outside |= !calendar_in_window(&unit->schedule, daemon->now.real_ns);
	}
	plan->open = open;
	plan->opens_ns = daemon->now.boot_ns + (int64_t)until;
	plan->whole = unit->doubt || asked == BACKUP_FULL;
	if (asked == BACKUP_AUTO)
		plan->calendar_ns = SCHEDULE_NEVER;
	else if (plan->calendar_ns == SCHEDULE_NEVER)
		plan->calendar_ns = daemon->now.boot_ns;
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
	unit->doubt = !look->has_point || !look->trusted;
	unit_calendars(unit, look, daemon->now.real_ns);
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
static uint64_t run_outcome(struct daemon *daemon, const struct running *running,
			    struct run_report *report, struct schedule_outcome *outcome)
{
	uint64_t points = 0;

	outcome->stored = report->count > 0;
	outcome->instant_ns = daemon->now.boot_ns;
	for (size_t p = 0; p < report->count; p++) {
		struct protect_part *part = &report->parts[p];
		int64_t instant = instant_of_real(daemon->now, part->time_ns);

		part->volume = p < running->count ? running->volumes[p] : "";
		outcome->stored &= part->committed;
		outcome->whole |= part->rescan || part->kind == POINT_FULL;
		points += part->number;
		if (instant < outcome->instant_ns)
			outcome->instant_ns = instant;
	}
	/* The clock on the wall may have been set meanwhile. */
	if (outcome->instant_ns < running->started_ns)
		outcome->instant_ns = running->started_ns;
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
		counts->points[report->parts[p].kind] += report->parts[p].committed;
		counts->read_bytes += report->parts[p].read_bytes;
		counts->stored_bytes += report->parts[p].stored_bytes;
	}
}

/* Where compression is the daemon's to choose: after a usual run that stored something. */
static void unit_tune(struct daemon *daemon, size_t i, const struct run_report *report,
		      uint64_t duration_ns)
{
	static const char *const why[] = {
		[TUNE_LIMIT_NONE] = "runs are short",
		[TUNE_LIMIT_PROCESSORS] = "runs are too long, and the processors are busy",
		[TUNE_LIMIT_STORE] = "runs are too long, and the processors wait",
	};
	struct unit *unit = &daemon->list.units[i];
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t workers = daemon->config->agent.workers;
	struct tune_run run = {
		.rpo_ns = unit->schedule.rpo_ns, .duration_ns = duration_ns,
		.work_ns = report->work_ns, .busy_ns = report->busy_ns,
		.workers = processors < 1 ? 1 : (uint32_t)processors,
	};
	enum tune_limit limit;
	int level;

	if (workers && workers < run.workers)
		run.workers = workers;
	level = tune_level(unit->level, &run, &limit);
	if (level == unit->level)
		return;
	unit->level = level;
	daemon_tell_of(daemon, i, (struct protect_event){ .type = PROTECT_TUNED,
		.level = level, .why = why[limit] });
}

static void unit_ended(struct daemon *daemon, size_t i, const struct running *running,
		       struct run_report *report, struct protect_event *event)
{
	struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	struct schedule_outcome outcome = { 0 };
	uint64_t points = run_outcome(daemon, running, report, &outcome);
	struct look look;

	event->age_ns = (uint64_t)schedule_end(plan, daemon->now.boot_ns, &outcome);
	event->rpo_ns = unit->schedule.rpo_ns;
	if (outcome.stored) {
		unit->points = points;
		unit_calendars_serve(unit, running->asked,
				     instant_to_real(daemon->now, running->started_ns));
	}
	unit_count(unit, report, outcome.stored, daemon->now.real_ns, event->duration_ns);
	if (report->ret) {
		unit->error_ns = daemon->now.real_ns;
		snprintf(unit->error, sizeof(unit->error), "%.255s", report->err.message);
	}
	if (daemon->config->agent.compression_auto && outcome.stored && !outcome.whole)
		unit_tune(daemon, i, report, event->duration_ns);
	unit_look(daemon->config, unit, &look);
	unit_take_look(daemon, i, &look);
	event->due_ns = instant_to_real(daemon->now, schedule_due(daemon->list.schedules,
								  daemon->list.count, i));
}

void run_ended(struct daemon *daemon, const struct running *running, struct run_report *report)
{
	ssize_t i = units_find(&daemon->list, running->name, running->group);
	struct protect_event event = {
		.type = report->ret ? PROTECT_CYCLE_FAILED : PROTECT_CYCLE_ENDED,
		.unit = running->name, .group = running->group, .asked = running->asked,
		.duration_ns = (uint64_t)(daemon->now.boot_ns - running->started_ns),
		.parts = report->parts, .part_count = report->count,
		.error = report->ret ? &report->err : NULL,
	};
	struct schedule_outcome ignored = { 0 };

	run_counts(daemon, report);
	daemon_metrics_forget(daemon);
	if (i >= 0)
		unit_ended(daemon, (size_t)i, running, report, &event);
	else
		run_outcome(daemon, running, report, &ignored);
	for (size_t p = 0; p < report->count; p++)
		if (report->parts[p].committed)
			daemon_stores_want(daemon);
	daemon_tell(daemon, event);
}

static const char *run_why(const struct schedule_unit *plan, enum backup_type asked)
{
	static const char *const asks[BACKUP_TYPES] = {
		[BACKUP_FULL] = "the calendar asks for a full",
		[BACKUP_SYNTHETIC] = "the calendar asks for a synthetic full",
		[BACKUP_DIFFERENTIAL] = "the calendar asks for a differential",
	};

	return asks[asked] ? asks[asked] :
	       !plan->has_point ? "there is no point yet" :
	       plan->dirty ? "" : "there was none for long";
}

void run_start(struct daemon *daemon, size_t i)
{
	struct unit *unit = &daemon->list.units[i];
	struct schedule_unit *plan = &daemon->list.schedules[i];
	enum backup_type asked = unit_asked(unit, daemon->now.real_ns);
	struct run_report report = { .err = ERROR_INIT };
	struct running *running = running_add(daemon, unit, asked, plan->whole), failed;

	schedule_begin(plan, daemon->now.boot_ns);
	unit->quiet = false;
	unit->tried = true;
	daemon_tell_of(daemon, i, (struct protect_event){ .type = PROTECT_CYCLE_STARTED,
		.asked = asked, .why = run_why(plan, asked) });
	report.ret = child_start(daemon->config, unit, asked, daemon->lock_fd, &running->child,
				 &report.err);
	if (!report.ret)
		return;
	failed = *running;
	daemon->running_count--;
	run_ended(daemon, &failed, &report);
}
