/*
 * The pin folder: one program, pinned by its link, and its maps. The link is
 * pinned last and unlinked first, so a folder without it is what a killed loader
 * left, whatever else lies there. All changes are made under the folder's lock.
 */
#include "bpf/tracker_private.h"

#include "agent/base/cleanup.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BPFFS "/sys/fs/bpf"
#define LOCK_TRIES 3000			/* of 10 ms */
#define DETACH_TRIES 2000		/* of 1 ms */

static char pin_folder[PATH_MAX - NAME_MAX] = TRACKER_PIN_FOLDER;

void tracker_set_pin_folder(const char *folder)
{
	snprintf(pin_folder, sizeof(pin_folder), "%s",
		 folder ? folder : TRACKER_PIN_FOLDER);
}

static void pause_ms(long ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&pause, NULL);
}

int pin_path(const char *name, char *path, size_t room)
{
	int length = snprintf(path, room, "%s/%s", pin_folder, name);

	return length < 0 || (size_t)length >= room ? -ENAMETOOLONG : 0;
}

static bool bpffs_is_mounted(void)
{
	struct statfs facts;

	return !statfs(BPFFS, &facts) && facts.f_type == BPF_FS_MAGIC;
}

/* flock with an end: whoever holds it may be stopped. */
static int lock_wait(int fd)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		pause_ms(10);
	}
	return -ETIMEDOUT;
}

/*
 * Under a lock on the mount point: a second bpffs over the first would hide what
 * another process has just pinned. Whoever opened the folder before the first
 * mount waits for the lock and then finds it mounted.
 */
int pin_mount(struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	int ret;

	if (bpffs_is_mounted())
		return 0;
	fd = open(BPFFS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "cannot open " BPFFS " to mount "
				 "bpffs there: %s; the kernel needs BPF and sysfs "
				 "must be mounted", error_text(errno));
	ret = lock_wait(fd);
	if (ret)
		return error_set(err, ret, "cannot lock " BPFFS
				 " to mount bpffs there: %s", error_text(ret));
	if (!bpffs_is_mounted() &&
	    mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "mode=0700") < 0)
		return error_set(err, -errno,
				 "cannot mount bpffs on " BPFFS ": %s",
				 error_text(errno));
	return 0;
}

/* Is the folder behind `fd` still the one at the path? A remove unlinks it. */
static bool folder_is_current(int fd)
{
	struct stat held, named;

	return !fstat(fd, &held) && !stat(pin_folder, &named) &&
	       held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

int pin_lock(bool create, int *fd, struct error *err)
{
	*fd = -1;
	for (;;) {
		CLEANUP_CLOSE int folder = -1;
		int ret;

		if (create && mkdir(pin_folder, 0700) < 0 && errno != EEXIST)
			return error_set(err, -errno, "cannot make folder %s: %s",
					 pin_folder, error_text(errno));
		folder = open(pin_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (folder < 0 && errno == ENOENT && create)
			continue;	/* removed in between */
		if (folder < 0)
			return error_set(err, -errno,
					 errno == ENOENT ?
					 "no tracker is loaded (%s: %s)" :
					 "cannot open %s: %s",
					 pin_folder, error_text(errno));
		ret = lock_wait(folder);
		if (ret)
			return error_set(err, ret, "cannot lock %s: %s",
					 pin_folder, error_text(ret));
		if (folder_is_current(folder)) {
			*fd = STEAL_FD(folder);
			return 0;
		}
	}
}

int pin_link_ids(uint32_t *link_id, uint32_t *program_id)
{
	CLEANUP_CLOSE int fd = -1;
	struct bpf_link_info info = { 0 };
	__u32 length = sizeof(info);
	char path[PATH_MAX];
	int ret = pin_path("link", path, sizeof(path));

	if (ret)
		return ret;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		return -errno;
	*link_id = info.id;
	*program_id = info.prog_id;
	return 0;
}

static int pin_unlink(const char *name, struct error *err)
{
	char path[PATH_MAX];
	int ret = pin_path(name, path, sizeof(path));

	if (!ret && unlink(path) < 0 && errno != ENOENT)
		ret = -errno;
	return ret ? error_set(err, ret, "cannot remove %s/%s: %s", pin_folder,
			       name, error_text(ret)) : 0;
}

/* The kernel detaches an unlinked link a moment later; waits for that. */
static void detach_wait(uint32_t link_id)
{
	for (int i = 0; i < DETACH_TRIES; i++) {
		int fd = bpf_link_get_fd_by_id(link_id);

		if (fd < 0)
			return;
		close(fd);
		pause_ms(1);
	}
}

/* Everything in the folder is ours, also what another version pinned. */
int pin_clear(struct error *err)
{
	struct dirent *entry;
	DIR *folder;
	int ret = pin_unlink("link", err);

	if (ret)
		return ret;
	folder = opendir(pin_folder);
	if (!folder)
		return error_set(err, -errno, "cannot read folder %s: %s",
				 pin_folder, error_text(errno));
	while (!ret && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			ret = pin_unlink(entry->d_name, err);
	closedir(folder);
	return ret;
}

int pin_remove_all(struct error *err)
{
	uint32_t link_id = 0, program_id;
	bool linked = !pin_link_ids(&link_id, &program_id);
	int ret = pin_clear(err);

	if (ret)
		return ret;
	if (rmdir(pin_folder) < 0)
		return error_set(err, -errno, "cannot remove folder %s: %s",
				 pin_folder, error_text(errno));
	if (linked)
		detach_wait(link_id);
	return 0;
}

int tracker_remove(struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	struct error locking = ERROR_INIT;
	int ret = pin_lock(false, &lock, &locking);

	if (ret == -ENOENT)
		return 0;		/* *err stays as it was */
	if (ret)
		*err = locking;
	return ret ? ret : pin_remove_all(err);
}
