/*
 * Loop devices in memory for the native tests of volumes. They clear themselves
 * when their descriptor closes, so a test that dies leaves none.
 */
#ifndef CLAWBACK_TESTS_NATIVE_VOLUME_LAB_H
#define CLAWBACK_TESTS_NATIVE_VOLUME_LAB_H

#include "agent/volume/volume.h"
#include "tests/unit/volume_scratch.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

struct lab_loop {
	int fd;
	char path[32];
};

/* On `backing` (kept by the loop device), or on fresh memory for -1. */
SCRATCH void lab_loop(struct lab_loop *loop, uint64_t bytes, int backing)
{
	int memory = backing >= 0 ? backing : memfd_create("volume-lab", MFD_CLOEXEC);
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .fd = (uint32_t)memory };

	assert_true(memory >= 0 && control >= 0);
	assert_int_equal(ftruncate(memory, (off_t)bytes), 0);
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	for (int attempt = 0;; attempt++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		assert_true(number >= 0 && attempt < 50);
		snprintf(loop->path, sizeof(loop->path), "/dev/loop%d", number);
		loop->fd = open(loop->path, O_RDWR | O_CLOEXEC);
		if (loop->fd >= 0 && ioctl(loop->fd, LOOP_CONFIGURE, &config) == 0)
			break;
		if (loop->fd >= 0)
			close(loop->fd);
	}
	close(control);
	if (backing < 0)
		close(memory);
}

SCRATCH int lab_need_root(void)
{
	if (geteuid() == 0 && access("/dev/loop-control", F_OK) == 0)
		return 0;
	printf("skipped: needs root and loop devices\n");
	return 77;
}

#endif
