/* The copy as a block device, and what is on it. */
#include "agent/drill/drill_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LOOP_ATTEMPTS 20
#define PAUSE_NS 50000000

/* ---- attaching ------------------------------------------------------------- */

int loop_attach(const char *file, char path[static PATH_MAX], int *fd, struct error *err)
{
	CLEANUP_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	CLEANUP_CLOSE int backing = open(file, O_RDWR | O_CLOEXEC);
	struct loop_config config = { .fd = (uint32_t)backing };

	if (control < 0)
		return error_set(err, -errno, "cannot open /dev/loop-control: %s; load the loop "
				 "module, or name a device for the drill", error_text(errno));
	if (backing < 0)
		return error_set(err, -errno, "opening %s: %s", file, error_text(errno));
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "clawback-drill");
	/* Between asking and taking, another program may take it. */
	for (int attempt = 0; attempt < LOOP_ATTEMPTS; attempt++) {
		CLEANUP_CLOSE int loop = -1;
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		snprintf(path, PATH_MAX, "/dev/loop%d", number);
		loop = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
		if (loop < 0)
			return error_set(err, -errno, "cannot get a loop device for the drill: %s",
					 error_text(errno));
		if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
			*fd = STEAL_FD(loop);
			return 0;
		}
		if (errno != EBUSY)
			return error_set(err, -errno, "cannot set up %s for the drill: %s", path,
					 error_text(errno));
	}
	return error_set(err, -EBUSY, "cannot get a loop device for the drill: others were faster "
			 "%d times", LOOP_ATTEMPTS);
}

int device_wait_free(const char *path, unsigned seconds, struct error *err)
{
	static const struct timespec pause = { .tv_nsec = PAUSE_NS };
	uint64_t limit = drill_clock_ns() + seconds * UINT64_C(1000000000);

	for (;;) {
		CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);

		if (fd >= 0 || errno != EBUSY)
			return 0;
		if (drill_clock_ns() >= limit)
			return error_set(err, -EBUSY, "%s is still in use after the drill", path);
		nanosleep(&pause, NULL);
	}
}

/* ---- what is on it ------------------------------------------------------------ */

/* Of these the kernel, or udev, would take the copy for a part of the original. */
static bool told_by_uuid(const char *type)
{
	static const char *const types[] = { "btrfs", "LVM2_member", "LVM1_member",
					     "linux_raid_member", "ddf_raid_member",
					     "isw_raid_member", "zfs_member", "bcache", "drbd" };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcmp(types[i], type))
			return true;
	return false;
}

int file_system_probe(const char *path, char type[static 32], struct error *err)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);
	const char *found = NULL;
	int ret;

	*type = '\0';
	if (!probe)
		return error_set(err, -EIO, "cannot look what is on %s: %s", path,
				 error_text(errno));
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
	ret = blkid_do_safeprobe(probe);
	if (!ret && !blkid_probe_lookup_value(probe, "TYPE", &found, NULL) && found)
		snprintf(type, 32, "%s", found);
	blkid_free_probe(probe);
	if (ret == -2)
		return error_set(err, -EBADMSG, "signatures of several file systems are on the copy: "
				 "it cannot be told what it is");
	if (told_by_uuid(type))
		return error_set(err, -ENOTSUP, "no drill of a volume with %s: what is told by a UUID "
				 "must not be on one machine twice; restore it on another machine",
				 type);
	return 0;
}

