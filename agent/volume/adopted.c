/* Adopted devices: one linear line over a partition or a disk. */
#include "agent/base/cleanup.h"
#include "agent/volume/dm.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/sysfs.h"
#include "agent/volume/volume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int adopted_table(const struct device_facts *beneath, struct dmtable *table)
{
	char parameters[64];

	snprintf(parameters, sizeof(parameters), "%u:%u 0", DEVICE_MAJOR(beneath->device),
		 DEVICE_MINOR(beneath->device));
	return dmtable_append(table, 0, beneath->bytes / 512, "linear", parameters);
}

/* The one device beneath; -EEXIST for a table that is not an adopted device's. */
static int device_beneath(const char *name, uint32_t device, uint32_t *beneath,
			  struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable table = { NULL, 0 };
	unsigned major, minor;
	int end = 0, ret = device_own_table(device, &table, err);

	if (ret)
		return ret;
	if (table.count != 1 || strcmp(table.lines[0].type, "linear") ||
	    sscanf(table.lines[0].parameters, "%u:%u 0%n", &major, &minor, &end) != 2 ||
	    !end || table.lines[0].parameters[end])
		return error_set(err, -EEXIST, "the table of /dev/mapper/%s is not that of an "
				 "adopted device; somebody changed it", name);
	*beneath = major << 20 | minor;
	return 0;
}

int adopted_find(const char *name, struct device_facts *device, struct device_facts *beneath,
		 struct error *err)
{
	struct dmdev_info info;
	char path[PATH_MAX];
	uint32_t number;
	int ret = dmdev_info_name(name, &info, err);

	if (ret)
		return ret;
	if (strncmp(info.uuid, ADOPTED_UUID_PREFIX, strlen(ADOPTED_UUID_PREFIX)))
		return error_set(err, -EEXIST, "/dev/mapper/%s is a device that was not adopted",
				 name);
	ret = device_beneath(name, info.device, &number, err);
	if (!ret)
		ret = dmdev_node(name, info.device, path, sizeof(path), err);
	if (!ret)
		ret = device_facts(path, device, err);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/dev/block/%u:%u", DEVICE_MAJOR(number),
		 DEVICE_MINOR(number));
	ret = device_facts(path, beneath, err);
	if (ret != -ENOENT)
		return ret;
	*err = (struct error)ERROR_INIT;
	*beneath = (struct device_facts){ .device = number };
	return 0;
}

struct adopted_list {
	int (*visit)(const char *name, void *context);
	void *context;
};

static int visit_adopted(const char *name, uint32_t device, void *context)
{
	struct adopted_list *list = context;
	struct error gone = ERROR_INIT;
	struct dmdev_info info;

	if (dmdev_info(device, &info, &gone) ||
	    strncmp(info.uuid, ADOPTED_UUID_PREFIX, strlen(ADOPTED_UUID_PREFIX)))
		return 0;
	return list->visit(name, list->context);
}

int adopted_each(int (*visit)(const char *name, void *context), void *context,
		 struct error *err)
{
	struct adopted_list list = { visit, context };

	return dmdev_each(visit_adopted, &list, err);
}

/* Whether /dev/mapper/NAME is already what it is to be; -EEXIST when it cannot be. */
static int stands_already(const struct device_facts *beneath, const char *name,
			  const char *uuid, bool *stands, struct error *err)
{
	struct error missing = ERROR_INIT;
	struct dmdev_info info;
	uint32_t number;
	int ret = dmdev_info_name(name, &info, &missing);

	*stands = false;
	if (ret == -ENODEV)
		return 0;
	if (ret) {
		*err = missing;
		return ret;
	}
	if (strcmp(info.uuid, uuid))
		return error_set(err, -EEXIST, "there is another device-mapper device called %s; "
				 "choose another name", name);
	ret = device_beneath(name, info.device, &number, err);
	if (!ret && number != beneath->device)
		ret = error_set(err, -EEXIST, "/dev/mapper/%s lies on another device than %s; two "
				"devices have the same identity: is one a copy of the other?", name,
				beneath->path);
	*stands = !ret;
	return ret;
}

int adopted_open(const struct device_facts *beneath, const char *name, const char *identity,
		 bool in_udev, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable table = { NULL, 0 };
	uint32_t device;
	char uuid[130];
	bool stands;
	int ret;

	if (in_udev)
		dmdev_inside_udev();
	if (snprintf(uuid, sizeof(uuid), ADOPTED_UUID_PREFIX "%s", identity) >= (int)sizeof(uuid) - 1)
		return error_set(err, -ENAMETOOLONG, "the identity of %s is too long", beneath->path);
	ret = stands_already(beneath, name, uuid, &stands, err);
	if (ret || stands)
		return ret;
	ret = adopted_table(beneath, &table);
	if (ret)
		return error_set(err, ret, "out of memory");
	return dmdev_create_public(name, uuid, &table, &device, err);
}

int adopted_close(const char *name, struct error *err)
{
	struct device_facts device, beneath;
	char where[PATH_MAX];
	int ret = adopted_find(name, &device, &beneath, err);

	if (ret == -ENODEV) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	if (!ret)
		ret = device_usage(device.device, where, sizeof(where), err);
	if (ret)
		return ret;
	if (*where)
		return error_set(err, -EBUSY, "/dev/mapper/%s is in use: %s", name, where);
	return dmdev_remove_public(name, err);
}
