/*
 * Drills by the calendar: at most one at a time, in a child that stands back behind all
 * else, and only where a run over a whole volume could begin. One that failed is not tried
 * again before the calendar says so: it is recorded and told, and a person is to look.
 */
#include "agent/protect/calendar.h"
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/priority.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define SECOND_NS INT64_C(1000000000)
/* How long a drill that was interrupted has to clean up. */
#define UNWIND_NS (60 * SECOND_NS)
/* How often it is looked whether a volume that had none has a point now. */
#define LOOK_NS (60 * SECOND_NS)

struct drill_report {
	struct error err;
	int ret;
	struct drill_record record;
};

/* ---- a drill, in its child ------------------------------------------------------- */

static int open_key(void *context, struct recovery_private **recovery, struct error *err)
{
	const struct config_drill *drill = context;
	struct passphrase_options options = { .source = PASSPHRASE_FILE, .what = "recovery key",
					      .path = drill->passphrase_file };
	struct passphrase passphrase;
	int ret;

	if (!*drill->key)
		return error_set_exit(err, EXIT_WRONG_KEY, -ENOKEY, "the data is sealed to a "
				      "recovery key; give its private half with drill_key");
	if (!*drill->passphrase_file)
		return recovery_private_load(drill->key, NULL, recovery, err);
	ret = passphrase_read(&options, &passphrase, err);
	if (ret)
		return ret;
	ret = recovery_private_load(drill->key, &passphrase, recovery, err);
	passphrase_wipe(&passphrase);
	return ret;
}

static int drill_do(const struct config *config, const struct config_volume *volume,
		    struct drill_report *report)
{
	static const struct priority last = { .nice = 19, .io_class = IO_CLASS_BEST_EFFORT,
					      .io_level = 7 };
	struct config_drill drill = volume->drill;
	struct protect_drill_options options = {
		.volume = volume->name, .point = drill.random ? "random" : NULL,
		.store = &config->repository, .folder = *drill.folder ? drill.folder : NULL,
		.command = *drill.command ? drill.command : NULL, .timeout_ns = drill.timeout_ns,
		.key = open_key, .context = &drill,
	};
	struct priority before;

	priority_lower(&last, &before);
	return protect_drill(config, &options, &report->record, &report->err);
}

__attribute__((noreturn))
static void drill_main(const struct config *config, const struct config_volume *volume,
		       int report_fd)
{
	struct drill_report report = { .err = ERROR_INIT };
	ssize_t told;

	log_set_unit(volume->name, false);
	report.ret = drill_do(config, volume, &report);
	told = write(report_fd, &report, sizeof(report));
	_exit(told == sizeof(report) ? EXIT_DONE : EXIT_FAILED);
}

/* ---- when ---------------------------------------------------------------------------- */

struct drill_plan *daemon_drill_find(struct daemon_drills *drills, const char *volume)
{
	for (size_t i = 0; i < drills->count; i++)
		if (!strcmp(drills->plans[i].volume, volume))
			return &drills->plans[i];
	return NULL;
}

/* The last one, whoever made it; else when drills were first asked for, which is noted. */
static uint64_t plan_after(struct daemon *daemon, struct drill_plan *plan)
{
	const char *folder = daemon->config->agent.state;
	uint64_t after = 0, now = daemon->now.real_ns;
	struct error err = ERROR_INIT;
	struct drill_state state;
	int ret = drill_state_load(folder, plan->volume, &state, &err);

	if (!ret && !state.has_last && !state.since_ns && !daemon->options->once) {
		state.since_ns = now;
		if (drill_state_save(folder, plan->volume, &state, &err))
			log_warning("%s", err.message);
	}
	if (ret || (!state.has_last && !state.since_ns))
		after = now;
	else
		after = state.has_last ? state.last.started_ns : state.since_ns;
	if (after < plan->served_ns)
		after = plan->served_ns;
	return after < now ? after : now;
}

static void plan_look(struct daemon *daemon, struct drill_plan *plan)
{
	const struct config_volume *volume = config_volume(daemon->config, plan->volume);
	struct error err = ERROR_INIT;
	uint64_t after;

	/* Once it is due: a person may have drilled meanwhile. */
	if (!volume || (plan->after_ns && plan->at_ns > daemon->now.real_ns))
		return;
	after = plan_after(daemon, plan);
	if (after == plan->after_ns)
		return;
	plan->after_ns = after;
	if (!calendar_next(volume->drill.calendar, after, &plan->at_ns, &err))
		return;
	log_warning("%s: drill: %s", plan->volume, err.message);
	plan->at_ns = CALENDAR_NEVER;
}

int daemon_drills_make(struct daemon *daemon, const struct config *config, struct error *err)
{
	struct daemon_drills *drills = &daemon->drills;
	struct drill_plan *plans = calloc(config->volume_count + 1, sizeof(*plans));
	size_t count = 0;

	if (!plans)
		return error_set(err, -ENOMEM, "listing drills: out of memory");
	for (size_t i = 0; i < config->volume_count; i++) {
		const struct config_volume *volume = &config->volumes[i];
		const struct drill_plan *before = daemon_drill_find(drills, volume->name);
		struct drill_plan *plan = &plans[count];
		uint64_t tried;

		if (!*volume->drill.calendar)
			continue;
		if (calendar_next(volume->drill.calendar, daemon->now.real_ns, &tried, err)) {
			free(plans);
			return error_prefix(err, "volume %s: drill", volume->name);
		}
		if (before)
			*plan = *before;
		plan->after_ns = 0;	/* by the calendar of then */
		plan->at_ns = CALENDAR_NEVER;
		strcpy(plan->volume, volume->name);
		count++;
	}
	free(drills->plans);
	drills->plans = plans;
	drills->count = count;
	return 0;
}

/* ---- beginning and ending ------------------------------------------------------------- */

static void drill_told(struct daemon *daemon, const struct drill_report *report)
{
	struct protect_event event = {
		.type = report->ret ? PROTECT_DRILL_FAILED : PROTECT_DRILL_PASSED,
		.unit = daemon->drills.volume, .drill = &report->record,
		.duration_ns = (uint64_t)(daemon->now.boot_ns - daemon->drills.started_ns),
		.error = report->ret ? &report->err : NULL, .why = "",
	};

	daemon_metrics_forget(daemon);
	daemon_tell(daemon, event);
}

static void drill_start(struct daemon *daemon, struct drill_plan *plan)
{
	struct daemon_drills *drills = &daemon->drills;
	struct drill_report report = { .err = ERROR_INIT };
	int report_fd = -1;

	plan->served_ns = daemon->now.real_ns;
	drills->started_ns = daemon->now.boot_ns;
	drills->kill_ns = INT64_MAX;
	strcpy(drills->volume, plan->volume);
	report.ret = child_fork(daemon->lock_fd, &drills->child, &report_fd, &report.err);
	if (report.ret == 1)
		drill_main(daemon->config, config_volume(daemon->config, plan->volume), report_fd);
	if (report.ret)
		drill_told(daemon, &report);
}

void daemon_drill_ended(struct daemon *daemon)
{
	struct daemon_drills *drills = &daemon->drills;
	struct drill_report report;
	int status;

	if (!child_reap(&drills->child, &report, sizeof(report), &status)) {
		memset(&report, 0, sizeof(report));
		report.err = (struct error)ERROR_INIT;
		report.ret = error_set(&report.err, -ECHILD, "the drill %s %d",
				       WIFSIGNALED(status) ? "was killed by signal"
							   : "ended without a word, with code",
				       WIFSIGNALED(status) ? WTERMSIG(status)
							   : WEXITSTATUS(status));
	}
	if (!(daemon->stopping && report.ret && report.err.exit == EXIT_INTERRUPTED))
		drill_told(daemon, &report);
}

static bool has_point(const struct daemon *daemon, const char *volume)
{
	struct error ignored = ERROR_INIT;
	struct volume_state state;

	return !volume_state_load(daemon->config->agent.state, volume, &state, &ignored) &&
	       state.head_point;
}

static void drill_stop(struct daemon *daemon)
{
	struct daemon_drills *drills = &daemon->drills;

	if (drills->kill_ns == INT64_MAX) {
		kill(drills->child.pid, SIGTERM);
		drills->kill_ns = daemon->now.boot_ns + UNWIND_NS;
	} else if (daemon->now.boot_ns >= drills->kill_ns) {
		kill(drills->child.pid, SIGKILL);
		drills->kill_ns += UNWIND_NS;
	}
}

void daemon_drills_turn(struct daemon *daemon)
{
	struct daemon_drills *drills = &daemon->drills;

	if (drills->child.pid) {
		if (daemon->stopping)
			drill_stop(daemon);
		return;
	}
	for (size_t i = 0; i < drills->count && !daemon->stopping && !daemon->options->once; i++) {
		struct drill_plan *plan = &drills->plans[i];
		struct schedule_room room = running_room(daemon);

		plan_look(daemon, plan);
		if (plan->at_ns > daemon->now.real_ns || !room.runs || !room.whole ||
		    !has_point(daemon, plan->volume))
			continue;
		drill_start(daemon, plan);
		if (drills->child.pid)
			return;
	}
}

/* Who waits for room is looked at when a run ends; for a point, now and then. */
int64_t daemon_drills_wake(const struct daemon *daemon)
{
	const struct daemon_drills *drills = &daemon->drills;
	int64_t wake = INT64_MAX;

	if (drills->child.pid)
		return drills->kill_ns;
	for (size_t i = 0; i < drills->count; i++) {
		const struct drill_plan *plan = &drills->plans[i];
		int64_t next = plan->at_ns == CALENDAR_NEVER ? INT64_MAX :
			       instant_of_real(daemon->now, plan->at_ns);

		if (next <= daemon->now.boot_ns)
			next = daemon->now.boot_ns + LOOK_NS;
		if (next < wake)
			wake = next;
	}
	return wake;
}

void daemon_drills_close(struct daemon *daemon)
{
	free(STEAL(daemon->drills.plans));
	daemon->drills.count = 0;
}
