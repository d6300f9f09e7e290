/*
 * Facts about block devices as sysfs and /proc tell them, by kernel dev_t
 * (major << 20 | minor). Private to agent/volume.
 */
#ifndef CLAWBACK_VOLUME_SYSFS_H
#define CLAWBACK_VOLUME_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_MAJOR(device) ((device) >> 20)
#define DEVICE_MINOR(device) ((device) & 0xfffffu)
#define DEVICE_STACK_MAX 16	/* devices on top of each other that we follow */

/* glibc's dev_t of a kernel one, to compare with st_rdev. */
uint64_t device_rdev(uint32_t device);

/*
 * One attribute below /sys/dev/block/M:m/, its final newline cut off.
 * -ENOENT when the device has no such attribute, -ENODEV when it is gone.
 */
int sysfs_text(uint32_t device, const char *attribute, char *text, size_t room);
int sysfs_u64(uint32_t device, const char *attribute, uint64_t *value);

/* The device's own name in the kernel, "dm-3", "loop0p1". */
int sysfs_name(uint32_t device, char *name, size_t room);

/* The whole disk of a partition; 0 when `device` is no partition. */
uint32_t sysfs_disk(uint32_t device);

/*
 * Calls `visit` for each device that `folder` ("slaves", "holders",
 * "partitions") of `device` lists, until it returns non-zero, which is returned.
 */
int sysfs_each(uint32_t device, const char *folder,
	       int (*visit)(uint32_t device, void *context), void *context);

/* What /proc/self/mountinfo says of one mount. */
struct mount_entry {
	uint64_t id;
	uint32_t device;	/* of the file system; anonymous for btrfs */
	const char *where, *type, *source;
	const char *options;	/* the file system's own, "rw,errors=remount-ro" */
	bool writable;		/* the file system, not just this mount */
};

/* As sysfs_each. Octal escapes are undone. -errno when it cannot be read. */
int mounts_each(int (*visit)(const struct mount_entry *entry, void *context),
		void *context);

/*
 * Is a file system that lies directly on `device` mounted? Fills `where` with
 * "mounted on /x (ext4, rw)" and `writable`. btrfs's several devices are known.
 */
bool mounts_find(uint32_t device, char *where, size_t room, bool *writable);

#endif
