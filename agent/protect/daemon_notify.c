/* Telling people: from events to messages, one at a time handed over by a child. */
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define SECOND_NS INT64_C(1000000000)
/* Once, there is no second try that could be told of. */
#define FAILURES_TOLD_FROM 2
#define FAILURES_TOLD_FROM_ONCE 1

/* ---- from events to messages ------------------------------------------------------ */

static void put(struct daemon *daemon, const struct notify_message *message)
{
	const struct config_notify *config = &daemon->config->notify;

	if (*config->command)
		notify_queue_put(&daemon->notify.queue, NOTIFY_COMMAND, message);
	if (*config->webhook || *config->webhook_file)
		notify_queue_put(&daemon->notify.queue, NOTIFY_WEBHOOK, message);
}

static struct notify_message message_of(const struct daemon *daemon, const struct unit *unit,
					enum notify_kind kind, unsigned held)
{
	struct notify_message message = {
		.kind = kind, .group = unit->group, .time_ns = daemon->now.real_ns,
		.rpo_ns = unit->schedule.rpo_ns, .held = held,
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

static void notify_store(struct daemon *daemon, const struct protect_event *event)
{
	struct notify_rules rules = rules_of(daemon);
	struct daemon_store *store = daemon_store_find(daemon, event->store);
	struct notify_message message = { .time_ns = daemon->now.real_ns };
	enum notify_kind kinds[NOTIFY_KINDS_AT_ONCE];
	size_t count = store ? notify_kinds(event, kinds) : 0;

	for (size_t k = 0; k < count; k++) {
		message.kind = kinds[k];
		if (!notify_decide(&store->notify, &rules, kinds[k], daemon->now.boot_ns,
				   &message.held))
			continue;
		if (gethostname(message.host, sizeof(message.host) - 1))
			strcpy(message.host, "unknown");
		snprintf(message.unit, sizeof(message.unit), "%s", store->name);
		event_error(event, &message);
		put(daemon, &message);
	}
}

void daemon_notify(struct daemon *daemon, const struct protect_event *event)
{
	struct notify_rules rules = rules_of(daemon);
	enum notify_kind kinds[NOTIFY_KINDS_AT_ONCE];
	size_t count = event->unit ? notify_kinds(event, kinds) : 0;
	ssize_t i = count ? units_find(&daemon->list, event->unit, event->group) : -1;
	unsigned held;

	if (event->store)
		notify_store(daemon, event);
	for (size_t k = 0; i >= 0 && k < count; k++) {
		struct unit *unit = &daemon->list.units[i];
		struct notify_message message;

		if (!notify_decide(&unit->notify, &rules, kinds[k], daemon->now.boot_ns, &held))
			continue;
		message = message_of(daemon, unit, kinds[k], held);
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
		message = message_of(daemon, unit, NOTIFY_RPO_MISSED, held);
		message.age_ns = (uint64_t)schedule_age(plan, daemon->now.boot_ns);
		if (plan->failures)
			snprintf(message.error, sizeof(message.error), "%s", unit->error);
		put(daemon, &message);
	}
}

/* ---- handing over ------------------------------------------------------------------- */

void daemon_notify_ended(struct daemon *daemon)
{
	struct daemon_notify *notify = &daemon->notify;
	int status = 0;

	while (waitpid(notify->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (notify->late)
		log_warning("a message was not delivered in time");
	else if (WIFSIGNALED(status))
		log_warning("a message may not be delivered: its process was killed by signal %d",
			    WTERMSIG(status));
	else if (notify->target == NOTIFY_COMMAND && WEXITSTATUS(status))
		log_warning("a message may not be delivered: its command ended with code %d",
			    WEXITSTATUS(status));
	notify->pid = 0;
	close(STEAL_FD(notify->pidfd));
}

static void end_late(struct daemon *daemon)
{
	struct daemon_notify *notify = &daemon->notify;

	if (!notify->pid || daemon->now.boot_ns < notify->deadline_ns)
		return;
	notify->late = true;
	/* With what it started; by itself too, for it may not have its group yet. */
	kill(-notify->pid, SIGKILL);
	kill(notify->pid, SIGKILL);
	daemon_notify_ended(daemon);
}

void daemon_notify_turn(struct daemon *daemon)
{
	struct daemon_notify *notify = &daemon->notify;
	struct error err = ERROR_INIT;
	struct notify_item item;

	put_overdue(daemon);
	end_late(daemon);
	if (notify->pid || !notify_queue_take(&notify->queue, &item))
		return;
	notify->late = false;
	notify->target = item.target;
	notify->deadline_ns = daemon->now.boot_ns + NOTIFY_SECONDS * SECOND_NS;
	if (notify_start(&daemon->config->notify, item.target, &item.message, &notify->pid,
			 &notify->pidfd, &err))
		log_warning("%s", err.message);
}

bool daemon_notify_idle(const struct daemon *daemon)
{
	return !daemon->notify.pid && !daemon->notify.queue.count;
}

void daemon_notify_close(struct daemon *daemon)
{
	if (!daemon->notify.pid)
		return;
	daemon->notify.deadline_ns = daemon->now.boot_ns;
	end_late(daemon);
}
