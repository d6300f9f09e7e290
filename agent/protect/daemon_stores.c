/*
 * Further stores: at most one pass a store at a time, each in a child of its own, beside
 * runs and beside one another, so that a store that does not answer delays nothing but
 * itself. What fails is tried again, later and later. How far a store is behind is looked
 * up in what passes and runs leave in the state folder.
 */
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

#define SECOND_NS INT64_C(1000000000)
#define LOOK_NS (5 * SECOND_NS)
#define BACKOFF_MAX_SECONDS 300
#define IDLE_NS (30 * SECOND_NS)
/* How long a pass has, once it was told to stop. */
#define UNWIND_NS (30 * SECOND_NS)

struct pass_report {
	struct error err;
	int ret;
	uint64_t points;
};

/* ---- a pass, in its child ---------------------------------------------------------- */

static void volume_done(void *context, const char *volume, const struct replicate_result *result,
			const struct replica_place *place, const struct error *err)
{
	struct pass_report *report = context;

	(void)volume;
	(void)place;
	(void)err;
	report->points += result->points;
}

static int pass_run(const struct config *config, const struct config_store *store,
		    struct pass_report *report)
{
	struct protect_replicate_options options = { .done = volume_done, .context = report };
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	struct host host;
	size_t count;
	int ret = protect_replicable(config, &volumes, &count, &report->err);

	if (ret || !count)
		return ret;
	ret = host_open(config, HOST_LOOK, &host, &report->err);
	if (ret)
		return error_prefix(&report->err, "store %s", store->name);
	ret = protect_replicate(&host, store, volumes, count, &options, &report->err);
	host_close(&host);
	return ret;
}

__attribute__((noreturn))
static void pass_main(const struct config *config, const struct config_store *store,
		      int report_fd)
{
	struct pass_report report = { .err = ERROR_INIT };
	ssize_t told;

	report.ret = pass_run(config, store, &report);
	told = write(report_fd, &report, sizeof(report));
	_exit(told == sizeof(report) ? EXIT_DONE : EXIT_FAILED);
}

/* ---- when ---------------------------------------------------------------------------- */

/* 1, 2, 4, … seconds, up to five minutes, and a quarter more or less: stores that failed
 * together do not come back together. */
static int64_t backoff_ns(unsigned failures)
{
	int64_t seconds = failures > 9 ? BACKOFF_MAX_SECONDS : INT64_C(1) << (failures - 1);
	uint16_t random = 0;

	if (seconds > BACKOFF_MAX_SECONDS)
		seconds = BACKOFF_MAX_SECONDS;
	if (getrandom(&random, sizeof(random), 0) < 0)
		random = 0;
	return seconds * SECOND_NS / 4 * 3 + seconds * SECOND_NS / 2 / UINT16_MAX * random;
}

static void store_failed(struct daemon *daemon, struct daemon_store *store,
			 const struct error *err)
{
	store->failures++;
	store->failures_total++;
	store->next_ns = daemon->now.boot_ns + backoff_ns(store->failures);
	store->wanted = !daemon->options->once;
	snprintf(store->error, sizeof(store->error), "%.255s", err->message);
	if (daemon->options->once) {
		daemon->runs++;
		daemon->failed++;
		daemon->failure = *err;
	}
	daemon_tell(daemon, (struct protect_event){ .type = PROTECT_STORE_FAILED,
		.store = store->name, .error = err,
		.due_ns = instant_to_real(daemon->now, store->next_ns) });
}

static void store_start(struct daemon *daemon, struct daemon_store *store)
{
	const struct config_store *config = config_store(daemon->config, store->name);
	struct error err = ERROR_INIT;
	int report_fd = -1, ret;

	store->wanted = false;
	store->started_ns = daemon->now.boot_ns;
	store->kill_ns = INT64_MAX;
	ret = child_fork(daemon->lock_fd, &store->child, &report_fd, &err);
	if (ret == 1)
		pass_main(daemon->config, config, report_fd);
	if (ret)
		store_failed(daemon, store, &err);
}

static void store_drop(struct daemon *daemon, struct daemon_store *store)
{
	*store = daemon->stores[--daemon->store_count];
}

void daemon_store_ended(struct daemon *daemon, struct daemon_store *store)
{
	struct pass_report report = { .err = ERROR_INIT };
	int status;

	if (!child_reap(&store->child, &report, sizeof(report), &status)) {
		report = (struct pass_report){ .err = ERROR_INIT };
		report.ret = error_set(&report.err, -ECHILD, "store %s: the pass %s %d", store->name,
				       WIFSIGNALED(status) ? "was killed by signal"
							   : "ended without a word, with code",
				       WIFSIGNALED(status) ? WTERMSIG(status)
							   : WEXITSTATUS(status));
	}
	daemon->stores_looked_ns = 0;
	if (store->dropped)
		return;
	if (report.ret && !(daemon->stopping && report.err.exit == EXIT_INTERRUPTED)) {
		store_failed(daemon, store, &report.err);
	} else if (!report.ret) {
		store->failures = 0;
		/* What a pass does not find is not there at once the next time. */
		store->next_ns = report.points ? 0 : daemon->now.boot_ns + IDLE_NS;
		store->success_ns = daemon->now.real_ns;
	}
	if (!report.ret && report.points)
		daemon_tell(daemon, (struct protect_event){ .type = PROTECT_REPLICATED,
			.store = store->name, .points = report.points, .duration_ns =
			(uint64_t)(daemon->now.boot_ns - store->started_ns) });
}

/* Nothing is lost by it: the next pass goes on. */
static void store_stop(struct daemon *daemon, struct daemon_store *store)
{
	if (!store->child.pid || !(daemon->stopping || store->dropped))
		return;
	if (store->kill_ns == INT64_MAX) {
		kill(store->child.pid, SIGTERM);
		store->kill_ns = daemon->now.boot_ns + UNWIND_NS;
	} else if (daemon->now.boot_ns >= store->kill_ns) {
		kill(store->child.pid, SIGKILL);
		store->kill_ns += UNWIND_NS;
	}
}

/* ---- how far ----------------------------------------------------------------------- */

static void store_lag(struct daemon *daemon, struct daemon_store *store)
{
	const struct config *config = daemon->config;
	struct error ignored = ERROR_INIT;
	struct replica_state state;

	store->lag_points = store->lag_ns = 0;
	if (replica_state_load(config->agent.state, config_store(config, store->name), &state,
			       &ignored))
		return;		/* a pass says so */
	for (size_t i = 0; i < config->volume_count; i++) {
		struct volume_state volume;
		struct replica_lag lag;

		if (volume_state_load(config->agent.state, config->volumes[i].name, &volume,
				      &ignored))
			continue;
		lag = replica_lag(replica_state_find(&state, &volume.id), volume.head_point,
				  volume.head_time_ns, daemon->now.real_ns);
		store->lag_points += lag.points;
		if (lag.ns > store->lag_ns)
			store->lag_ns = lag.ns;
	}
	if (state.success_ns > store->success_ns)
		store->success_ns = state.success_ns;
	replica_state_fini(&state);
}

static void store_tell_lag(struct daemon *daemon, struct daemon_store *store)
{
	uint64_t warning_ns = config_store(daemon->config, store->name)->lag_warning_ns;
	bool late = warning_ns && store->lag_points && store->lag_ns >= warning_ns;

	/* It is over when nothing is missing, not when something came. */
	if (late == store->lags || (store->lags && store->lag_points))
		return;
	store->lags = late;
	daemon_tell(daemon, (struct protect_event){
		.type = late ? PROTECT_STORE_LAGS : PROTECT_STORE_RECOVERED,
		.store = store->name, .points = store->lag_points, .age_ns = store->lag_ns,
		.why = store->failures ? store->error : "" });
}

static void stores_look(struct daemon *daemon)
{
	if (daemon->stopping || (daemon->stores_looked_ns &&
				 daemon->now.boot_ns - daemon->stores_looked_ns < LOOK_NS))
		return;
	daemon->stores_looked_ns = daemon->now.boot_ns;
	for (size_t i = 0; i < daemon->store_count; i++) {
		struct daemon_store *store = &daemon->stores[i];

		if (store->dropped)
			continue;
		store_lag(daemon, store);
		store_tell_lag(daemon, store);
		/* Others commit points as well. */
		store->wanted |= store->lag_points && !store->child.pid && !daemon->options->once;
	}
}

/* ---- the daemon's side ---------------------------------------------------------------- */

struct daemon_store *daemon_store_find(struct daemon *daemon, const char *name)
{
	for (size_t i = 0; i < daemon->store_count; i++)
		if (!daemon->stores[i].dropped && !strcmp(daemon->stores[i].name, name))
			return &daemon->stores[i];
	return NULL;
}

void daemon_stores_make(struct daemon *daemon)
{
	const struct config *config = daemon->config;

	daemon->stores_looked_ns = 0;
	for (size_t i = 0; i < daemon->store_count; i++)
		daemon->stores[i].dropped |= !config_store(config, daemon->stores[i].name);
	for (size_t i = 0; i < config->store_count; i++) {
		struct daemon_store *store = daemon_store_find(daemon, config->stores[i].name);

		if (!store && daemon->store_count < DAEMON_STORES_MAX) {
			store = &daemon->stores[daemon->store_count++];
			memset(store, 0, sizeof(*store));
			strcpy(store->name, config->stores[i].name);
		}
		if (!store)
			continue;
		/* It may be in another place now. */
		store->wanted = true;
		store->next_ns = 0;
	}
}

void daemon_stores_want(struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->store_count; i++) {
		struct daemon_store *store = &daemon->stores[i];

		store->wanted = true;
		if (!store->failures)
			store->next_ns = 0;
	}
	daemon->stores_looked_ns = 0;
}

void daemon_stores_turn(struct daemon *daemon)
{
	stores_look(daemon);
	for (size_t i = daemon->store_count; i-- > 0; ) {
		struct daemon_store *store = &daemon->stores[i];

		store_stop(daemon, store);
		if (store->child.pid)
			continue;
		if (store->dropped)
			store_drop(daemon, store);
		else if (!daemon->stopping && store->wanted &&
			 daemon->now.boot_ns >= store->next_ns)
			store_start(daemon, store);
	}
}

int64_t daemon_stores_wake(const struct daemon *daemon)
{
	int64_t wake = INT64_MAX;

	for (size_t i = 0; i < daemon->store_count; i++) {
		const struct daemon_store *store = &daemon->stores[i];
		int64_t next = INT64_MAX;

		if (store->child.pid)
			next = store->kill_ns;
		else if (store->wanted && !daemon->stopping)
			next = store->next_ns;
		if (store->lag_points && !daemon->stopping &&
		    daemon->stores_looked_ns + LOOK_NS < next)
			next = daemon->stores_looked_ns + LOOK_NS;
		if (next < wake)
			wake = next;
	}
	return wake;
}

bool daemon_stores_busy(const struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->store_count; i++)
		if (daemon->stores[i].child.pid ||
		    (daemon->options->once && !daemon->stopping && daemon->stores[i].wanted))
			return true;
	return false;
}

size_t daemon_store_metrics(const struct daemon *daemon,
			    struct metrics_store to[static DAEMON_STORES_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < daemon->store_count; i++) {
		const struct daemon_store *store = &daemon->stores[i];

		if (!store->dropped)
			to[count++] = (struct metrics_store){
				.name = store->name, .lag_points = store->lag_points,
				.lag_ns = store->lag_ns, .success_ns = store->success_ns,
				.failures = store->failures_total };
	}
	return count;
}
