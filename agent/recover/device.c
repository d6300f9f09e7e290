/* Block devices as they are here: nodes, sizes, what lies on them. */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <blkid/blkid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

static void cleanup_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* The disk's folder in sysfs. */
static int sysfs_folder(const char *disk, char path[static PATH_MAX])
{
	struct stat st;

	if (stat(disk, &st) < 0)
		return -errno;
	if (!S_ISBLK(st.st_mode))
		return -ENOTBLK;
	snprintf(path, PATH_MAX, "/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
	return 0;
}

/* 0 when it is no partition. */
static uint32_t partition_number(const char *folder, const char *name)
{
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.200s/%.200s/partition", folder, name);
	if (file_read(path, 64, &text, NULL))
		return 0;
	return (uint32_t)strtoul(text, NULL, 10);
}

static int each_partition(const char *disk,
			  int (*visit)(void *context, const char *path, uint32_t number),
			  void *context)
{
	CLEANUP(cleanup_dir) DIR *dir = NULL;
	char folder[PATH_MAX], path[PATH_MAX];
	struct dirent *entry;
	int ret = sysfs_folder(disk, folder);

	if (ret)
		return ret;
	dir = opendir(folder);
	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir))) {
		uint32_t number = entry->d_name[0] == '.' ? 0 :
				  partition_number(folder, entry->d_name);

		if (!number)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		ret = visit(context, path, number);
	}
	return ret;
}

struct wanted { uint32_t number; char *path; };

static int is_wanted(void *context, const char *path, uint32_t number)
{
	struct wanted *wanted = context;

	if (number != wanted->number)
		return 0;
	snprintf(wanted->path, PATH_MAX, "%s", path);
	return 1;
}

int device_partition(const char *disk, uint32_t number, char path[static PATH_MAX])
{
	struct wanted wanted = { number, path };
	int ret = each_partition(disk, is_wanted, &wanted);

	if (ret < 0)
		return ret;
	return ret && !access(path, F_OK) ? 0 : -ENOENT;
}

struct visitor { int (*visit)(void *context, const char *path); void *context; };

static int pass_on(void *context, const char *path, uint32_t number)
{
	struct visitor *visitor = context;

	(void)number;
	return visitor->visit(visitor->context, path);
}

int device_partitions(const char *disk, int (*visit)(void *context, const char *path),
		      void *context)
{
	struct visitor visitor = { visit, context };

	return each_partition(disk, pass_on, &visitor);
}

int device_bytes(const char *path, uint64_t *bytes, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, bytes) < 0)
		return error_set(err, -errno, "asking the size of %s: %s", path, error_text(errno));
	return 0;
}

/* ---- what lies on it -------------------------------------------------------- */

static void probe_value(blkid_probe probe, const char *name, char *to, size_t room)
{
	const char *value;

	if (!blkid_probe_lookup_value(probe, name, &value, NULL))
		snprintf(to, room, "%s", value);
}

int device_probe(const char *path, struct device_signature *signature, struct error *err)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);
	int ret;

	memset(signature, 0, sizeof(*signature));
	if (!probe)
		return error_set(err, errno ? -errno : -EIO, "looking at what is on %s: %s", path,
				 error_text(errno));
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID |
					  BLKID_SUBLKS_LABEL);
	blkid_probe_enable_partitions(probe, 1);
	ret = blkid_do_safeprobe(probe);
	if (ret == 0) {
		probe_value(probe, "PTTYPE", signature->table, sizeof(signature->table));
		probe_value(probe, "TYPE", signature->type, sizeof(signature->type));
		probe_value(probe, "UUID", signature->uuid, sizeof(signature->uuid));
		probe_value(probe, "LABEL", signature->label, sizeof(signature->label));
	} else if (ret == -2) {
		strcpy(signature->type, "several things");
	} else if (ret < 0) {
		error_set(err, -EIO, "looking at what is on %s: it cannot be read", path);
	}
	blkid_free_probe(probe);
	return ret == -1 ? -EIO : 0;
}

/* ---- changing it --------------------------------------------------------------- */

void device_settle(void)
{
	static const char *const command[] = { "udevadm", "settle", "--timeout=30", NULL };
	struct error ignored = ERROR_INIT;
	char output[COMMAND_OUTPUT_ROOM];

	command_code(command, NULL, output, &ignored);
}

/* Whoever looks at a device for a moment, as udev does, makes it busy. */
int device_reread(const char *disk, struct error *err)
{
	struct timespec pause = { 0, 200000000 };
	int ret = 0;

	device_settle();
	for (int try = 0; try < 25; try++) {
		CLEANUP_CLOSE int fd = open(disk, O_RDONLY | O_CLOEXEC);

		ret = fd < 0 ? -errno : ioctl(fd, BLKRRPART) < 0 ? -errno : 0;
		/* -EINVAL: a disk without room for partitions, as a loop device */
		if (ret != -EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	if (ret && ret != -EINVAL)
		return error_set(err, ret, "making the kernel read the partition table of %s: %s",
				 disk, error_text(ret));
	device_settle();
	return 0;
}

int device_zero(const char *path, uint64_t offset, uint64_t length, struct error *err)
{
	static const uint8_t zeros[64 << 10];
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = fd < 0 ? -errno : 0;

	while (!ret && length) {
		size_t n = length < sizeof(zeros) ? length : sizeof(zeros);

		ret = file_pwrite_all(fd, zeros, n, offset);
		offset += n;
		length -= n;
	}
	if (!ret && fsync(fd) < 0)
		ret = -errno;
	return ret ? error_set(err, ret, "clearing what lies at %" PRIu64 " of %s: %s", offset,
			       path, error_text(ret)) : 0;
}
