/*
 * Thin wrappers around libdevmapper: one call, one ioctl or two, errors told in
 * words. Devices are named by kernel dev_t (major << 20 | minor). What
 * libdevmapper would print ends up in the struct error instead.
 * Private to agent/volume; one thread at a time.
 *
 * Tables may hold a dm-crypt key: they are asked for with the secure-data flag,
 * kept in struct dmtable only, wiped by dmtable_fini and never put in a message.
 */
#ifndef CLAWBACK_VOLUME_DM_H
#define CLAWBACK_VOLUME_DM_H

#include "agent/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dmtable_line {
	uint64_t start_sector, sectors;
	char *type, *parameters;	/* owned */
};

struct dmtable {
	struct dmtable_line *lines;
	size_t count;
};

void dmtable_fini(struct dmtable *table);	/* wipes; zeroed is fine */
int dmtable_append(struct dmtable *table, uint64_t start_sector, uint64_t sectors,
		   const char *type, const char *parameters);
uint64_t dmtable_sectors(const struct dmtable *table);
/*
 * A *window*: lines where `like` has them, all of them linear onto the same place
 * of `device`. `window` is zeroed on entry; -ENOMEM.
 */
int dmtable_window(struct dmtable *window, const struct dmtable *like,
		   uint32_t device);
bool dmtable_is_window(const struct dmtable *table, uint32_t device);

struct dmdev_info {
	uint32_t device;
	char name[128], uuid[130];
	bool suspended, live, inactive, read_only;
	int open_count;
};

/* -ENODEV when there is no such dm device. */
int dmdev_info(uint32_t device, struct dmdev_info *info, struct error *err);
int dmdev_info_name(const char *name, struct dmdev_info *info, struct error *err);

/* The live or the inactive table; no lines when there is none. */
int dmdev_table(uint32_t device, bool inactive, struct dmtable *table,
		struct error *err);

/* Types of the live table's targets, each once, "linear,striped"; "" if none. */
int dmdev_targets(uint32_t device, char *types, size_t room, struct error *err);

/* The status line of a device with a single target. */
int dmdev_status(uint32_t device, char *status, size_t room, struct error *err);

/*
 * A helper device of ours: created, loaded and resumed, kept from blkid, LVM and
 * automounters by its udev flags. Nothing is left when it fails. Neither this nor
 * its removal waits for udev.
 */
int dmdev_create(const char *name, const char *uuid, const struct dmtable *table,
		 bool read_only, uint32_t *device, struct error *err);
/*
 * The same for a device that everybody may use: udev gives it the links of what
 * lies on it.
 */
int dmdev_create_public(const char *name, const char *uuid, const struct dmtable *table,
			uint32_t *device, struct error *err);
/* Waits, bounded, while it is busy. A device that is gone is success. */
int dmdev_remove(const char *name, struct error *err);
/* Until udev has taken its links away, too. */
int dmdev_remove_public(const char *name, struct error *err);

/* The inactive slot: fill it, empty it. */
int dmdev_load(uint32_t device, const struct dmtable *table, bool read_only,
	       struct error *err);
int dmdev_clear(uint32_t device, struct error *err);

/*
 * Suspends (freezing a mounted file system, draining I/O) and resumes; resume
 * first puts the inactive table in place, suspending around that by itself. Made
 * for devices that are not ours: udev is told nothing that hides them.
 *
 * `cookie` counts the udev events still to be handled, of several devices if it is
 * handed on; 0: none yet. It has to be given to dmdev_wait, which waits for all of
 * them, bounded, and before the device is suspended once more: a rule that finds it
 * suspended skips blkid, and its links by label and UUID are gone until the next
 * event, and with them what systemd has mounted by such a name.
 */
int dmdev_suspend(uint32_t device, struct error *err);
int dmdev_resume(uint32_t device, uint32_t *cookie, struct error *err);
void dmdev_wait(uint32_t cookie);

/*
 * For who resumes without this room: counts one event, whose cookie's lower half is
 * that of `cookie` (0: udev is told of none). unexpect: they may not come, so nobody
 * is to wait.
 */
int dmdev_expect(uint32_t device, uint32_t *cookie, struct error *err);
void dmdev_unexpect(uint32_t *cookie);

/* For what a udev rule runs: udev's answer would wait for that rule's end. For the
 * whole process, before anything else here. */
void dmdev_inside_udev(void);

/* Every dm device there is now, until `visit` returns non-zero. */
int dmdev_each(int (*visit)(const char *name, uint32_t device, void *context),
	       void *context, struct error *err);

/* A node of this device, checked to be it; the one by name if there is one. */
int dmdev_node(const char *name, uint32_t device, char *path, size_t room,
	       struct error *err);
/* The kernel's own, which does not wait for udev; where there is none, udev's, waited
 * for, bounded. */
int dmdev_node_now(const char *name, uint32_t device, char *path, size_t room,
		   struct error *err);

/* Gives libdevmapper's descriptor and caches back. */
void dmdev_release(void);

#endif
