/*
 * Provider dm: the volume's own table moves to V-real, V goes there by way of
 * V-origin, V-snap shows the instant of that change.
 *
 *   before          while it is open
 *   V: own table    V: linear ─► V-origin: snapshot-origin ─► V-real: own table ─► disks
 *                                V-snap: snapshot ────────────┘
 *                                  └─► V-cow: linear ─► COW store
 *
 * V could be the snapshot-origin itself. But LVM compares the tables of its
 * volumes with its metadata, line by line; linear lines where the own table has
 * its own pass for a linear or striped volume, so lvs sees nothing unusual.
 *
 * Discards: snapshot-origin passes none on, so none reaches the volume while a
 * snapshot is open.
 */
#include "agent/base/cleanup.h"
#include "agent/volume/boundary_test.h"
#include "agent/volume/cow.h"
#include "agent/volume/dm.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define SNAPSHOT_CHUNK_SECTORS 8	/* as fine as the tracker: least copying */

/*
 * Targets that may stand in two devices at once, as V's do until the switch.
 * Those that keep state of their own beneath (raid, cache, integrity, era …)
 * would be damaged by a second instance.
 */
static const char *const snapshot_targets[] = {
	"linear", "striped", "unstriped", "crypt", "thin", "zero", "error",
	"delay", "flakey",
};

static bool snapshot_target_known(const char *type)
{
	for (size_t i = 0; i < sizeof(snapshot_targets) / sizeof(*snapshot_targets); i++)
		if (strcmp(type, snapshot_targets[i]) == 0)
			return true;
	return false;
}

static int snapshot_check_table(const struct boundary_volume *volume,
				const struct dmtable *table, struct error *err)
{
	if (!table->count)
		return error_set(err, -ENODATA, "volume %s: %s has no table",
				 volume->name, volume->device.path);
	for (size_t i = 0; i < table->count; i++) {
		const char *type = table->lines[i].type;

		if (strncmp(type, "snapshot", 8) == 0)
			return error_set(err, -EBUSY, "volume %s: %s already has a device-mapper snapshot (target %s) that is not clawback's; remove that first",
					 volume->name, volume->device.path, type);
		if (!snapshot_target_known(type))
			return error_set(err, -ENOTSUP, "volume %s: %s uses the device-mapper target %s, which cannot be snapshotted from outside; protect the devices beneath it, or a linear or crypt device on top of it",
					 volume->name, volume->device.path, type);
	}
	if (dmtable_sectors(table) * 512 != volume->device.bytes)
		return error_set(err, -ESTALE, "volume %s: %s has %llu bytes now, not %llu; it was resized meanwhile",
				 volume->name, volume->device.path,
				 (unsigned long long)dmtable_sectors(table) * 512,
				 (unsigned long long)volume->device.bytes);
	return 0;
}

/* Is V what the caller thinks, and nobody else at work on it? */
static int snapshot_check_volume(const struct boundary_volume *volume,
				 struct dmdev_info *info, struct error *err)
{
	const struct device_facts *device = &volume->device;
	int ret = dmdev_info(device->device, info, err);

	if (ret)
		return error_prefix(err, "volume %s", volume->name);
	if (strcmp(info->uuid, device->dm_uuid))
		return error_set(err, -ESTALE, "volume %s: device %u:%u has the uuid '%s' now, not '%s'; it was replaced meanwhile",
				 volume->name, DEVICE_MAJOR(device->device),
				 DEVICE_MINOR(device->device), info->uuid,
				 device->dm_uuid);
	if (info->suspended)
		return error_set(err, -EBUSY, "volume %s: %s is suspended by another program",
				 volume->name, device->path);
	if (info->inactive)
		return error_set(err, -EBUSY, "volume %s: another program is changing %s (it has a table waiting in its inactive slot)",
				 volume->name, device->path);
	return 0;
}

static int snapshot_make(struct snapshot *snapshot, const char *kind,
			 const struct dmtable *table, bool read_only,
			 char name[static 128], uint32_t *device, struct error *err)
{
	char uuid[130];
	int ret;

	leftovers_device_name(snapshot->volume->name, kind, name);
	leftovers_device_uuid(&snapshot->volume->id, kind, uuid);
	ret = dmdev_create(name, uuid, table, read_only, device, err);
	if (ret)
		error_prefix(err, "volume %s", snapshot->volume->name);
	else
		boundary_stage(kind);
	return ret;
}

/* A dm-crypt key that lives in a keyring cannot be had a second time. */
static bool snapshot_key_in_keyring(const struct dmtable *table)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct dmtable_line *line = &table->lines[i];
		const char *key = strchr(line->parameters, ' ');

		if (strcmp(line->type, "crypt") == 0 && key && key[1] == ':')
			return true;
	}
	return false;
}

static int snapshot_make_real(struct snapshot *snapshot, const struct dmtable *own,
			      bool read_only, struct error *err)
{
	int ret = snapshot_make(snapshot, "real", own, read_only,
				snapshot->real_name, &snapshot->real_device, err);

	if (ret && snapshot_key_in_keyring(own))
		error_hint(err, "the volume's encryption key is in the kernel's keyring, out of reach; open it with cryptsetup's --disable-keyring, or protect the device beneath it");
	return ret;
}

/* One line from 0 on, `parameters` as printf makes them. */
static int snapshot_table(struct dmtable *table, uint64_t sectors, const char *type,
			  const char *parameters, struct error *err)
{
	int ret = dmtable_append(table, 0, sectors, type, parameters);

	return ret ? error_set(err, ret, "out of memory") : 0;
}

static int snapshot_make_snap(struct snapshot *snapshot, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable below = { NULL, 0 }, snap = { NULL, 0 };
	CLEANUP(cow_release) struct cow cow = { .fd = -1 };
	const struct boundary_volume *volume = snapshot->volume;
	char parameters[128], cow_name[128];
	uint32_t cow_device, real = snapshot->real_device;
	int ret = cow_open(volume, snapshot->volumes, snapshot->count, &cow, err);

	if (ret)
		return ret;
	boundary_stage("store");
	snprintf(parameters, sizeof(parameters), "%u:%u %llu",
		 DEVICE_MAJOR(cow.device), DEVICE_MINOR(cow.device),
		 (unsigned long long)cow.start_sector);
	ret = snapshot_table(&below, cow.sectors, "linear", parameters, err);
	if (!ret)
		ret = snapshot_make(snapshot, "cow", &below, false, cow_name,
				    &cow_device, err);
	if (ret)
		return ret;
	snprintf(parameters, sizeof(parameters), "%u:%u %u:%u N %d",
		 DEVICE_MAJOR(real), DEVICE_MINOR(real), DEVICE_MAJOR(cow_device),
		 DEVICE_MINOR(cow_device), SNAPSHOT_CHUNK_SECTORS);
	ret = snapshot_table(&snap, volume->device.bytes / 512, "snapshot",
			     parameters, err);
	if (!ret)
		ret = snapshot_make(snapshot, "snap", &snap, false,
				    snapshot->snap_name, &snapshot->snap_device, err);
	if (ret && ret != -ENOMEM)
		error_hint(err, "does this kernel have the module dm-snapshot?");
	return ret;
}

static int snapshot_make_origin(struct snapshot *snapshot, bool read_only,
				struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable origin = { NULL, 0 };
	char parameters[32], name[128];
	int ret;

	snprintf(parameters, sizeof(parameters), "%u:%u",
		 DEVICE_MAJOR(snapshot->real_device),
		 DEVICE_MINOR(snapshot->real_device));
	ret = snapshot_table(&origin, snapshot->volume->device.bytes / 512,
			     "snapshot-origin", parameters, err);
	return ret ? ret : snapshot_make(snapshot, "origin", &origin, read_only, name,
					 &snapshot->origin_device, err);
}

static int snapshot_dm_prepare(struct snapshot *snapshot, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable own = { NULL, 0 }, window = { NULL, 0 };
	struct boundary_volume *volume = snapshot->volume;
	char where[512];
	struct dmdev_info info;
	unsigned removed = 0;
	uint32_t cookie = 0;
	bool writable;
	int ret;

	/* The caller holds the lock: what there is belongs to a dead run. */
	ret = leftovers_remove_of(&volume->id, snapshot->tracker, &cookie, &removed, err);
	dmdev_wait(cookie);
	if (!ret)
		ret = snapshot_check_volume(volume, &info, err);
	if (!ret)
		ret = dmdev_table(volume->device.device, false, &own, err);
	if (!ret)
		ret = snapshot_check_table(volume, &own, err);
	if (!ret)
		ret = snapshot_make_real(snapshot, &own, info.read_only, err);
	if (!ret)
		ret = snapshot_make_snap(snapshot, err);
	if (!ret)
		ret = snapshot_make_origin(snapshot, info.read_only, err);
	if (ret)
		return ret;
	if (dmtable_window(&window, &own, snapshot->origin_device))
		return error_set(err, -ENOMEM, "out of memory");
	if (volume->tracked &&
	    !(boundary_test_hooks && boundary_test_hooks->skip_alias)) {
		ret = tracker_alias_add(snapshot->tracker, volume->slot,
					snapshot->real_device, err);
		boundary_stage("alias");
	}
	if (!ret)
		ret = dmdev_load(volume->device.device, &window, info.read_only, err);
	if (ret)
		return error_prefix(err, "volume %s", volume->name);
	boundary_stage("loaded");
	volume->frozen_fs = mounts_find(volume->device.device, where, sizeof(where),
					&writable);
	return 0;
}

/*
 * Readers use O_DIRECT, but whoever looked at V-snap before the instant may have
 * left pages of it in the page cache. Nobody is to write to it either.
 */
static int snapshot_refresh(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	int read_only = 1;

	if (fd < 0 || ioctl(fd, BLKFLSBUF) < 0 || ioctl(fd, BLKROSET, &read_only) < 0)
		return error_set(err, -errno, "cannot prepare %s for reading: %s", path,
				 error_text(errno));
	return 0;
}

static int snapshot_dm_switched(struct snapshot *snapshot, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable live = { NULL, 0 };
	struct boundary_volume *volume = snapshot->volume;
	int ret = dmdev_table(volume->device.device, false, &live, err);

	if (!ret && !dmtable_is_window(&live, snapshot->origin_device))
		ret = error_set(err, -EBUSY, "volume %s: another program changed the table of %s during the snapshot",
				volume->name, volume->device.path);
	if (!ret)
		ret = dmdev_node_now(snapshot->snap_name, snapshot->snap_device,
				     volume->read_path, sizeof(volume->read_path), err);
	return ret ? ret : snapshot_refresh(volume->read_path, err);
}

/* "used/total metadata", or a word when the snapshot is no more. */
static int snapshot_status(struct snapshot *snapshot, unsigned *percent,
			   struct error *err)
{
	const struct boundary_volume *volume = snapshot->volume;
	unsigned long long used, total;
	char status[128];
	int ret = dmdev_status(snapshot->snap_device, status, sizeof(status), err);

	if (ret)
		return error_prefix(err, "volume %s", volume->name);
	if (sscanf(status, "%llu/%llu", &used, &total) == 2 && total) {
		*percent = (unsigned)(used >= total ? 100 : used * 100 / total);
		return 0;
	}
	error_set(err, -ENOSPC, "the snapshot of volume %s was lost: its COW store is full, or failed (device-mapper says '%s')",
		  volume->name, status);
	return error_hint(err, "make the COW store larger, or put it into a file or device; the volume itself is unharmed");
}

static int snapshot_dm_check(struct snapshot *snapshot, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable live = { NULL, 0 };
	const struct boundary_volume *volume = snapshot->volume;
	unsigned percent;
	int ret = snapshot_status(snapshot, &percent, err);

	if (!ret)
		ret = dmdev_table(volume->device.device, false, &live, err);
	if (ret)
		return ret;
	/* Past V-origin, writes would have bypassed the snapshot. */
	if (!dmtable_is_window(&live, snapshot->origin_device))
		return error_set(err, -EBUSY, "volume %s: another program changed the table of %s while the snapshot was read",
				 volume->name, volume->device.path);
	return 0;
}

/* Before V is suspended once more, and at last. */
static void snapshot_dm_settle(struct snapshot *snapshot)
{
	dmdev_wait(snapshot->cookie);
	snapshot->cookie = 0;
}

static int snapshot_dm_release(struct snapshot *snapshot, struct error *err)
{
	unsigned removed = 0;
	int ret;

	snapshot_dm_settle(snapshot);
	ret = leftovers_remove_of(&snapshot->volume->id, snapshot->tracker,
				  &snapshot->cookie, &removed, err);
	return ret ? error_prefix(err, "volume %s", snapshot->volume->name) : 0;
}

const struct snapshot_provider_ops snapshot_dm_ops = {
	.provider = PROVIDER_DM,
	.prepare = snapshot_dm_prepare,
	.switched = snapshot_dm_switched,
	.check = snapshot_dm_check,
	.fill = snapshot_status,
	.settle = snapshot_dm_settle,
	.release = snapshot_dm_release,
};
