/*
 * Where the copy lies: a folder of the drill's own, locked as long as it lives, so that
 * what a dead one left is told from what another works with.
 */
#include "agent/drill/drill_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SCRATCH_PREFIX "clawback-drill-"
#define SCRATCH_FILE "volume"
#define SCRATCH_TRIES 5
/* What replaying a journal and a command that writes need besides. */
#define SCRATCH_MARGIN_BYTES (16u << 20)

static void dir_close(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Nobody else makes such a folder; all that is ever in it is the one file. */
static void dead_remove(int parent_fd, const char *name)
{
	CLEANUP_CLOSE int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
				      O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() ||
	    (st.st_mode & 07777) != 0700 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	unlinkat(fd, SCRATCH_FILE, 0);
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0)
		log_note("removed what a drill left that did not end by itself: %s", name);
}

static void dead_sweep(const char *folder)
{
	CLEANUP(dir_close) DIR *dir = opendir(folder);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, SCRATCH_PREFIX, strlen(SCRATCH_PREFIX)) &&
		    strlen(entry->d_name) == strlen(SCRATCH_PREFIX) + 6)
			dead_remove(dirfd(dir), entry->d_name);
}

static int folder_check(const char *folder, struct error *err)
{
	struct stat st;

	if (stat(folder, &st) < 0)
		return error_set(err, -errno, "the drill's folder %s: %s", folder,
				 error_text(errno));
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "the drill's folder %s is no folder", folder);
	/* Where others may rename things, they could put another file in the copy's place. */
	if (st.st_mode & 022 && !(st.st_mode & S_ISVTX))
		return error_set(err, -EPERM, "refused the drill's folder %s: others may change "
				 "what is in it; chmod go-w", folder);
	return 0;
}

int scratch_room(const char *folder, uint64_t bytes, struct error *err)
{
	struct statvfs room;
	uint64_t have;

	if (folder_check(folder, err))
		return err->code;
	if (statvfs(folder, &room) < 0)
		return error_set(err, -errno, "asking for the space in %s: %s", folder,
				 error_text(errno));
	have = (uint64_t)room.f_bavail * room.f_frsize;
	if (have / 2 >= bytes || have >= bytes + SCRATCH_MARGIN_BYTES)
		return 0;
	return error_set(err, -ENOSPC, "a drill of this point needs %" PRIu64 " MiB in %s, and %"
			 PRIu64 " MiB are free there; free some, or name another folder",
			 (bytes + SCRATCH_MARGIN_BYTES) >> 20, folder, have >> 20);
}

/* -EAGAIN: a sweep of another drill took it for a dead one's, before it was locked. */
static int scratch_try(const char *folder, struct scratch *scratch)
{
	struct stat st;

	if (snprintf(scratch->folder, sizeof(scratch->folder), "%s/" SCRATCH_PREFIX "XXXXXX",
		     folder) >= PATH_MAX - 16)
		return -ENAMETOOLONG;
	if (!mkdtemp(scratch->folder))
		return -errno;
	scratch->lock_fd = open(scratch->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (scratch->lock_fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(scratch->lock_fd, LOCK_EX | LOCK_NB) == 0 &&
	    fstat(scratch->lock_fd, &st) == 0 && st.st_nlink)
		return 0;
	close(STEAL_FD(scratch->lock_fd));
	return -EAGAIN;
}

int scratch_make(const char *folder, struct scratch *scratch, struct error *err)
{
	int ret = folder_check(folder, err);

	scratch->lock_fd = -1;
	*scratch->folder = '\0';
	if (ret)
		return ret;
	dead_sweep(folder);
	ret = -EAGAIN;
	for (int i = 0; ret == -EAGAIN && i < SCRATCH_TRIES; i++)
		ret = scratch_try(folder, scratch);
	if (ret) {
		*scratch->folder = '\0';
		return error_set(err, ret, "cannot make a folder for the drill in %s: %s", folder,
				 error_text(ret));
	}
	snprintf(scratch->file, sizeof(scratch->file), "%.*s/" SCRATCH_FILE, PATH_MAX - 16,
		 scratch->folder);
	return 0;
}

int scratch_remove(struct scratch *scratch, struct error *err)
{
	int ret = 0;

	if (!*scratch->folder)
		return 0;
	if (unlink(scratch->file) < 0 && errno != ENOENT)
		ret = -errno;
	if (!ret && rmdir(scratch->folder) < 0)
		ret = -errno;
	cleanup_close(&scratch->lock_fd);
	scratch->lock_fd = -1;
	if (ret)
		return error_set(err, ret, "cannot remove the drill's copy %s: %s", scratch->folder,
				 error_text(ret));
	*scratch->folder = '\0';
	return 0;
}
