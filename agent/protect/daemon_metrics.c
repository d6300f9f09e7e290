/*
 * The metrics file: what it is made from, and when. Counting a volume's marks reads its
 * bitmap, megabytes of a large one, so volumes are looked at less often than the file
 * is written: after each run, which reads more than that, and else every LOOK_NS.
 */
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/protect/http_server.h"
#include "bpf/tracker.h"

#include <errno.h>
#include <string.h>

#define SECOND_NS INT64_C(1000000000)
#define LOOK_NS (5 * SECOND_NS)

struct daemon_metrics {
	int64_t looked_ns;
	bool loaded;
	uint64_t recursion_misses;
	size_t count;
	struct volume_look {
		char name[VOLUME_NAME_MAX + 1], group[VOLUME_NAME_MAX + 1];
		struct metrics_volume metrics;
		bool quiet;		/* nothing was written, beyond doubt */
		struct metrics_drill drill; /* without a last_ns there was none */
	} volumes[];
};

/* ---- volumes ------------------------------------------------------------------ */

static void look_drill(const struct config *config, struct volume_look *look)
{
	struct error ignored = ERROR_INIT;	/* status says so */
	struct drill_state state;

	if (drill_state_load(config->agent.state, look->name, &state, &ignored) ||
	    !state.has_last)
		return;
	look->drill = (struct metrics_drill){
		.volume = look->name, .passed = state.last.passed,
		.last_ns = state.last.started_ns, .duration_ns = state.last.duration_ns,
		.passed_ns = state.has_passed ? state.passed.started_ns : 0,
		.rto_ns = state.passed.rto_ns,
	};
}

static void look_volume(const struct config *config, const struct config_volume *volume,
			struct tracker *tracker, struct volume_look *look)
{
	struct error err = ERROR_INIT;
	struct volume_status status;

	strcpy(look->name, volume->name);
	strcpy(look->group, volume->group);
	look->metrics.name = look->name;
	look_drill(config, look);
	if (protect_status(config, volume, tracker, &status, &err))
		return;		/* no believed marks: 0 */
	look->metrics.attached = status.attached;
	look->metrics.tracked = status.trust == TRUST_TRACKED;
	look->metrics.dirty_bytes = status.marks.dirty_blocks * status.slot.block_bytes;
	look->quiet = look->metrics.tracked && !status.marks.dirty_blocks && !status.pending;
}

static struct daemon_metrics *look_volumes(const struct daemon *daemon)
{
	const struct config *config = daemon->config;
	struct daemon_metrics *seen = calloc(1, sizeof(*seen) + config->volume_count *
						sizeof(seen->volumes[0]));
	struct tracker *tracker = NULL;
	struct tracker_facts facts;
	struct error err = ERROR_INIT;

	if (!seen)
		return NULL;
	seen->looked_ns = daemon->now.boot_ns;
	/* Not loaded, or not to be asked: then no volume is tracked. */
	if (tracker_open(false, &tracker, &err))
		tracker = NULL;
	if (tracker && !tracker_facts(tracker, &facts, &err)) {
		seen->loaded = true;
		seen->recursion_misses = facts.recursion_misses;
	}
	/* What is told of each is how it is tracked, which disks never are. */
	for (size_t i = 0; i < config->volume_count; i++)
		if (!config->volumes[i].disk)
			look_volume(config, &config->volumes[i], tracker,
				    &seen->volumes[seen->count++]);
	tracker_close(tracker);
	return seen;
}

/* ---- units ---------------------------------------------------------------------- */

static bool unit_quiet(const struct daemon_metrics *seen, const struct unit *unit)
{
	for (size_t i = 0; i < seen->count; i++) {
		const struct volume_look *look = &seen->volumes[i];

		if (!strcmp(unit->group ? look->group : look->name, unit->name) && !look->quiet)
			return false;
	}
	return true;
}

/* The schedule knows of writes from when a unit was due; the look may know before. */
static uint64_t unit_age(const struct daemon *daemon, size_t i)
{
	const struct schedule_unit *plan = &daemon->list.schedules[i];
	int64_t age = schedule_age(plan, daemon->now.boot_ns);

	if (age <= 0 && !unit_quiet(daemon->metrics, &daemon->list.units[i]))
		age = daemon->now.boot_ns - plan->covered_ns;
	return age > 0 ? (uint64_t)age : 0;
}

static void unit_metrics(const struct daemon *daemon, size_t i, struct metrics_unit *to)
{
	const struct unit *unit = &daemon->list.units[i];
	const struct schedule_unit *plan = &daemon->list.schedules[i];
	uint64_t due = unit_due_ns(&daemon->list, i, daemon->now);

	*to = (struct metrics_unit){
		.name = unit->name, .group = unit->group, .missed = plan->missed,
		.has_point = plan->has_point, .rpo_ns = unit->schedule.rpo_ns,
		.age_ns = plan->has_point ? unit_age(daemon, i) : 0,
		.point_ns = plan->has_point ? instant_to_real(daemon->now, plan->point_ns) : 0,
		.error_ns = unit->error_ns, .due_ns = due, .counts = unit->counts,
	};
}

static size_t messages_of(const struct daemon *daemon,
			  struct metrics_messages messages[static NOTIFY_TARGETS])
{
	unsigned targets = notify_targets(&daemon->config->notify);
	size_t count = 0;

	for (int target = 0; target < NOTIFY_TARGETS; target++)
		if (targets & 1u << target)
			messages[count++] = (struct metrics_messages){
				.target = notify_target_name((enum notify_target)target),
				.delivered = daemon->notify.children[target].delivered,
				.failed = daemon->notify.children[target].failed,
			};
	return count;
}

/* ---- the text, and where it goes --------------------------------------------------- */

static char *text_of(const struct daemon *daemon, bool up)
{
	const struct daemon_metrics *seen = daemon->metrics;
	CLEANUP_FREE struct metrics_unit *units = calloc(daemon->list.count + 1, sizeof(*units));
	CLEANUP_FREE struct metrics_volume *volumes = calloc(seen->count + 1, sizeof(*volumes));

	CLEANUP_FREE struct metrics_drill *drills = calloc(seen->count + 1, sizeof(*drills));
	struct metrics_messages messages[NOTIFY_TARGETS];
	struct metrics_store stores[DAEMON_STORES_MAX];
	size_t drill_count = 0;
	struct metrics_retention retentions[RETENTIONS_MAX];

	if (!units || !volumes || !drills)
		return NULL;
	for (size_t i = 0; i < daemon->list.count; i++)
		unit_metrics(daemon, i, &units[i]);
	for (size_t i = 0; i < seen->count; i++)
		volumes[i] = seen->volumes[i].metrics;
	for (size_t i = 0; i < seen->count; i++)
		if (seen->volumes[i].drill.last_ns)
			drills[drill_count++] = seen->volumes[i].drill;
	return metrics_text(&(struct metrics){
		.up = up, .loaded = seen->loaded, .recursion_misses = seen->recursion_misses,
		.units = units, .unit_count = daemon->list.count,
		.volumes = volumes, .volume_count = seen->count,
		.messages = messages, .message_count = messages_of(daemon, messages),
		.drills = drills, .drill_count = drill_count,
		.stores = stores, .store_count = daemon_store_metrics(daemon, stores),
		.retentions = retentions,
		.retention_count = daemon_retention_metrics(daemon, retentions),
	});
}

bool daemon_metrics_wanted(const struct daemon *daemon)
{
	return *daemon->config->agent.metrics || daemon->http;
}

/* Said once until it works again: protecting goes on without. */
static void say_failure(int ret, bool *failed, const char *where)
{
	if (ret && !*failed)
		log_warning("cannot write the metrics to %s: %s", where, error_text(ret));
	*failed = ret != 0;
}

void daemon_metrics_write(struct daemon *daemon, bool up)
{
	const char *path = daemon->config->agent.metrics;
	CLEANUP_FREE char *text = NULL;

	if (!daemon_metrics_wanted(daemon))
		return;
	if (daemon->metrics && daemon->now.boot_ns - daemon->metrics->looked_ns >= LOOK_NS)
		daemon_metrics_forget(daemon);
	if (!daemon->metrics)
		daemon->metrics = look_volumes(daemon);
	text = daemon->metrics ? text_of(daemon, up) : NULL;
	if (*path)
		say_failure(text ? file_replace(path, text, strlen(text), 0644) : -ENOMEM,
			    &daemon->metrics_failed, path);
	if (daemon->http)
		say_failure(text ? http_server_publish(daemon->http, text) : -ENOMEM,
			    &daemon->http_failed, http_server_address(daemon->http));
}

void daemon_metrics_forget(struct daemon *daemon)
{
	free(STEAL(daemon->metrics));
}
