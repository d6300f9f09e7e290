/* Where a restore goes: a block device nobody else uses, or a regular file. */
#include "agent/restore/restore_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/volume/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define CLAIM_TRIES 20
#define CLAIM_RETRY_NS 50000000

static void target_free(struct restore_target *target)
{
	if (!target)
		return;
	if (target->direct_fd >= 0)
		close(target->direct_fd);
	if (target->fd >= 0)
		close(target->fd);
	free(target->path);
	free(target);
}

static void target_cleanup(struct restore_target **target)
{
	target_free(*target);
}

/* ---- opening ----------------------------------------------------------- */

/*
 * The kernel's own claim: nobody can mount or stack on it until it is closed. It is on
 * the descriptor that writes in flight hold on to: those of a restore that was killed
 * may take a moment to end, and would otherwise come in among the next one's. Where
 * O_DIRECT is refused, the page cache does.
 */
static void target_claim(struct restore_target *target)
{
	static const struct timespec moment = { 0, CLAIM_RETRY_NS };

	for (int tries = 0; tries < CLAIM_TRIES; tries++) {
		target->direct_fd = open(target->path, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
		if (target->direct_fd >= 0 || errno != EBUSY)
			break;
		nanosleep(&moment, NULL);
	}
	if (target->direct_fd >= 0)
		target->fd = open(target->path, O_RDWR | O_CLOEXEC);
	else if (errno == EINVAL)
		target->fd = open(target->path, O_RDWR | O_EXCL | O_CLOEXEC);
}

static int target_open_device(struct restore_target *target,
			      const struct stat *st, uint64_t bytes,
			      struct error *err)
{
	uint32_t device = (uint32_t)(major(st->st_rdev) << 20 | minor(st->st_rdev));
	uint64_t have;
	char where[512];
	int read_only;
	int ret = device_usage(device, where, sizeof(where), err);

	if (ret)
		return ret;
	if (where[0])
		return error_set(err, -EBUSY, "restoring to %s: it is in use (%s); "
				 "unmount or release it first", target->path, where);
	target_claim(target);
	if (target->fd < 0 && errno == EBUSY)
		return error_set(err, -EBUSY, "restoring to %s: it, or a partition of "
				 "it, is in use; unmount or release it first",
				 target->path);
	if (target->fd < 0)
		return error_set(err, -errno, "opening %s for writing: %s",
				 target->path, error_text(errno));
	/* The kernel opens a read-only device for writing, and then fails the writes. */
	if (ioctl(target->fd, BLKROGET, &read_only) == 0 && read_only)
		return error_set(err, -EROFS, "restoring to %s: the device is "
				 "read-only", target->path);
	if (ioctl(target->fd, BLKGETSIZE64, &have) < 0)
		return error_set(err, -errno, "asking the size of %s: %s",
				 target->path, error_text(errno));
	target->bytes = have;
	if (have < bytes && !target->data_only)
		return error_set(err, -ENOSPC, "restoring to %s: it has %" PRIu64
				 " bytes, the volume %" PRIu64 "; choose a target at "
				 "least as large", target->path, have, bytes);
	target->is_device = true;
	return 0;
}

/*
 * Two restores into one file would leave a mixture that both call a success (a
 * device is claimed with O_EXCL). What is not ours stays as it is, so this comes
 * first; a file system without locks is no reason to refuse.
 */
static int target_lock_file(struct restore_target *target, struct error *err)
{
	if (flock(target->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return error_set(err, -EBUSY, "restoring to %s: another program has locked the "
			 "file, a second restore perhaps; wait for it to end",
			 target->path);
}

/* What the path names is looked at once it is open and locked, not before. */
static int target_open_file(struct restore_target *target,
			    const struct restore_target_options *options,
			    struct error *err)
{
	struct stat st;
	int ret;

	target->fd = open(target->path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (target->fd < 0)
		return error_set(err, -errno, "opening %s for writing: %s",
				 target->path, error_text(errno));
	ret = target_lock_file(target, err);
	if (ret)
		return ret;
	if (fstat(target->fd, &st) < 0)
		return error_set(err, -errno, "looking at %s: %s", target->path,
				 error_text(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EBUSY, "restoring to %s: something else took its "
				 "place just now", target->path);
	target->resumes = st.st_size && options->journal && options->point &&
			  journal_is_about(options->journal, options->point, st.st_dev,
					   st.st_ino);
	if (st.st_size && !options->force && !options->in_place && !target->resumes)
		return error_set(err, -EEXIST, "restoring to %s: the file exists and "
				 "is not empty; give --force to replace it, or "
				 "--in-place to write only what differs",
				 target->path);
	return 0;
}

static int target_create_file(struct restore_target *target, struct error *err)
{
	target->fd = open(target->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (target->fd < 0)
		return error_set(err, -errno, "making %s: %s", target->path,
				 error_text(errno));
	target->created = true;
	return target_lock_file(target, err);
}

int restore_target_open(const char *path,
			const struct restore_target_options *options,
			struct restore_target **target, struct error *err)
{
	CLEANUP(target_cleanup) struct restore_target *new = calloc(1, sizeof(*new));
	struct stat st;
	int ret;

	if (new)
		new->fd = new->direct_fd = -1;
	if (!new || !(new->path = strdup(path)))
		return error_set(err, -ENOMEM, "opening %s: out of memory", path);
	new->in_place = options->in_place;
	new->cached = options->cached;
	new->data_only = options->data_only;
	if (stat(path, &st) == 0) {
		if (S_ISBLK(st.st_mode))
			ret = target_open_device(new, &st, options->bytes, err);
		else if (S_ISREG(st.st_mode))
			ret = target_open_file(new, options, err);
		else
			ret = error_set(err, -EINVAL, "restoring to %s: it is neither "
					"a block device nor a regular file", path);
	} else if (errno == ENOENT) {
		ret = target_create_file(new, err);
	} else {
		ret = error_set(err, -errno, "looking at %s: %s", path,
				error_text(errno));
	}
	if (ret)
		return ret;
	*target = STEAL(new);
	return 0;
}

int restore_target_close(struct restore_target *target, struct error *err)
{
	int ret;

	if (!target)
		return 0;
	ret = target_sync(target, err);
	/* A file that we made and never filled would only look like a restore. */
	if (target->created && !atomic_load(&target->touched))
		unlink(target->path);
	if (close(STEAL_FD(target->fd)) < 0 && !ret)
		ret = error_set(err, -errno, "closing %s: %s", target->path,
				error_text(errno));
	if (!ret && target->created) {
		ret = file_sync_parent(target->path);
		if (ret)
			error_set(err, ret, "making the folder of %s durable: %s",
				  target->path, error_text(ret));
	}
	target_free(target);
	return ret;
}

int target_prepare(struct restore_target *target, uint64_t bytes,
		   struct error *err)
{
	struct stat st;

	if (target->is_device)
		return 0;
	if (fstat(target->fd, &st) < 0)
		return error_set(err, -errno, "looking at %s: %s", target->path,
				 error_text(errno));
	if ((target->in_place || target->resumes) && (uint64_t)st.st_size == bytes)
		return 0;
	atomic_store(&target->touched, true);
	if ((!target->in_place && !target->resumes && ftruncate(target->fd, 0) < 0) ||
	    ftruncate(target->fd, (off_t)bytes) < 0)
		return error_set(err, -errno, "giving %s its size of %" PRIu64
				 " bytes: %s", target->path, bytes, error_text(errno));
	return 0;
}

bool target_needs_holes(const struct restore_target *target)
{
	return (target->is_device && !target->data_only) || target->in_place || target->resumes;
}

bool target_is_device(const struct restore_target *target)
{
	return target->is_device;
}

int target_length(const struct restore_target *target, uint64_t *bytes, struct error *err)
{
	struct stat st = { .st_size = 0 };

	if (!target->is_device && fstat(target->fd, &st) < 0)
		return error_set(err, -errno, "looking at %s: %s", target->path,
				 error_text(errno));
	*bytes = (uint64_t)st.st_size;
	return 0;
}
