#include "agent/volume/sysfs.h"

#include "agent/base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

uint64_t device_rdev(uint32_t device)
{
	return makedev(DEVICE_MAJOR(device), DEVICE_MINOR(device));
}

static void sysfs_path(uint32_t device, const char *leaf, char *path, size_t room)
{
	snprintf(path, room, "/sys/dev/block/%u:%u/%s", DEVICE_MAJOR(device),
		 DEVICE_MINOR(device), leaf);
}

int sysfs_text(uint32_t device, const char *attribute, char *text, size_t room)
{
	char path[PATH_MAX];
	CLEANUP_CLOSE int fd = -1;
	ssize_t n;

	sysfs_path(device, attribute, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		n = -errno;
		sysfs_path(device, "", path, sizeof(path));
		return access(path, F_OK) == 0 ? (int)n : -ENODEV;
	}
	n = read(fd, text, room - 1);
	if (n < 0)
		return -errno;
	if (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	return 0;
}

int sysfs_u64(uint32_t device, const char *attribute, uint64_t *value)
{
	char text[64], *end;
	int ret = sysfs_text(device, attribute, text, sizeof(text));

	if (ret)
		return ret;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno || end == text || *end ? -EBADMSG : 0;
}

/* "253:4" into a kernel dev_t. */
static int sysfs_number(const char *text, uint32_t *device)
{
	unsigned major_number, minor_number;

	if (sscanf(text, "%u:%u", &major_number, &minor_number) != 2 ||
	    major_number > 0xfff || minor_number > 0xfffff)
		return -EBADMSG;
	*device = major_number << 20 | minor_number;
	return 0;
}

int sysfs_name(uint32_t device, char *name, size_t room)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *leaf;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u",
		 DEVICE_MAJOR(device), DEVICE_MINOR(device));
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -ENODEV;
	target[n] = '\0';
	leaf = strrchr(target, '/');
	leaf = leaf ? leaf + 1 : target;
	if (strlen(leaf) >= room)
		return -ENAMETOOLONG;
	strcpy(name, leaf);
	return 0;
}

uint32_t sysfs_disk(uint32_t device)
{
	char text[64];
	uint32_t disk = 0;

	if (sysfs_text(device, "partition", text, sizeof(text)) ||
	    sysfs_text(device, "../dev", text, sizeof(text)) ||
	    sysfs_number(text, &disk))
		return 0;
	return disk;
}

int sysfs_each(uint32_t device, const char *folder,
	       int (*visit)(uint32_t device, void *context), void *context)
{
	bool partitions = strcmp(folder, "partitions") == 0;
	char path[PATH_MAX], text[64];
	struct dirent *entry;
	uint32_t other;
	DIR *listing;
	int ret = 0;

	sysfs_path(device, partitions ? "" : folder, path, sizeof(path));
	listing = opendir(path);
	if (!listing)
		return errno == ENOENT ? 0 : -errno;
	while (!ret && (entry = readdir(listing))) {
		char leaf[PATH_MAX];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(leaf, sizeof(leaf), "%s%s%s/partition",
			 partitions ? "" : folder, partitions ? "" : "/",
			 entry->d_name);
		if (partitions && sysfs_text(device, leaf, text, sizeof(text)))
			continue;
		snprintf(leaf, sizeof(leaf), "%s%s%s/dev",
			 partitions ? "" : folder, partitions ? "" : "/",
			 entry->d_name);
		if (!sysfs_text(device, leaf, text, sizeof(text)) &&
		    !sysfs_number(text, &other))
			ret = visit(other, context);
	}
	closedir(listing);
	return ret;
}

/* Undoes \040 and the like in place: always three digits, never a NUL. */
static void mounts_unescape(char *text)
{
	char *to = text;

	for (char *at = text; *at; at++) {
		unsigned value = 0;

		if (*at == '\\' && strspn(at + 1, "01234567") >= 3)
			value = (at[1] - '0') * 64u + (at[2] - '0') * 8u + (at[3] - '0');
		if (value && value <= UCHAR_MAX) {
			*to++ = (char)value;
			at += 3;
		} else {
			*to++ = *at;
		}
	}
	*to = '\0';
}

/* One line of mountinfo (proc(5)) taken apart in place. */
static int mounts_parse(char *line, struct mount_entry *entry)
{
	char *fields[6], *save, *tail = strstr(line, " - "), *options, *source;

	if (!tail)
		return -EBADMSG;
	*tail = '\0';
	for (size_t i = 0; i < 6; i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!fields[i])
			return -EBADMSG;
	}
	entry->id = strtoull(fields[0], NULL, 10);
	if (sysfs_number(fields[2], &entry->device))
		return -EBADMSG;
	mounts_unescape(fields[4]);
	entry->where = fields[4];
	/* The source may be empty: two spaces then. */
	tail += 3;
	entry->type = strsep(&tail, " ");
	entry->source = source = strsep(&tail, " ");
	options = strsep(&tail, " \n");
	if (!options || !*entry->type)
		return -EBADMSG;
	mounts_unescape(source);
	entry->options = options;
	entry->writable = strncmp(options, "rw", 2) == 0 &&
			  (options[2] == ',' || !options[2]);
	return 0;
}

int mounts_each(int (*visit)(const struct mount_entry *entry, void *context),
		void *context)
{
	CLEANUP_FCLOSE FILE *file = fopen("/proc/self/mountinfo", "re");
	CLEANUP_FREE char *line = NULL;
	struct mount_entry entry;
	size_t room = 0;
	int ret = 0;

	if (!file)
		return -errno;
	while (!ret && getline(&line, &room, file) >= 0)
		if (!mounts_parse(line, &entry))
			ret = visit(&entry, context);
	return ret;
}

struct mounts_search {
	uint32_t device;
	char *where;
	size_t room;
	bool writable, found;
};

static int mounts_match(const struct mount_entry *entry, void *context)
{
	struct mounts_search *search = context;
	struct stat st;

	/* btrfs mounts under an anonymous number; its source tells the device. */
	if (entry->device != search->device &&
	    (DEVICE_MAJOR(entry->device) != 0 || entry->source[0] != '/' ||
	     stat(entry->source, &st) < 0 || !S_ISBLK(st.st_mode) ||
	     st.st_rdev != device_rdev(search->device)))
		return 0;
	if (!search->found || entry->writable)
		snprintf(search->where, search->room, "mounted on %s (%s, %s)",
			 entry->where, entry->type,
			 entry->writable ? "rw" : "ro");
	search->found = true;
	search->writable |= entry->writable;
	return 0;
}

/* Is the device a member of a mounted btrfs of several devices? */
static bool mounts_in_btrfs(uint32_t device)
{
	char name[256], path[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *listing;

	if (sysfs_name(device, name, sizeof(name)))
		return false;
	listing = opendir("/sys/fs/btrfs");
	if (!listing)
		return false;
	while (!found && (entry = readdir(listing))) {
		snprintf(path, sizeof(path), "/sys/fs/btrfs/%s/devices/%s",
			 entry->d_name, name);
		found = entry->d_name[0] != '.' && access(path, F_OK) == 0;
	}
	closedir(listing);
	return found;
}

bool mounts_find(uint32_t device, char *where, size_t room, bool *writable)
{
	struct mounts_search search = { device, where, room, false, false };

	mounts_each(mounts_match, &search);
	if (!search.found && mounts_in_btrfs(device)) {
		snprintf(where, room, "part of a mounted btrfs");
		search.found = search.writable = true;
	}
	*writable = search.writable;
	return search.found;
}
