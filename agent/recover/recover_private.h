/* What the files of this room share. */
#ifndef CLAWBACK_RECOVER_RECOVER_PRIVATE_H
#define CLAWBACK_RECOVER_RECOVER_PRIVATE_H

#include "agent/base/command.h"
#include "agent/recover/recover.h"

/* A note for the report. */
void recovery_note(struct recovery *recovery, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- device.c ------------------------------------------------------------- */

/* The node of a disk's partition by its number; -ENOENT. */
int device_partition(const char *disk, uint32_t number, char path[static PATH_MAX]);
/* Calls `visit` with the node of each partition of a disk. */
int device_partitions(const char *disk, int (*visit)(void *context, const char *path),
		      void *context);
/* Size in bytes. */
int device_bytes(const char *path, uint64_t *bytes, struct error *err);
/* What libblkid finds on it; all "" when nothing. */
struct device_signature {
	char table[32], type[32], uuid[64], label[128];
};
int device_probe(const char *path, struct device_signature *signature, struct error *err);
/* Makes the kernel and udev see the table that is there now. */
int device_reread(const char *disk, struct error *err);
/* Zeroes a range, durably. */
int device_zero(const char *path, uint64_t offset, uint64_t length, struct error *err);
/* Waits until udev has done what it was told of. */
void device_settle(void);

/* The node of a place; what it takes to be there must have been made. */
int recover_path(const struct recovery *recovery, size_t disk, const struct disk_place *place,
	       char path[static PATH_MAX], struct error *err);

/* ---- choose.c: which device for which disk ---------------------------------- */

int choose_targets(struct recovery *recovery, const struct recover_options *options,
		   struct error *err);

/* ---- table.c, group.c, check.c, boot.c: parts of a run ------------------------- */

int table_write(const struct recover_disk *disk, struct error *err);

struct pv_place { size_t disk; struct disk_place place; uint64_t bytes; };
/* Takes volume groups of these out of use that a killed run left on the target. */
void groups_release(struct recovery *recovery, const char *target);
int groups_restore(struct recovery *recovery, const struct recover_options *options,
		   struct error *err);
void groups_deactivate(struct recovery *recovery);
/* Which recovered disk has a PV of a group, and where on it; false when none has. */
bool group_pv_found(const struct recovery *recovery, const struct disk_group *group, size_t pv,
		    struct pv_place *found);
const struct disk_group *group_of(const struct recovery *recovery, size_t index);

/* Compares identifiers, looks at file systems; what is found is a note. */
void check_all(struct recovery *recovery);
/* Firmware's boot entry for a machine that boots by UEFI; what is missing is a note. */
void boot_entries(struct recovery *recovery);

#endif
