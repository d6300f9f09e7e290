/*
 * The root file system's partition. Whatever becomes of its adoption, the machine must
 * boot: with the device over it, and with the bare partition should that fail. So it
 * has to be named by what is on it, and nobody but us may look for it by himself.
 */
#include "agent/adopt/adopt_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_LINE "/proc/cmdline"
#define GRUB_MKCONFIG "/usr/sbin/grub-mkconfig"
#define GRUB_CFG "/etc/default/grub.d/clawback.cfg"

bool root_lies_on(uint32_t device)
{
	struct stat st;

	return stat("/", &st) == 0 && tracker_device(st.st_dev) == device;
}

/* The last one counts. */
int root_check_name(struct error *err)
{
	CLEANUP_FREE char *line = NULL;
	char *save = NULL, *root = NULL;
	int ret = file_read(COMMAND_LINE, 65536, &line, NULL);

	if (ret)
		return error_set(err, ret, "cannot read " COMMAND_LINE ": %s", error_text(ret));
	for (char *word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
		if (!strncmp(word, "root=", 5))
			root = word + 5;
	if (root && name_follows(root))
		return 0;
	return error_set(err, -EINVAL, "the kernel's command line names the root file system %s, which "
			 "would no longer do; let the boot loader say root=UUID=… (blkid shows it; "
			 "in GRUB's /etc/default/grub no GRUB_DISABLE_LINUX_UUID, then update-grub), "
			 "boot, and try again", root ? root : "by no root=");
}

/* btrfs's own scan in the initramfs would find the file system on both devices. */
static int check_type(const struct device_facts *device, const struct udev_facts *facts,
		      struct error *err)
{
	/* The last is what our rule says of a partition that is adopted already. */
	static const char *const types[] = { "ext4", "ext3", "ext2", "xfs", "clawback_adopted" };

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (!strcmp(facts->fs_type, types[i]))
			return 0;
	return error_set(err, -ENOTSUP, "%s holds the root file system, which is %s; only ext4 and XFS "
			 "can be adopted as that", device->path,
			 facts->fs_type[0] ? facts->fs_type : "of an unknown kind");
}

/* Else the next update-grub writes root=/dev/mapper/NAME (scripts/packaging/grub.cfg). */
static int check_grub(struct error *err)
{
	if (access(GRUB_MKCONFIG, F_OK) < 0 || access(GRUB_CFG, F_OK) == 0)
		return 0;
	return error_set(err, -ENOENT, "GRUB would not find the root file system's partition: " GRUB_CFG
			 " is missing; `make install` puts it there");
}

int root_check(const struct device_facts *device, const struct udev_facts *facts,
	       struct error *err)
{
	int ret = check_type(device, facts, err);

	if (!ret)
		ret = root_check_name(err);
	if (!ret)
		ret = check_grub(err);
	return ret ? ret : initramfs_check(err);
}
