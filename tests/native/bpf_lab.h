/*
 * What the tracker's native tests share: a process that cleans up after the one
 * that tests, however that ends; loop devices that vanish with their last user;
 * a model of what was written.
 */
#ifndef CLAWBACK_TESTS_BPF_LAB_H
#define CLAWBACK_TESTS_BPF_LAB_H

#include "bpf/tracker.h"
#include "tests/unit/random.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define LAB_UNUSED __attribute__((unused))
#define LAB_SKIPPED 77

static char lab_folder[64];	/* the test's own pin folder */
static pid_t lab_child;

/* ---- running -------------------------------------------------------------- */

static void lab_interrupted(int number)
{
	(void)number;
	if (lab_child > 0)
		kill(lab_child, SIGKILL);
}

static int lab_skip(const char *why)
{
	printf("skipped: %s\n", why);
	return LAB_SKIPPED;
}

/*
 * Runs `tests` in a child with a mount namespace of its own; whatever becomes of
 * it, its mounts and loop devices end with it, and its pins are removed here.
 */
static int lab_run(int (*tests)(void))
{
	struct error err = ERROR_INIT;
	struct sigaction action = { .sa_handler = lab_interrupted };
	int status = 0;

	if (geteuid())
		return lab_skip("needs root");
	if (access("/sys/kernel/btf/vmlinux", R_OK))
		return lab_skip("the running kernel has no BTF");
	if (access("/dev/loop-control", R_OK | W_OK))
		return lab_skip("no loop devices");
	if (access("/sys/fs/bpf", F_OK))
		return lab_skip("no /sys/fs/bpf");
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(lab_folder, sizeof(lab_folder), "/sys/fs/bpf/clawback-test-%d",
		 (int)getpid());
	tracker_set_pin_folder(lab_folder);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	lab_child = fork();
	if (lab_child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNS) ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(1);
		exit(tests());
	}
	while (waitpid(lab_child, &status, 0) < 0 && errno == EINTR)
		;
	if (tracker_remove(&err))
		fprintf(stderr, "FAILED: clean-up: %s\n", err.message);
	return WIFEXITED(status) && !err.code ? WEXITSTATUS(status) : 1;
}

#define assert_done(call, err)						\
	do {								\
		int done_ = (call);					\
		if (done_)						\
			fail_msg("%s: %d %s", #call, done_, (err)->message); \
		assert_int_equal((err)->code, 0);			\
	} while (0)

/* A failed call says why, in one line, and never by an errno of 0. */
#define assert_refused(call, code_, err)				\
	do {								\
		int done_ = (call);					\
		assert_int_equal(done_, (code_));			\
		assert_int_equal((err)->code, (code_));			\
		assert_true((err)->message[0] != '\0');			\
		assert_null(strchr((err)->message, '\n'));		\
		*(err) = (struct error)ERROR_INIT;			\
	} while (0)

static LAB_UNUSED void lab_sleep_ms(unsigned int ms)
{
	struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&pause, NULL);
}

/* ---- loop devices ---------------------------------------------------------- */

struct lab_loop {
	int fd;			/* O_DIRECT */
	int buffered_fd;
	int file_fd;		/* the file behind it */
	char path[48];
	uint32_t device;
	uint64_t sectors;
};

static LAB_UNUSED uint32_t lab_device(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return tracker_device(st.st_rdev);
}

/*
 * A loop device on an unnamed tmpfs file, taken down by the kernel when its last
 * descriptor is closed. Others may take a free one first: then try again.
 */
static LAB_UNUSED struct lab_loop lab_loop_open(uint64_t bytes)
{
	struct lab_loop loop = { .sectors = bytes / 512 };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	assert_true(control >= 0);
	loop.file_fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(loop.file_fd >= 0);
	assert_int_equal(ftruncate(loop.file_fd, (off_t)bytes), 0);
	for (int i = 0; ; i++) {
		struct loop_config config = {
			.fd = (uint32_t)loop.file_fd,
			.info = { .lo_flags = LO_FLAGS_AUTOCLEAR |
					      LO_FLAGS_PARTSCAN },
		};
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		assert_true(number >= 0 && i < 100);
		snprintf(loop.path, sizeof(loop.path), "/dev/loop%d", number);
		loop.fd = open(loop.path, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (loop.fd >= 0 && !ioctl(loop.fd, LOOP_CONFIGURE, &config))
			break;
		if (loop.fd >= 0)
			close(loop.fd);
		lab_sleep_ms(10);
	}
	close(control);
	loop.buffered_fd = open(loop.path, O_RDWR | O_CLOEXEC);
	assert_true(loop.buffered_fd >= 0);
	loop.device = lab_device(loop.fd);
	return loop;
}

static LAB_UNUSED void lab_loop_close(struct lab_loop *loop)
{
	close(loop->buffered_fd);
	close(loop->fd);
	close(loop->file_fd);
}

/* Page-aligned memory for O_DIRECT, never freed: a test's own. */
static LAB_UNUSED void *lab_buffer(size_t bytes)
{
	void *buffer = NULL;

	assert_int_equal(posix_memalign(&buffer, 4096, bytes), 0);
	memset(buffer, 0x5a, bytes);
	return buffer;
}

static LAB_UNUSED void lab_write(int fd, const void *data, size_t bytes,
				 uint64_t sector)
{
	assert_int_equal(pwrite(fd, data, bytes, (off_t)(sector * 512)),
			 (ssize_t)bytes);
}

/* ---- trackers ---------------------------------------------------------------- */

static LAB_UNUSED struct tracker *lab_tracker(void)
{
	struct error err = ERROR_INIT;
	struct tracker *tracker = NULL;

	assert_done(tracker_open(true, &tracker, &err), &err);
	return tracker;
}

static LAB_UNUSED uint32_t lab_attach(struct tracker *tracker,
				      const struct lab_loop *loop,
				      uint32_t block_bytes)
{
	struct tracker_volume volume = {
		.device = loop->device,
		.sectors = loop->sectors,
		.block_bytes = block_bytes,
	};
	struct error err = ERROR_INIT;
	uint32_t slot = UINT32_MAX;

	assert_done(tracker_attach(tracker, &volume, &slot, &err), &err);
	return slot;
}

static LAB_UNUSED struct tracker_slot lab_slot(struct tracker *tracker,
					       uint32_t slot)
{
	struct error err = ERROR_INIT;
	struct tracker_slot info;

	assert_done(tracker_slot(tracker, slot, &info, &err), &err);
	return info;
}

static LAB_UNUSED struct tracker_marks lab_marks(struct tracker *tracker,
						 uint32_t slot)
{
	struct error err = ERROR_INIT;
	struct tracker_marks marks;

	assert_done(tracker_marks(tracker, slot, &marks, &err), &err);
	return marks;
}

/* A copy of the collecting bitmap. */
static LAB_UNUSED struct bitmap lab_current(struct tracker *tracker,
					    uint32_t slot)
{
	struct error err = ERROR_INIT;
	struct bitmap bitmap;

	assert_int_equal(bitmap_init(&bitmap, lab_slot(tracker, slot).blocks), 0);
	assert_done(tracker_read_current(tracker, slot, &bitmap, &err), &err);
	return bitmap;
}

static LAB_UNUSED struct tracker_ledger lab_ledger(struct tracker *tracker,
						   uint32_t device)
{
	struct error err = ERROR_INIT;
	struct tracker_ledger ledger;

	assert_done(tracker_ledger(tracker, device, &ledger, &err), &err);
	return ledger;
}

/* Since `before`, was exactly that traced which the kernel counted? */
static LAB_UNUSED void lab_ledger_exact(struct tracker *tracker, uint32_t device,
					const struct tracker_ledger *before)
{
	struct tracker_ledger now = lab_ledger(tracker, device);

	assert_int_equal(now.traced_write_sectors - before->traced_write_sectors,
			 now.kernel_write_sectors - before->kernel_write_sectors);
	assert_int_equal(now.traced_discard_sectors -
			 before->traced_discard_sectors,
			 now.kernel_discard_sectors -
			 before->kernel_discard_sectors);
}

/* ---- the model ------------------------------------------------------------------ */

/* The blocks that `sectors` from `sector` on touch. */
static LAB_UNUSED void lab_model_add(struct bitmap *model, uint32_t block_bytes,
				     uint64_t sector, uint64_t sectors)
{
	uint64_t per_block = block_bytes / 512;

	for (uint64_t block = sector / per_block;
	     block * per_block < sector + sectors; block++)
		assert_int_equal(bitmap_set(model, block, 1), 0);
}

static LAB_UNUSED void lab_assert_superset(const struct bitmap *marks,
					   const struct bitmap *model)
{
	assert_int_equal(marks->bits, model->bits);
	for (uint64_t i = 0; i < bitmap_words(model->bits); i++)
		if (model->words[i] & ~marks->words[i])
			fail_msg("written, not marked: block %llu",
				 (unsigned long long)(i * 64) + (unsigned)
				 __builtin_ctzll(model->words[i] &
						 ~marks->words[i]));
}

static LAB_UNUSED void lab_assert_equal(const struct bitmap *marks,
					const struct bitmap *model)
{
	lab_assert_superset(marks, model);
	for (uint64_t i = 0; i < bitmap_words(model->bits); i++)
		if (marks->words[i] & ~model->words[i])
			fail_msg("marked, not written: block %llu",
				 (unsigned long long)(i * 64) + (unsigned)
				 __builtin_ctzll(marks->words[i] &
						 ~model->words[i]));
}

#endif
