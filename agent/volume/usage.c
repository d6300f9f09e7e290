/* Who uses a block device: mounts, swap and devices stacked on it. */
#include "agent/volume/usage.h"

#include "agent/base/cleanup.h"
#include "agent/volume/sysfs.h"
#include "agent/volume/volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct usage_walk {
	char *where;
	size_t room;
	unsigned depth;
	bool writable, used;
};

/* Devices in /proc/swaps, one a line, path first. Swap files are their file
 * system's business. */
bool usage_is_swap(uint32_t device)
{
	CLEANUP_FCLOSE FILE *file = fopen("/proc/swaps", "re");
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;

	while (file && getline(&line, &room, file) >= 0) {
		struct stat st;

		line[strcspn(line, " \t\n")] = '\0';
		if (line[0] == '/' && stat(line, &st) == 0 &&
		    S_ISBLK(st.st_mode) && st.st_rdev == device_rdev(device))
			return true;
	}
	return false;
}

static int usage_visit(uint32_t device, void *context);

/*
 * The use found first, from the device upwards, is the one that is told; a
 * writable use anywhere above is noted even when another one was told.
 */
static void usage_of_one(uint32_t device, struct usage_walk *walk)
{
	char text[512];
	bool writable = false;

	if (mounts_find(device, text, sizeof(text), &writable)) {
		/* A writable mount is the news when a read-only one was told. */
		if (!walk->used || (writable && !walk->writable))
			snprintf(walk->where, walk->room, "%s", text);
		walk->used = true;
		walk->writable |= writable;
	}
	if (usage_is_swap(device)) {
		if (!walk->used || !walk->writable)
			snprintf(walk->where, walk->room, "used as swap");
		walk->used = walk->writable = true;
	}
}

static int usage_above(uint32_t device, struct usage_walk *walk)
{
	int ret;

	if (walk->depth >= DEVICE_STACK_MAX)
		return -ELOOP;
	walk->depth++;
	ret = sysfs_each(device, "partitions", usage_visit, walk);
	if (!ret)
		ret = sysfs_each(device, "holders", usage_visit, walk);
	walk->depth--;
	return ret;
}

static int usage_visit(uint32_t device, void *context)
{
	struct usage_walk *walk = context;
	char inner[512] = "", name[256] = "?", kind[16];
	struct usage_walk above = { inner, sizeof(inner), walk->depth, false, false };
	bool partition = sysfs_text(device, "partition", kind, sizeof(kind)) == 0;
	int ret;

	usage_of_one(device, &above);
	ret = usage_above(device, &above);
	if (ret)
		return ret;
	/* Partitions nobody uses are no use; a holder always is one. */
	if (partition && !above.used)
		return 0;
	if (sysfs_text(device, "dm/name", name, sizeof(name)))
		sysfs_name(device, name, sizeof(name));
	if (!walk->used || (above.writable && !walk->writable))
		snprintf(walk->where, walk->room, "held by %s%s%s", name,
			 inner[0] ? ", which is " : "", inner);
	walk->used = true;
	walk->writable |= above.writable;
	return 0;
}

int usage_find(uint32_t device, char *where, size_t room, bool *writable)
{
	struct usage_walk walk = { where, room, 0, false, false };
	int ret;

	where[0] = '\0';
	usage_of_one(device, &walk);
	ret = usage_above(device, &walk);
	*writable = walk.writable;
	return ret;
}

int device_usage(uint32_t device, char *where, size_t room, struct error *err)
{
	bool writable;
	int ret = usage_find(device, where, room, &writable);

	if (ret)
		return error_set(err, ret, "cannot find out who uses device %u:%u: %s",
				 DEVICE_MAJOR(device), DEVICE_MINOR(device),
				 error_text(ret));
	return 0;
}
