/* Telling people: from events to messages, each handed over by a child. */
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#define SECOND_NS INT64_C(1000000000)
/* Once, there is no second try that could be told of. */
#define FAILURES_TOLD_FROM 2
#define FAILURES_TOLD_FROM_ONCE 1

/* ---- from events to messages ------------------------------------------------------ */

static void put(struct daemon *daemon, const struct notify_message *message)
{
	unsigned targets = notify_targets(&daemon->config->notify);

	for (unsigned target = 0; target < NOTIFY_TARGETS; target++)
		if (targets & 1u << target)
			notify_queue_put(&daemon->notify.queue, (enum notify_target)target, message);
}

/* When the trouble began that a kind is about. */
static int64_t since_of(const struct notify_history *history, enum notify_kind kind)
{
	switch (kind) {
	case NOTIFY_RPO_MISSED:
	case NOTIFY_RPO_RECOVERED:
		return history->missed_ns;
	case NOTIFY_CYCLE_FAILED:
	case NOTIFY_CYCLE_RECOVERED:
		return history->failing_ns;
	default:
		return 0;
	}
}

static struct notify_message message_of(const struct daemon *daemon, size_t i,
					enum notify_kind kind, unsigned held)
{
	const struct unit *unit = &daemon->list.units[i];
	const struct schedule_unit *plan = &daemon->list.schedules[i];
	int64_t since = since_of(&unit->notify, kind);
	struct notify_message message = {
		.kind = kind, .group = unit->group, .time_ns = daemon->now.real_ns,
		.rpo_ns = unit->schedule.rpo_ns, .held = held,
		.since_ns = since ? instant_to_real(daemon->now, since) : 0,
		.point_ns = plan->has_point ? instant_to_real(daemon->now, plan->point_ns) : 0,
	};

	if (gethostname(message.host, sizeof(message.host) - 1))
		strcpy(message.host, "unknown");
	strcpy(message.unit, unit->name);
	return message;
}

static struct notify_rules rules_of(const struct daemon *daemon)
{
	return (struct notify_rules){
		.on = daemon->config->notify.on,
		.interval_ns = (int64_t)daemon->config->notify.interval_ns,
		.failures = daemon->options->once ? FAILURES_TOLD_FROM_ONCE : FAILURES_TOLD_FROM,
	};
}

static void event_error(const struct protect_event *event, struct notify_message *message)
{
	bool trouble = !(notify_class(message->kind) & (NOTIFY_ON_RECOVERY | NOTIFY_ON_SUCCESS));
	const char *text = event->error ? event->error->message : event->why;

	message->age_ns = event->age_ns;
	if (trouble)
		snprintf(message->error, sizeof(message->error), "%.511s", text);
}

/* Of retention, or of copying; NULL for what a reload has dropped. */
static struct notify_history *store_history(struct daemon *daemon,
					    const struct protect_event *event)
{
	bool retention = event->type == PROTECT_RETAINED ||
			 event->type == PROTECT_RETENTION_FAILED;
	struct retention_plan *plan = daemon_retention_find(daemon, event->store);
	struct daemon_store *store = daemon_store_find(daemon, event->store);

	if (retention)
		return plan ? &plan->notify : NULL;
	return store ? &store->notify : NULL;
}

static void notify_store(struct daemon *daemon, const struct protect_event *event)
{
	struct notify_rules rules = rules_of(daemon);
	struct notify_history *history = store_history(daemon, event);
	struct notify_message message = { .time_ns = daemon->now.real_ns };
	enum notify_kind kinds[NOTIFY_KINDS_AT_ONCE];
	size_t count = history ? notify_kinds(event, kinds) : 0;

	for (size_t k = 0; k < count; k++) {
		message.kind = kinds[k];
		if (!notify_decide(history, &rules, kinds[k], daemon->now.boot_ns,
				   &message.held))
			continue;
		if (gethostname(message.host, sizeof(message.host) - 1))
			strcpy(message.host, "unknown");
		snprintf(message.unit, sizeof(message.unit), "%s", event->store);
		event_error(event, &message);
		put(daemon, &message);
	}
}

static void notify_drill(struct daemon *daemon, const struct protect_event *event)
{
	struct notify_rules rules = rules_of(daemon);
	struct drill_plan *plan = daemon_drill_find(&daemon->drills, event->unit);
	struct notify_message message = { .time_ns = daemon->now.real_ns,
					  .point_ns = event->drill->point_time_ns };
	enum notify_kind kinds[NOTIFY_KINDS_AT_ONCE];
	size_t count = plan ? notify_kinds(event, kinds) : 0;

	for (size_t k = 0; k < count; k++) {
		message.kind = kinds[k];
		if (!notify_decide(&plan->notify, &rules, kinds[k], daemon->now.boot_ns,
				   &message.held))
			continue;
		if (gethostname(message.host, sizeof(message.host) - 1))
			strcpy(message.host, "unknown");
		snprintf(message.unit, sizeof(message.unit), "%s", event->unit);
		event_error(event, &message);
		put(daemon, &message);
	}
}

void daemon_notify(struct daemon *daemon, const struct protect_event *event)
{
	struct notify_rules rules = rules_of(daemon);
	enum notify_kind kinds[NOTIFY_KINDS_AT_ONCE];
	/* A volume's drill is no event of its unit. */
	size_t count = event->unit && !event->drill ? notify_kinds(event, kinds) : 0;
	ssize_t i = count ? units_find(&daemon->list, event->unit, event->group) : -1;
	unsigned held;

	if (event->store)
		notify_store(daemon, event);
	if (event->drill)
		notify_drill(daemon, event);
	for (size_t k = 0; i >= 0 && k < count; k++) {
		struct unit *unit = &daemon->list.units[i];
		struct notify_message message;

		if (!notify_decide(&unit->notify, &rules, kinds[k], daemon->now.boot_ns, &held))
			continue;
		message = message_of(daemon, (size_t)i, kinds[k], held);
		event_error(event, &message);
		put(daemon, &message);
	}
}

static void put_overdue(struct daemon *daemon)
{
	struct notify_rules rules = rules_of(daemon);
	unsigned held;

	for (size_t i = 0; i < daemon->list.count; i++) {
		struct unit *unit = &daemon->list.units[i];
		const struct schedule_unit *plan = &daemon->list.schedules[i];
		struct notify_message message;

		if (!notify_overdue(&unit->notify, &rules, daemon->now.boot_ns, &held))
			continue;
		message = message_of(daemon, i, NOTIFY_RPO_MISSED, held);
		message.age_ns = (uint64_t)schedule_age(plan, daemon->now.boot_ns);
		if (plan->failures)
			snprintf(message.error, sizeof(message.error), "%s", unit->error);
		put(daemon, &message);
	}
}

/* ---- handing over ------------------------------------------------------------------- */

static void child_ended(struct daemon *daemon, enum notify_target target)
{
	struct notify_child *child = &daemon->notify.children[target];
	int status = 0;

	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (child->late)
		log_warning("a message was not delivered in time");
	else if (WIFSIGNALED(status))
		log_warning("a message may not be delivered: its process was killed by signal %d",
			    WTERMSIG(status));
	else if (target == NOTIFY_COMMAND && WEXITSTATUS(status))
		log_warning("a message may not be delivered: its command ended with code %d",
			    WEXITSTATUS(status));
	if (child->late || !WIFEXITED(status) || WEXITSTATUS(status))
		child->failed++;
	else
		child->delivered++;
	/* For who looks at the metrics. */
	daemon->record = true;
	child->pid = 0;
	/* By itself it would stay there as long as a run has a copy of it. */
	epoll_ctl(daemon->notify.epoll_fd, EPOLL_CTL_DEL, child->pidfd, NULL);
	close(STEAL_FD(child->pidfd));
}

void daemon_notify_ended(struct daemon *daemon)
{
	for (int target = 0; target < NOTIFY_TARGETS; target++) {
		const struct notify_child *child = &daemon->notify.children[target];
		struct pollfd ended = { .fd = child->pid ? child->pidfd : -1, .events = POLLIN };

		if (poll(&ended, 1, 0) > 0 && ended.revents)
			child_ended(daemon, (enum notify_target)target);
	}
}

static void end_late(struct daemon *daemon)
{
	for (int target = 0; target < NOTIFY_TARGETS; target++) {
		struct notify_child *child = &daemon->notify.children[target];

		if (!child->pid || daemon->now.boot_ns < child->deadline_ns)
			continue;
		child->late = true;
		/* With what it started; by itself too, for it may not have its group yet. */
		kill(-child->pid, SIGKILL);
		kill(child->pid, SIGKILL);
		child_ended(daemon, (enum notify_target)target);
	}
}

static int child_watch(struct daemon_notify *notify, const struct notify_child *child)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (notify->epoll_fd < 0)
		notify->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return notify->epoll_fd < 0 ? -1 :
	       epoll_ctl(notify->epoll_fd, EPOLL_CTL_ADD, child->pidfd, &event);
}

static void hand_over(struct daemon *daemon, const struct notify_item *item)
{
	struct notify_child *child = &daemon->notify.children[item->target];
	struct error err = ERROR_INIT;

	child->late = false;
	child->deadline_ns = daemon->now.boot_ns + NOTIFY_SECONDS * SECOND_NS;
	if (notify_start(&daemon->config->notify, item->target, &item->message, &child->pid,
			 &child->pidfd, &err)) {
		child->failed++;
		log_warning("%s", err.message);
		return;
	}
	/* Its end is then seen when it is late, or at another turn. */
	if (child_watch(&daemon->notify, child) < 0)
		log_warning("cannot wait for a message to be delivered: %s", error_text(errno));
}

void daemon_notify_turn(struct daemon *daemon)
{
	unsigned idle = 0;
	struct notify_item item;

	put_overdue(daemon);
	daemon_notify_ended(daemon);
	end_late(daemon);
	for (int target = 0; target < NOTIFY_TARGETS; target++)
		if (!daemon->notify.children[target].pid)
			idle |= 1u << target;
	while (notify_queue_take(&daemon->notify.queue, idle, &item)) {
		hand_over(daemon, &item);
		idle &= ~(1u << item.target);
	}
}

int daemon_notify_fd(const struct daemon *daemon)
{
	return daemon->notify.epoll_fd;
}

int64_t daemon_notify_deadline(const struct daemon *daemon)
{
	int64_t first = INT64_MAX;

	for (int target = 0; target < NOTIFY_TARGETS; target++) {
		const struct notify_child *child = &daemon->notify.children[target];

		if (child->pid && child->deadline_ns < first)
			first = child->deadline_ns;
	}
	return first;
}

bool daemon_notify_idle(const struct daemon *daemon)
{
	return daemon_notify_deadline(daemon) == INT64_MAX && !daemon->notify.queue.count;
}

void daemon_notify_close(struct daemon *daemon)
{
	for (int target = 0; target < NOTIFY_TARGETS; target++)
		daemon->notify.children[target].deadline_ns = daemon->now.boot_ns;
	end_late(daemon);
	cleanup_close(&daemon->notify.epoll_fd);
}
