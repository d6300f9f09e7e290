/*
 * The process in whose namespaces a drill happens, seen from outside: its birth, what it
 * reports, its end.
 *
 *	drill ── keeper ── process 1 of the namespaces ── fsck, command, what these start
 *
 * unshare(2) puts the next child into the new process numbers, not who calls it, hence
 * the keeper. Each is killed by the kernel when the one before it ends, and process 1
 * takes all the others along.
 */
#include "agent/drill/drill_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 200
#define WAIT_FREE_SECONDS 20

/* One write into a pipe; smaller than what one write may be cut into. */
struct stage_report {
	bool failed;			/* else a step ended */
	enum drill_step step;
	uint64_t took_ns;
	struct error err;
};
_Static_assert(sizeof(struct stage_report) <= 4096, "a pipe takes it in one piece");

static void report_write(int fd, const struct stage_report *report)
{
	ssize_t told = write(fd, report, sizeof(*report));

	(void)told;			/* who does not read it is gone */
}

/* ---- inside ------------------------------------------------------------------------ */

static void step_ended(void *context, enum drill_step step, uint64_t took_ns)
{
	report_write(*(const int *)context, &(struct stage_report){ .step = step,
								     .took_ns = took_ns });
}

/* What is typed at the terminal, or sent to our group, is for the drill, which ends us. */
static void signals_ignore(void)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
}

__attribute__((noreturn))
static void first_main(const struct stage *stage, int report_fd, int lifeline_fd)
{
	struct stage_room room = { .stage = stage, .lifeline_fd = lifeline_fd,
				   .ended = step_ended, .context = &report_fd };
	struct stage_report report = { .failed = true, .step = DRILL_REPLAY, .err = ERROR_INIT };
	struct pollfd alone = { .fd = lifeline_fd, .events = POLLIN };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It could have died before we asked for that. */
	if (poll(&alone, 1, 0) == 1)
		_exit(EXIT_FAILED);
	if (stage_steps(&room, &report.step, &report.err))
		report_write(report_fd, &report);
	_exit(EXIT_DONE);
}

__attribute__((noreturn))
static void keeper_main(const struct stage *stage, int report_fd, int lifeline_fd, pid_t parent)
{
	struct stage_report report = { .failed = true, .step = DRILL_REPLAY, .err = ERROR_INIT };
	int status = 0;
	pid_t first;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	signals_ignore();
	/* Slaves: what the machine unmounts is not kept in use by a drill. */
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) {
		error_set(&report.err, -errno, "cannot have namespaces of its own: %s%s",
			  error_text(errno), errno == EPERM ? "; under clawback-protect.service: "
			  "\"Drills\" in clawback(8), \"THE UNIT\"" : "");
		report_write(report_fd, &report);
		_exit(EXIT_FAILED);
	}
	first = fork();
	if (first == 0)
		first_main(stage, report_fd, lifeline_fd);
	if (first < 0) {
		error_set(&report.err, -errno, "cannot start a process: %s", error_text(errno));
		report_write(report_fd, &report);
	}
	while (first > 0 && waitpid(first, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED);
}

/* ---- outside ------------------------------------------------------------------------- */

struct watch {
	const struct stage *stage;
	struct drill_record *record;
	struct error *err;
	bool failed;
};

static void take_report(struct watch *watch, const struct stage_report *report)
{
	struct drill_record *record = watch->record;

	if (report->failed) {
		/* What cleaning up adds to it comes second. */
		if (!watch->failed) {
			*watch->err = report->err;
			record->failed = report->step;
		}
		watch->failed = true;
		return;
	}
	record->steps_ns[report->step] = report->took_ns;
	if (watch->stage->step)
		watch->stage->step(watch->stage->context, report->step, report->took_ns);
}

/* Until it has said all, or we are told to stop. */
static void hear(struct watch *watch, int report_fd, pid_t keeper)
{
	struct pollfd fd = { .fd = report_fd, .events = POLLIN };
	struct stage_report report;
	bool asked = false;

	for (;;) {
		ssize_t n;

		if (interrupt_requested() && !asked) {
			asked = true;
			kill(keeper, SIGKILL);
		}
		if (poll(&fd, 1, LOOK_MS) <= 0)
			continue;
		n = read(report_fd, &report, sizeof(report));
		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(report))
			return;
		take_report(watch, &report);
	}
}

static int judge(const struct watch *watch, int status, struct error *err)
{
	if (interrupt_requested())
		return interrupt_check(err);
	if (watch->failed)
		return err->code;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	watch->record->failed = DRILL_COMMAND;
	return error_set(err, -ECHILD, "the process of the drill was killed: out of memory, "
			 "perhaps");
}

int stage_run(const struct stage *stage, struct drill_record *record, struct error *err)
{
	struct watch watch = { .stage = stage, .record = record, .err = err };
	CLEANUP_CLOSE int report_read = -1, report_write_fd = -1, life_read = -1, life_write = -1;
	struct error freeing = ERROR_INIT;
	pid_t keeper, parent = getpid();
	int report[2], life[2], status = 0, ret;

	record->failed = DRILL_REPLAY;
	if (pipe2(report, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe: %s", error_text(errno));
	report_read = report[0];
	report_write_fd = report[1];
	if (pipe2(life, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe: %s", error_text(errno));
	life_read = life[0];
	life_write = life[1];
	fflush(NULL);
	keeper = fork();
	if (keeper == 0) {
		close(STEAL_FD(life_write));
		keeper_main(stage, report_write_fd, life_read, parent);
	}
	if (keeper < 0)
		return error_set(err, -errno, "cannot start a process: %s", error_text(errno));
	close(STEAL_FD(report_write_fd));
	hear(&watch, report_read, keeper);
	while (waitpid(keeper, &status, 0) < 0 && errno == EINTR)
		;
	ret = judge(&watch, status, err);
	/* The kernel unmounts a moment after the last process of the namespaces. */
	if (device_wait_free(stage->device, WAIT_FREE_SECONDS, &freeing) && !ret) {
		record->failed = DRILL_CLEANUP;
		*err = freeing;
		ret = err->code;
	}
	return ret;
}
