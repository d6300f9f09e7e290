/*
 * Did what was read stay as it was? Of partitions the kernel's own count of sectors
 * written tells; tables, gaps and headers, whose devices are written to all the time
 * elsewhere, are small enough to be read again.
 */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"
#include "agent/crypto/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE ((size_t)1 << 20)
#define QUIET_MS 20
#define SETTLE_MS 5000		/* how long writes that are under way may take */

/* One range. */
struct watched {
	uint32_t device;		/* whose counters tell; 0: it is read again */
	bool mounted;
	size_t hold;			/* index of its file system, SIZE_MAX: none */
	struct device_writes before;
	uint8_t digest[CRYPTO_DIGEST_SIZE];
};

struct disk_watch {
	const struct device_facts *disk;
	int fd;
	struct hold *hold;
	char *paths[HOLD_MAX];		/* owned: mount points, to be frozen or settled */
	size_t path_count, count;
	struct watched items[];
};

/* ---- devices of ranges -------------------------------------------------------------- */

struct number_search { uint32_t number, device; };

static int number_match(uint32_t device, void *context)
{
	struct number_search *search = context;
	char number[32];

	if (device_attribute(device, "partition", number, sizeof(number)) ||
	    strtoul(number, NULL, 10) != search->number)
		return 0;
	search->device = device;
	return 1;
}

/* The disk itself where the kernel has no partitions. */
static uint32_t partition_device(const struct device_facts *disk, uint32_t number)
{
	struct number_search search = { number, disk->device };

	if (number)
		device_kin(disk->device, "partitions", number_match, &search);
	return search.device;
}

static int item_prepare(struct disk_watch *watch, const struct disk_range *range,
			struct watched *item)
{
	struct device_mount mount;
	struct stat st;

	item->hold = SIZE_MAX;
	if (range->what != DISK_PARTITION)
		return 0;
	item->device = partition_device(watch->disk, range->partition);
	item->mounted = device_mounted(item->device, &mount) && !mount.swap;
	if (!item->mounted || !mount.writable || watch->path_count == HOLD_MAX)
		return 0;
	/* Another file system may be mounted over it by now. */
	if (stat(mount.where, &st) < 0 || tracker_device(st.st_dev) != item->device)
		return 0;
	watch->paths[watch->path_count] = strdup(mount.where);
	if (!watch->paths[watch->path_count])
		return -ENOMEM;
	item->hold = watch->path_count++;
	return 0;
}

/* ---- looking ----------------------------------------------------------------------- */

static int range_digest(int fd, const struct disk_range *range, uint8_t *digest,
			struct error *err)
{
	CLEANUP_FREE void *buffer = NULL;
	struct digest *sum = digest_new();
	int ret = 0;

	if (!sum || posix_memalign(&buffer, 4096, PIECE)) {
		buffer = NULL;
		digest_free(sum);
		return error_set(err, -ENOMEM, "reading a disk: out of memory");
	}
	for (uint64_t at = 0; !ret && at < range->bytes; at += PIECE) {
		size_t n = range->bytes - at < PIECE ? (size_t)(range->bytes - at) : PIECE;

		ret = file_pread_all(fd, buffer, n, range->offset + at);
		if (!ret)
			digest_update(sum, buffer, n);
		else
			error_set(err, ret, "reading a disk at %llu: %s",
				  (unsigned long long)(range->offset + at), error_text(ret));
		if (!ret)
			ret = interrupt_check(err);
	}
	if (ret)
		digest_free(sum);
	else
		digest_finish(sum, digest);
	return ret;
}

/* Others' pages of a device that still wait to be written. */
static void device_flush(uint32_t device)
{
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX];

	if (device_node(device, path, sizeof(path)))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!fsync(fd);
}

/* What was written once nothing is under way; -EBUSY: there always is something. */
static int device_quiet(uint32_t device, struct device_writes *writes, unsigned limit_ms)
{
	struct timespec nap = { 0, QUIET_MS * 1000000L };
	struct device_writes before;

	for (unsigned waited = 0; waited <= limit_ms; waited += QUIET_MS) {
		int ret = device_writes(device, &before);

		if (ret)
			return ret;
		nanosleep(&nap, NULL);
		ret = device_writes(device, writes);
		if (ret)
			return ret;
		if (!before.in_flight && !writes->in_flight &&
		    before.write_sectors == writes->write_sectors &&
		    before.discard_sectors == writes->discard_sectors)
			return 0;
	}
	return -EBUSY;
}

static int item_look(struct disk_watch *watch, const struct disk_range *range,
		     struct watched *item, struct error *err)
{
	int ret;

	if (!item->device)
		return range_digest(watch->fd, range, item->digest, err);
	device_flush(item->device);
	ret = device_quiet(item->device, &item->before, SETTLE_MS);
	/* Then it will be said to have been read live. */
	return !ret || ret == -EBUSY ? 0 :
	       error_set(err, ret, "cannot read the counters of partition %u: %s",
			 range->partition, error_text(ret));
}

/* ---- begin and end -------------------------------------------------------------------- */

static void watch_free(struct disk_watch *watch)
{
	hold_end(watch->hold);
	for (size_t i = 0; i < watch->path_count; i++)
		free(watch->paths[i]);
	cleanup_close(&watch->fd);
	free(watch);
}

/*
 * Frozen for a moment, a file system writes its journal's contents to where they belong:
 * boot loaders read there, and no journal.
 */
static int watch_settle(struct disk_watch *watch, bool freeze, unsigned limit_ms,
			struct error *err)
{
	int ret;

	if (!watch->path_count)
		return 0;
	ret = hold_start((const char *const *)watch->paths, watch->path_count, limit_ms,
			 &watch->hold, err);
	if (!ret && !freeze)
		hold_end(STEAL(watch->hold));
	return ret;
}

static int watch_open(struct disk_watch *watch, struct error *err)
{
	const char *path = watch->disk->path;

	watch->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (watch->fd < 0 && errno == EINVAL)
		watch->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (watch->fd < 0 || fsync(watch->fd) < 0)
		return error_set(err, -errno, "opening %s to read it: %s", path,
				 error_text(errno));
	return 0;
}

int disk_watch_begin(const struct device_facts *disk, const struct disk_layout *layout,
		     bool freeze, unsigned limit_ms, struct disk_watch **out,
		     struct error *err)
{
	size_t count = layout->range_count;
	struct disk_watch *watch = calloc(1, sizeof(*watch) + count * sizeof(watch->items[0]));
	int ret;

	*out = NULL;
	if (!watch)
		return error_set(err, -ENOMEM, "reading a disk: out of memory");
	watch->disk = disk;
	watch->fd = -1;
	watch->count = count;
	ret = watch_open(watch, err);
	for (size_t i = 0; !ret && i < count; i++)
		if (item_prepare(watch, &layout->ranges[i], &watch->items[i]))
			ret = error_set(err, -ENOMEM, "reading a disk: out of memory");
	if (!ret)
		ret = watch_settle(watch, freeze, limit_ms, err);
	for (size_t i = 0; !ret && i < count; i++)
		ret = item_look(watch, &layout->ranges[i], &watch->items[i], err);
	if (ret)
		watch_free(watch);
	else
		*out = watch;
	return ret;
}

/* 0 unchanged, 1 changed. */
static int item_changed(const struct disk_watch *watch, const struct disk_range *range,
			const struct watched *item, struct error *err)
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	struct device_writes now;
	int ret;

	if (!item->device) {
		ret = range_digest(watch->fd, range, digest, err);
		return ret ? ret : memcmp(digest, item->digest, sizeof(digest)) != 0;
	}
	ret = device_quiet(item->device, &now, SETTLE_MS);
	if (ret == -EBUSY)
		return 1;
	if (ret)
		return error_set(err, ret, "cannot read the counters of partition %u: %s",
				 range->partition, error_text(ret));
	return now.write_sectors != item->before.write_sectors ||
	       now.discard_sectors != item->before.discard_sectors ||
	       item->before.in_flight;
}

static int item_judge(const struct disk_watch *watch, const struct watched *item, bool frozen,
		      struct disk_range *range, struct error *err)
{
	int changed = item_changed(watch, range, item, err);

	if (changed < 0)
		return changed;
	if (changed && !item->mounted) {
		/* To try again is all that can be done. */
		error_set(err, -EAGAIN, "%s of %s (at %llu, %llu bytes) was written to while it "
			  "was read", disk_what_name(range->what), watch->disk->path,
			  (unsigned long long)range->offset, (unsigned long long)range->bytes);
		return -EAGAIN;
	}
	range->how = changed ? DISK_LIVE : frozen ? DISK_FROZEN : DISK_STILL;
	return 0;
}

int disk_watch_end(struct disk_watch *watch, struct disk_layout *layout, bool *still,
		   struct error *err)
{
	bool frozen[HOLD_MAX] = { false };
	int ret = 0;

	if (!watch)
		return 0;
	for (size_t i = 0; watch->hold && i < watch->path_count; i++)
		frozen[i] = hold_frozen(watch->hold, i);
	*still = true;
	/* Before they are let go: that, too, is written. And if they were by now, what was
	 * written since then shows. */
	for (size_t i = 0; !ret && i < watch->count; i++) {
		const struct watched *item = &watch->items[i];

		ret = item_judge(watch, item, item->hold != SIZE_MAX && frozen[item->hold],
				 &layout->ranges[i], err);
		*still &= layout->ranges[i].how != DISK_LIVE;
	}
	watch_free(watch);
	return ret;
}
