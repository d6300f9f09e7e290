/*
 * Retention: for each store with a calendar, a round of forget and prune, in a child of
 * its own, at the lowest priority, one at a time. The calendar is asked for what comes
 * after the last round that went through, or when the store was first seen with one; the
 * state folder remembers that as the time of a small file, so that a machine that was off
 * at that hour makes up for it.
 */
#include "agent/protect/calendar.h"
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/priority.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)
/* After a failure, doubled up to the second; nothing is lost but space. */
#define BACKOFF_SECONDS 300
#define BACKOFF_MAX_SECONDS 3600
/* How long a round has, once it was told to stop. */
#define UNWIND_NS (30 * SECOND_NS)

struct round_report {
	struct error err;
	int ret;
	struct retention_result result;
};

/* ---- what is remembered -------------------------------------------------------------- */

static void record_path(const struct config *config, const char *name, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.*s/retention/%s", PATH_MAX - 128, config->agent.state, name);
}

/* Written by a round that went through, else only when it was first looked for. */
#define RECORD_DONE "done\n"

static void record_write(const struct config *config, const char *name, const char *text)
{
	char path[PATH_MAX], folder[PATH_MAX];
	int ret;

	record_path(config, name, path);
	record_path(config, "", folder);
	ret = file_make_folders(folder, 0700) ?: file_replace(path, text, strlen(text), 0600);
	if (ret)
		log_warning("cannot write %s: %s", path, error_text(ret));
}

static void record_read(const struct config *config, struct retention_plan *plan, uint64_t now_ns)
{
	char path[PATH_MAX];
	struct stat status;

	record_path(config, plan->name, path);
	plan->success_ns = 0;
	plan->after_ns = now_ns;
	if (lstat(path, &status) || !S_ISREG(status.st_mode) || status.st_mtim.tv_sec < 0) {
		record_write(config, plan->name, "");
		return;
	}
	plan->after_ns = (uint64_t)status.st_mtim.tv_sec * 1000000000u +
			 (uint64_t)status.st_mtim.tv_nsec;
	if (plan->after_ns > now_ns)
		plan->after_ns = now_ns;
	if (status.st_size)
		plan->success_ns = plan->after_ns;
}

/* ---- a round, in its child -------------------------------------------------------------- */

__attribute__((noreturn))
static void round_main(const struct config *config, const struct config_store *store,
		       int report_fd)
{
	static const struct priority last = { .nice = 19, .io_class = IO_CLASS_IDLE };
	struct round_report report = { .err = ERROR_INIT };
	struct priority before;
	ssize_t told;

	priority_lower(&last, &before);
	report.ret = protect_retention(config, store, &report.result, &report.err);
	if (!report.ret)
		record_write(config, store->name, RECORD_DONE);
	told = write(report_fd, &report, sizeof(report));
	_exit(told == sizeof(report) ? EXIT_DONE : EXIT_FAILED);
}

/* ---- when ---------------------------------------------------------------------------- */

static int ask(const struct config_store *store, uint64_t after_ns, uint64_t *at_ns,
	       struct error *err)
{
	int ret = calendar_next(store->retention, after_ns, at_ns, err);

	return ret ? error_prefix(err, "retention of %s", store->name) : 0;
}

static const struct config_store *store_at(const struct config *config, size_t i)
{
	return i ? &config->stores[i - 1] : &config->repository;
}

int daemon_retention_check(const struct config *config, struct instant now, struct error *err)
{
	uint64_t at;
	int ret = 0;

	for (size_t i = 0; !ret && i <= config->store_count; i++)
		if (*store_at(config, i)->retention)
			ret = ask(store_at(config, i), now.real_ns, &at, err);
	return ret;
}

static void plan_next(struct daemon *daemon, struct retention_plan *plan)
{
	struct error err = ERROR_INIT;

	if (ask(config_store(daemon->config, plan->name), plan->after_ns, &plan->at_ns, &err)) {
		log_warning("%s", err.message);
		plan->at_ns = CALENDAR_NEVER;
	}
}

void daemon_retention_make(struct daemon *daemon)
{
	struct daemon_retention *retention = &daemon->retention, old = *retention;
	const struct config *config = daemon->config;

	retention->count = 0;
	for (size_t i = 0; i <= config->store_count; i++) {
		const struct config_store *store = store_at(config, i);
		struct retention_plan *plan;

		if (!*store->retention)
			continue;
		plan = &retention->plans[retention->count++];
		memset(plan, 0, sizeof(*plan));
		for (size_t o = 0; o < old.count; o++)
			if (!strcmp(old.plans[o].name, store->name))
				*plan = old.plans[o];
		strcpy(plan->name, store->name);
		record_read(config, plan, daemon->now.real_ns);
		plan->next_ns = 0;	/* what failed may be mended now */
		plan_next(daemon, plan);
	}
}

struct retention_plan *daemon_retention_find(struct daemon *daemon, const char *store)
{
	for (size_t i = 0; i < daemon->retention.count; i++)
		if (!strcmp(daemon->retention.plans[i].name, store))
			return &daemon->retention.plans[i];
	return NULL;
}

static bool plan_due(const struct daemon *daemon, const struct retention_plan *plan)
{
	return plan->at_ns <= daemon->now.real_ns && plan->next_ns <= daemon->now.boot_ns;
}

/* ---- the daemon's side ---------------------------------------------------------------- */

static void plan_failed(struct daemon *daemon, struct retention_plan *plan,
			const struct error *err)
{
	int64_t seconds = BACKOFF_SECONDS << (plan->failures < 4 ? plan->failures : 4);

	if (seconds > BACKOFF_MAX_SECONDS)
		seconds = BACKOFF_MAX_SECONDS;
	plan->failures++;
	plan->failures_total++;
	plan->next_ns = daemon->now.boot_ns + seconds * SECOND_NS;
	if (daemon->options->once) {
		plan->at_ns = CALENDAR_NEVER;
		daemon->runs++;
		daemon->failed++;
		daemon->failure = *err;
	}
	daemon_tell(daemon, (struct protect_event){ .type = PROTECT_RETENTION_FAILED,
		.store = plan->name, .error = err,
		.duration_ns = (uint64_t)(daemon->now.boot_ns - daemon->retention.started_ns),
		.due_ns = instant_to_real(daemon->now, plan->next_ns) });
}

static void round_start(struct daemon *daemon, struct retention_plan *plan)
{
	struct daemon_retention *retention = &daemon->retention;
	struct error err = ERROR_INIT;
	int report_fd = -1, ret;

	strcpy(retention->name, plan->name);
	retention->started_ns = daemon->now.boot_ns;
	retention->kill_ns = INT64_MAX;
	ret = child_fork(daemon->lock_fd, &retention->child, &report_fd, &err);
	if (ret == 1)
		round_main(daemon->config, config_store(daemon->config, plan->name), report_fd);
	if (ret)
		plan_failed(daemon, plan, &err);
}

void daemon_retention_ended(struct daemon *daemon)
{
	struct daemon_retention *retention = &daemon->retention;
	struct retention_plan *plan = daemon_retention_find(daemon, retention->name);
	struct round_report report = { .err = ERROR_INIT };
	int status;

	if (!child_reap(&retention->child, &report, sizeof(report), &status)) {
		report = (struct round_report){ .err = ERROR_INIT };
		report.ret = error_set(&report.err, -ECHILD, "retention of %s: it %s %d",
				       retention->name, WIFSIGNALED(status)
				       ? "was killed by signal" : "ended without a word, with code",
				       WIFSIGNALED(status) ? WTERMSIG(status)
							   : WEXITSTATUS(status));
	}
	/* A reload may have dropped it; told to stop, it is not its fault. */
	if (!plan || (daemon->stopping && report.ret))
		return;
	if (report.ret) {
		plan_failed(daemon, plan, &report.err);
		return;
	}
	plan->failures = 0;
	plan->next_ns = 0;
	plan->after_ns = plan->success_ns = daemon->now.real_ns;
	plan->forgotten_total += report.result.forgotten;
	plan->deleted_bytes_total += report.result.deleted_bytes;
	if (daemon->options->once)
		plan->at_ns = CALENDAR_NEVER;
	else
		plan_next(daemon, plan);
	daemon_tell(daemon, (struct protect_event){ .type = PROTECT_RETAINED,
		.store = plan->name, .retention = &report.result,
		.duration_ns = (uint64_t)(daemon->now.boot_ns - retention->started_ns) });
}

/* Killed anywhere, the next round goes on. */
static void round_stop(struct daemon *daemon)
{
	struct daemon_retention *retention = &daemon->retention;

	if (!daemon->stopping)
		return;
	if (retention->kill_ns == INT64_MAX) {
		kill(retention->child.pid, SIGTERM);
		retention->kill_ns = daemon->now.boot_ns + UNWIND_NS;
	} else if (daemon->now.boot_ns >= retention->kill_ns) {
		kill(retention->child.pid, SIGKILL);
		retention->kill_ns += UNWIND_NS;
	}
}

void daemon_retention_turn(struct daemon *daemon)
{
	struct daemon_retention *retention = &daemon->retention;

	if (retention->child.pid)
		round_stop(daemon);
	for (size_t i = 0; !retention->child.pid && !daemon->stopping && i < retention->count; i++)
		if (plan_due(daemon, &retention->plans[i]))
			round_start(daemon, &retention->plans[i]);
}

int64_t daemon_retention_wake(const struct daemon *daemon)
{
	const struct daemon_retention *retention = &daemon->retention;
	int64_t wake = INT64_MAX;

	if (retention->child.pid || daemon->stopping)
		return retention->child.pid ? retention->kill_ns : INT64_MAX;
	for (size_t i = 0; i < retention->count; i++) {
		const struct retention_plan *plan = &retention->plans[i];
		int64_t next;

		if (plan->at_ns == CALENDAR_NEVER)
			continue;
		next = instant_of_real(daemon->now, plan->at_ns);
		if (next < plan->next_ns)
			next = plan->next_ns;
		if (next < wake)
			wake = next;
	}
	return wake;
}

bool daemon_retention_busy(const struct daemon *daemon)
{
	const struct daemon_retention *retention = &daemon->retention;

	if (retention->child.pid)
		return true;
	for (size_t i = 0; daemon->options->once && !daemon->stopping && i < retention->count; i++)
		if (plan_due(daemon, &retention->plans[i]))
			return true;
	return false;
}

size_t daemon_retention_metrics(const struct daemon *daemon,
				struct metrics_retention to[static RETENTIONS_MAX])
{
	const struct daemon_retention *retention = &daemon->retention;

	for (size_t i = 0; i < retention->count; i++) {
		const struct retention_plan *plan = &retention->plans[i];

		to[i] = (struct metrics_retention){
			.store = plan->name, .success_ns = plan->success_ns,
			.failures = plan->failures_total,
			.forgotten = plan->forgotten_total,
			.deleted_bytes = plan->deleted_bytes_total };
	}
	return retention->count;
}
