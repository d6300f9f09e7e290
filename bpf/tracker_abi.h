/*
 * What the eBPF program and its loader share: names of maps, keys, values.
 * Included by both sides; fixed-width fields only; sizes asserted on both.
 *
 * Maps, pinned under these names beside the link (pin `link`):
 *   routes   HASH   dev_t -> struct route
 *   ledger   HASH   dev_t -> struct ledger
 *   slots    ARRAY  slot  -> struct slot_state, mmappable
 *   bitmaps  ARRAY_OF_MAPS  slot -> bitmap that collects now
 *   retired  ARRAY_OF_MAPS  slot -> bitmap rotated out, not yet durable elsewhere
 * The program's name ends in TRACKER_ABI_VERSION: what is loaded tells its ABI.
 *
 * A *slot* is a tracked volume, 0 … TRACKER_SLOTS - 1. A *route* says for one
 * dev_t which slots its writes concern; several dev_ts may lead to one slot
 * (a volume and the device that stands in for it while a snapshot is open; a
 * partition and its whole disk).
 *
 * A bitmap is an ARRAY map of pages of 4096 bytes (32,768 bits, bit b of a page
 * in 64-bit word b / 64), mmappable. `bitmaps[slot]` collects now;
 * `retired[slot]` is the one a run rotated out and has not yet made durable.
 */
#ifndef CLAWBACK_BPF_TRACKER_ABI_H
#define CLAWBACK_BPF_TRACKER_ABI_H

#define TRACKER_ABI_VERSION 2
#define TRACKER_PROGRAM clawback_abi2	/* 15 characters at most */
#define TRACKER_PROGRAM_NAME "clawback_abi2"
#define TRACKER_SLOTS 256
#define TRACKER_DEVICES 1024
#define TRACKER_TARGETS 8		/* slots one dev_t may lead to */
#define TRACKER_PAGE_BYTES 4096
#define TRACKER_PAGE_BITS (TRACKER_PAGE_BYTES * 8)

/* slot_state.flags: set by the program, sticky, cleared by user space only. */
#define TRACKER_LOST_MARK 1u	/* a look-up failed: something was not marked */
#define TRACKER_OUT_OF_RANGE 2u	/* a write beyond the bitmap: the volume grew,
				 * or its partition starts elsewhere now */

struct route_target {
	__u64 start_sector;	/* the volume's first sector, counted on the whole
				 * disk as the program counts; 0 unless a partition */
	__u64 sectors;		/* volume length; writes outside are not its own */
	__u32 slot;
	__u32 strict;		/* 1: a write outside the range is OUT_OF_RANGE
				 * (the volume's own dev_t, an alias), 0: it is
				 * ignored (a whole disk's) */
};

/* Value of map `routes`, keyed by the kernel's dev_t (major << 20 | minor). */
struct route {
	__u32 target_count;
	__u32 reserved;
	struct route_target targets[TRACKER_TARGETS];
};

/* Value of map `ledger`, keyed by dev_t: what was traced on that device. */
struct ledger {
	__u64 write_sectors;	/* everything the kernel counts as write */
	__u64 discard_sectors;
	__u64 write_bios;
	__u64 discard_bios;
};

/*
 * Value of map `slots`. A slot is in use when `device` is not 0. All but `flags`
 * is written before the first route leads here and constant until the last is
 * gone; `flags` is changed by atomic operations only, on both sides, and `owner`
 * by user space at any time.
 */
struct slot_state {
	__u32 sector_shift;	/* block = (sector - start) >> sector_shift */
	__u32 flags;		/* TRACKER_LOST_MARK … */
	__u64 blocks;		/* bits in the bitmap */
	__u64 start_sector;	/* as attached, see tracker.h; the rest is for */
	__u64 sectors;		/* user space, the program does not read it */
	__u32 device;		/* the volume's own dev_t */
	__u32 disk;
	__u8 owner[16];		/* whoever takes the marks; see tracker.h */
};

_Static_assert(sizeof(struct route_target) == 24, "route_target layout");
_Static_assert(sizeof(struct route) == 8 + 24 * TRACKER_TARGETS, "route layout");
_Static_assert(sizeof(struct ledger) == 32, "ledger layout");
_Static_assert(sizeof(struct slot_state) == 56, "slot_state layout");

#endif
