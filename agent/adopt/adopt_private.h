/* What the files of this room share. */
#ifndef CLAWBACK_ADOPT_ADOPT_PRIVATE_H
#define CLAWBACK_ADOPT_ADOPT_PRIVATE_H

#include "agent/adopt/adopt.h"

#include <limits.h>

#define RULES_FOLDER "/etc/udev/rules.d"
#define RULE_PREFIX "62-clawback-"
#define RULE_SUFFIX ".rules"

/* ---- rule.c: the file of rules --------------------------------------------- */

bool adoption_name_valid(const char *name);
void rule_path(const char *name, char path[static PATH_MAX]);
bool rule_exists(const char *name);
/* Calls `visit` with each name that has rules, until it returns non-zero. */
int rule_each(int (*visit)(const char *name, void *context), void *context, struct error *err);
/*
 * -EEXIST when the name has rules for something else, or the device has some under
 * another name; 0, too, when this name has these already.
 */
int rule_check(const struct adoption *adoption, struct error *err);
int rule_write(const struct adoption *adoption, struct error *err);
int rule_remove(const char *name, struct error *err);
/* Whether the name has rules that are meant for the initramfs. */
bool rule_in_initramfs(const char *name);

/* ---- udev.c ------------------------------------------------------------------ */

/* What udev knows of a block device; empty for what it does not. */
struct udev_facts {
	char partuuid[ADOPTION_IDENTITY_MAX + 1];
	char serial[ADOPTION_IDENTITY_MAX + 1];
	char partlabel[ADOPTION_IDENTITY_MAX + 1];
	char table[16];		/* a partition table on it: "gpt", "dos" */
	char fs_usage[16];	/* "filesystem", "raid", "crypto", "other" */
	char fs_type[32];
	char fs_uuid[ADOPTION_IDENTITY_MAX + 1];	/* as in /dev/disk/by-uuid */
};
/* -ENODEV when udev does not run. */
int udev_facts(const struct device_facts *device, struct udev_facts *facts, struct error *err);
/* Reads the rules again. */
int udev_reload(struct error *err);
/* Lets it look at the device again, and waits for it (bounded). */
int udev_look_again(const struct device_facts *device, struct error *err);

/* ---- check.c ------------------------------------------------------------------- */

/* Whether the device can be adopted; fills `adoption` but for its name and `root`. */
int check_device(const struct device_facts *device, const struct udev_facts *facts,
		 bool may_be_used, struct adoption *adoption, struct error *err);
/* Whether /etc/fstab names the device in a way that ends when it changes its kind. */
int check_fstab(const struct device_facts *device, struct error *err);
/* UUID=… and other names that follow what is on a device, adopted or not. */
bool name_follows(const char *name);

/* ---- root.c -------------------------------------------------------------------- */

bool root_lies_on(uint32_t device);
/* Whether the machine would boot with its root adopted, and with it plain again. */
int root_check(const struct device_facts *device, const struct udev_facts *facts,
	       struct error *err);
/* The kernel's command line finds the root, adopted or not. */
int root_check_name(struct error *err);

/* ---- initramfs.c --------------------------------------------------------------- */

/* Whether there is one that can be made anew, with clawback in it. */
int initramfs_check(struct error *err);
/* Makes those of all kernels anew, by the rules that there are now. */
int initramfs_update(struct error *err);

#endif
