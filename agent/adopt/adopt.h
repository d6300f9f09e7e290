/*
 * Adopting a plain partition or disk: a device-mapper device of one linear line is put
 * over it, at every boot before anything uses it, so that what lies there can be
 * snapshotted like any other volume. Nothing is written to the device, and no byte
 * of it moves: released, it is what it was.
 *
 * An adoption is one file of udev rules, /etc/udev/rules.d/62-clawback-NAME.rules. When
 * udev meets the partition (by its PARTUUID, or a disk by its serial number) the rule
 * runs `clawback adopt --event`; if that made the device, the partition gives up its
 * /dev/disk/by-* links to it and is no longer ready for systemd, as multipath does with
 * its paths. If it failed, the partition stays what it was: the machine boots, with
 * the volume unprotected.
 *
 * The root file system is mounted by the initramfs, so it is there that udev must meet
 * its partition: rules and program are put into it, by initramfs-tools and the hook
 * that is installed with clawback. Adopting and releasing it takes effect at the next boot.
 *
 * One thread at a time. All need root.
 */
#ifndef CLAWBACK_ADOPT_ADOPT_H
#define CLAWBACK_ADOPT_ADOPT_H

#include "agent/base/error.h"
#include "agent/volume/volume.h"

#include <stdbool.h>
#include <stddef.h>

#define ADOPTION_NAME_MAX 64	/* [A-Za-z0-9_-], not starting with '-' */
#define ADOPTION_IDENTITY_MAX 100

struct adoption {
	char name[ADOPTION_NAME_MAX + 1];	/* the device is /dev/mapper/NAME */
	char property[32];	/* udev's: ID_PART_ENTRY_UUID or ID_SERIAL */
	char identity[ADOPTION_IDENTITY_MAX + 1];	/* its value */
	char label[ADOPTION_IDENTITY_MAX + 1];	/* a GPT partition's, in udev's encoding; "" */
	bool whole_disk;
	bool root;		/* the root file system's: from the initramfs */
};

struct adopt_options {
	bool next_boot;		/* it is in use: leave it alone until udev meets it
				 * unused, at the latest then */
	bool dry_run;		/* check, and change nothing */
};

/*
 * Adopts the device at `path` as /dev/mapper/NAME. Refused, with the reason: what is
 * device-mapper already, read-only, in use (unless `next_boot`), without an identity
 * that lasts, a container of other devices, or named by its device node in /etc/fstab;
 * the root file system's, too, when the kernel's command line names it so, or no
 * initramfs can be made for it. Run again with the same words it completes what a
 * killed run left. On failure nothing is left.
 */
int adopt(const char *path, const char *name, const struct adopt_options *options,
	  struct adoption *adoption, struct error *err);

/* What the rule runs: makes the device, in no time, or fails. */
int adopt_event(const char *path, const char *name, const char *identity,
		struct error *err);

/*
 * Takes the device and the rule away. -EBUSY while it is used or tracked, or while
 * /etc/fstab names it /dev/mapper/NAME; -ENOENT. The root file system's device stays
 * until the boot ends: `next_boot`.
 */
int release(const char *name, bool dry_run, bool *next_boot, struct error *err);

struct adopt_entry {
	const char *name;
	bool ruled;		/* false: released, and there until the boot ends */
	bool root;		/* it has rules, for the initramfs */
	/* NULL while it is not there: before the next boot; unplugged. */
	const struct device_facts *device, *beneath;
};

/* Calls `visit` for each adoption until it returns non-zero. */
int adopt_each(int (*visit)(const struct adopt_entry *entry, void *context), void *context,
	       struct error *err);

#endif
