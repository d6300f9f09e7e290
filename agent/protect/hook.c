/*
 * A hook's life. What it says on stdout before it is told to let go counts when it is
 * "ready" or begins with "failed"; all else is told as it came.
 */
#include "agent/protect/hook_process.h"

#include "agent/base/interrupt.h"
#include "agent/base/log.h"
#include "agent/protect/protect.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOOK_GRACE_NS 2000000000ull	/* from SIGTERM to SIGKILL */

struct hook {
	const struct config_hook *config;
	char name[64];			/* of the program, for messages */
	struct hook_process process;
	struct hook_stream output, errors;
	unsigned lines;			/* told, or left out */
	bool ready, failed, ended, held;
	uint64_t deadline_ns;		/* of elapsed_ns */
	pthread_t thread;
	bool watched;			/* the thread has it, until joined */
	int status;			/* as wait(2) has it, once reaped */
	bool late;			/* it had to be ended */
};

/* ---- hearing ------------------------------------------------------------------- */

static void hook_tell(void *context, const char *line)
{
	struct hook *hook = context;

	if (++hook->lines <= HOOK_LINES_MAX)
		log_note("hook %s: %s", hook->name, line);
}

static void hook_take(void *context, const char *line)
{
	struct hook *hook = context;

	if (hook->process.input >= 0 && !strcmp(line, "ready")) {
		hook->ready = true;
		return;
	}
	if (hook->process.input >= 0 && !strncmp(line, "failed", 6))
		hook->failed = true;
	hook_tell(hook, line);
}

/* Waits for something to happen, at most `wait_ms`, and takes it in. */
static void hook_hear(struct hook *hook, int wait_ms)
{
	struct hook_process *process = &hook->process;
	struct pollfd fds[] = {
		{ .fd = process->output, .events = POLLIN },
		{ .fd = process->errors, .events = POLLIN },
		{ .fd = process->pidfd, .events = POLLIN },
	};

	if (poll(fds, 3, wait_ms) <= 0)
		return;
	if (fds[0].revents &&
	    !hook_stream_read(&hook->output, process->output, hook_take, hook)) {
		close(process->output);
		process->output = -1;
	}
	if (fds[1].revents &&
	    !hook_stream_read(&hook->errors, process->errors, hook_tell, hook)) {
		close(process->errors);
		process->errors = -1;
	}
	if (fds[2].revents)
		hook->ended = true;
}

/* Until `deadline_ns`; 1 ms at least, so that what is there is heard. */
static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = elapsed_ns();

	return now < deadline_ns ? (int)((deadline_ns - now) / 1000000) + 1 : 1;
}

/* ---- ending --------------------------------------------------------------------- */

/* However far it came; what it still had to say is told. */
static void hook_stop(struct hook *hook)
{
	uint64_t deadline = elapsed_ns() + HOOK_GRACE_NS;

	if (!hook->ended)
		hook_process_ask(&hook->process);
	while (!hook->ended && elapsed_ns() < deadline)
		hook_hear(hook, left_ms(deadline));
	hook_hear(hook, 0);
	hook->status = hook_process_reap(&hook->process);
	if (hook->lines > HOOK_LINES_MAX)
		log_note("hook %s: %u more lines left out", hook->name,
			 hook->lines - HOOK_LINES_MAX);
}

static int hook_not_ready(struct hook *hook, struct error *err)
{
	int status = hook->status;

	if (interrupt_requested())
		return interrupt_check(err);
	if (hook->failed)
		return error_set(err, -ECANCELED, "it said that it failed");
	if (hook->late)
		return error_set(err, -ETIMEDOUT, "it was not ready within %llu s",
				 (unsigned long long)(hook->config->timeout_ns / 1000000000));
	if (WIFSIGNALED(status))
		return error_set(err, -ECHILD, "it was killed by signal %d before it was ready",
				 WTERMSIG(status));
	return error_set(err, -ECHILD, "it ended with code %d before it was ready",
			 WEXITSTATUS(status));
}

/* ---- the steps ------------------------------------------------------------------ */

static void hook_name(struct hook *hook)
{
	size_t length = strcspn(hook->config->command, " \t");
	const char *start = hook->config->command + length;

	while (start[-1] != '/')
		start--;
	length = (size_t)(hook->config->command + length - start);
	if (length >= sizeof(hook->name))
		length = sizeof(hook->name) - 1;
	memcpy(hook->name, start, length);
}

int hook_begin(const struct config_hook *config, const struct hook_facts *facts,
	       struct hook **out, struct error *err)
{
	struct hook *hook = calloc(1, sizeof(*hook));
	int ret;

	*out = NULL;
	if (!hook)
		return error_set(err, -ENOMEM, "starting a hook: out of memory");
	hook->config = config;
	hook_name(hook);
	hook->deadline_ns = elapsed_ns() + config->timeout_ns;
	ret = hook_process_start(config->command, facts, &hook->process, err);
	while (!ret && !hook->ready && !hook->failed && !hook->ended &&
	       !interrupt_requested() && elapsed_ns() < hook->deadline_ns)
		hook_hear(hook, left_ms(hook->deadline_ns));
	if (!ret && hook->ready && !hook->failed && !hook->ended && !interrupt_requested()) {
		*out = hook;
		return 0;
	}
	if (!ret) {
		hook->late = !hook->ended;
		hook_stop(hook);
		ret = hook_not_ready(hook, err);
	}
	if (err->exit != EXIT_INTERRUPTED)
		error_prefix(err, "hook %s", config->command);
	free(hook);
	return ret;
}

void hook_release(struct hook *hook, bool taken)
{
	static const char ok[] = "release ok\n", failed[] = "release failed\n";
	ssize_t told;

	if (hook->process.input < 0)
		return;
	hook_hear(hook, 0);
	hook->held = taken && !hook->failed && !hook->ended;
	told = taken ? write(hook->process.input, ok, sizeof(ok) - 1)
		     : write(hook->process.input, failed, sizeof(failed) - 1);
	(void)told;			/* that its input ends says it, too */
	close(hook->process.input);
	hook->process.input = -1;
	hook->deadline_ns = elapsed_ns() + hook->config->timeout_ns;
}

bool hook_held(const struct hook *hook)
{
	return hook->held;
}

static void *hook_thread(void *context)
{
	struct hook *hook = context;

	while (!hook->ended && elapsed_ns() < hook->deadline_ns)
		hook_hear(hook, left_ms(hook->deadline_ns));
	hook->late = !hook->ended;
	hook_stop(hook);
	return NULL;
}

void hook_watch(struct hook *hook)
{
	sigset_t all, before;

	/* Signals are for the threads that look whether one came. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	hook->watched = pthread_create(&hook->thread, NULL, hook_thread, hook) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool hook_end(struct hook *hook)
{
	bool good;

	if (!hook)
		return false;
	if (hook->watched)
		pthread_join(hook->thread, NULL);
	else
		hook_thread(hook);
	good = !hook->late && WIFEXITED(hook->status) && WEXITSTATUS(hook->status) == 0;
	if (hook->late)
		log_warning("hook %s did not end within %llu s of being released, and was ended",
			    hook->config->command,
			    (unsigned long long)(hook->config->timeout_ns / 1000000000));
	else if (!good)
		log_warning("hook %s failed after it was released: %s %d", hook->config->command,
			    WIFSIGNALED(hook->status) ? "signal" : "code",
			    WIFSIGNALED(hook->status) ? WTERMSIG(hook->status)
						      : WEXITSTATUS(hook->status));
	good &= hook->held;
	free(hook);
	return good;
}
