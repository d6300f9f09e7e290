/*
 * A point mounted for looking into: nbdkit serves it over a throw-away overlay, so that a
 * file system which was not at rest may replay its journal; nbdfuse shows that as a file;
 * a loop device makes it a disk. /dev/nbd would be shorter, but is not everywhere, and one
 * whose server has died hangs.
 *
 * /run/clawback/mounts/ID/, ID by the folder: lock (held while it lives), folder (its path),
 * socket, overlay, overlay.present, nbd/volume, diskseq (of the loop device), log. Killed, its helpers end by
 * themselves; the mount and these files stay, until the next one there, or an umount.
 */
#include "agent/serve/serve_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_NS (30 * UINT64_C(1000000000))
#define FUSE_PATIENCE_NS (2 * UINT64_C(1000000000))
#define SETTINGS_MAX 128

struct mounted {
	char place[64];			/* the folder of its own */
	char folder[PATH_MAX];
	int lock_fd;
	struct server *server;
	pid_t fuse_pid;
	dev_t device;			/* what is mounted; 0: nothing yet */
};

/* ---- making it -------------------------------------------------------------------------- */

int mounted_log(const char *folder, struct error *err)
{
	char place[64], path[96];
	int fd, ret;

	place_of(folder, place);
	ret = file_make_folders(place, 0700);
	place_path(place, "log", path);
	fd = ret ? -1 : open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return fd >= 0 ? fd : error_set(err, ret ? ret : -errno, "making %s: %s", path,
					error_text(ret ? ret : errno));
}

static int mounted_claim(struct mounted *mounted, struct error *err)
{
	char path[96];
	int ret;

	place_of(mounted->folder, mounted->place);
	place_path(mounted->place, "nbd", path);
	ret = file_make_folders(path, 0700);
	if (ret)
		return error_set(err, ret, "making %s: %s", path, error_text(ret));
	ret = place_lock(mounted->place, &mounted->lock_fd, err);
	if (ret == -EBUSY)
		return error_set(err, ret, "a clawback mount is at %s already", mounted->folder);
	if (!ret)
		ret = place_sweep(mounted->place, mounted->folder, err);
	if (ret)
		return ret;
	place_path(mounted->place, "nbd", path);
	while (!umount2(path, MNT_DETACH))
		;
	for (size_t i = 0; i < 2; i++) {
		place_path(mounted->place, i ? "overlay.present" : "overlay", path);
		unlink(path);
	}
	if (place_mounted(mounted->folder))
		return error_set(err, -EBUSY, "something is mounted at %s already", mounted->folder);
	return place_write(mounted->place, "folder", mounted->folder, err);
}

static int mounted_serve(struct mounted *mounted, const char *const *settings, struct error *err)
{
	const char *all[SETTINGS_MAX];
	char socket[96], target[128], present[128], path[96];
	struct server_options options = { .settings = all, .socket = socket };
	size_t count = 0;

	place_path(mounted->place, "socket", socket);
	place_path(mounted->place, "overlay", path);
	snprintf(target, sizeof(target), "target=%s", path);
	snprintf(present, sizeof(present), "present=%s.present", path);
	while (settings[count] && count < SETTINGS_MAX - 3) {
		all[count] = settings[count];
		count++;
	}
	all[count++] = target;
	all[count++] = present;
	all[count] = NULL;
	return server_start(&options, &mounted->server, err);
}

/* Its pid file is there once it serves. */
static int mounted_fuse(struct mounted *mounted, struct error *err)
{
	char pid_file[96], volume[96], socket[96];
	const char *command[] = { "nbdfuse", "-P", pid_file, volume, "--unix", socket, NULL };
	uint64_t limit = serve_now_ns() + PATIENCE_NS;
	int status, ret;

	place_path(mounted->place, "nbd.pid", pid_file);
	place_path(mounted->place, "nbd/volume", volume);
	place_path(mounted->place, "socket", socket);
	unlink(pid_file);
	ret = helper_start(command, &mounted->fuse_pid, err);
	while (!ret && access(pid_file, F_OK)) {
		if (waitpid(mounted->fuse_pid, &status, WNOHANG) > 0) {
			mounted->fuse_pid = 0;
			return helper_failed(command, status, "libnbd-bin", err);
		}
		ret = interrupt_check(err);
		if (!ret && serve_now_ns() > limit)
			ret = error_set(err, -ETIMEDOUT, "nbdfuse does not come up");
		usleep(10000);
	}
	return ret;
}

static int mounted_mount(struct mounted *mounted, const struct mount_options *options,
			 struct error *err)
{
	CLEANUP_FREE char *sequence = NULL;
	CLEANUP_CLOSE int loop = -1;
	struct stat st;
	char path[96], device[64], type[32], words[512];
	const char *command[] = { "mount", "-t", type, "-o", words, device, mounted->folder, NULL };
	int ret;

	place_path(mounted->place, "nbd/volume", path);
	ret = loop_open(path, device, &loop, err);
	if (!ret)
		ret = loop_type(loop, type, err);
	if (ret)
		return ret;
	ret = fstat(loop, &st) < 0 ? -errno : place_disk_sequence(st.st_rdev, &sequence);
	ret = ret ? error_set(err, ret, "looking at %s: %s", device, error_text(ret)) :
		    place_write(mounted->place, "diskseq", sequence, err);
	if (ret)
		return ret;
	/* The volume itself may be mounted here, too: XFS looks at its uuid. */
	snprintf(words, sizeof(words), "ro%s%s%s", !strcmp(type, "xfs") ? ",nouuid" : "",
		 options->options ? "," : "", options->options ? options->options : "");
	ret = helper_run(command, "mount", err);
	if (!ret)
		mounted->device = place_device(mounted->folder);
	return ret ? error_prefix(err, "mounting the %s on the volume at %s", type,
				  mounted->folder) : 0;
}

int mounted_start(const struct mount_options *options, struct mounted **started,
		  struct error *err)
{
	struct mounted *mounted = calloc(1, sizeof(*mounted));
	struct error ignored = ERROR_INIT;
	int ret;

	*started = NULL;
	if (!mounted)
		return error_set(err, -ENOMEM, "mounting: out of memory");
	mounted->lock_fd = -1;
	snprintf(mounted->folder, sizeof(mounted->folder), "%s", options->folder);
	ret = mounted_claim(mounted, err);
	if (!ret)
		ret = mounted_serve(mounted, options->settings, err);
	if (!ret)
		ret = mounted_fuse(mounted, err);
	if (!ret)
		ret = mounted_mount(mounted, options, err);
	if (ret)
		mounted_stop(mounted, &ignored);
	else
		*started = mounted;
	return ret;
}

/* ---- while it stands ------------------------------------------------------------------------ */

int mounted_wait(struct mounted *mounted, struct error *err)
{
	CLEANUP_CLOSE int mounts = open("/proc/self/mounts", O_RDONLY | O_CLOEXEC);
	struct server_event event;
	int status;

	while (!interrupt_requested() && place_mounted(mounted->folder) == mounted->device) {
		struct pollfd fds[] = {
			{ .fd = server_fd(mounted->server), .events = POLLIN },
			{ .fd = mounts, .events = POLLPRI },
		};
		int ret;

		if (poll(fds, 2, 1000) < 0 && errno != EINTR)
			return error_set(err, -errno, "watching %s: %s", mounted->folder,
					 error_text(errno));
		while (!(ret = server_event(mounted->server, &event, err)))
			;
		if (ret != -EAGAIN)
			return ret;
		if (waitpid(mounted->fuse_pid, &status, WNOHANG) > 0) {
			mounted->fuse_pid = 0;
			return error_set(err, -EPIPE, "nbdfuse ended: %s cannot be read any more",
					 mounted->folder);
		}
	}
	return 0;
}

/* ---- ending it --------------------------------------------------------------------------------- */

static void mounted_end_fuse(struct mounted *mounted)
{
	uint64_t start = serve_now_ns();
	char path[96];
	int tries = 0;

	if (mounted->fuse_pid <= 0)
		return;
	/*
	 * Lazily, as its file is in use until the loop device has gone; then it ends. That
	 * one stays as long as a mount of it is left in another namespace, which then reads
	 * nothing any more.
	 */
	place_path(mounted->place, "nbd", path);
	umount2(path, MNT_DETACH);
	while (!waitpid(mounted->fuse_pid, NULL, WNOHANG)) {
		uint64_t since = serve_now_ns() - start;

		if (since > FUSE_PATIENCE_NS && !tries++)
			kill(mounted->fuse_pid, SIGTERM);
		else if (since > PATIENCE_NS)
			kill(mounted->fuse_pid, SIGKILL);
		usleep(10000);
	}
	mounted->fuse_pid = 0;
}

int mounted_stop(struct mounted *mounted, struct error *err)
{
	int ret = 0;

	if (!mounted)
		return 0;
	if (mounted->device && place_mounted(mounted->folder) == mounted->device &&
	    umount2(mounted->folder, UMOUNT_NOFOLLOW) < 0) {
		if (errno == EBUSY && server_pid(mounted->server) > 0)
			return error_set(err, -EBUSY, "%s is in use: leave it first",
					 mounted->folder);
		umount2(mounted->folder, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	mounted_end_fuse(mounted);
	if (mounted->server)
		ret = server_stop(mounted->server, PATIENCE_NS, NULL, err);
	if (mounted->lock_fd >= 0) {
		place_remove(mounted->place);
		close(mounted->lock_fd);
	}
	free(mounted);
	return ret;
}

static int end_alive(const char *place, const char *folder, int *lock, struct error *err)
{
	uint64_t limit = serve_now_ns() + PATIENCE_NS;
	int ret = -EBUSY;

	if (place_is_ours(place, place_mounted(folder)) && umount2(folder, UMOUNT_NOFOLLOW) < 0)
		return error_set(err, -errno, "unmounting %s: %s", folder, error_text(errno));
	/* It sees that, and takes itself away. */
	while (!access(place, F_OK) && serve_now_ns() < limit) {
		ret = place_lock(place, lock, err);
		if (ret != -EBUSY)
			return ret == -ENOENT ? 0 : ret;
		usleep(20000);
	}
	return access(place, F_OK) ? 0 : error_set(err, -ETIMEDOUT, "the clawback mount at %s does "
						   "not end", folder);
}

int mounted_end(const char *folder, struct error *err)
{
	char place[64];
	int lock = -1, ret;

	place_of(folder, place);
	if (access(place, F_OK))
		return error_set(err, -ENOENT, "there is no clawback mount at %s", folder);
	ret = place_lock(place, &lock, err);
	if (ret == -EBUSY) {
		ret = end_alive(place, folder, &lock, err);
		if (ret || lock < 0)
			return ret;
	}
	if (!ret)
		ret = place_sweep(place, folder, err);
	if (!ret)
		place_remove(place);
	if (lock >= 0)
		close(lock);
	return ret;
}
