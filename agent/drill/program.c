/*
 * Programs, run one after the other by process 1 of a namespace: it also reaps what they
 * leave behind, and ends all with one call.
 */
#include "agent/drill/drill_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 500
#define LINES_MAX 200		/* told; the rest is counted */
#define GRACE_NS UINT64_C(5000000000)	/* from SIGTERM to SIGKILL */
#define LOOK_MS 100

struct running {
	const struct program *program;
	pid_t pid;
	int pidfd, output_fd;		/* -1 */
	int status;			/* of wait(2), once it ended */
	bool ended, late;
	char line[LINE_MAX_BYTES + 1], last[LINE_MAX_BYTES + 1];
	size_t length;
	unsigned lines;
};

/* ---- what it says --------------------------------------------------------------- */

static void line_end(struct running *running)
{
	const char *name = running->program->name;

	running->line[running->length] = '\0';
	running->length = 0;
	if (!running->line[strspn(running->line, " ")])
		return;
	strcpy(running->last, running->line);
	if (++running->lines > LINES_MAX)
		return;
	if (running->program->tell)
		log_note("drill: %s: %s", name, running->line);
	else
		log_detail("drill: %s: %s", name, running->line);
}

static void take_output(struct running *running)
{
	unsigned char piece[4096];
	ssize_t n;

	/* One that never stops talking must not keep us from looking at the clock. */
	for (int turn = 0; turn < 16; turn++) {
		n = read(running->output_fd, piece, sizeof(piece));
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++) {
			if (piece[i] == '\n' || running->length == LINE_MAX_BYTES)
				line_end(running);
			/* Escape sequences are not to reach who looks at the log. */
			if (piece[i] != '\n')
				running->line[running->length++] =
					piece[i] < ' ' || piece[i] == 0x7f ? ' ' : (char)piece[i];
		}
	}
}

/* ---- starting ---------------------------------------------------------------------- */

__attribute__((noreturn))
static void child_main(const struct program *program, int output_fd)
{
	int null_fd = open("/dev/null", O_RDONLY);
	sigset_t none;

	setsid();
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(null_fd, 0) < 0 || dup2(output_fd, 1) < 0 || dup2(output_fd, 2) < 0 ||
	    close_range(3, ~0u, 0) < 0 || chdir("/") < 0)
		_exit(126);
	execve(program->argv[0], (char *const *)program->argv,
	       (char *const *)program->environment);
	_exit(127);
}

static int program_start(struct running *running, struct error *err)
{
	const struct program *program = running->program;
	CLEANUP_CLOSE int write_fd = -1;
	int ends[2];

	/* The child could only say so with a number. */
	if (access(program->argv[0], X_OK) < 0)
		return error_set(err, -errno, "cannot run %s: %s", program->argv[0],
				 error_text(errno));
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set(err, -errno, "cannot start %s: %s", program->name,
				 error_text(errno));
	running->output_fd = ends[0];
	write_fd = ends[1];
	/* It writes as programs do, not as we read. */
	fcntl(write_fd, F_SETFL, 0);
	running->pid = fork();
	if (running->pid == 0)
		child_main(program, write_fd);
	running->pidfd = running->pid > 0 ? pidfd_open(running->pid, 0) : -1;
	if (running->pid < 0)
		return error_set(err, -errno, "cannot start %s: %s", program->name,
				 error_text(errno));
	return 0;
}

/* ---- waiting ------------------------------------------------------------------------- */

/* Others' orphans are ours, too. */
static void reap(struct running *running)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == running->pid) {
			running->ended = true;
			running->status = status;
		}
}

static void hear(struct running *running)
{
	struct pollfd fds[] = {
		{ .fd = running->output_fd, .events = POLLIN },
		{ .fd = running->program->lifeline_fd, .events = POLLIN },
		{ .fd = running->pidfd, .events = POLLIN },
	};

	poll(fds, 3, LOOK_MS);
	/* Who started all this is dead. */
	if (fds[1].revents)
		_exit(EXIT_FAILED);
	/* Its output may end before it, and go on after it. */
	if (running->output_fd >= 0)
		take_output(running);
	if (fds[0].revents & POLLHUP && !(fds[0].revents & POLLIN))
		close(STEAL_FD(running->output_fd));
	reap(running);
}

static void until(struct running *running, uint64_t deadline_ns)
{
	while (!running->ended && drill_clock_ns() < deadline_ns)
		hear(running);
}

void program_end_all(void)
{
	/* All there are, and only in a namespace these are ours. */
	if (getpid() != 1)
		return;
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

static void run(struct running *running)
{
	uint64_t timeout = running->program->timeout_ns;

	until(running, timeout ? drill_clock_ns() + timeout : UINT64_MAX);
	if (running->ended)
		return;
	running->late = true;
	kill(-running->pid, SIGTERM);
	kill(running->pid, SIGTERM);
	until(running, drill_clock_ns() + GRACE_NS);
	kill(-running->pid, SIGKILL);
	kill(running->pid, SIGKILL);
	until(running, UINT64_MAX);
}

static int judge(const struct running *running, struct error *err)
{
	const char *name = running->program->name, *last = running->last;

	if (running->late)
		error_set(err, -ETIMEDOUT, "%s took longer than its %llu s, and was ended", name,
			  (unsigned long long)(running->program->timeout_ns / 1000000000));
	else if (WIFSIGNALED(running->status))
		error_set(err, -ECHILD, "%s was killed by signal %d", name,
			  WTERMSIG(running->status));
	else if (WEXITSTATUS(running->status))
		error_set(err, -ECHILD, "%s ended with code %d", name,
			  WEXITSTATUS(running->status));
	else
		return 0;
	return *last ? error_set(err, err->code, "%s: %s", err->message, last) : err->code;
}

int program_run(const struct program *program, struct error *err)
{
	struct running running = { .program = program, .pidfd = -1,
				   .output_fd = -1 };
	int ret = program_start(&running, err);

	if (!ret) {
		run(&running);
		if (running.output_fd >= 0)
			take_output(&running);
		if (running.length)
			line_end(&running);
		if (running.lines > LINES_MAX && program->tell)
			log_note("drill: %s: %u more lines left out", program->name,
				 running.lines - LINES_MAX);
		ret = judge(&running, err);
	}
	cleanup_close(&running.output_fd);
	cleanup_close(&running.pidfd);
	return ret;
}
