/* What a block device is right now, and how it is found again. */
#include "agent/base/cleanup.h"
#include "agent/volume/dm.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/sysfs.h"
#include "agent/volume/usage.h"
#include "agent/volume/volume.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Partitions keep some attributes with their disk. */
static int device_disk_u64(const struct device_facts *facts, const char *attribute,
			   uint64_t *value)
{
	return sysfs_u64(facts->disk ? facts->disk : facts->device, attribute, value);
}

static int device_sizes(struct device_facts *facts)
{
	uint64_t sectors, read_only, block = 512, counted = 1;
	int ret = sysfs_u64(facts->device, "size", &sectors);

	if (!ret)
		ret = sysfs_u64(facts->device, "ro", &read_only);
	if (!ret && facts->disk)
		ret = sysfs_u64(facts->device, "start", &facts->start_sector);
	if (ret)
		return ret;
	if (sectors > UINT64_MAX / 512)
		return -EOVERFLOW;
	/* Kernels before 5.15 number no instances: 0 then. */
	device_disk_u64(facts, "diskseq", &facts->diskseq);
	device_disk_u64(facts, "queue/logical_block_size", &block);
	device_disk_u64(facts, "queue/iostats", &counted);
	facts->iostats_off = !counted;
	facts->bytes = sectors * 512;
	facts->read_only = read_only != 0;
	facts->logical_block_bytes = (uint32_t)block;
	return 0;
}

static int device_dm(struct device_facts *facts, struct error *err)
{
	int ret;

	if (sysfs_text(facts->device, "dm/name", facts->dm_name,
		       sizeof(facts->dm_name)))
		return 0;
	facts->is_dm = true;
	sysfs_text(facts->device, "dm/uuid", facts->dm_uuid, sizeof(facts->dm_uuid));
	ret = dmdev_targets(facts->device, facts->dm_targets, sizeof(facts->dm_targets), err);
	return ret ? ret : device_table_digest(facts->device, facts->table, err);
}

int device_facts(const char *path, struct device_facts *facts, struct error *err)
{
	char where[512];
	struct stat st;
	int ret;

	memset(facts, 0, sizeof(*facts));
	if (strlen(path) >= sizeof(facts->path))
		return error_set(err, -ENAMETOOLONG, "the device path is too long");
	if (stat(path, &st) < 0)
		return error_set(err, -errno, "cannot look at device %s: %s", path,
				 error_text(errno));
	if (!S_ISBLK(st.st_mode))
		return error_set(err, -ENOTBLK, "%s is not a block device", path);
	strcpy(facts->path, path);
	facts->device = tracker_device(st.st_rdev);
	facts->disk = sysfs_disk(facts->device);
	ret = device_sizes(facts);
	if (ret)
		return error_set(err, ret, "cannot read the facts of device %s from /sys: %s",
				 path, error_text(ret));
	ret = usage_find(facts->device, where, sizeof(where), &facts->mounted_rw);
	if (ret)
		return error_set(err, ret, "cannot find out who uses %s: %s", path,
				 error_text(ret));
	return device_dm(facts, err);
}

int device_sectors_read(const struct device_facts *device, uint64_t *sectors,
			struct error *err)
{
	char text[512];
	int ret = sysfs_text(device->device, "stat", text, sizeof(text));

	if (!ret && sscanf(text, "%*u %*u %" SCNu64, sectors) != 1)
		ret = -EBADMSG;
	return ret ? error_set(err, ret, "cannot read the counters of %s: %s", device->path,
			       error_text(ret)) : 0;
}

/* Documentation/block/stat.rst of the kernel's. */
int device_io(uint32_t device, struct device_io *io)
{
	char text[512];
	unsigned long long field[9];
	int ret = sysfs_text(device, "stat", text, sizeof(text));

	if (ret)
		return ret == -ENOENT ? -ENODEV : ret;
	if (sscanf(text, "%llu %llu %llu %llu %llu %llu %llu %llu %llu", &field[0], &field[1],
		   &field[2], &field[3], &field[4], &field[5], &field[6], &field[7],
		   &field[8]) != 9)
		return -EBADMSG;
	io->ended = field[0] + field[4];
	io->ticks_ms = field[3] + field[7];
	io->in_flight = field[8];
	return 0;
}

/* The node of a dm device: /dev/mapper/NAME when that is it, else /dev/dm-N. */
static int device_dm_path(uint32_t device, char *path, size_t room)
{
	char name[256];
	struct stat st;

	if (!sysfs_text(device, "dm/name", name, sizeof(name))) {
		snprintf(path, room, "/dev/mapper/%s", name);
		if (stat(path, &st) == 0 && S_ISBLK(st.st_mode) &&
		    st.st_rdev == device_rdev(device))
			return 0;
	}
	snprintf(path, room, "/dev/dm-%u", DEVICE_MINOR(device));
	if (stat(path, &st) < 0)
		return -errno;
	return st.st_rdev == device_rdev(device) ? 0 : -ENODEV;
}

/* The dm device that has this uuid now. */
static int device_by_uuid(const char *dm_uuid, char *path, size_t room)
{
	char attribute[PATH_MAX], text[256];
	struct dirent *entry;
	int ret = -ENODEV;
	DIR *listing = opendir("/sys/block");

	if (!listing)
		return -errno;
	while (ret == -ENODEV && (entry = readdir(listing))) {
		unsigned major_number, minor_number;
		CLEANUP_FCLOSE FILE *file = NULL;

		if (strncmp(entry->d_name, "dm-", 3))
			continue;
		snprintf(attribute, sizeof(attribute), "/sys/block/%s/dev",
			 entry->d_name);
		file = fopen(attribute, "re");
		if (!file || fscanf(file, "%u:%u", &major_number, &minor_number) != 2)
			continue;
		if (!sysfs_text(major_number << 20 | minor_number, "dm/uuid", text,
				sizeof(text)) && strcmp(text, dm_uuid) == 0)
			ret = device_dm_path(major_number << 20 | minor_number,
					     path, room);
	}
	closedir(listing);
	return ret;
}

int device_find(const char *path, const char *dm_uuid,
		struct device_facts *facts, struct error *err)
{
	struct error ignored = ERROR_INIT;
	char found[PATH_MAX];
	int ret;

	if (!dm_uuid || !dm_uuid[0])
		return device_facts(path, facts, err);
	/* The usual case: it is where it was. */
	if (path && path[0] && !device_facts(path, facts, &ignored) &&
	    strcmp(facts->dm_uuid, dm_uuid) == 0)
		return 0;
	ret = device_by_uuid(dm_uuid, found, sizeof(found));
	if (!ret)
		return device_facts(found, facts, err);
	if (ret != -ENODEV)
		return error_set(err, ret, "cannot search the device-mapper devices for uuid %s: %s",
				 dm_uuid, error_text(ret));
	if (ignored.code || !path || !path[0])
		return error_set(err, -ENODEV, "no device has the volume's device-mapper uuid %s, and nothing stands at %s; activate it, or attach it anew",
				 dm_uuid, path && path[0] ? path : "its path");
	return error_set(err, -ENODEV, "no device has the volume's device-mapper uuid %s; at %s stands another one (%s%s)",
			 dm_uuid, path,
			 facts->dm_uuid[0] ? "uuid " : "without a device-mapper uuid",
			 facts->dm_uuid);
}
