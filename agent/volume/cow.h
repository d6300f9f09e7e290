/*
 * Where a snapshot keeps the blocks that the volume overwrites meanwhile.
 * Private to agent/volume.
 *
 * Each store is handed out as a block device of at least `bytes` plus a margin
 * at both ends, which stays unused: the store's first chunk is a copy of some
 * block of the volume, perhaps of its superblock, and must not stand where
 * blkid would take it for a second volume of the same name.
 *
 * Nothing outlives the snapshot: loop devices clear themselves when their last
 * user goes, their files have no name. A COW store holds the volume's contents
 * as the file system sees them, decrypted if the volume is a dm-crypt.
 */
#ifndef CLAWBACK_VOLUME_COW_H
#define CLAWBACK_VOLUME_COW_H

#include "agent/volume/volume.h"

#define COW_MARGIN_SECTORS 2048u

struct cow {
	uint32_t device;	/* what the store lies on */
	uint64_t start_sector;	/* … and where in it */
	uint64_t sectors;
	int fd;			/* keeps a loop device until dm holds it; -1 */
};

/*
 * `volumes` are all volumes of the boundary: a store whose writes would go
 * through one of them is refused (it could wait for itself).
 */
int cow_open(const struct boundary_volume *volume,
	     const struct boundary_volume *volumes, size_t count,
	     struct cow *cow, struct error *err);
/* Lets go; the store lives as long as a snapshot uses it. */
void cow_release(struct cow *cow);

#endif
