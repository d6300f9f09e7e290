#include "agent/base/file.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int file_pread_all(int fd, void *buffer, size_t length, uint64_t offset)
{
	uint8_t *at = buffer;

	while (length) {
		ssize_t n = pread(fd, at, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		at += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

int file_pwrite_all(int fd, const void *buffer, size_t length, uint64_t offset)
{
	const uint8_t *at = buffer;

	while (length) {
		ssize_t n = pwrite(fd, at, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

int file_write_all(int fd, const void *buffer, size_t length)
{
	const uint8_t *at = buffer;

	while (length) {
		ssize_t n = write(fd, at, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

int file_read(const char *path, size_t limit_bytes, char **data, size_t *length)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *buffer = NULL;
	size_t used = 0, room = 0;

	*data = NULL;
	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		if (used + 1 >= room) {
			char *bigger;

			room = room ? room * 2 : 4096;
			bigger = realloc(buffer, room);
			if (!bigger)
				return -ENOMEM;
			buffer = bigger;
		}
		n = read(fd, buffer + used, room - used - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
		if (used > limit_bytes)
			return -EFBIG;
	}
	buffer[used] = '\0';
	*data = STEAL(buffer);
	if (length)
		*length = used;
	return 0;
}

int file_sync_parent(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_CLOSE int fd = -1;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

/*
 * Gives `temporary` the name `path` unless that is taken. File systems that lack
 * one way have the other: NFS does not know the flag, FAT no links.
 */
static int file_rename_new(const char *temporary, const char *path)
{
	if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(temporary, path) < 0)
		return -errno;
	unlink(temporary);
	return 0;
}

static int file_publish(const char *path, const void *data, size_t length,
			mode_t mode, bool replace)
{
	CLEANUP_FREE char *temporary = NULL;
	CLEANUP_CLOSE int fd = -1;
	int ret;

	if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
		temporary = NULL;
		return -ENOMEM;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = FAULT("file.write") ?: file_write_all(fd, data, length);
	if (!ret && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		ret = -errno;
	if (!ret)
		ret = FAULT("file.rename");
	if (!ret && !replace)
		ret = file_rename_new(temporary, path);
	else if (!ret && rename(temporary, path) < 0)
		ret = -errno;
	if (ret) {
		unlink(temporary);
		return ret;
	}
	return FAULT("file.sync-folder") ?: file_sync_parent(path);
}

int file_replace(const char *path, const void *data, size_t length, mode_t mode)
{
	return file_publish(path, data, length, mode, true);
}

int file_create(const char *path, const void *data, size_t length, mode_t mode)
{
	return file_publish(path, data, length, mode, false);
}

/* NAME.XXXXXX, as file_publish makes them. */
static bool file_is_temporary(const char *entry, const char *name)
{
	size_t length = strlen(name);

	return strncmp(entry, name, length) == 0 && entry[length] == '.' &&
	       strlen(entry + length + 1) == 6 &&
	       strspn(entry + length + 1, "abcdefghijklmnopqrstuvwxyz"
		      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == 6;
}

static int file_sweep_entry(int folder_fd, const char *entry, time_t until)
{
	struct stat st;

	if (fstatat(folder_fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode) || st.st_mtime > until)
		return 0;
	if (unlinkat(folder_fd, entry, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return 1;
}

int file_sweep(const char *path, unsigned age_seconds)
{
	CLEANUP_FREE char *copy = strdup(path), *again = strdup(path);
	time_t until = time(NULL) - (time_t)age_seconds;
	const struct dirent *entry;
	int ret = 0, removed = 0;
	DIR *folder;

	if (!copy || !again)
		return -ENOMEM;
	folder = opendir(dirname(copy));
	if (!folder)
		return errno == ENOENT ? 0 : -errno;
	while (ret >= 0 && (entry = readdir(folder))) {
		if (!file_is_temporary(entry->d_name, basename(again)))
			continue;
		ret = file_sweep_entry(dirfd(folder), entry->d_name, until);
		removed += ret > 0;
	}
	closedir(folder);
	return ret < 0 ? ret : removed;
}

static int file_make_folder(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	/* A durable file in a folder that a crash takes away would be none. */
	return file_sync_parent(path);
}

int file_make_folders(const char *path, mode_t mode)
{
	CLEANUP_FREE char *copy = strdup(path);
	struct stat st;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	if (!*copy)
		return -ENOENT;
	for (char *at = copy + 1; !ret && *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		ret = file_make_folder(copy, mode);
		*at = '/';
	}
	if (!ret)
		ret = file_make_folder(copy, mode);
	if (ret)
		return ret;
	if (stat(copy, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int file_remove(const char *path)
{
	if (unlink(path) < 0)
		return errno == ENOENT ? 0 : -errno;
	return file_sync_parent(path);
}
