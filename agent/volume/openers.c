/*
 * For devices that nobody counts the users of: every process's descriptors and
 * mappings. Who merely reads does not matter.
 */
#include "agent/volume/openers.h"

#include "agent/base/cleanup.h"
#include "agent/volume/sysfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_device(int folder_fd, const char *entry, uint32_t device)
{
	struct stat st;

	return fstatat(folder_fd, entry, &st, 0) == 0 && S_ISBLK(st.st_mode) &&
	       st.st_rdev == device_rdev(device);
}

/* From /proc/PID/fdinfo/N; unknown is taken for writable. */
static bool opened_writable(const char *process, const char *number)
{
	CLEANUP_FCLOSE FILE *file = NULL;
	char path[PATH_MAX], line[256];
	unsigned flags;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", process, number);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "flags: %o", &flags) == 1)
			return (flags & O_ACCMODE) != O_RDONLY;
	return true;
}

/* "fd" or "map_files" of one process, which may end while we look. */
static bool process_has(const char *process, const char *what, uint32_t device)
{
	bool mapped = strcmp(what, "map_files") == 0, found = false;
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *listing;

	snprintf(path, sizeof(path), "/proc/%s/%s", process, what);
	listing = opendir(path);
	while (listing && !found && (entry = readdir(listing)))
		found = entry->d_name[0] != '.' &&
			is_device(dirfd(listing), entry->d_name, device) &&
			(mapped || opened_writable(process, entry->d_name));
	if (listing)
		closedir(listing);
	return found;
}

int openers_check(const struct device_facts *device, struct error *err)
{
	DIR *listing = opendir("/proc");
	const struct dirent *entry;
	int ret = 0;

	if (!listing)
		return error_set(err, -errno, "cannot read /proc: %s", error_text(errno));
	while (!ret && (entry = readdir(listing))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (process_has(entry->d_name, "fd", device->device) ||
		    process_has(entry->d_name, "map_files", device->device))
			ret = error_set(err, -EBUSY, "process %s has %s open for writing",
					entry->d_name, device->path);
	}
	closedir(listing);
	return ret;
}
