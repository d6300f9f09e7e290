/*
 * Holding a device still. The order is the argument: claimed, so no mount and no
 * device on top begins; read-only, so write(2), discards and later mounts fail for
 * everybody, those included who have it open already; then nobody else may have it
 * open, for a mapping of it could still be written; then what was written before
 * is flushed and comes to its end. From there on nothing changes until somebody
 * makes it writable again.
 *
 * The device of a mounted file system cannot be claimed. If that is read-only, the
 * mount may be the one other user: it does not write, and it cannot be made writable.
 *
 * The note says in which boot the device was made read-only. Killed in between, a
 * device that is read-only without need is mended by the next run; with the boot
 * the flag vanishes, and the note means nothing.
 */
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"
#include "agent/volume/dm.h"
#include "agent/volume/openers.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define HOLD_TRIES 100			/* of 50 ms: udev's probing comes and goes */
#define HOLD_NOTE_LIMIT 64u

static int note_boot(char **boot, struct error *err)
{
	int ret = file_read("/proc/sys/kernel/random/boot_id", HOLD_NOTE_LIMIT, boot, NULL);

	return ret ? error_set(err, ret, "cannot read this boot's id: %s", error_text(ret)) : 0;
}

static int note_write(const char *path, struct error *err)
{
	CLEANUP_FREE char *boot = NULL;
	char folder[PATH_MAX];
	int ret = note_boot(&boot, err);

	if (ret)
		return ret;
	strcpy(folder, path);
	ret = file_make_folders(dirname(folder), 0700);
	if (!ret)
		ret = file_replace(path, boot, strlen(boot), 0600);
	return ret ? error_set(err, ret, "cannot write %s: %s", path, error_text(ret)) : 0;
}

/* Is there a note, and of this boot? */
static int note_read(const char *path, bool *here, bool *now, struct error *err)
{
	CLEANUP_FREE char *boot = NULL, *noted = NULL;
	int ret = file_read(path, HOLD_NOTE_LIMIT, &noted, NULL);

	*here = ret != -ENOENT;
	*now = false;
	if (ret == -ENOENT)
		return 0;
	if (ret && ret != -EFBIG)
		return error_set(err, ret, "cannot read %s: %s", path, error_text(ret));
	ret = note_boot(&boot, err);
	*now = !ret && noted && strcmp(boot, noted) == 0;
	return ret;
}

static int set_read_only(int fd, int read_only, const char *path, struct error *err)
{
	if (ioctl(fd, BLKROSET, &read_only) < 0)
		return error_set(err, -errno, "cannot make %s %s: %s", path,
				 read_only ? "read-only" : "writable", error_text(errno));
	return 0;
}

static int hold_in_use(const struct device_facts *device, struct error *err)
{
	char where[512] = "";
	bool writable;

	usage_find(device->device, where, sizeof(where), &writable);
	return error_set(err, -EBUSY, "%s is %s", device->path,
			 where[0] ? where : "in use, perhaps mounted in a container");
}

static int hold_claim(const struct device_facts *device, int *fd, struct error *err)
{
	*fd = open(device->path, O_RDONLY | O_DIRECT | O_EXCL | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	return errno == EBUSY ? hold_in_use(device, err) :
	       error_set(err, -errno, "cannot open %s: %s", device->path, error_text(errno));
}

int device_hold_check(const struct device_facts *device, bool mounted, struct error *err)
{
	int ours = mounted ? 2 : 1;
	struct dmdev_info info;
	uint64_t inflight;
	int ret = tracker_inflight(device->device, &inflight, err);

	if (!ret && inflight)
		return error_set(err, -EBUSY, "%s still has writes under way", device->path);
	if (ret || !device->is_dm)
		return ret ? ret : openers_check(device, err);
	/* Device-mapper counts, whoever it is: ours is the one, a mount another. */
	ret = dmdev_info(device->device, &info, err);
	if (!ret && info.open_count > ours)
		ret = error_set(err, -EBUSY, "%s is open %d times elsewhere", device->path,
				info.open_count - ours);
	return ret;
}

static int hold_settle(const struct device_facts *device, bool mounted, int fd,
		       struct error *err)
{
	struct timespec nap = { 0, 50 * 1000000L };
	int ret = -EBUSY;

	for (unsigned tries = 0; ret == -EBUSY && tries < HOLD_TRIES; tries++) {
		if (tries)
			nanosleep(&nap, NULL);
		if (fsync(fd) < 0)
			return error_set(err, -errno, "cannot flush %s: %s", device->path,
					 error_text(errno));
		ret = interrupt_check(err);
		if (!ret)
			ret = device_hold_check(device, mounted, err);
	}
	return ret;
}

static int hold_opened(const char *state_folder, const char *name,
		       const struct device_facts *device, bool mounted, int *opened, int *fd,
		       struct error *err)
{
	struct error undo = ERROR_INIT;
	char note[PATH_MAX];
	int ret = volume_path(state_folder, name, "held", note, err);

	if (!ret && !device->read_only)
		ret = note_write(note, err);
	if (ret)
		return ret;
	ret = set_read_only(*opened, 1, device->path, err);
	if (!ret)
		ret = hold_settle(device, mounted, *opened, err);
	if (ret)
		device_free(state_folder, name, device, &undo);
	else
		*fd = STEAL_FD(*opened);
	return ret;
}

int device_hold(const char *state_folder, const char *name,
		const struct device_facts *device, int *fd, struct error *err)
{
	CLEANUP_CLOSE int claimed = -1;
	int ret = hold_claim(device, &claimed, err);

	*fd = -1;
	return ret ? ret : hold_opened(state_folder, name, device, false, &claimed, fd, err);
}

int device_hold_mounted(const char *state_folder, const char *name,
			const struct device_facts *device, int *fd, struct error *err)
{
	CLEANUP_CLOSE int opened = open(device->path, O_RDWR | O_DIRECT | O_CLOEXEC);

	*fd = -1;
	if (opened < 0)
		return error_set(err, -errno, "cannot open %s: %s", device->path,
				 error_text(errno));
	return hold_opened(state_folder, name, device, true, &opened, fd, err);
}

int device_hold_open(const struct device_facts *device, int fd, bool writable,
		     struct error *err)
{
	return set_read_only(fd, !writable, device->path, err);
}

int device_free(const char *state_folder, const char *name,
		const struct device_facts *device, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	char note[PATH_MAX];
	bool here, now;
	int ret = volume_path(state_folder, name, "held", note, err);

	if (!ret)
		ret = note_read(note, &here, &now, err);
	if (ret || !here)
		return ret;
	if (now) {
		fd = open(device->path, O_RDONLY | O_CLOEXEC);
		ret = fd < 0 ? error_set(err, -errno, "cannot open %s: %s", device->path,
					 error_text(errno))
			     : set_read_only(fd, 0, device->path, err);
	}
	if (ret)
		return ret;
	ret = file_remove(note);
	return ret ? error_set(err, ret, "cannot remove %s: %s", note, error_text(ret)) : 0;
}
