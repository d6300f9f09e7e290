#include "agent/volume/stack.h"

#include "agent/volume/sysfs.h"
#include "bpf/tracker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct stack_search {
	const uint32_t *targets;
	size_t count, which;
	unsigned depth;
	struct error *err;
};

static int stack_device(uint32_t device, void *context);
static int stack_path(const char *path, struct stack_search *search);

/* The file system that `mount_id` names; its strings live as long as `text`. */
struct stack_mount {
	uint64_t mount_id;
	bool found;
	uint32_t device;
	char type[64], source[PATH_MAX];
};

static int stack_mount_match(const struct mount_entry *entry, void *context)
{
	struct stack_mount *mount = context;

	if (entry->id != mount->mount_id)
		return 0;
	mount->found = true;
	mount->device = entry->device;
	snprintf(mount->type, sizeof(mount->type), "%s", entry->type);
	snprintf(mount->source, sizeof(mount->source), "%s", entry->source);
	return 1;
}

/* A btrfs may lie on several devices: all of them, by /sys/fs/btrfs. */
static int stack_btrfs(const char *source, struct stack_search *search)
{
	char member[256], path[PATH_MAX];
	struct dirent *entry;
	struct stat st;
	DIR *listing;
	int ret;

	if (stat(source, &st) < 0 || !S_ISBLK(st.st_mode) ||
	    sysfs_name(tracker_device(st.st_rdev), member, sizeof(member)))
		return error_set(search->err, -ENOTSUP, "cannot tell which devices the btrfs on %s lies on",
				 source);
	ret = stack_device(tracker_device(st.st_rdev), search);
	listing = opendir("/sys/fs/btrfs");
	while (!ret && listing && (entry = readdir(listing))) {
		struct dirent *device;
		DIR *devices;

		snprintf(path, sizeof(path), "/sys/fs/btrfs/%s/devices/%s",
			 entry->d_name, member);
		if (entry->d_name[0] == '.' || access(path, F_OK) < 0)
			continue;
		*strrchr(path, '/') = '\0';
		devices = opendir(path);
		while (!ret && devices && (device = readdir(devices))) {
			if (device->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/dev/%s", device->d_name);
			if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
				ret = stack_device(tracker_device(st.st_rdev), search);
		}
		if (devices)
			closedir(devices);
	}
	if (listing)
		closedir(listing);
	return ret;
}

static int stack_path(const char *path, struct stack_search *search)
{
	struct stack_mount mount = { .found = false };
	struct statx stx;

	/* By mount, not by st_dev: btrfs's subvolumes have numbers of their own. */
	if (statx(AT_FDCWD, path, 0, STATX_MNT_ID, &stx) < 0)
		return error_set(search->err, -errno, "cannot look at %s: %s", path,
				 error_text(errno));
	mount.mount_id = stx.stx_mnt_id;
	if (stx.stx_mask & STATX_MNT_ID)
		mounts_each(stack_mount_match, &mount);
	if (!mount.found)
		return error_set(search->err, -ENOTSUP, "cannot tell which file system %s lies on",
				 path);
	if (strcmp(mount.type, "tmpfs") == 0 || strcmp(mount.type, "ramfs") == 0 ||
	    strcmp(mount.type, "devtmpfs") == 0)
		return 0;
	if (strcmp(mount.type, "btrfs") == 0)
		return stack_btrfs(mount.source, search);
	if (DEVICE_MAJOR(mount.device) == 0)
		return error_set(search->err, -ENOTSUP, "cannot tell which device %s lies on: its file system is %s",
				 path, mount.type);
	return stack_device(mount.device, search);
}

static int stack_loop(const char *backing, struct stack_search *search)
{
	/* Memory without a name: what our own RAM stores are. */
	if (strncmp(backing, "/memfd:", 7) == 0)
		return 0;
	return stack_path(backing, search);
}

static int stack_device(uint32_t device, void *context)
{
	struct stack_search *search = context;
	char backing[PATH_MAX];
	uint32_t disk;
	int ret;

	for (size_t i = 0; i < search->count; i++) {
		if (device != search->targets[i])
			continue;
		search->which = i;
		return 1;
	}
	if (search->depth >= DEVICE_STACK_MAX)
		return error_set(search->err, -ELOOP, "device %u:%u has more than %d devices beneath it",
				 DEVICE_MAJOR(device), DEVICE_MINOR(device),
				 DEVICE_STACK_MAX);
	search->depth++;
	disk = sysfs_disk(device);
	ret = disk ? stack_device(disk, search) : 0;
	if (!ret)
		ret = sysfs_each(device, "slaves", stack_device, search);
	if (!ret && !sysfs_text(device, "loop/backing_file", backing, sizeof(backing)))
		ret = stack_loop(backing, search);
	search->depth--;
	if (ret < 0 && !search->err->code)
		error_set(search->err, ret, "cannot tell what lies beneath device %u:%u: %s",
			  DEVICE_MAJOR(device), DEVICE_MINOR(device), error_text(ret));
	return ret;
}

int stack_device_reaches(uint32_t device, const uint32_t *targets, size_t count,
			 size_t *which, struct error *err)
{
	struct stack_search search = { targets, count, 0, 0, err };
	int ret;

	err->code = 0;
	ret = stack_device(device, &search);
	*which = search.which;
	return ret;
}

int stack_path_reaches(const char *path, const uint32_t *targets, size_t count,
		       size_t *which, struct error *err)
{
	struct stack_search search = { targets, count, 0, 0, err };
	int ret;

	err->code = 0;
	ret = stack_path(path, &search);
	*which = search.which;
	return ret;
}
