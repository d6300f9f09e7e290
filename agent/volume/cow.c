#include "agent/volume/cow.h"

#include "agent/base/cleanup.h"
#include "agent/volume/stack.h"
#include "agent/volume/sysfs.h"
#include "agent/volume/usage.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define COW_DEFAULT_BYTES (256ull << 20)
#define COW_MIN_BYTES (64ull << 10)
#define COW_CHUNK_BYTES 4096ull
#define COW_MARGIN_BYTES (COW_MARGIN_SECTORS * 512ull)
#define COW_LOOP_ATTEMPTS 20

/* As much as asked for, but never more than every block of the volume once. */
static uint64_t cow_wanted(const struct boundary_volume *volume)
{
	uint64_t wanted = volume->cow.bytes ? volume->cow.bytes : COW_DEFAULT_BYTES;
	uint64_t most = volume->device.bytes + COW_MIN_BYTES;

	if (wanted < COW_MIN_BYTES)
		wanted = COW_MIN_BYTES;
	if (wanted > most)
		wanted = most;
	return (wanted + COW_CHUNK_BYTES - 1) / COW_CHUNK_BYTES * COW_CHUNK_BYTES;
}

/* A free loop device on `fd` that goes when its last user does. */
static int cow_loop(int fd, bool direct, struct cow *cow, struct error *err)
{
	CLEANUP_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .fd = (uint32_t)fd };
	char path[64];

	if (control < 0)
		return error_set(err, -errno, "cannot open /dev/loop-control for the COW store: %s; load the loop module",
				 error_text(errno));
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (direct ? LO_FLAGS_DIRECT_IO : 0);
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "clawback-cow");
	/* Between asking and taking, another program may take it. */
	for (int attempt = 0; attempt < COW_LOOP_ATTEMPTS; attempt++) {
		CLEANUP_CLOSE int loop = -1;
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		struct stat st;

		if (number < 0)
			return error_set(err, -errno, "cannot get a loop device for the COW store: %s",
					 error_text(errno));
		snprintf(path, sizeof(path), "/dev/loop%d", number);
		loop = open(path, O_RDWR | O_CLOEXEC);
		if (loop < 0 || fstat(loop, &st) < 0)
			return error_set(err, -errno, "cannot open %s for the COW store: %s",
					 path, error_text(errno));
		if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
			cow->device = tracker_device(st.st_rdev);
			cow->fd = STEAL_FD(loop);
			return 0;
		}
		if (errno != EBUSY)
			return error_set(err, -errno, "cannot set up %s for the COW store: %s",
					 path, error_text(errno));
	}
	return error_set(err, -EBUSY, "cannot get a loop device for the COW store: others were faster %d times",
			 COW_LOOP_ATTEMPTS);
}

/* Sizes the file; all of the store's room is taken now, never during a write. */
static int cow_reserve(int fd, uint64_t bytes)
{
	if (ftruncate(fd, (off_t)(bytes + 2 * COW_MARGIN_BYTES)) < 0 ||
	    fallocate(fd, 0, (off_t)COW_MARGIN_BYTES, (off_t)bytes) < 0)
		return -errno;
	return 0;
}

static int cow_ram(uint64_t bytes, struct cow *cow, struct error *err)
{
	CLEANUP_CLOSE int fd = memfd_create("clawback-cow", MFD_CLOEXEC);
	int ret = fd < 0 ? -errno : cow_reserve(fd, bytes);

	if (ret)
		return error_set(err, ret, "cannot reserve %llu MiB of memory for the COW store: %s; make it smaller, or use a file or device",
				 (unsigned long long)(bytes >> 20), error_text(ret));
	return cow_loop(fd, false, cow, err);
}

/* A nameless file: nothing to remove, however we end. */
static int cow_create_file(const char *folder)
{
	char path[PATH_MAX];
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd >= 0 ? fd : -errno;
	if (snprintf(path, sizeof(path), "%s/.clawback-cow-XXXXXX", folder) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

static int cow_file(const char *folder, uint64_t bytes, struct cow *cow,
		    struct error *err)
{
	CLEANUP_CLOSE int fd = cow_create_file(folder);
	int ret = fd < 0 ? fd : cow_reserve(fd, bytes);

	if (ret)
		return error_set(err, ret, "cannot reserve %llu MiB in %s for the COW store: %s",
				 (unsigned long long)(bytes >> 20), folder,
				 error_text(ret));
	/* Without its own page cache: fewer waits when memory is short. */
	return cow_loop(fd, true, cow, err);
}

/* Somebody's data must not be overwritten because of a typing error. */
static int cow_check_blank(const char *path, struct error *err)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);
	const char *type = NULL;
	int found;

	if (!probe)
		return error_set(err, -EIO, "cannot look for data on the COW device %s", path);
	blkid_probe_enable_partitions(probe, 1);
	found = blkid_do_safeprobe(probe);
	if (found == 0 && blkid_probe_lookup_value(probe, "TYPE", &type, NULL) &&
	    blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL))
		type = "something";
	if (found != 1)
		error_set(err, -EEXIST, "the COW device %s holds %s; name an empty device, or wipe it with wipefs first",
			  path, type ? type : "data of an unclear kind");
	blkid_free_probe(probe);
	return found == 1 ? 0 : err->code;
}

static int cow_device(const struct boundary_volume *volume, uint64_t bytes,
		      struct cow *cow, struct error *err)
{
	const char *path = volume->cow.path;
	struct device_facts facts;
	char where[512];
	int ret = device_facts(path, &facts, err);

	if (ret)
		return error_prefix(err, "COW store of volume %s", volume->name);
	ret = device_usage(facts.device, where, sizeof(where), err);
	if (ret)
		return ret;
	if (where[0] || facts.read_only)
		return error_set(err, -EBUSY, "cannot use %s for the COW store: it is %s",
				 path, where[0] ? where : "read-only");
	ret = cow_check_blank(path, err);
	if (ret)
		return ret;
	if (facts.bytes < COW_MIN_BYTES + 2 * COW_MARGIN_BYTES)
		return error_set(err, -ENOSPC, "the COW device %s is smaller than 3 MiB",
				 path);
	cow->device = facts.device;
	cow->sectors = (facts.bytes - 2 * COW_MARGIN_BYTES) / COW_CHUNK_BYTES *
		       (COW_CHUNK_BYTES / 512);
	if (volume->cow.bytes && bytes / 512 < cow->sectors)
		cow->sectors = bytes / 512;
	return 0;
}

/* The store must not lie on, or on top of, what is being snapshotted. */
static int cow_check_stack(const struct boundary_volume *volume,
			   const struct boundary_volume *volumes, size_t count,
			   struct error *err)
{
	const struct cow_options *options = &volume->cow;
	uint32_t targets[VOLUME_GROUP_MAX];
	struct stat st;
	size_t which;
	int reaches;

	if (options->kind == COW_RAM)
		return 0;
	for (size_t i = 0; i < count; i++)
		targets[i] = volumes[i].device.device;
	if (stat(options->path, &st) < 0)
		return error_set(err, -errno, "cannot look at the COW store %s: %s",
				 options->path, error_text(errno));
	reaches = options->kind == COW_FILE ?
		stack_path_reaches(options->path, targets, count, &which, err) :
		stack_device_reaches(tracker_device(st.st_rdev), targets, count,
				     &which, err);
	if (reaches < 0)
		return error_prefix(err, "COW store of volume %s", volume->name);
	if (reaches)
		return error_set(err, -EDEADLK, "the COW store %s lies on volume %s, which is being snapshotted; choose a place on another device, or memory",
				 options->path, volumes[which].name);
	return 0;
}

int cow_open(const struct boundary_volume *volume,
	     const struct boundary_volume *volumes, size_t count,
	     struct cow *cow, struct error *err)
{
	uint64_t bytes = cow_wanted(volume);
	int ret = cow_check_stack(volume, volumes, count, err);

	*cow = (struct cow){ .start_sector = COW_MARGIN_SECTORS,
			     .sectors = bytes / 512, .fd = -1 };
	if (ret)
		return ret;
	switch (volume->cow.kind) {
	case COW_RAM:
		return cow_ram(bytes, cow, err);
	case COW_FILE:
		return cow_file(volume->cow.path, bytes, cow, err);
	case COW_DEVICE:
		return cow_device(volume, bytes, cow, err);
	}
	return error_set(err, -EINVAL, "volume %s: no such kind of COW store", volume->name);
}

void cow_release(struct cow *cow)
{
	if (cow->fd >= 0)
		close(cow->fd);
	cow->fd = -1;
}
