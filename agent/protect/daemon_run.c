/* One run in a process of its own, and what it tells of itself at its end. */
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void report_part(const struct backup_result *result, struct protect_part *part)
{
	part->committed = result->committed;
	part->rescan = result->rescan;
	part->kind = result->kind;
	if (!result->committed)
		return;
	part->number = result->point.number;
	part->time_ns = result->point.time_ns;
	part->read_bytes = result->point.read_bytes;
	part->stored_bytes = result->point.stored_bytes;
}

static void child_run(const struct config *config, const struct unit *unit,
		      enum backup_type type, struct run_report *report)
{
	struct backup_options options = { .type = type };
	struct backup_result results[VOLUME_GROUP_MAX];
	struct host host;

	memset(results, 0, sizeof(results));
	report->err = (struct error)ERROR_INIT;
	report->count = unit->count;
	report->ret = host_open(config, HOST_WRITER, &host, &report->err);
	if (report->ret)
		return;
	report->ret = protect_backup(&host, unit->volumes, unit->count, &options, results,
				     &report->err);
	for (size_t i = 0; i < unit->count; i++) {
		report_part(&results[i], &report->parts[i]);
		point_fini(&results[i].point);
	}
	host_close(&host);
}

/*
 * Ends as Ctrl-C ends `backup` when it is told to, or when the daemon is gone; what is
 * typed at the daemon's terminal is the daemon's business. The daemon's lock must not
 * outlive it in here; other descriptors stay, for some are those of libraries.
 */
__attribute__((noreturn))
static void child_main(const struct config *config, const struct unit *unit,
		       enum backup_type type, int lock_fd, int report_fd, pid_t parent)
{
	struct run_report report = { .ret = -EIO };
	sigset_t none;
	ssize_t told;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(lock_fd);
	log_set_unit(unit->name, unit->group);
	child_run(config, unit, type, &report);
	/* One write into an empty pipe, which has the room. */
	told = write(report_fd, &report, sizeof(report));
	_exit(told == sizeof(report) ? EXIT_DONE : EXIT_FAILED);
}

int child_start(const struct config *config, const struct unit *unit, enum backup_type type,
		int lock_fd, struct child *child, struct error *err)
{
	CLEANUP_CLOSE int report_fd = -1;
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe to a run: %s",
				 error_text(errno));
	child->report_fd = ends[0];
	report_fd = ends[1];
	/* Else the child would say again what is not written out yet. */
	fflush(NULL);
	child->pid = fork();
	if (child->pid == 0)
		child_main(config, unit, type, lock_fd, report_fd, parent);
	child->pidfd = child->pid > 0 ? pidfd_open(child->pid, 0) : -1;
	if (child->pidfd >= 0)
		return 0;
	error_set(err, -errno, "cannot start a run: %s", error_text(errno));
	if (child->pid > 0) {
		kill(child->pid, SIGKILL);
		waitpid(child->pid, NULL, 0);
	}
	child->pid = 0;
	close(STEAL_FD(child->report_fd));
	return err->code;
}

void child_end(struct child *child, struct run_report *report)
{
	int status = 0;
	ssize_t n;

	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	/* Not to wait for a guardian that has its own end of this still open. */
	fcntl(child->report_fd, F_SETFL, O_NONBLOCK);
	n = read(child->report_fd, report, sizeof(*report));
	if (n != sizeof(*report)) {
		memset(report, 0, sizeof(*report));
		report->err = (struct error)ERROR_INIT;
		report->ret = WIFSIGNALED(status)
			? error_set(&report->err, -ECHILD, "the run was killed by signal %d",
				    WTERMSIG(status))
			: error_set(&report->err, -ECHILD, "the run ended with code %d and "
				    "without a word", WEXITSTATUS(status));
	}
	child->pid = 0;
	close(STEAL_FD(child->report_fd));
	close(STEAL_FD(child->pidfd));
}
