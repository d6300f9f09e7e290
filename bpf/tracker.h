/*
 * The tracker: loads and pins the eBPF program, gives volumes a slot, rotates
 * and reads bitmaps, keeps the ledger. See docs/tracking.md for why it is
 * complete. One `struct tracker` is a handle on kernel objects shared by every
 * process of the host; the objects are pinned and outlive it.
 *
 * Units: sectors are 512 bytes; blocks are what one bit stands for
 * (512 << sector_shift bytes). dev_t here is always the kernel's form
 * (major << 20 | minor), never glibc's; see tracker_device().
 *
 * Threads: a handle is used by one thread at a time. Two processes must not
 * change the same slot at the same time: the caller holds the volume's lock.
 */
#ifndef CLAWBACK_BPF_TRACKER_H
#define CLAWBACK_BPF_TRACKER_H

#include "agent/base/error.h"
#include "blockmap/bitmap.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACKER_PIN_FOLDER "/sys/fs/bpf/clawback"

struct tracker;

/*
 * Works on another pin folder (below /sys/fs/bpf, its parent must exist) from
 * now on; NULL for TRACKER_PIN_FOLDER. For tests and for several independent
 * trackers on one host; to be called before any handle is opened, from one
 * thread. The text is copied.
 */
void tracker_set_pin_folder(const char *folder);

/* glibc's dev_t (st_rdev) into the kernel's. */
uint32_t tracker_device(dev_t device);

/*
 * Opens what is pinned; with `create`, loads, attaches and pins when nothing is
 * (mounting bpffs when it is not there). -ENOENT without `create` when nothing
 * is pinned. A pinned program of another TRACKER_ABI_VERSION is -EPROTO: said,
 * never silently replaced. Leaves nothing pinned when it fails half-way; what a
 * killed loader left half-pinned counts as nothing and is cleared by the next
 * one. Processes wait for one another (30 s at most, then -ETIMEDOUT).
 */
int tracker_open(bool create, struct tracker **tracker, struct error *err);
void tracker_close(struct tracker *tracker);	/* NULL is fine; pins stay */

/*
 * Takes everything away: link, program, maps, folder. Every mark is gone. Nothing
 * there is success. Handles still open keep only memory; most calls on them then
 * give -ESTALE.
 */
int tracker_remove(struct error *err);

/*
 * Identity of what is loaded, to notice that it was replaced: ids are unique
 * until reboot, boot_id per boot. Counters are since load.
 */
struct tracker_identity {
	char boot_id[37];
	uint32_t program_id, link_id;
	uint32_t bitmaps_id, routes_id, ledger_id, slots_id, retired_id;
	char program_tag[17];		/* hexadecimal, as bpftool prints it */
};
struct tracker_facts {
	struct tracker_identity identity;
	uint64_t recursion_misses;	/* program runs the kernel skipped */
	uint64_t run_count, run_ns;	/* 0 unless bpf_stats_enabled */
	uint64_t map_bytes;		/* kernel memory of all maps and collecting bitmaps */
	uint32_t slots_used;
};
int tracker_facts(struct tracker *tracker, struct tracker_facts *facts,
		  struct error *err);
bool tracker_identity_equal(const struct tracker_identity *a,
			    const struct tracker_identity *b);

#define TRACKER_OWNER_BYTES 16

/*
 * How a volume is to be tracked. A whole disk also collects what is written
 * through its partitions, and a partition what is written through its disk. The
 * owner is an identity of the caller's choice: a device has one slot, and a
 * rotation takes the marks away from everybody else who counts on them. Who finds
 * another owner takes nothing for granted.
 */
struct tracker_volume {
	uint32_t device;		/* its own dev_t */
	uint64_t start_sector;		/* 0, or the partition's start on its disk */
	uint64_t sectors;
	uint32_t block_bytes;		/* power of two, 4096 … 64 MiB */
	uint32_t disk;			/* whole disk's dev_t for a partition, else 0 */
	uint8_t owner[TRACKER_OWNER_BYTES];
};

/*
 * Doubles `block_bytes` (from `wanted`, 0 for 4096) until a bitmap for `sectors`
 * takes at most `limit_bytes` (0 for 64 MiB), or it reaches 64 MiB. A run holds
 * two bitmaps.
 */
uint32_t tracker_granularity(uint64_t sectors, uint32_t wanted,
			     uint64_t limit_bytes);

/*
 * Starts collecting into a new, empty bitmap in a free slot and routes the
 * volume's dev_ts to it. -EEXIST when a slot for this dev_t exists already,
 * -EINVAL when the geometry is not the device's (sysfs), -ENODEV when there is no
 * such device, -EOPNOTSUPP when its writes can pass by the block layer (DAX),
 * -ENOSPC when slots are used up or TRACKER_TARGETS volumes share the disk.
 */
int tracker_attach(struct tracker *tracker, const struct tracker_volume *volume,
		   uint32_t *slot, struct error *err);
int tracker_detach(struct tracker *tracker, uint32_t slot, struct error *err);

/* The slot whose own (strict) route is `device`; -ENOENT when untracked. */
int tracker_find(struct tracker *tracker, uint32_t device, uint32_t *slot);

struct tracker_slot {
	uint32_t slot;
	uint32_t device;		/* the volume's own dev_t */
	uint64_t sectors;
	uint32_t block_bytes;
	uint64_t blocks;
	uint32_t flags;			/* TRACKER_LOST_MARK, TRACKER_OUT_OF_RANGE */
	uint8_t owner[TRACKER_OWNER_BYTES];
};
int tracker_slot(struct tracker *tracker, uint32_t slot,
		 struct tracker_slot *info, struct error *err);

/* Takes the slot over. The old owner sees it at its next boundary. */
int tracker_set_owner(struct tracker *tracker, uint32_t slot,
		      const uint8_t owner[static TRACKER_OWNER_BYTES], struct error *err);

/* What a slot has collected. Asks for every bitmap and reads them: for status. */
struct tracker_marks {
	uint64_t dirty_blocks;		/* set bits, retired bitmap included */
	bool retired;			/* a retired bitmap is held */
	uint32_t bitmap_id;		/* map id of the collecting bitmap */
};
int tracker_marks(struct tracker *tracker, uint32_t slot,
		  struct tracker_marks *marks, struct error *err);

/*
 * A second dev_t for the same slot (V-real), and its end. Same geometry as V.
 * Adding it again and removing what is not there succeed.
 */
int tracker_alias_add(struct tracker *tracker, uint32_t slot, uint32_t device,
		      struct error *err);
int tracker_alias_remove(struct tracker *tracker, uint32_t device,
			 struct error *err);

/*
 * Retires the collecting bitmap and puts an empty one in its place; returns when
 * no CPU can still write the old one. If a retired bitmap is held already (a run
 * died), its marks are first OR-ed into the collecting one, so nothing is lost
 * wherever this stops. The tracker's own memory afterwards: two bitmaps.
 */
int tracker_rotate(struct tracker *tracker, uint32_t slot, struct error *err);

/*
 * ORs the retired / the collecting bitmap into `target` (bits = slot's blocks,
 * else -EINVAL). -ENOENT when no retired bitmap is held.
 */
int tracker_read_retired(struct tracker *tracker, uint32_t slot,
			 struct bitmap *target, struct error *err);
int tracker_read_current(struct tracker *tracker, uint32_t slot,
			 struct bitmap *target, struct error *err);

/* ORs `marks` (bits as above) into the collecting bitmap: they are collected again. */
int tracker_mark(struct tracker *tracker, uint32_t slot,
		 const struct bitmap *marks, struct error *err);

/* Drops the retired bitmap, once its marks are durable elsewhere. None is fine. */
int tracker_drop_retired(struct tracker *tracker, uint32_t slot,
			 struct error *err);

/* Clears the sticky flags (the caller has made the volume untrusted). */
int tracker_clear_flags(struct tracker *tracker, uint32_t slot,
			struct error *err);

/*
 * The ledger of one device: sectors the kernel counts (diskstats fields 7 and
 * 14, /sys/dev/block/M:m/stat) and sectors traced since the route was made. The
 * kernel's are read first. Both are absolute; compare differences. What the
 * kernel counts for a disk includes its partitions, and so does what is traced.
 * -ENOENT for a device without a route.
 */
struct tracker_ledger {
	uint64_t kernel_write_sectors, kernel_discard_sectors;
	uint64_t traced_write_sectors, traced_discard_sectors;
};
int tracker_ledger(struct tracker *tracker, uint32_t device,
		   struct tracker_ledger *ledger, struct error *err);

/* Write and discard requests in flight on the device (sysfs `inflight`). */
int tracker_inflight(uint32_t device, uint64_t *requests, struct error *err);

#endif
