/*
 * Provider none: the volume itself, which nobody writes to. That nobody did is
 * not believed but proven: the kernel's own count of sectors written must be
 * the same after reading as it was before, and so must the tracker's.
 */
#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/sysfs.h"
#include "agent/volume/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NONE_SETTLE_MS 10000	/* how long writes that are under way may take */
#define NONE_QUIET_MS 20	/* … and how long nothing must move */

/* /sys/dev/block/M:m/stat: fields 7 and 14 are sectors written and discarded. */
static int none_kernel_counters(uint32_t device, struct tracker_ledger *ledger)
{
	unsigned long long f[15];
	char text[512];
	int n, ret = sysfs_text(device, "stat", text, sizeof(text));

	if (ret)
		return ret;
	n = sscanf(text, "%llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu",
		   &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6], &f[7], &f[8],
		   &f[9], &f[10], &f[11], &f[12], &f[13]);
	if (n < 11)
		return -EBADMSG;
	ledger->kernel_write_sectors = f[6];
	ledger->kernel_discard_sectors = n >= 14 ? f[13] : 0;
	return 0;
}

/*
 * What has been written so far. In flight first: a write that ends between the
 * two is then in the counters.
 */
static int none_look(struct snapshot *snapshot, uint64_t *inflight,
		     struct tracker_ledger *ledger, struct error *err)
{
	const struct boundary_volume *volume = snapshot->volume;
	uint32_t device = volume->device.device;
	int ret = tracker_inflight(device, inflight, err);

	memset(ledger, 0, sizeof(*ledger));
	if (ret)
		return ret;
	if (volume->tracked)
		return tracker_ledger(snapshot->tracker, device, ledger, err);
	ret = none_kernel_counters(device, ledger);
	return ret ? error_set(err, ret, "cannot read the counters of %s: %s",
			       volume->device.path, error_text(ret)) : 0;
}

static bool none_same(const struct tracker_ledger *a, const struct tracker_ledger *b)
{
	return a->kernel_write_sectors == b->kernel_write_sectors &&
	       a->kernel_discard_sectors == b->kernel_discard_sectors &&
	       a->traced_write_sectors == b->traced_write_sectors &&
	       a->traced_discard_sectors == b->traced_discard_sectors;
}

static int none_check_unused(const struct boundary_volume *volume, int *fd,
			     struct error *err)
{
	const char *path = volume->device.path;
	char where[512] = "";
	bool writable;
	int ret = usage_find(volume->device.device, where, sizeof(where), &writable);

	if (ret)
		return error_set(err, ret, "cannot find out who uses %s: %s", path,
				 error_text(ret));
	if (writable)
		return error_set(err, -EBUSY, "volume %s: %s is %s, so it cannot be read without a snapshot; unmount it, mount it read-only, or put it on device-mapper",
				 volume->name, path, where);
	/* Exclusively: a mount in another mount namespace shows here only. */
	*fd = open(path, O_RDONLY | O_CLOEXEC | (where[0] ? 0 : O_EXCL));
	if (*fd < 0 && errno == EBUSY)
		return error_set(err, -EBUSY, "volume %s: %s is in use, perhaps mounted in a container, so it cannot be read without a snapshot",
				 volume->name, path);
	if (*fd < 0)
		return error_set(err, -errno, "cannot open %s: %s", path,
				 error_text(errno));
	return 0;
}

static int none_prepare(struct snapshot *snapshot, struct error *err)
{
	struct boundary_volume *volume = snapshot->volume;
	struct timespec nap = { 0, NONE_QUIET_MS * 1000000L };
	struct tracker_ledger before;
	uint64_t inflight, still;
	CLEANUP_CLOSE int fd = -1;
	int ret = none_check_unused(volume, &fd, err);

	for (unsigned waited = 0; !ret; waited += NONE_QUIET_MS) {
		if (waited >= NONE_SETTLE_MS)
			return error_set(err, -EBUSY, "volume %s: %s is being written to and does not come to rest; it cannot be read without a snapshot",
					 volume->name, volume->device.path);
		/* Others' pages of the device itself that still wait to be
		 * written; O_DIRECT reads would send them, during the read. */
		if (fsync(fd) < 0)
			return error_set(err, -errno, "cannot flush %s: %s",
					 volume->device.path, error_text(errno));
		ret = none_look(snapshot, &inflight, &before, err);
		if (!ret)
			ret = interrupt_check(err);
		if (ret)
			break;
		nanosleep(&nap, NULL);
		ret = none_look(snapshot, &still, &snapshot->quiet, err);
		if (!ret && !inflight && !still && none_same(&before, &snapshot->quiet))
			break;
	}
	return ret;
}

static int none_switched(struct snapshot *snapshot, struct error *err)
{
	struct boundary_volume *volume = snapshot->volume;

	(void)err;
	snprintf(volume->read_path, sizeof(volume->read_path), "%s",
		 volume->device.path);
	return 0;
}

static int none_check(struct snapshot *snapshot, struct error *err)
{
	const struct boundary_volume *volume = snapshot->volume;
	struct tracker_ledger now;
	uint64_t inflight;
	int ret = none_look(snapshot, &inflight, &now, err);

	if (ret)
		return ret;
	if (inflight || !none_same(&now, &snapshot->quiet))
		return error_set(err, -EBUSY, "volume %s: %s was written to while being read; nothing of this run can be used; stop what writes to it, or put it on device-mapper",
				 volume->name, volume->device.path);
	return 0;
}

static int none_fill(struct snapshot *snapshot, unsigned *percent, struct error *err)
{
	(void)snapshot;
	(void)err;
	*percent = 0;
	return 0;
}

static void none_settle(struct snapshot *snapshot)
{
	(void)snapshot;
}

static int none_release(struct snapshot *snapshot, struct error *err)
{
	(void)snapshot;
	(void)err;
	return 0;
}

const struct snapshot_provider_ops snapshot_none_ops = {
	.provider = PROVIDER_NONE,
	.prepare = none_prepare,
	.switched = none_switched,
	.check = none_check,
	.fill = none_fill,
	.settle = none_settle,
	.release = none_release,
};
