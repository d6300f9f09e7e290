/* The daemon: looks at what is due, runs a few at once, tells, waits. */
#include "agent/protect/calendar.h"
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)
/* Nothing waits for longer: the clock on the wall may be set meanwhile. */
#define WAIT_MAX_NS (30 * SECOND_NS)
/* How old metrics may get, at most. */
#define METRICS_NS (15 * SECOND_NS)
/* What a killed daemon left beside them; younger, it may be another daemon's. */
#define METRICS_SWEEP_SECONDS 60
/* What interrupted runs have to clean up in before they are ended. */
#define UNWIND_NS (60 * SECOND_NS)

/* ---- telling ----------------------------------------------------------------- */

static void tell_manager(const struct daemon *daemon)
{
	char names[RUNNING_MAX * (VOLUME_NAME_MAX + 2) + 1] = "";

	for (size_t r = 0; r < daemon->running_count; r++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			 r ? ", " : "", daemon->running[r].name);
	if (*names)
		sd_notifyf(0, "STATUS=%sRunning %s", daemon->stopping ? "Stopping. " : "", names);
	else
		sd_notifyf(0, "STATUS=Protecting %zu volumes and groups", daemon->list.count);
}

static void record(struct daemon *daemon)
{
	struct error err = ERROR_INIT;

	if (!daemon->record && daemon->now.boot_ns < daemon->metrics_ns)
		return;
	daemon->metrics_ns = daemon->now.boot_ns + METRICS_NS;
	daemon_metrics_write(daemon, true);
	if (!daemon->record)
		return;
	daemon->record = false;
	tell_manager(daemon);
	if (daemon_file_save(daemon->config->agent.state, &daemon->list, daemon->now, &err))
		log_warning("%s", err.message);
}

/* ---- what it is told -------------------------------------------------------------- */

static void stop(struct daemon *daemon)
{
	uint64_t wait_ns = daemon->config->agent.stop_timeout_ns;

	/* Asked again: now. */
	running_stop(daemon, daemon->now.boot_ns + (daemon->stopping ? 0 : (int64_t)wait_ns));
	if (daemon->stopping)
		return;
	daemon->stopping = true;
	sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu",
		   (unsigned long long)(wait_ns + UNWIND_NS) / 1000);
	daemon_tell(daemon, (struct protect_event){ .type = PROTECT_STOPPING,
		.why = daemon->running_count ? "when the run has ended" : "" });
}

static int reload_take(struct daemon *daemon, struct config *config, struct error *err)
{
	struct unit_list list;
	int ret;

	if (strcmp(config->agent.state, daemon->config->agent.state))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "another state folder wants a "
				      "restart");
	ret = units_make(config, &daemon->list, daemon->now, true, &list, err);
	if (ret)
		return ret;
	ret = daemon_retention_check(config, daemon->now, err) ?:
	      daemon_http_take(daemon, config, err);
	if (ret) {
		units_fini(&list);
		return ret;
	}
	ret = daemon_drills_make(daemon, config, err);
	if (ret) {
		units_fini(&list);
		return ret;
	}
	units_fini(&daemon->list);
	daemon->list = list;
	config_fini(daemon->config);
	*daemon->config = *config;
	daemon_stores_make(daemon);
	daemon_retention_make(daemon);
	daemon_metrics_forget(daemon);
	return 0;
}

static void reload(struct daemon *daemon)
{
	CLEANUP_FREE struct config *config = calloc(1, sizeof(*config));
	struct error err = ERROR_INIT;
	int ret;

	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
		   (unsigned long long)elapsed_ns() / 1000);
	ret = config ? daemon->options->reload(daemon->options->context, config, &err)
		     : error_set(&err, -ENOMEM, "reading the configuration: out of memory");
	if (!ret) {
		ret = reload_take(daemon, config, &err);
		if (ret)
			config_fini(config);
		else
			units_look(daemon);
	}
	daemon_tell(daemon, (struct protect_event){ .type = PROTECT_RELOADED,
					     .error = ret ? &err : NULL });
	sd_notify(0, "READY=1");
}

static void take_signals(struct daemon *daemon)
{
	struct signalfd_siginfo info;

	while (read(daemon->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGHUP)
			stop(daemon);
		else if (!daemon->stopping && !daemon->options->once)
			reload(daemon);
	}
}

/* ---- the loop ---------------------------------------------------------------------- */

/* Once: who had a turn gets no other. */
static void close_units(struct daemon *daemon)
{
	for (size_t i = 0; daemon->options->once && i < daemon->list.count; i++) {
		struct schedule_unit *plan = &daemon->list.schedules[i];

		if (!daemon->list.units[i].tried)
			continue;
		plan->open = false;
		plan->opens_ns = SCHEDULE_NEVER;
	}
}

static void objectives(struct daemon *daemon)
{
	const struct unit_list *list = &daemon->list;

	for (size_t i = 0; i < list->count; i++) {
		enum schedule_change change = schedule_objective(list->schedules, list->count, i,
								 daemon->now.boot_ns);

		if (change == SCHEDULE_SAME)
			continue;
		daemon_tell_of(daemon, i, (struct protect_event){
			.type = change == SCHEDULE_MISSED ? PROTECT_RPO_MISSED
							  : PROTECT_RPO_RECOVERED,
			.age_ns = (uint64_t)schedule_age(&list->schedules[i],
							 daemon->now.boot_ns),
			.why = list->schedules[i].failures ? list->units[i].error : "" });
	}
}

static void begin(struct daemon *daemon)
{
	const struct unit_list *list = &daemon->list;
	ssize_t i = 0;

	while (!daemon->stopping && i >= 0) {
		running_mark(daemon);
		i = schedule_pick(list->schedules, list->count, running_room(daemon));
		if (i >= 0)
			run_start(daemon, (size_t)i);
	}
}

static void decide(struct daemon *daemon)
{
	const struct unit_list *list = &daemon->list;
	ssize_t i;

	daemon->now = instant_now();
	for (size_t u = 0; u < list->count; u++)
		unit_clock(daemon, u);
	close_units(daemon);
	while (!daemon->stopping &&
	       (i = schedule_look(list->schedules, list->count, daemon->now.boot_ns)) >= 0)
		unit_decide(daemon, (size_t)i);
	begin(daemon);
	if (!daemon->stopping)
		objectives(daemon);
	running_turn(daemon);
	daemon_stores_turn(daemon);
	daemon_drills_turn(daemon);
	daemon_retention_turn(daemon);
	daemon_notify_turn(daemon);
	daemon_http_turn(daemon);
	record(daemon);
}

static int64_t wake_at(const struct daemon *daemon)
{
	int64_t now = daemon->now.boot_ns, wake = now + WAIT_MAX_NS, next;

	if (daemon_metrics_wanted(daemon) && daemon->metrics_ns < wake)
		wake = daemon->metrics_ns;
	if (daemon->watchdog_us && wake > now + (int64_t)daemon->watchdog_us * 500)
		wake = now + (int64_t)daemon->watchdog_us * 500;
	next = running_wake(daemon);
	if (next < wake)
		wake = next;
	next = daemon_stores_wake(daemon);
	if (next < wake)
		wake = next;
	next = daemon_drills_wake(daemon);
	if (next < wake)
		wake = next;
	next = daemon_retention_wake(daemon);
	if (next < wake)
		wake = next;
	if (daemon->stopping)
		return wake;
	if (daemon_notify_deadline(daemon) < wake)
		wake = daemon_notify_deadline(daemon);
	for (size_t i = 0; i < daemon->list.count; i++) {
		uint64_t asks = unit_asks_at(&daemon->list.units[i], daemon->now.real_ns);

		if (asks == CALENDAR_NEVER)
			continue;
		next = instant_of_real(daemon->now, asks);
		if (next > now && next < wake)
			wake = next;
	}
	next = schedule_wake(daemon->list.schedules, daemon->list.count, now);
	return next < wake ? next : wake;
}

/* Signals, the timer, messages, retention, a drill. */
#define FIXED 5

static void wait_for_something(struct daemon *daemon)
{
	int64_t wake = wake_at(daemon);
	struct itimerspec timer = {
		.it_value = { wake > 0 ? wake / SECOND_NS : 0, wake > 0 ? wake % SECOND_NS : 1 },
	};
	const struct child *retention = &daemon->retention.child;
	const struct child *drill = &daemon->drills.child;
	struct pollfd wait[FIXED + RUNNING_MAX + DAEMON_STORES_MAX] = {
		{ .fd = daemon->signal_fd, .events = POLLIN },
		{ .fd = daemon->timer_fd, .events = POLLIN },
		{ .fd = daemon_notify_fd(daemon), .events = POLLIN },
		{ .fd = retention->pid ? retention->pidfd : -1, .events = POLLIN },
		{ .fd = drill->pid ? drill->pidfd : -1, .events = POLLIN },
	};
	struct pollfd *stores = wait + FIXED + RUNNING_MAX;

	running_wait(daemon, wait + FIXED);
	/* A timer of the clock that goes on while the machine sleeps. */
	timerfd_settime(daemon->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
	for (size_t i = 0; i < daemon->store_count; i++)
		stores[i] = (struct pollfd){ .events = POLLIN, .fd = daemon->stores[i].child.pid ?
							     daemon->stores[i].child.pidfd : -1 };
	poll(wait, FIXED + RUNNING_MAX + daemon->store_count, -1);
	sd_notify(0, "WATCHDOG=1");
	daemon->now = instant_now();
	running_ended(daemon, wait + FIXED);
	if (wait[2].revents)
		daemon_notify_ended(daemon);
	if (wait[3].revents)
		daemon_retention_ended(daemon);
	if (wait[4].revents)
		daemon_drill_ended(daemon);
	for (size_t i = 0; i < daemon->store_count; i++)
		if (stores[i].revents)
			daemon_store_ended(daemon, &daemon->stores[i]);
	if (wait[0].revents)
		take_signals(daemon);
}

/* Once: nothing is due any more. */
static bool all_done(const struct daemon *daemon)
{
	const struct unit_list *list = &daemon->list;

	if (daemon->running_count || daemon_stores_busy(daemon) ||
	    daemon_retention_busy(daemon) || daemon->drills.child.pid)
		return false;
	return daemon->stopping ||
	       (daemon->options->once && daemon_notify_idle(daemon) &&
		schedule_look(list->schedules, list->count, daemon->now.boot_ns) < 0 &&
		schedule_pick(list->schedules, list->count, running_room(daemon)) < 0);
}

static int daemon_open(struct daemon *daemon, sigset_t *signals, struct error *err)
{
	int ret = daemon_lock(daemon->config->agent.state, &daemon->lock_fd, err);

	if (ret)
		return ret;
	daemon->signal_fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
	daemon->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (daemon->signal_fd < 0 || daemon->timer_fd < 0)
		return error_set(err, -errno, "cannot wait for signals and time: %s",
				 error_text(errno));
	if (sd_watchdog_enabled(0, &daemon->watchdog_us) <= 0)
		daemon->watchdog_us = 0;
	return 0;
}

static int once_result(const struct daemon *daemon, struct error *err)
{
	if (daemon->stopping)
		return error_set_exit(err, EXIT_INTERRUPTED, -EINTR, "interrupted");
	if (!daemon->failed)
		return 0;
	return error_set_exit(err, daemon->failed < daemon->runs ? EXIT_PARTIAL
								 : daemon->failure.exit,
			      daemon->failure.code, "%zu of %zu runs failed; the last: %.500s",
			      daemon->failed, daemon->runs, daemon->failure.message);
}

static void daemon_close(struct daemon *daemon)
{
	daemon_notify_close(daemon);
	daemon_drills_close(daemon);
	daemon_http_close(daemon);
	daemon_metrics_forget(daemon);
	units_fini(&daemon->list);
	cleanup_close(&daemon->lock_fd);
	cleanup_close(&daemon->signal_fd);
	cleanup_close(&daemon->timer_fd);
}

int protect_daemon(struct config *config, const struct protect_options *options,
		   struct error *err)
{
	struct daemon daemon = { .config = config, .options = options, .lock_fd = -1,
				 .signal_fd = -1, .timer_fd = -1, .now = instant_now(),
				 .notify.epoll_fd = -1 };
	sigset_t signals;
	int ret;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	ret = units_make(config, NULL, daemon.now, !options->once, &daemon.list, err) ?:
	      daemon_retention_check(config, daemon.now, err) ?:
	      daemon_drills_make(&daemon, config, err) ?:
	      daemon_open(&daemon, &signals, err) ?: daemon_http_take(&daemon, config, err) ?:
	      interrupt_check(err);
	if (!ret) {
		units_seed(&daemon);
		units_look(&daemon);
		daemon_stores_make(&daemon);
		daemon_retention_make(&daemon);
		daemon.record = true;
		if (*config->agent.metrics)
			file_sweep(config->agent.metrics, METRICS_SWEEP_SECONDS);
		sd_notify(0, "READY=1");
	}
	while (!ret) {
		decide(&daemon);
		if (all_done(&daemon))
			break;
		wait_for_something(&daemon);
	}
	if (!ret) {
		daemon_metrics_write(&daemon, false);
		ret = options->once ? once_result(&daemon, err) : 0;
	}
	daemon_close(&daemon);
	return ret;
}

int protect_plan(struct config *config, const struct protect_options *options,
		 struct error *err)
{
	struct daemon daemon = { .config = config, .options = options, .lock_fd = -1,
				 .signal_fd = -1, .timer_fd = -1, .now = instant_now(),
				 .notify.epoll_fd = -1 };
	int ret = units_make(config, NULL, daemon.now, true, &daemon.list, err);

	if (ret)
		return ret;
	units_seed(&daemon);
	units_look(&daemon);
	for (size_t i = 0; i < daemon.list.count; i++) {
		const struct schedule_unit *plan = &daemon.list.schedules[i];
		int64_t due = schedule_due(daemon.list.schedules, daemon.list.count, i);
		struct look look;

		unit_look(config, &daemon.list.units[i], &look);
		if (!plan->open && due < plan->opens_ns)
			due = plan->opens_ns;
		if (due < daemon.now.boot_ns)
			due = daemon.now.boot_ns;
		daemon_tell_of(&daemon, i, (struct protect_event){ .type = PROTECT_PLANNED,
			.asked = plan->calendar_ns <= due
				 ? unit_asked(&daemon.list.units[i], daemon.now.real_ns)
				 : BACKUP_AUTO,
			.due_ns = instant_to_real(daemon.now, due),
			.why = !plan->open && daemon.list.units[i].outside ?
			       "its window is closed until then" :
			       !plan->open ? "no run may begin until then: blackout" :
			       !look.trusted ? look.why :
			       look.clean ? "unless nothing is written until then" :
			       "something was written" });
	}
	daemon_close(&daemon);
	return 0;
}
