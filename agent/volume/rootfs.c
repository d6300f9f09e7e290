/*
 * The root file system, whose device is in use from the first moment of a boot to its
 * last: is a volume its device, can it be written to just now, and is it of a kind for
 * which a hand-over can be proven.
 *
 * That is ext4. Mounted read-only and at rest it writes nothing; before it writes
 * anything after it became writable, its superblock is on the device, changed (mount
 * count, times, and the flag that the journal needs recovery): so whoever comes after a
 * crash sees that it was writable, whatever else got to the device. XFS writes to its
 * log at every mount, also at a read-only one; for others nobody has looked.
 */
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/le.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/sysfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* An option of which the superblock's early write, or the file's place, depends. */
static const char *const refused_options[] = { "nobarrier", "barrier=0", "data=journal" };

static bool has_option(const char *options, const char *option)
{
	size_t length = strlen(option);

	for (const char *at = options; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		if (!strncmp(at, option, length) && (!at[length] || at[length] == ','))
			return true;
	return false;
}

struct rootfs_search {
	uint32_t device;
	struct rootfs *fs;
	bool found;
};

static int rootfs_visit(const struct mount_entry *entry, void *context)
{
	struct rootfs_search *search = context;
	struct rootfs *fs = search->fs;

	if (entry->device != search->device)
		return 0;
	search->found = true;
	fs->writable |= entry->writable;
	if (strcmp(entry->type, "ext4"))
		snprintf(fs->unfit, sizeof(fs->unfit), "its file system is %s; only of ext4 it can be proven",
			 entry->type);
	for (size_t i = 0; i < sizeof(refused_options) / sizeof(refused_options[0]); i++)
		if (has_option(entry->options, refused_options[i]))
			snprintf(fs->unfit, sizeof(fs->unfit), "it is mounted with the option %s",
				 refused_options[i]);
	return 0;
}

int rootfs_look(const struct device_facts *device, const char *state_folder,
		struct rootfs *fs, struct error *err)
{
	struct rootfs_search search = { .device = device->device, .fs = fs };
	struct stat root, state;
	int ret;

	memset(fs, 0, sizeof(*fs));
	if (stat("/", &root) < 0)
		return error_set(err, -errno, "cannot look at /: %s", error_text(errno));
	if (root.st_dev != device_rdev(device->device))
		return 0;
	fs->here = true;
	if (!device->is_dm)
		strcpy(fs->unfit, "it is no device-mapper device");
	if (stat(state_folder, &state) < 0 || state.st_dev != root.st_dev)
		strcpy(fs->unfit, "the state folder lies elsewhere");
	ret = mounts_each(rootfs_visit, &search);
	if (ret)
		return error_set(err, ret, "cannot read /proc/self/mountinfo: %s", error_text(ret));
	if (!search.found)
		strcpy(fs->unfit, "its mount is not to be seen");
	return 0;
}

/* ---- ext4's superblock ------------------------------------------------------- */

#define SUPER_OFFSET 1024u
#define SUPER_MAGIC_AT 0x38u
#define SUPER_STATE_AT 0x3au
#define SUPER_COMPAT_AT 0x5cu
#define SUPER_INCOMPAT_AT 0x60u
#define EXT4_MAGIC 0xef53u
#define STATE_VALID 1u
#define STATE_ERROR 2u
#define STATE_ORPHANS 4u
#define COMPAT_JOURNAL 4u
#define INCOMPAT_RECOVER 4u

const char *ext4_unrest(const uint8_t block[static 4096])
{
	const uint8_t *super = block + SUPER_OFFSET;
	struct le16 magic, state;
	struct le32 compat, incompat;

	memcpy(&magic, super + SUPER_MAGIC_AT, sizeof(magic));
	memcpy(&state, super + SUPER_STATE_AT, sizeof(state));
	memcpy(&compat, super + SUPER_COMPAT_AT, sizeof(compat));
	memcpy(&incompat, super + SUPER_INCOMPAT_AT, sizeof(incompat));
	if (get_le16(magic) != EXT4_MAGIC)
		return "there is no ext4 on its device";
	if (!(get_le32(compat) & COMPAT_JOURNAL))
		return "its file system has no journal";
	if (get_le32(incompat) & INCOMPAT_RECOVER)
		return "its journal is not empty";
	if (get_le16(state) & (STATE_ERROR | STATE_ORPHANS) || !(get_le16(state) & STATE_VALID))
		return "its file system has errors, which the next boot will mend";
	return NULL;
}

int rootfs_at_rest(int fd, struct error *err)
{
	CLEANUP_FREE void *block = NULL;
	const char *why;
	int ret = posix_memalign(&block, 4096, 4096) ? -ENOMEM : file_pread_all(fd, block, 4096, 0);

	if (ret)
		return error_set(err, ret, "cannot read the file system's superblock: %s",
				 error_text(ret));
	why = ext4_unrest(block);
	return why ? error_set(err, -EOPNOTSUPP, "%s", why) : 0;
}
