/*
 * Where a restore goes: a block device nobody else uses, or a regular file.
 *
 * Short runs go through the page cache. The ranges of an incremental are small and
 * scattered; the cache merges them and writes them back in order, which for
 * single blocks is several times quicker than O_DIRECT. They are left there until
 * the final fsync, as pushing them out in between makes the writers wait and takes
 * longer in all.
 *
 * Long runs go to a device with O_DIRECT: the pages of a volume's worth of cache
 * need not be found, zeroed and thrown away, and what else is cached stays. Runs are
 * whole blocks that do not overlap, so the two ways never meet in a page. In a regular
 * file direct writes into holes wait for one another; there the cache takes long runs
 * too, and their write-back starts at once.
 */
#include "agent/restore/restore_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/memory.h"
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

#define LONG_RUN_BYTES (256u << 10)

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
	/* The kernel's own claim: nobody can mount or stack on it until it is closed. */
	target->fd = open(target->path, O_RDWR | O_EXCL | O_CLOEXEC);
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
	/* Beside the claim above, not instead of it; where it is refused, the cache does. */
	target->direct_fd = open(target->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
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
	if (st.st_size && !options->force && !options->in_place)
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
	if (target->in_place && (uint64_t)st.st_size == bytes)
		return 0;
	atomic_store(&target->touched, true);
	if ((!target->in_place && ftruncate(target->fd, 0) < 0) ||
	    ftruncate(target->fd, (off_t)bytes) < 0)
		return error_set(err, -errno, "giving %s its size of %" PRIu64
				 " bytes: %s", target->path, bytes, error_text(errno));
	return 0;
}

bool target_needs_holes(const struct restore_target *target)
{
	return (target->is_device && !target->data_only) || target->in_place;
}

/* ---- writing ----------------------------------------------------------- */

static bool target_takes_direct(const struct restore_target *target,
				const uint8_t *data, size_t length)
{
	return target->direct_fd >= 0 && length >= LONG_RUN_BYTES &&
	       length % BLOCK_BYTES == 0 && (uintptr_t)data % BLOCK_BYTES == 0;
}

static int target_write(struct restore_target *target, uint64_t offset,
			const uint8_t *data, size_t length, struct error *err)
{
	int ret = -EINVAL;

	atomic_store(&target->touched, true);
	if (target_takes_direct(target, data, length))
		ret = file_pwrite_all(target->direct_fd, data, length, offset);
	/* -EINVAL: the device wants another alignment than blocks of ours have. */
	if (ret == -EINVAL)
		ret = file_pwrite_all(target->fd, data, length, offset);
	if (ret)
		return error_set(err, ret, "writing %zu bytes at %" PRIu64 " of %s: %s",
				 length, offset, target->path, error_text(ret));
	if (!target->is_device && length >= LONG_RUN_BYTES) /* a hint: fsync tells what fails */
		sync_file_range(target->fd, (off_t)offset, (off_t)length,
				SYNC_FILE_RANGE_WRITE);
	return 0;
}

static int target_write_zeros(struct restore_target *target, uint64_t offset,
			      uint64_t length, struct error *err)
{
	static const uint8_t zeros[1 << 20] __attribute__((aligned(BLOCK_BYTES)));
	int ret = 0;

	while (!ret && length) {
		size_t n = length < sizeof(zeros) ? length : sizeof(zeros);

		ret = target_write(target, offset, zeros, n, err);
		offset += n;
		length -= n;
	}
	return ret;
}

/*
 * Zeroes a range without sending zeros if the medium can. On a block device
 * PUNCH_HOLE is "write zeroes, and you may unmap": unlike a discard it fails
 * where zeros are not guaranteed. A range not aligned to the device's sectors is
 * refused too (-EINVAL); then, as on old media, zeros are written.
 */
static int target_clear(struct restore_target *target, uint64_t offset,
			uint64_t length, struct error *err)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	atomic_bool *refused[] = { &target->cannot_punch, &target->cannot_zero };

	atomic_store(&target->touched, true);
	for (int i = 0; i < 2; i++) {
		int ret;

		if (atomic_load(refused[i]))
			continue;
		do {
			ret = fallocate(target->fd, modes[i], (off_t)offset,
					(off_t)length);
		} while (ret < 0 && errno == EINTR);
		if (!ret)
			return 0;
		if (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV)
			atomic_store(refused[i], true);
		else if (errno != EINVAL)
			return error_set(err, -errno, "clearing %" PRIu64 " bytes at %"
					 PRIu64 " of %s: %s", length, offset,
					 target->path, error_text(errno));
	}
	return target_write_zeros(target, offset, length, err);
}

static int target_put_run(struct restore_target *target, uint64_t offset,
			  const uint8_t *data, size_t length, uint64_t *written,
			  struct error *err)
{
	*written += length;
	return data ? target_write(target, offset, data, length, err) :
		      target_clear(target, offset, length, err);
}

static bool block_differs(const uint8_t *data, const uint8_t *there, size_t length)
{
	return data ? memcmp(data, there, length) != 0 :
		      !memory_is_zero(there, length);
}

/* Writes runs of neighbouring blocks that differ from what was read. */
static int target_put_differing(struct restore_target *target, uint64_t offset,
				const uint8_t *data, size_t length,
				const uint8_t *there, uint64_t *written,
				struct error *err)
{
	size_t start = 0, at = 0;
	int ret = 0;

	while (!ret && at < length) {
		size_t n = length - at < BLOCK_BYTES ? length - at : BLOCK_BYTES;
		bool differs = block_differs(data ? data + at : NULL, there + at, n);

		if (!differs && start < at)
			ret = target_put_run(target, offset + start,
					     data ? data + start : NULL, at - start,
					     written, err);
		at += n;
		if (!differs)
			start = at;
	}
	if (!ret && start < length)
		ret = target_put_run(target, offset + start,
				     data ? data + start : NULL, length - start,
				     written, err);
	return ret;
}

int target_put(struct restore_target *target, uint64_t offset,
	       const uint8_t *data, size_t length, uint8_t *scratch,
	       uint64_t *written, struct error *err)
{
	int ret;

	if (target->data_only && target->is_device) {
		if (offset >= target->bytes)
			return 0;
		if (length > target->bytes - offset)
			length = (size_t)(target->bytes - offset);
	}
	if (!length)
		return 0;
	if (!target->in_place)
		return target_put_run(target, offset, data, length, written, err);
	ret = file_pread_all(target->fd, scratch, length, offset);
	if (ret == -EIO)	/* unreadable here: writing may cure the sectors */
		return target_put_run(target, offset, data, length, written, err);
	if (ret)
		return error_set(err, ret, "reading %zu bytes at %" PRIu64 " of %s: %s",
				 length, offset, target->path, error_text(ret));
	return target_put_differing(target, offset, data, length, scratch, written,
				    err);
}

/* ---- reading back ------------------------------------------------------ */

int target_read(struct restore_target *target, uint64_t offset, void *buffer,
		size_t length, struct error *err)
{
	int ret = file_pread_all(target->fd, buffer, length, offset);

	return ret ? error_set(err, ret, "reading back %zu bytes at %" PRIu64
			       " of %s: %s", length, offset, target->path,
			       error_text(ret)) : 0;
}

uint64_t target_next_data(struct restore_target *target, uint64_t offset,
			  uint64_t limit)
{
	off_t next;

	if (target->is_device)
		return offset;
	next = lseek(target->fd, (off_t)offset, SEEK_DATA);
	if (next < 0)
		return errno == ENXIO ? limit : offset;
	return (uint64_t)next < limit ? (uint64_t)next : limit;
}

int target_sync(struct restore_target *target, struct error *err)
{
	if (fsync(target->fd) < 0)
		return error_set(err, -errno, "making %s durable: %s; what was "
				 "written may be lost", target->path,
				 error_text(errno));
	return 0;
}

void target_drop_cache(struct restore_target *target)
{
	posix_fadvise(target->fd, 0, 0, POSIX_FADV_DONTNEED);
}
