/*
 * Writing to a target, and reading it back.
 *
 * Short runs go through the page cache: the cache merges them and writes them back in
 * order, which for single blocks is several times quicker than O_DIRECT. They are left
 * there until the final fsync, as pushing them out in between makes the writers wait
 * and takes longer in all.
 *
 * Long runs go to a device with O_DIRECT: the pages of a volume's worth of cache
 * need not be found, zeroed and thrown away, and what else is cached stays. Runs are
 * whole blocks that do not overlap, so the two ways never meet in a page. In a regular
 * file direct writes into holes wait for one another; there the cache takes long runs
 * too, and their write-back starts at once.
 */
#include "agent/restore/restore_private.h"

#include "agent/base/file.h"
#include "agent/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define LONG_RUN_BYTES (64u << 10)

bool target_takes_direct(const struct restore_target *target, const uint8_t *data,
			 size_t length)
{
	return target->direct_fd >= 0 && !target->cached && length >= LONG_RUN_BYTES &&
	       length % BLOCK_BYTES == 0 && (uintptr_t)data % BLOCK_BYTES == 0;
}

int target_write(struct restore_target *target, uint64_t offset, const uint8_t *data,
		 size_t length, struct error *err)
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
	/* Of who has no claim the kernel wants that nobody's page there is dirty. */
	int fd = target->direct_fd >= 0 ? target->direct_fd : target->fd;

	atomic_store(&target->touched, true);
	for (int i = 0; i < 2; i++) {
		int ret;

		if (atomic_load(refused[i]))
			continue;
		do {
			ret = fallocate(fd, modes[i], (off_t)offset,
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

size_t target_room(const struct restore_target *target, uint64_t offset, size_t length)
{
	uint64_t room = offset < target->bytes ? target->bytes - offset : 0;

	return target->data_only && target->is_device && room < length ? (size_t)room : length;
}

int target_put(struct restore_target *target, uint64_t offset,
	       const uint8_t *data, size_t length, uint8_t *scratch,
	       uint64_t *written, struct error *err)
{
	int ret;

	length = target_room(target, offset, length);
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

int target_read_medium(struct restore_target *target, uint64_t offset, uint8_t *buffer,
		       size_t length)
{
	int ret = -EINVAL;

	if (target->direct_fd >= 0 && length % BLOCK_BYTES == 0)
		ret = file_pread_all(target->direct_fd, buffer, length, offset);
	return ret == -EINVAL ? file_pread_all(target->fd, buffer, length, offset) : ret;
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
