/* A loop device over what nbdfuse shows, and the file system on it. */
#include "agent/serve/serve_private.h"

#include "agent/base/cleanup.h"

#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define LOOP_ATTEMPTS 20

/* It goes when its last user does, which is the mount, whoever dies before. */
int loop_open(const char *path, char device[static 64], int *fd, struct error *err)
{
	CLEANUP_CLOSE int file = open(path, O_RDWR | O_CLOEXEC);
	CLEANUP_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .fd = (uint32_t)file };

	if (file < 0)
		return error_set(err, -errno, "opening %s: %s", path, error_text(errno));
	if (control < 0)
		return error_set(err, -errno, "opening /dev/loop-control: %s; load the module loop",
				 error_text(errno));
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%.*s", LO_NAME_SIZE - 1, path);
	/* Between asking and taking, another program may take it. */
	for (int attempt = 0; attempt < LOOP_ATTEMPTS; attempt++) {
		CLEANUP_CLOSE int loop = -1;
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			break;
		snprintf(device, 64, "/dev/loop%d", number);
		loop = open(device, O_RDWR | O_CLOEXEC);
		if (loop < 0)
			break;
		if (!ioctl(loop, LOOP_CONFIGURE, &config)) {
			*fd = STEAL_FD(loop);
			return 0;
		}
		if (errno != EBUSY)
			break;
	}
	return error_set(err, -errno, "getting a loop device: %s", error_text(errno));
}

int loop_type(int fd, char type[static 32], struct error *err)
{
	blkid_probe probe = blkid_new_probe();
	const char *value = NULL;
	int ret = -1;

	*type = '\0';
	if (probe && !blkid_probe_set_device(probe, fd, 0, 0) &&
	    !blkid_probe_enable_superblocks(probe, 1))
		ret = blkid_do_safeprobe(probe);
	if (!ret && !blkid_probe_lookup_value(probe, "TYPE", &value, NULL))
		snprintf(type, 32, "%.31s", value);
	blkid_free_probe(probe);
	return *type ? 0 : error_set(err, -EINVAL, "there is no file system on the volume that is "
				     "known, but perhaps partitions: serve it, and look into it "
				     "with other tools");
}
