/*
 * Holding file systems still. One that stays frozen stops whatever writes to it, for
 * good: so a child does it, out of reach of signals, which lets go when we are gone, are
 * done, or take too long; and we let go, too, should the child be gone.
 */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FREEZE_SECONDS 20	/* until what is being written is out */

struct hold {
	pid_t child;
	int ears;			/* to the child; our death is its end */
	size_t count;
	int fds[HOLD_MAX];
	char frozen[HOLD_MAX];		/* 'y', or 'n': it cannot be */
};

/* ---- the child: only calls that are safe after a fork --------------------------- */

static void child_settle(void)
{
	sigset_t all;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "clawback-hold", 0, 0, 0);
	/* Its own pages may be on what it freezes; a wish, for they can still be read. */
	(void)!mlockall(MCL_CURRENT);
}

static void thaw(struct hold *hold)
{
	for (size_t i = hold->count; i-- > 0; )
		if (hold->frozen[i] != 'n')
			ioctl(hold->fds[i], FITHAW, 0);
}

__attribute__((noreturn))
static void child_main(struct hold *hold, int ears, unsigned limit_ms)
{
	struct pollfd wait = { .fd = ears, .events = POLLIN };
	const char end = 'e';
	int ready;

	child_settle();
	for (size_t i = 0; i < hold->count; i++) {
		hold->frozen[i] = ioctl(hold->fds[i], FIFREEZE, 0) ? 'n' : 'y';
		if (hold->frozen[i] == 'n')
			syncfs(hold->fds[i]);
	}
	ready = send(ears, hold->frozen, hold->count, MSG_NOSIGNAL) == (ssize_t)hold->count;
	while (ready == 1 && poll(&wait, 1, (int)limit_ms) < 0)
		;
	thaw(hold);
	(void)!send(ears, &end, 1, MSG_NOSIGNAL);
	_exit(0);
}

/* ---- the parent -------------------------------------------------------------------- */

static void hold_free(struct hold *hold)
{
	cleanup_close(&hold->ears);
	while (hold->child > 0 && waitpid(hold->child, NULL, 0) < 0 && errno == EINTR)
		;
	for (size_t i = 0; i < hold->count; i++)
		cleanup_close(&hold->fds[i]);
	free(hold);
}

static int hold_fork(struct hold *hold, unsigned limit_ms, struct error *err)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(err, -errno, "holding file systems: %s", error_text(errno));
	hold->child = fork();
	if (hold->child == 0) {
		close(ends[0]);
		child_main(hold, ends[1], limit_ms);
	}
	hold->ears = ends[0];
	close(ends[1]);
	return hold->child < 0 ? error_set(err, -errno, "holding file systems: %s",
					   error_text(errno)) : 0;
}

static int hold_wait(struct hold *hold, struct error *err)
{
	struct pollfd wait = { .fd = hold->ears, .events = POLLIN };
	int ready;

	do
		ready = poll(&wait, 1, FREEZE_SECONDS * 1000);
	while (ready < 0 && errno == EINTR);
	/* It goes on by itself, and lets go once it can, for we hang up. */
	if (ready == 0)
		return error_set(err, -ETIMEDOUT, "freezing file systems took more than %d s",
				 FREEZE_SECONDS);
	if (ready < 0 || read(hold->ears, hold->frozen, hold->count) != (ssize_t)hold->count)
		return error_set(err, -ECHILD, "who was to freeze file systems is dead");
	return 0;
}

int hold_start(const char *const *paths, size_t count, unsigned limit_ms, struct hold **out,
	       struct error *err)
{
	struct hold *hold = calloc(1, sizeof(*hold));
	int ret = 0;

	*out = NULL;
	if (!hold || count > HOLD_MAX) {
		free(hold);
		return error_set(err, hold ? -E2BIG : -ENOMEM, "holding %zu file systems: too many",
				 count);
	}
	hold->ears = -1;
	for (; !ret && hold->count < count; hold->count++) {
		int fd = open(paths[hold->count], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		hold->fds[hold->count] = fd;
		if (fd < 0)
			ret = error_set(err, -errno, "opening %s: %s", paths[hold->count],
					error_text(errno));
	}
	if (!ret)
		ret = hold_fork(hold, limit_ms, err);
	if (!ret)
		ret = hold_wait(hold, err);
	if (!ret) {
		*out = hold;
		return 0;
	}
	/* Not waited for when it hangs in the kernel: hanging up is enough. */
	if (ret == -ETIMEDOUT)
		hold->child = 0;
	else if (hold->child > 0)
		thaw(hold);
	hold_free(hold);
	return ret;
}

bool hold_frozen(const struct hold *hold, size_t i)
{
	return hold->frozen[i] == 'y';
}

void hold_end(struct hold *hold)
{
	char end;
	ssize_t n;

	if (!hold)
		return;
	shutdown(hold->ears, SHUT_WR);
	do
		n = read(hold->ears, &end, 1);
	while (n < 0 && errno == EINTR);
	/* It is dead: then we do what it was there for. */
	if (n != 1)
		thaw(hold);
	hold_free(hold);
}
