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

/* ---- crypt.c: LUKS ---------------------------------------------------------------- */

/* Which are to be opened. */
int crypts_load(struct recovery *recovery, struct error *err);
/* Whether all that lies at a place comes with what holds it, or not at all: the points of
 * a volume beneath have it, or it was left out. */
bool place_covered(const struct disk_layout *layout, const struct disk_place *place);
const struct disk_crypt *crypt_of(const struct recovery *recovery, size_t index);
/* Its name below /dev/mapper here, which is not the one that the machine has for it. */
void crypt_mapping(const struct disk_crypt *crypt, char name[static 128]);
/* After the disks are written. */
int crypts_open(struct recovery *recovery, const struct recover_options *options,
		struct error *err);
void crypts_close(struct recovery *recovery);
/* Closes what a killed run left open on the target. */
void crypts_release(struct recovery *recovery, const char *target);
/* Runs cryptsetup with a secret as its input: its exit code, or a negative errno. */
int cryptsetup(const char *const command[], const struct recover_secret *secret,
	       char output[static COMMAND_OUTPUT_ROOM], struct error *err);
/* What an exit code of it means, as an error; `what` it was to do. */
int cryptsetup_error(struct error *err, int code, const char *what, const char *output);
/* unlock.c: forgets the secrets. */
void recovery_lock(struct recovery *recovery);

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
