/* A hook's process: its environment, its birth and its end. */
#include "agent/protect/hook_process.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOOK_VARIABLES 6
#define HOOK_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* All that its exec needs, made before the fork: behind it nothing may allocate, as
 * other threads may have held the allocator's locks. */
struct hook_exec {
	char *words;
	char *argv[CONFIG_HOOK_WORDS + 1];
	char *environment[HOOK_VARIABLES + 1];
};

static void exec_fini(struct hook_exec *exec)
{
	free(exec->words);
	for (size_t i = 0; i < HOOK_VARIABLES; i++)
		free(exec->environment[i]);
}

/* "NAME=a b c"; NULL without memory. */
static char *variable(const char *name, const char *const *words, size_t count)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	fprintf(out, "%s=", name);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s%s", i ? " " : "", words[i]);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static int exec_init(struct hook_exec *exec, const char *command,
		     const struct hook_facts *facts, struct error *err)
{
	char *at = NULL;
	size_t words = 0;

	memset(exec, 0, sizeof(*exec));
	exec->words = strdup(command);
	exec->environment[0] = strdup(HOOK_PATH);
	exec->environment[1] = strdup("CLAWBACK_HOOK=hold");
	exec->environment[2] = variable("CLAWBACK_GROUP", &facts->group, 1);
	exec->environment[3] = variable("CLAWBACK_VOLUMES", facts->volumes, facts->count);
	exec->environment[4] = variable("CLAWBACK_DEVICES", facts->devices, facts->count);
	exec->environment[5] = variable("CLAWBACK_RUN", &facts->run, 1);
	for (size_t i = 0; i < HOOK_VARIABLES; i++)
		if (!exec->words || !exec->environment[i])
			return error_set(err, -ENOMEM, "out of memory");
	for (char *word = strtok_r(exec->words, " \t", &at); word && words < CONFIG_HOOK_WORDS;
	     word = strtok_r(NULL, " \t", &at))
		exec->argv[words++] = word;
	/* The child could only say so with a number. */
	return access(exec->argv[0], X_OK) ? error_set(err, -errno, "%s", error_text(errno)) : 0;
}

/* ---- the child --------------------------------------------------------------- */

static void child_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);	/* what is ignored would stay so */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn))
static void child_main(const struct hook_exec *exec, const int *ends, pid_t parent)
{
	/* Killed ourselves we cannot end it: the kernel does. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	setsid();
	child_signals();
	if (dup2(ends[0], 0) < 0 || dup2(ends[1], 1) < 0 || dup2(ends[2], 2) < 0 ||
	    close_range(3, ~0u, 0) < 0 || chdir("/") < 0)
		_exit(126);
	execve(exec->argv[0], exec->argv, exec->environment);
	_exit(127);
}

/* ---- the parent ---------------------------------------------------------------- */

/* Above the standard descriptors, which the child puts its ends at. */
static int pipe_high(int *from, int *to)
{
	CLEANUP_CLOSE int low0 = -1, low1 = -1;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	low0 = ends[0];
	low1 = ends[1];
	*from = fcntl(low0, F_DUPFD_CLOEXEC, 3);
	*to = fcntl(low1, F_DUPFD_CLOEXEC, 3);
	return *from < 0 || *to < 0 ? -errno : 0;
}

static void close_all(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(STEAL_FD(fds[i]));
}

static int process_fork(struct hook_process *process, const struct hook_exec *exec)
{
	int ends[3] = { -1, -1, -1 }, ret;
	pid_t parent = getpid();

	ret = pipe_high(&ends[0], &process->input);
	if (!ret)
		ret = pipe_high(&process->output, &ends[1]);
	if (!ret)
		ret = pipe_high(&process->errors, &ends[2]);
	if (!ret && (fcntl(process->output, F_SETFL, O_NONBLOCK) < 0 ||
		     fcntl(process->errors, F_SETFL, O_NONBLOCK) < 0 ||
		     fcntl(process->input, F_SETFL, O_NONBLOCK) < 0))
		ret = -errno;
	if (!ret) {
		process->pid = fork();
		if (process->pid == 0)
			child_main(exec, ends, parent);
		process->pidfd = process->pid > 0 ? pidfd_open(process->pid, 0) : -1;
		ret = process->pidfd < 0 ? -errno : 0;
	}
	close_all(ends, 3);
	return ret;
}

int hook_process_start(const char *command, const struct hook_facts *facts,
		       struct hook_process *process, struct error *err)
{
	struct hook_exec exec;
	int ret = exec_init(&exec, command, facts, err);

	*process = (struct hook_process){ 0, -1, -1, -1, -1 };
	if (!ret) {
		ret = process_fork(process, &exec);
		if (ret)
			error_set(err, ret, "%s", error_text(ret));
		if (ret)
			hook_process_reap(process);
	}
	exec_fini(&exec);
	return ret;
}

/* Too early it has no group of its own yet. */
static void process_signal(const struct hook_process *process, int number)
{
	if (process->pid <= 0)
		return;
	kill(-process->pid, number);
	kill(process->pid, number);
}

void hook_process_ask(const struct hook_process *process)
{
	process_signal(process, SIGTERM);
}

int hook_process_reap(struct hook_process *process)
{
	int status = 0;

	/* Not waited for yet, its number and its group's are still its own. */
	process_signal(process, SIGKILL);
	while (process->pid > 0 && waitpid(process->pid, &status, 0) < 0 && errno == EINTR)
		;
	process->pid = 0;
	close_all(&process->pidfd, 1);
	close_all(&process->input, 1);
	close_all(&process->output, 1);
	close_all(&process->errors, 1);
	return status;
}
