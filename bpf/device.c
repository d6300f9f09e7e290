/*
 * What sysfs says about a device, and whether its writes can be tracked at all.
 * Refusing here is what keeps "never a silent gap" true for devices on which
 * data changes without a bio, which neither the program nor the kernel's
 * counters would notice.
 */
#include "bpf/tracker_private.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK_BYTES_MIN 4096u
#define BLOCK_BYTES_MAX (64u << 20)
#define BITMAP_LIMIT_BYTES (64ull << 20)
#define BLOCKS_MAX (1ull << 40)		/* what struct bitmap takes */

uint32_t tracker_device(dev_t device)
{
	return (uint32_t)(major(device) << 20 | (minor(device) & 0xfffff));
}

/* Bytes of the bitmap, which come in pages. */
static uint64_t bitmap_bytes(uint64_t sectors, uint32_t block_bytes)
{
	uint64_t block_sectors = block_bytes / 512;
	uint64_t blocks = sectors / block_sectors + !!(sectors % block_sectors);
	uint64_t pages = blocks / TRACKER_PAGE_BITS +
			 !!(blocks % TRACKER_PAGE_BITS);

	return pages * TRACKER_PAGE_BYTES;
}

uint32_t tracker_granularity(uint64_t sectors, uint32_t wanted,
			     uint64_t limit_bytes)
{
	uint32_t block_bytes = BLOCK_BYTES_MIN;

	if (!limit_bytes)
		limit_bytes = BITMAP_LIMIT_BYTES;
	while (block_bytes < BLOCK_BYTES_MAX &&
	       (block_bytes < wanted ||
		bitmap_bytes(sectors, block_bytes) > limit_bytes))
		block_bytes *= 2;
	return block_bytes;
}

int tracker_device_attribute(uint32_t device, const char *name, char *text,
			     size_t room)
{
	CLEANUP_CLOSE int fd = -1;
	char path[128];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s",
		 DEVICE_MAJOR(device), DEVICE_MINOR(device), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	length = read(fd, text, room - 1);
	if (length < 0)
		return -errno;
	text[length] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return (int)length;
}

static int attribute_number(uint32_t device, const char *name, uint64_t *number)
{
	char text[64], *end;
	int ret = tracker_device_attribute(device, name, text, sizeof(text));

	if (ret < 0)
		return ret;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return end == text || *end || errno ? -EBADMSG : 0;
}

/* The device's own place: a partition of which disk, from which sector. */
static int device_place(uint32_t device, uint32_t *disk, uint64_t *start)
{
	unsigned int disk_major, disk_minor;
	uint64_t number;
	char text[64];
	int ret;

	*disk = 0;
	*start = 0;
	ret = attribute_number(device, "partition", &number);
	if (ret == -ENOENT)
		return attribute_number(device, "size", &number);
	if (!ret)
		ret = attribute_number(device, "start", start);
	if (!ret && tracker_device_attribute(device, "../dev", text,
					     sizeof(text)) < 0)
		ret = -ENODEV;
	if (!ret && sscanf(text, "%u:%u", &disk_major, &disk_minor) != 2)
		ret = -EBADMSG;
	if (!ret)
		*disk = tracker_device(makedev(disk_major, disk_minor));
	return ret;
}

static int volume_check(const struct tracker_volume *volume, struct error *err)
{
	uint32_t block_bytes = volume->block_bytes;

	if (!volume->device || !volume->sectors)
		return error_set(err, -EINVAL, "cannot track device %u:%u: it has "
				 "no number or no size",
				 DEVICE_MAJOR(volume->device),
				 DEVICE_MINOR(volume->device));
	if (block_bytes < BLOCK_BYTES_MIN || block_bytes > BLOCK_BYTES_MAX ||
	    block_bytes & (block_bytes - 1))
		return error_set(err, -EINVAL, "cannot track in blocks of %u "
				 "bytes: it must be a power of two from %u to %u",
				 block_bytes, BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
	if (volume->sectors > UINT64_MAX - volume->start_sector ||
	    volume->sectors / (block_bytes / 512) >= BLOCKS_MAX)
		return error_set(err, -EOVERFLOW, "cannot track %llu sectors in "
				 "blocks of %u bytes: too many blocks",
				 (unsigned long long)volume->sectors, block_bytes);
	return 0;
}

/* Name of the whole disk's folder in sysfs: "ram0", "pmem0s", "sda". */
static void disk_name(uint32_t disk, char *name, size_t room)
{
	char path[64], *resolved;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", DEVICE_MAJOR(disk),
		 DEVICE_MINOR(disk));
	resolved = realpath(path, NULL);
	snprintf(name, room, "%s", resolved ? basename(resolved) : "");
	free(resolved);
}

/*
 * DAX: a file system may map the device's memory, and stores to it are no bios.
 * rw_page (until Linux 6.2): RAM-like drivers took single pages directly.
 */
static int bypass_check(uint32_t device, uint32_t disk, struct error *err)
{
	static const char *const drivers[] = { "ram", "zram", "pmem" };
	uint64_t dax = 0;
	char name[NAME_MAX + 1];
	int ret = attribute_number(disk, "queue/dax", &dax);

	if (ret && ret != -ENOENT)
		return error_set(err, ret, "cannot find out whether device %u:%u "
				 "is used without the block layer (DAX): %s",
				 DEVICE_MAJOR(device), DEVICE_MINOR(device),
				 error_text(ret));
	if (dax)
		return error_set(err, -EOPNOTSUPP, "cannot track device %u:%u: it "
				 "allows direct access (DAX), whose writes no "
				 "tracker can see; use the namespace in another "
				 "mode than fsdax", DEVICE_MAJOR(device),
				 DEVICE_MINOR(device));
	disk_name(disk, name, sizeof(name));
	for (size_t i = 0; i < sizeof(drivers) / sizeof(*drivers); i++)
		if (!strncmp(name, drivers[i], strlen(drivers[i])) &&
		    kernel_has_member("block_device_operations", "rw_page"))
			return error_set(err, -EOPNOTSUPP, "cannot track %s: before "
					 "Linux 6.3 some writes to it pass by the "
					 "block layer; put device-mapper on top",
					 name);
	return 0;
}

int tracker_device_check(const struct tracker_volume *volume, struct error *err)
{
	uint32_t disk;
	uint64_t start;
	int ret = volume_check(volume, err);

	if (ret)
		return ret;
	ret = device_place(volume->device, &disk, &start);
	if (ret)
		return error_set(err, ret == -ENOENT ? -ENODEV : ret,
				 "cannot track device %u:%u: %s",
				 DEVICE_MAJOR(volume->device),
				 DEVICE_MINOR(volume->device), error_text(ret));
	if (disk != volume->disk || start != volume->start_sector)
		return error_set(err, -EINVAL, "cannot track device %u:%u as given: "
				 "it starts at sector %llu of disk %u:%u",
				 DEVICE_MAJOR(volume->device),
				 DEVICE_MINOR(volume->device),
				 (unsigned long long)start, DEVICE_MAJOR(disk),
				 DEVICE_MINOR(disk));
	return bypass_check(volume->device, disk ? disk : volume->device, err);
}
