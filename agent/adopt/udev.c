/* What udev knows, by libudev; and its attention, by udevadm. */
#include "agent/adopt/adopt_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/command.h"

#include <errno.h>
#include <libudev.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define UDEV_CONTROL "/run/udev/control"

static void udev_free(struct udev **udev)
{
	if (*udev)
		udev_unref(*udev);
}

static void udev_device_free(struct udev_device **device)
{
	if (*device)
		udev_device_unref(*device);
}

/* What is too long to be kept is as good as not there: never a part of it. */
static void take_property(struct udev_device *device, const char *name, char *value,
			  size_t room)
{
	const char *found = udev_device_get_property_value(device, name);

	value[0] = '\0';
	if (found && strlen(found) < room)
		strcpy(value, found);
}

int udev_facts(const struct device_facts *device, struct udev_facts *facts, struct error *err)
{
	CLEANUP(udev_free) struct udev *udev = udev_new();
	CLEANUP(udev_device_free) struct udev_device *found = NULL;
	dev_t number = makedev(device->device >> 20, device->device & 0xfffff);

	memset(facts, 0, sizeof(*facts));
	if (access(UDEV_CONTROL, F_OK) < 0)
		return error_set(err, -ENODEV, "udev does not run here, and adopting is done by its rules");
	if (udev)
		found = udev_device_new_from_devnum(udev, 'b', number);
	if (!found)
		return error_set(err, -ENODEV, "udev knows nothing of %s; is systemd-udevd well?",
				 device->path);
	take_property(found, "ID_PART_ENTRY_UUID", facts->partuuid, sizeof(facts->partuuid));
	take_property(found, "ID_SERIAL", facts->serial, sizeof(facts->serial));
	take_property(found, "ID_PART_ENTRY_NAME", facts->partlabel, sizeof(facts->partlabel));
	take_property(found, "ID_PART_TABLE_TYPE", facts->table, sizeof(facts->table));
	take_property(found, "ID_FS_USAGE", facts->fs_usage, sizeof(facts->fs_usage));
	take_property(found, "ID_FS_TYPE", facts->fs_type, sizeof(facts->fs_type));
	take_property(found, "ID_FS_UUID_ENC", facts->fs_uuid, sizeof(facts->fs_uuid));
	return 0;
}

static int udevadm(const char *const command[], struct error *err)
{
	return command_run(command, "is package udev there, and systemd-udevd well?", err);
}

int udev_reload(struct error *err)
{
	return udevadm((const char *[]){ "udevadm", "control", "--reload", NULL }, err);
}

int udev_look_again(const struct device_facts *device, struct error *err)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", device->device >> 20,
		 device->device & 0xfffff);
	ret = udevadm((const char *[]){ "udevadm", "trigger", "--action=change", path, NULL }, err);
	return ret ? ret : udevadm((const char *[]){ "udevadm", "settle", "--timeout=30", NULL }, err);
}
