/* Names of volumes and the lock that makes a run the only one of its volume. */
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

bool volume_name_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789._-";

	return name && name[0] && name[0] != '.' && name[0] != '-' &&
	       strlen(name) <= VOLUME_NAME_MAX &&
	       strspn(name, allowed) == strlen(name);
}

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
	static const char *const files[] = { "state.json", "pending", "handover", "held" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int ret;

		snprintf(path, sizeof(path), "%s/volumes/%s/%s", state_folder, name, files[i]);
		ret = file_sweep(path, 0);
		if (ret < 0)
			log_warning("cannot remove left-overs of %s: %s", path, error_text(ret));
	}
}

int volume_lock(const char *state_folder, const char *name, const char *verb,
		int *lock_fd, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX], holder[128];
	int ret, length;

	*lock_fd = -1;
	if (!volume_name_valid(name))
		return error_set(err, -EINVAL, "'%s' is no name for a volume", name);
	snprintf(path, sizeof(path), "%s/volumes/%s", state_folder, name);
	ret = file_make_folders(path, 0700);
	if (ret)
		return error_set(err, ret, "cannot make the folder %s: %s", path,
				 error_text(ret));
	snprintf(path, sizeof(path), "%s/volumes/%s/lock", state_folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(err, -errno, "cannot open the lock %s: %s", path,
				 error_text(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return error_set(err, -errno, "cannot lock %s: %s", path,
					 error_text(errno));
		lock_holder(fd, holder, sizeof(holder));
		return error_set_exit(err, EXIT_LOCKED, -EWOULDBLOCK,
				      "volume %s is in use by another run (process %s); wait for it to end",
				      name, holder[0] ? holder : "unknown");
	}
	/* For people; the lock itself is the descriptor. */
	length = snprintf(holder, sizeof(holder), "%d %s\n", (int)getpid(), verb);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, holder, (size_t)length, 0) != length)
		return error_set(err, -errno, "cannot write the lock %s: %s", path,
				 error_text(errno));
	lock_sweep(state_folder, name);
	*lock_fd = STEAL_FD(fd);
	return 0;
}
