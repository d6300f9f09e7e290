/* Whether a device can be adopted; if not, why, and what to do instead. */
#include "agent/adopt/adopt_private.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FSTAB "/etc/fstab"

static int check_kind(const struct device_facts *device, struct error *err)
{
	if (device->is_dm)
		return error_set(err, -EINVAL, "%s is a device-mapper device already; protect it as "
				 "it is", device->path);
	if (device->read_only)
		return error_set(err, -EROFS, "%s is read-only", device->path);
	if (!device->bytes)
		return error_set(err, -EINVAL, "%s has no size; is there a medium in it?",
				 device->path);
	return 0;
}

static int check_content(const struct device_facts *device, const struct udev_facts *facts,
			 struct error *err)
{
	if (!strcmp(facts->fs_type, "LVM2_member") || !strcmp(facts->fs_usage, "crypto"))
		return error_set(err, -EINVAL, "%s holds %s, whose volumes are device-mapper devices "
				 "already; protect those", device->path, facts->fs_type);
	if (!strcmp(facts->fs_usage, "raid"))
		return error_set(err, -EINVAL, "%s is a part of something larger (%s); adopting "
				 "that is not supported", device->path, facts->fs_type);
	if (!strcmp(facts->fs_type, "swap"))
		return error_set(err, -EINVAL, "%s is swap space: nothing to protect", device->path);
	if (!device->disk && facts->table[0])
		return error_set(err, -EINVAL, "%s has a partition table (%s); adopt its partitions, "
				 "one by one", device->path, facts->table);
	return 0;
}

#define PLAIN "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:+=@#-"

/* It goes into a udev rule as it is, and an identity into a device-mapper uuid. */
static bool consists_of(const char *text, const char *allowed)
{
	return text[0] && strspn(text, allowed) == strlen(text);
}

static int take_identity(const struct device_facts *device, const struct udev_facts *facts,
			 struct adoption *adoption, struct error *err)
{
	const char *identity = device->disk ? facts->partuuid : facts->serial;

	adoption->whole_disk = !device->disk;
	if (!consists_of(identity, PLAIN))
		return error_set(err, -EINVAL, "%s cannot be known again at the next boot: it has no %s",
				 device->path, device->disk ? "PARTUUID" : "serial number; make a "
				 "partition on it");
	strcpy(adoption->property, device->disk ? "ID_PART_ENTRY_UUID" : "ID_SERIAL");
	strcpy(adoption->identity, identity);
	/* udev writes other characters as \x20. */
	if (consists_of(facts->partlabel, PLAIN "\\"))
		strcpy(adoption->label, facts->partlabel);
	return 0;
}

/* These names follow what is on the device; others go on meaning the bare partition. */
bool name_follows(const char *name)
{
	static const char *const kinds[] = { "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=",
		"/dev/disk/by-uuid/", "/dev/disk/by-label/", "/dev/disk/by-partuuid/",
		"/dev/disk/by-partlabel/" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strncmp(name, kinds[i], strlen(kinds[i])))
			return true;
	return false;
}

static void fstab_close(FILE **table)
{
	if (*table)
		endmntent(*table);
}

int check_fstab(const struct device_facts *device, struct error *err)
{
	CLEANUP(fstab_close) FILE *table = setmntent(FSTAB, "re");
	struct mntent *entry;

	if (!table && errno != ENOENT)
		return error_set(err, -errno, "cannot read " FSTAB ": %s", error_text(errno));
	while (table && (entry = getmntent(table))) {
		struct stat st;

		if (name_follows(entry->mnt_fsname) || stat(entry->mnt_fsname, &st) < 0 ||
		    !S_ISBLK(st.st_mode) || tracker_device(st.st_rdev) != device->device)
			continue;
		return error_set(err, -EINVAL, FSTAB " mounts %s by the name %s, which will no longer do; "
				 "write UUID=… there (blkid shows it) first", device->path,
				 entry->mnt_fsname);
	}
	return 0;
}

static int check_use(const struct device_facts *device, bool may_be_used, struct error *err)
{
	char where[PATH_MAX];
	int ret = device_usage(device->device, where, sizeof(where), err);

	if (ret || !*where || may_be_used)
		return ret;
	return error_set(err, -EBUSY, "%s is in use: %s; unmount it, or give --next-boot",
			 device->path, where);
}

int check_device(const struct device_facts *device, const struct udev_facts *facts,
		 bool may_be_used, struct adoption *adoption, struct error *err)
{
	int ret = check_kind(device, err);

	if (!ret)
		ret = check_content(device, facts, err);
	if (!ret)
		ret = take_identity(device, facts, adoption, err);
	if (!ret)
		ret = check_fstab(device, err);
	if (!ret)
		ret = check_use(device, may_be_used, err);
	return ret || !adoption->root ? ret : root_check(device, facts, err);
}
