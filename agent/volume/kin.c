/* What other rooms want to know of what lies on or beneath a device. */
#include "agent/volume/sysfs.h"
#include "agent/volume/usage.h"
#include "agent/volume/volume.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int device_attribute(uint32_t device, const char *attribute, char *text, size_t room)
{
	return sysfs_text(device, attribute, text, room);
}

int device_name(uint32_t device, char *name, size_t room)
{
	return sysfs_name(device, name, room);
}

int device_kin(uint32_t device, const char *folder,
	       int (*visit)(uint32_t device, void *context), void *context)
{
	return sysfs_each(device, folder, visit, context);
}

/* Documentation/block/stat.rst of the kernel's; partitions have one of their own. */
int device_writes(uint32_t device, struct device_writes *writes)
{
	unsigned long long f[14] = { 0 };
	char text[512];
	int n, ret = sysfs_text(device, "stat", text, sizeof(text));

	if (ret)
		return ret;
	n = sscanf(text, "%llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu",
		   &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6], &f[7], &f[8], &f[9], &f[10],
		   &f[11], &f[12], &f[13]);
	if (n < 11)
		return -EBADMSG;
	*writes = (struct device_writes){ f[6], f[13], f[8] };
	return 0;
}

struct mount_search {
	uint32_t device;
	bool found;
	struct device_mount *mount;
};

static int mount_match(const struct mount_entry *entry, void *context)
{
	struct mount_search *search = context;
	struct device_mount *mount = search->mount;

	if (entry->device != search->device || strlen(entry->where) >= sizeof(mount->where))
		return 0;
	mount->writable |= entry->writable;
	if (search->found && strlen(entry->where) >= strlen(mount->where))
		return 0;
	strcpy(mount->where, entry->where);
	snprintf(mount->type, sizeof(mount->type), "%s", entry->type);
	search->found = true;
	return 0;
}

bool device_mounted(uint32_t device, struct device_mount *mount)
{
	struct mount_search search = { device, false, mount };

	memset(mount, 0, sizeof(*mount));
	mounts_each(mount_match, &search);
	mount->swap = usage_is_swap(device);
	return search.found || mount->swap;
}
