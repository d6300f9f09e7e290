/* The runs that go on, at most `runs` of the configuration: room for more, and their ends. */
#include "agent/protect/daemon.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define SECOND_NS INT64_C(1000000000)
/* How long an interrupted run has to clean up before it is ended. */
#define UNWIND_NS (30 * SECOND_NS)

struct schedule_room running_room(const struct daemon *daemon)
{
	unsigned whole = 0;

	for (size_t r = 0; r < daemon->running_count; r++)
		whole += daemon->running[r].whole;
	if (daemon->drills.child.pid)
		return schedule_room(daemon->config->agent.runs,
				     (unsigned)daemon->running_count + 1, whole + 1);
	return schedule_room(daemon->config->agent.runs, (unsigned)daemon->running_count, whole);
}

static bool shares_volume(const struct running *running, const struct unit *unit)
{
	for (size_t v = 0; v < unit->count; v++)
		for (size_t i = 0; i < running->count; i++)
			if (!strcmp(running->volumes[i], unit->volumes[v]->name))
				return true;
	return false;
}

void running_mark(struct daemon *daemon)
{
	/* A unit that was taken out of the configuration, and is back before its run ended. */
	for (size_t r = 0; r < daemon->running_count; r++) {
		const struct running *running = &daemon->running[r];
		ssize_t i = units_find(&daemon->list, running->name, running->group);

		if (i >= 0 && !daemon->list.schedules[i].running)
			schedule_begin(&daemon->list.schedules[i], running->started_ns);
	}
	for (size_t u = 0; u < daemon->list.count; u++) {
		bool busy = false;

		for (size_t r = 0; r < daemon->running_count; r++)
			busy |= shares_volume(&daemon->running[r], &daemon->list.units[u]);
		daemon->list.schedules[u].busy = busy;
	}
}

struct running *running_add(struct daemon *daemon, const struct unit *unit,
			    enum backup_type asked, bool whole)
{
	struct running *running = &daemon->running[daemon->running_count++];
	uint64_t timeout_ns = unit->schedule.run_timeout_ns;

	*running = (struct running){
		.group = unit->group, .asked = asked, .whole = whole, .count = unit->count,
		.started_ns = daemon->now.boot_ns, .timeout_ns = timeout_ns,
		.interrupt_ns = timeout_ns ? daemon->now.boot_ns + (int64_t)timeout_ns
					   : SCHEDULE_NEVER,
	};
	strcpy(running->name, unit->name);
	for (size_t v = 0; v < unit->count; v++)
		strcpy(running->volumes[v], unit->volumes[v]->name);
	return running;
}

/* ---- ending ------------------------------------------------------------------ */

void running_stop(struct daemon *daemon, int64_t at_ns)
{
	for (size_t r = 0; r < daemon->running_count; r++) {
		struct running *running = &daemon->running[r];

		if (running->interrupt_ns > at_ns) {
			running->interrupt_ns = at_ns;
			running->timeout_ns = 0;
		}
	}
}

/* Once as Ctrl-C; who hangs in cleaning up is ended by the same again, then for good. */
void running_turn(struct daemon *daemon)
{
	static const int signals[] = { SIGTERM, SIGTERM, SIGKILL };

	for (size_t r = 0; r < daemon->running_count; r++) {
		struct running *running = &daemon->running[r];

		if (daemon->now.boot_ns < running->interrupt_ns)
			continue;
		kill(running->child.pid, signals[running->interrupts < 2 ? running->interrupts
									 : 2]);
		running->interrupts++;
		running->interrupt_ns = daemon->now.boot_ns + UNWIND_NS;
	}
}

int64_t running_wake(const struct daemon *daemon)
{
	int64_t wake = SCHEDULE_NEVER;

	for (size_t r = 0; r < daemon->running_count; r++)
		if (daemon->running[r].interrupt_ns < wake)
			wake = daemon->running[r].interrupt_ns;
	return wake;
}

void running_wait(const struct daemon *daemon, struct pollfd wait[static RUNNING_MAX])
{
	for (size_t r = 0; r < RUNNING_MAX; r++)
		wait[r] = (struct pollfd){ .events = POLLIN, .fd = r < daemon->running_count
					   ? daemon->running[r].child.pidfd : -1 };
}

/* As it says of itself that it was interrupted, which is not why. */
static void say_timeout(const struct running *running, struct run_report *report)
{
	struct error *err = &report->err;

	if (!running->interrupts || !running->timeout_ns || !report->ret)
		return;
	report->ret = error_set(err, -ETIMEDOUT, "the run was ended: it took longer than its "
				"run_timeout of %llu s",
				(unsigned long long)(running->timeout_ns / SECOND_NS));
	err->exit = EXIT_FAILED;
}

void running_ended(struct daemon *daemon, const struct pollfd wait[static RUNNING_MAX])
{
	/* From the last, whose place another takes. */
	for (size_t r = daemon->running_count; r-- > 0;) {
		struct running ended = daemon->running[r];
		struct run_report report;

		if (!wait[r].revents)
			continue;
		child_end(&ended.child, &report);
		say_timeout(&ended, &report);
		daemon->running[r] = daemon->running[--daemon->running_count];
		run_ended(daemon, &ended, &report);
	}
}
