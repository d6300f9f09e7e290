/* The lock that makes a run the only one of its volume. */
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

/* "4711 backup" as the holder wrote it; a half-written one is just not told. */
static void lock_holder(int fd, char *holder, size_t room)
{
	ssize_t n = pread(fd, holder, room - 1, 0);

	holder[n > 0 ? n : 0] = '\0';
	holder[strcspn(holder, "\n")] = '\0';
	for (char *at = holder; *at; at++)
		if ((unsigned char)*at < ' ' || (unsigned char)*at > '~')
			*at = '?';
}

/* Nobody but the holder writes there: what has a temporary name was killed. */
static void lock_sweep(const char *state_folder, const char *name)
{
	static const char *const files[] = { "state.json", "pending", "handover", SLOT_FILE,
					     "held" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct error err = ERROR_INIT;
		int ret = volume_path(state_folder, name, files[i], path, &err);

		if (!ret)
			ret = file_sweep(path, 0);
		if (ret < 0)
			log_warning("cannot remove left-overs of %s: %s", path, error_text(ret));
	}
}

static int lock_take(int fd, const char *path, const char *name, struct error *err)
{
	char holder[128];

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return error_set(err, -errno, "cannot lock %s: %s", path, error_text(errno));
	lock_holder(fd, holder, sizeof(holder));
	return error_set_exit(err, EXIT_LOCKED, -EWOULDBLOCK,
			      "volume %s is in use by another run (process %s); wait for it to end",
			      name, holder[0] ? holder : "unknown");
}

int volume_lock(const char *state_folder, const char *name, const char *verb,
		int *lock_fd, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX], holder[128];
	int ret, length;

	*lock_fd = -1;
	ret = volume_path(state_folder, name, NULL, path, err);
	if (ret)
		return ret;
	ret = file_make_folders(path, 0700);
	if (ret)
		return error_set(err, ret, "cannot make the folder %s: %s", path,
				 error_text(ret));
	strcat(path, "/lock");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(err, -errno, "cannot open the lock %s: %s", path,
				 error_text(errno));
	ret = lock_take(fd, path, name, err);
	if (ret)
		return ret;
	/* For people; the lock itself is the descriptor. */
	length = snprintf(holder, sizeof(holder), "%d %s\n", (int)getpid(), verb);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, holder, (size_t)length, 0) != length)
		return error_set(err, -errno, "cannot write the lock %s: %s", path,
				 error_text(errno));
	lock_sweep(state_folder, name);
	*lock_fd = STEAL_FD(fd);
	return 0;
}

int volume_lock_read_only(const char *state_folder, const char *name, int *lock_fd,
			  struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, "lock", path, err);

	*lock_fd = -1;
	if (ret)
		return ret;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set(err, -errno, "cannot open the lock %s: %s", path,
				 error_text(errno));
	ret = lock_take(fd, path, name, err);
	if (!ret)
		*lock_fd = STEAL_FD(fd);
	return ret;
}
