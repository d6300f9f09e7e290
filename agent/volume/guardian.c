#include "agent/volume/guardian.h"

#include "agent/base/cleanup.h"
#include "agent/volume/boundary_test.h"
#include "agent/volume/sysfs.h"
#include "agent/volume/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUARDIAN_LIMIT_MS 10000
#define GUARDIAN_RETRIES 50

/*
 * libdevmapper's DM_UDEV_PRIMARY_SOURCE_FLAG in the upper half of the cookie:
 * udev takes the event for an ordinary one and keeps the volume's links.
 */
#define GUARDIAN_UDEV_FLAGS (0x0040u << 16)

/* Shared by both processes. Whoever leaves OPEN decides how the window ended. */
enum guardian_state { WINDOW_CLOSED, WINDOW_OPEN, WINDOW_DONE, WINDOW_BROKEN };

struct guardian {
	_Atomic int *state;	/* MAP_SHARED */
	int control;		/* /dev/mapper/control */
	int alarm;		/* we hold the writing end: our death is its end */
	pid_t child;
	unsigned limit_ms;
	size_t count;
	uint32_t devices[VOLUME_GROUP_MAX];
	uint32_t cookies[VOLUME_GROUP_MAX];
	struct dm_ioctl request;	/* scratch: the kernel answers in it */
};

/* One suspend or resume without libdevmapper, which would allocate. */
static int guardian_ioctl(struct guardian *guardian, size_t index, uint32_t flags)
{
	struct dm_ioctl *request = &guardian->request;
	uint32_t device = guardian->devices[index];
	uint32_t minor_number = DEVICE_MINOR(device);

	memset(request, 0, sizeof(*request));
	request->version[0] = DM_VERSION_MAJOR;
	request->data_size = sizeof(*request);
	request->data_start = offsetof(struct dm_ioctl, data);
	request->flags = flags;
	request->event_nr = flags & DM_SUSPEND_FLAG ? 0 :
		GUARDIAN_UDEV_FLAGS | (guardian->cookies[index] & 0xffffu);
	request->dev = (minor_number & 0xff) | DEVICE_MAJOR(device) << 8 |
		       (uint64_t)(minor_number & ~0xffu) << 12;
	return ioctl(guardian->control, DM_DEV_SUSPEND, request) < 0 ? -errno : 0;
}

static int guardian_resume(struct guardian *guardian, size_t index)
{
	struct timespec nap = { 0, 20000000 };
	int ret = 0;

	for (int attempt = 0; attempt < GUARDIAN_RETRIES; attempt++) {
		ret = guardian_ioctl(guardian, index, 0);
		if (!ret || ret == -ENXIO)
			return ret;
		if (ret != -EINTR)
			nanosleep(&nap, NULL);
	}
	return ret;
}

/*
 * The child. Only calls that are safe after a fork. The first byte means that
 * the window opened; the end of the line, that the agent is dead or done.
 */
__attribute__((noreturn))
static void guardian_main(struct guardian *guardian, int ears)
{
	struct pollfd wait = { .fd = ears, .events = POLLIN };
	int timeout = -1, open_state = WINDOW_OPEN;
	char byte;

	for (;;) {
		int ready = poll(&wait, 1, timeout);
		bool ended = ready > 0 && read(ears, &byte, 1) <= 0;

		if (ready < 0)
			continue;
		if (ready > 0 && !ended) {
			timeout = (int)guardian->limit_ms;
			continue;
		}
		open_state = WINDOW_OPEN;
		atomic_compare_exchange_strong(guardian->state, &open_state,
					       WINDOW_BROKEN);
		/* Again at the end: the agent may have been in the middle of a
		 * suspend when the window was broken, and died after it. */
		if (atomic_load(guardian->state) == WINDOW_BROKEN)
			for (size_t i = 0; i < guardian->count; i++)
				guardian_resume(guardian, i);
		if (ended)
			_exit(0);
	}
}

/* In the child: out of reach of terminals, signals, paging and the OOM killer. */
static void guardian_settle(void)
{
	sigset_t all;
	int fd;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "clawback-guard", 0, 0, 0);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		/* A wish: without it the guardian is as mortal as others. */
		ssize_t ignored = write(fd, "-1000", 5);

		(void)ignored;
		close(fd);
	}
}

static int guardian_fork(struct guardian *guardian, struct error *err)
{
	int ears[2] = { -1, -1 }, answer[2] = { -1, -1 };
	char ready = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ears) < 0 ||
	    pipe2(answer, O_CLOEXEC) < 0) {
		if (ears[0] >= 0) {
			close(ears[0]);
			close(ears[1]);
		}
		return error_set(err, -errno, "cannot make a pipe to the guardian: %s",
				 error_text(errno));
	}
	guardian->child = fork();
	if (guardian->child == 0) {
		close(ears[1]);
		close(answer[0]);
		guardian_settle();
		ready = mlockall(MCL_CURRENT) == 0 ? 'y' : 'n';
		if (write(answer[1], &ready, 1) != 1 || ready == 'n')
			_exit(1);
		close(answer[1]);
		guardian_main(guardian, ears[0]);
	}
	guardian->alarm = ears[1];
	close(ears[0]);
	close(answer[1]);
	while (guardian->child > 0 && read(answer[0], &ready, 1) < 0 && errno == EINTR)
		;
	close(answer[0]);
	if (guardian->child < 0)
		return error_set(err, -errno, "cannot fork the guardian: %s",
				 error_text(errno));
	if (ready != 'y')
		return error_set(err, -ENOMEM, "cannot lock the guardian's memory (mlockall); is RLIMIT_MEMLOCK lowered?");
	return 0;
}

int guardian_start(const uint32_t *devices, const uint32_t *cookies, size_t count,
		   unsigned limit_ms, struct guardian **out, struct error *err)
{
	struct guardian *guardian = calloc(1, sizeof(*guardian));
	int ret = 0;

	*out = NULL;
	if (!guardian)
		return error_set(err, -ENOMEM, "out of memory");
	guardian->alarm = guardian->control = -1;
	guardian->limit_ms = limit_ms ? limit_ms : GUARDIAN_LIMIT_MS;
	guardian->count = count;
	memcpy(guardian->devices, devices, count * sizeof(*devices));
	memcpy(guardian->cookies, cookies, count * sizeof(*cookies));
	guardian->state = mmap(NULL, sizeof(*guardian->state), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (guardian->state == MAP_FAILED) {
		guardian->state = NULL;
		ret = error_set(err, -errno, "cannot share memory with the guardian: %s",
				error_text(errno));
	}
	if (!ret) {
		guardian->control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
		if (guardian->control < 0)
			ret = error_set(err, -errno, "cannot open /dev/mapper/control: %s",
					error_text(errno));
	}
	if (!ret)
		ret = guardian_fork(guardian, err);
	/*
	 * After the fork: locking breaks the sharing of pages with the child, so
	 * that no write in the window needs a new page. Left locked: unlocking
	 * would also unlock what others locked.
	 */
	if (!ret && mlockall(MCL_CURRENT) < 0)
		ret = error_set(err, -errno, "cannot lock the agent's memory for a group snapshot: %s",
				error_text(errno));
	if (ret) {
		guardian_stop(guardian);
		return ret;
	}
	*out = guardian;
	return 0;
}

int guardian_switch(struct guardian *guardian, uint64_t *time_ns, size_t *failed)
{
	int ret = 0, open_state = WINDOW_OPEN;
	struct timespec now;
	size_t suspended = 0;

	atomic_store(guardian->state, WINDOW_OPEN);
	if (send(guardian->alarm, "o", 1, MSG_NOSIGNAL) != 1) {
		/* Dead already: without it the window is not entered. */
		*failed = 0;
		return -ECHILD;
	}
	for (; suspended < guardian->count; suspended++) {
		*failed = suspended;
		if (atomic_load(guardian->state) != WINDOW_OPEN)
			break;
		ret = guardian_ioctl(guardian, suspended, DM_SUSPEND_FLAG);
		if (ret)
			break;
		boundary_stage("suspended");
	}
	clock_gettime(CLOCK_REALTIME, &now);
	*time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	boundary_stage("window");
	/* One that failed may be half-way: resuming what runs does no harm. */
	for (size_t i = 0; i < guardian->count && i <= suspended; i++) {
		int resumed = guardian_resume(guardian, i);

		boundary_stage("resumed");
		if (resumed && !ret) {
			*failed = i;
			ret = resumed;
		}
	}
	if (!atomic_compare_exchange_strong(guardian->state, &open_state, WINDOW_DONE))
		return ret ? ret : -ETIMEDOUT;
	return ret;
}

void guardian_stop(struct guardian *guardian)
{
	if (!guardian)
		return;
	if (guardian->alarm >= 0)
		close(guardian->alarm);
	if (guardian->child > 0)
		while (waitpid(guardian->child, NULL, 0) < 0 && errno == EINTR)
			;
	if (guardian->control >= 0)
		close(guardian->control);
	if (guardian->state)
		munmap(guardian->state, sizeof(*guardian->state));
	free(guardian);
}
