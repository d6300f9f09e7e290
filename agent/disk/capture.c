/* A disk's layout as it is now: from the table upwards, then what of it is to be kept. */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#define BOOT_CODE_BYTES 440u

/* ---- the machine and the disk ------------------------------------------------------ */

static void take_machine(struct disk_layout *layout)
{
	struct timespec now;
	struct utsname uts;

	uname(&uts);
	text_take(layout->host, sizeof(layout->host), uts.nodename);
	text_take(layout->kernel, sizeof(layout->kernel), uts.release);
	layout->firmware = access("/sys/firmware/efi", F_OK) ? DISK_FIRMWARE_BIOS
							     : DISK_FIRMWARE_UEFI;
	clock_gettime(CLOCK_REALTIME, &now);
	layout->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* As udev has it, which knows every bus; else what the kernel has. */
static void take_name(struct udev_device *device, const char *property, const char *other,
		      const char *attribute, char *to, size_t room)
{
	const char *value = udev_device_get_property_value(device, property);

	if (!value)
		value = udev_device_get_property_value(device, other);
	if (!value)
		value = udev_device_get_sysattr_value(device, attribute);
	if (value)
		text_take(to, room, value);
	while (*to && to[strlen(to) - 1] == ' ')
		to[strlen(to) - 1] = '\0';
}

static void take_names(const struct capture *capture)
{
	struct disk_layout *layout = capture->layout;
	struct udev *udev = udev_new();
	struct udev_device *device = NULL;
	struct stat st;

	if (udev && fstat(capture->fd, &st) == 0)
		device = udev_device_new_from_devnum(udev, 'b', st.st_rdev);
	if (device) {
		take_name(device, "ID_MODEL", "ID_NAME", "device/model", layout->model,
			  sizeof(layout->model));
		take_name(device, "ID_SERIAL_SHORT", "ID_SERIAL", "serial", layout->serial,
			  sizeof(layout->serial));
	}
	udev_device_unref(device);
	udev_unref(udev);
}

static int take_disk(struct capture *capture, struct error *err)
{
	const struct device_facts *disk = capture->disk;
	struct disk_layout *layout = capture->layout;
	char physical[32] = "512", path[PATH_MAX];

	if (device_node(disk->device, path, sizeof(path)))
		return error_set(err, -ENODEV, "%s is gone", disk->path);
	text_take(layout->device, sizeof(layout->device), path);
	layout->bytes = disk->bytes;
	layout->logical_block_bytes = disk->logical_block_bytes;
	device_attribute(disk->device, "queue/physical_block_size", physical, sizeof(physical));
	layout->physical_block_bytes = (uint32_t)strtoul(physical, NULL, 10);
	if (layout->physical_block_bytes < layout->logical_block_bytes)
		layout->physical_block_bytes = layout->logical_block_bytes;
	take_names(capture);
	return 0;
}

/* GRUB's boot sector says its name; others say other things, or nothing. */
static int take_boot_code(struct capture *capture, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	char code[BOOT_CODE_BYTES];
	int ret = file_pread_all(capture->fd, code, sizeof(code), 0);

	if (ret)
		return error_set(err, ret, "cannot read %s: %s", capture->disk->path,
				 error_text(ret));
	layout->boot_code = code[0] || memcmp(code, code + 1, sizeof(code) - 1);
	layout->boot_grub = memmem(code, sizeof(code), "GRUB", 4) != NULL;
	return 0;
}

/* ---- contents ------------------------------------------------------------------------ */

/* Through the partition, where the kernel has it: the disk's own pages may be older. */
static int look(struct capture *capture, uint32_t device, uint64_t offset, uint64_t bytes,
		struct disk_content *content, struct error *err)
{
	return device && device != capture->disk->device
		? content_look_at(device, content, err)
		: content_look(capture->fd, offset, bytes, device, content, err);
}

static int look_at(struct capture *capture, const struct disk_place *place, uint32_t device,
		   uint64_t offset, uint64_t bytes, struct disk_content *content,
		   struct error *err)
{
	int ret = look(capture, device, offset, bytes, content, err);

	if (!ret && device && content->kind == DISK_LUKS)
		ret = capture_crypts(capture, device, bytes, place, err);
	return ret;
}

static int take_contents(struct capture *capture, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	struct disk_place place = { .on = DISK_ON_DISK };
	int ret = 0;

	if (layout->table == DISK_TABLE_NONE)
		return look_at(capture, &place, capture->disk->device, 0, layout->bytes,
			       &layout->content, err);
	place.on = DISK_ON_PARTITION;
	for (; !ret && place.index < layout->partition_count; place.index++) {
		struct disk_partition *partition = &layout->partitions[place.index];

		if (!partition->extended)
			ret = look_at(capture, &place, capture->partition_devices[place.index],
				      partition->offset, partition->bytes, &partition->content,
				      err);
	}
	return ret;
}

static int check_disk(const struct device_facts *disk, struct error *err)
{
	if (disk->disk)
		return error_set_exit(err, EXIT_USAGE, -ENOTBLK, "%s is a partition; name the disk",
				      disk->path);
	if (disk->is_dm)
		return error_set_exit(err, EXIT_USAGE, -ENOTBLK, "%s is a device-mapper device, and "
				      "no disk; make it a [volume]", disk->path);
	return disk->bytes ? 0 : error_set(err, -ENOMEDIUM, "%s has no size; is there a medium "
					   "in it?", disk->path);
}

/* What is cached of the disk as a whole may be older than what came by partitions. */
static int capture_open(struct capture *capture, struct error *err)
{
	capture->fd = open(capture->disk->path, O_RDONLY | O_CLOEXEC);
	if (capture->fd < 0 || fsync(capture->fd) < 0)
		return error_set(err, -errno, "opening %s to read it: %s", capture->disk->path,
				 error_text(errno));
	posix_fadvise(capture->fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

int disk_capture(const struct device_facts *disk, const struct disk_options *options,
		 struct disk_layout *layout, struct error *err)
{
	struct capture *capture = calloc(1, sizeof(*capture));
	int ret;

	memset(layout, 0, sizeof(*layout));
	if (!capture)
		return error_set(err, -ENOMEM, "looking at %s: out of memory", disk->path);
	capture->disk = disk;
	capture->options = options;
	capture->layout = layout;
	capture->fd = -1;
	take_machine(layout);
	ret = check_disk(disk, err);
	if (!ret)
		ret = capture_open(capture, err);
	if (!ret)
		ret = take_disk(capture, err);
	if (!ret)
		ret = take_boot_code(capture, err);
	if (!ret)
		ret = capture_table(capture, err);
	if (!ret)
		ret = take_contents(capture, err);
	if (!ret)
		ret = capture_groups(capture, err);
	if (!ret)
		ret = capture_keep(capture, err);
	if (!ret)
		ret = capture_ranges(capture, err);
	if (!ret)
		ret = disk_layout_check(layout, err);
	cleanup_close(&capture->fd);
	free(capture);
	if (ret)
		disk_layout_fini(layout);
	return ret;
}
