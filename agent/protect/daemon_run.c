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
#include <time.h>
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

/* What all threads of this process took of the processors. */
static uint64_t busy_ns(void)
{
	struct timespec busy;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &busy);
	return (uint64_t)busy.tv_sec * 1000000000u + (uint64_t)busy.tv_nsec;
}

/* 0: no limit. */
static uint64_t share(uint64_t limit, uint32_t runs)
{
	return limit && limit < runs ? 1 : limit / runs;
}

static void child_run(const struct config *config, const struct unit *unit,
		      enum backup_type type, struct run_report *report)
{
	struct backup_options options = { .type = type };
	struct backup_result results[VOLUME_GROUP_MAX];
	struct config part = *config;
	struct host host;

	memset(results, 0, sizeof(results));
	report->err = (struct error)ERROR_INIT;
	report->count = unit->count;
	/* All runs together keep to what is set. */
	part.agent.read_bytes_per_second = share(part.agent.read_bytes_per_second, part.agent.runs);
	part.repository.bandwidth_bytes = share(part.repository.bandwidth_bytes, part.agent.runs);
	if (part.agent.compression_auto)
		part.agent.compression = unit->level;
	report->ret = host_open(&part, HOST_WRITER, &host, &report->err);
	if (report->ret)
		return;
	report->ret = protect_backup(&host, unit->volumes, unit->count, &options, results,
				     &report->err);
	report->work_ns = results[0].times.read_ns + results[0].times.commit_ns;
	report->busy_ns = busy_ns();
	for (size_t i = 0; i < unit->count; i++) {
		report_part(&results[i], &report->parts[i]);
		point_fini(&results[i].point);
	}
	host_close(&host);
}

__attribute__((noreturn))
static void child_main(const struct config *config, const struct unit *unit,
		       enum backup_type type, int report_fd)
{
	struct run_report report = { .ret = -EIO };
	ssize_t told;

	log_set_unit(unit->name, unit->group);
	child_run(config, unit, type, &report);
	/* One write into an empty pipe, which has the room. */
	told = write(report_fd, &report, sizeof(report));
	_exit(told == sizeof(report) ? EXIT_DONE : EXIT_FAILED);
}

/*
 * Ends as Ctrl-C ends `backup` when it is told to, or when the daemon is gone; what is
 * typed at the daemon's terminal is the daemon's business. The daemon's lock must not
 * outlive it in here; other descriptors stay, for some are those of libraries.
 */
static void child_begin(int lock_fd, pid_t parent)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(lock_fd);
}

int child_fork(int lock_fd, struct child *child, int *report_fd, struct error *err)
{
	CLEANUP_CLOSE int write_fd = -1;
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe to a run: %s",
				 error_text(errno));
	child->report_fd = ends[0];
	write_fd = ends[1];
	/* Else the child would say again what is not written out yet. */
	fflush(NULL);
	child->pid = fork();
	if (child->pid == 0) {
		child_begin(lock_fd, parent);
		*report_fd = STEAL_FD(write_fd);
		return 1;
	}
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

int child_start(const struct config *config, const struct unit *unit, enum backup_type type,
		int lock_fd, struct child *child, struct error *err)
{
	int report_fd = -1, ret = child_fork(lock_fd, child, &report_fd, err);

	if (ret == 1)
		child_main(config, unit, type, report_fd);
	return ret;
}

bool child_reap(struct child *child, void *report, size_t size, int *status)
{
	ssize_t n;

	*status = 0;
	while (waitpid(child->pid, status, 0) < 0 && errno == EINTR)
		;
	/* Not to wait for a guardian that has its own end of this still open. */
	fcntl(child->report_fd, F_SETFL, O_NONBLOCK);
	n = read(child->report_fd, report, size);
	child->pid = 0;
	close(STEAL_FD(child->report_fd));
	close(STEAL_FD(child->pidfd));
	return n == (ssize_t)size;
}

void child_end(struct child *child, struct run_report *report)
{
	int status;

	if (child_reap(child, report, sizeof(*report), &status))
		return;
	memset(report, 0, sizeof(*report));
	report->err = (struct error)ERROR_INIT;
	report->ret = WIFSIGNALED(status)
		? error_set(&report->err, -ECHILD, "the run was killed by signal %d",
			    WTERMSIG(status))
		: error_set(&report->err, -ECHILD, "the run ended with code %d and "
			    "without a word", WEXITSTATUS(status));
}
