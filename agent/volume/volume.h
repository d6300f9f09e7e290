/*
 * Volumes: what a device is, how a point in time of it is frozen, and what is
 * remembered about it between runs.
 *
 * Everything device-mapper goes through libdevmapper. Nothing is ever written to
 * a volume, with one exception (slot_device.c): its device is opened read-only or not
 * at all.
 *
 * Threads: one at a time.
 */
#ifndef CLAWBACK_VOLUME_VOLUME_H
#define CLAWBACK_VOLUME_VOLUME_H

#include "agent/base/error.h"
#include "agent/base/laps.h"
#include "agent/base/uuid.h"
#include "blockmap/bitmap.h"
#include "bpf/tracker.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define VOLUME_NAME_MAX 64	/* [A-Za-z0-9._-], not starting with '.' or '-' */
#define VOLUME_GROUP_MAX 16	/* volumes in one group */

/* ---- devices ----------------------------------------------------------- */

/* What a block device is right now. Read from sysfs and device-mapper. */
struct device_facts {
	char path[PATH_MAX];	/* as given, or found again, /dev/… */
	uint32_t device;	/* kernel dev_t */
	uint64_t diskseq;	/* kernel's per-instance number; 0 if it has none */
	uint64_t bytes;
	uint64_t start_sector;	/* partition: start on its disk; else 0 */
	uint32_t disk;		/* partition: dev_t of the whole disk; else 0 */
	uint32_t logical_block_bytes;
	bool is_dm;
	bool read_only;
	bool iostats_off;	/* queue/iostats; device-mapper of Linux 6.1 has it so and
				 * counts all the same */
	bool mounted_rw;	/* it, or a device stacked on it, is mounted writable
				 * or used as swap */
	char dm_name[128];	/* "" unless is_dm */
	char dm_uuid[130];	/* "" when it has none */
	char dm_targets[128];	/* "linear", "linear,striped", … */
	uint8_t table[32];	/* SHA-256 of its own table (also while a snapshot of
				 * ours stands), without keys; zero unless is_dm */
};

/* Facts of the block device at `path` (symlinks followed). */
int device_facts(const char *path, struct device_facts *facts, struct error *err);

/*
 * Finds a volume's device again: by dm uuid when `dm_uuid` is not empty (the
 * name or number may have changed), else by `path`. When both are given and the
 * device at `path` has another uuid, the one with the recorded uuid wins; when
 * none has it, -ENODEV says what stands at `path` now.
 */
int device_find(const char *path, const char *dm_uuid,
		struct device_facts *facts, struct error *err);

/* Where a device is mounted (or "swap", or by what it is held); "" when unused. */
int device_usage(uint32_t device, char *where, size_t room, struct error *err);

/* Sectors that the kernel has counted as read from it, in this boot. */
int device_sectors_read(const struct device_facts *device, uint64_t *sectors,
			struct error *err);

/*
 * Reads and writes of it that ended in this boot, and what they took in all, each from
 * its arrival to its end; discards and flushes are left out. -ENODEV when it is gone.
 */
struct device_io { uint64_t ended, ticks_ms, in_flight; };
int device_io(uint32_t device, struct device_io *io);

/*
 * What lies on or beneath a device, by the kernel's own words: an attribute of it below
 * /sys/dev/block, without its final newline; its name there ("sda1"); and its kin, for
 * each of which ("partitions", "holders" or "slaves") `visit` is called, until it returns
 * other than 0, which is returned. -ENOENT, -ENODEV, -ENAMETOOLONG.
 */
int device_attribute(uint32_t device, const char *attribute, char *text, size_t room);
int device_name(uint32_t device, char *name, size_t room);
int device_kin(uint32_t device, const char *folder,
	       int (*visit)(uint32_t device, void *context), void *context);

/* Sectors written to it and discarded in this boot, and whether more are under way. */
struct device_writes { uint64_t write_sectors, discard_sectors, in_flight; };
int device_writes(uint32_t device, struct device_writes *writes);

/* Whether the file system that lies directly on it is mounted, and where: the shortest
 * path; or whether it is in use as swap. */
struct device_mount { char where[PATH_MAX], type[32]; bool writable, swap; };
bool device_mounted(uint32_t device, struct device_mount *mount);

/* 0 when the kernel offers what provider dm needs; else what is missing. */
int volume_dm_check(struct error *err);

/* ---- adopted devices ------------------------------------------------------ */

/*
 * An adopted device is a device-mapper device of one linear line over the whole of a
 * partition or disk: what a snapshot of that needs, put there before it is used.
 * Its dm uuid is ADOPTED_UUID_PREFIX and an identity that stays from boot to boot.
 */
#define ADOPTED_UUID_PREFIX "clawback_adopted-"

/*
 * Makes /dev/mapper/NAME over `beneath`; 0, too, when it stands there already.
 * `in_udev`: a udev rule runs us (whose answer cannot be waited for). -EBUSY when
 * `beneath` is in use, -EEXIST when the name or the identity is another's.
 */
int adopted_open(const struct device_facts *beneath, const char *name, const char *identity,
		 bool in_udev, struct error *err);
/* Removes it; -EBUSY while it is used, 0 when there is none. */
int adopted_close(const char *name, struct error *err);
/* The adopted device and the one beneath it, which has no path when it was unplugged.
 * -ENODEV; -EEXIST when the device is another's. */
int adopted_find(const char *name, struct device_facts *device, struct device_facts *beneath,
		 struct error *err);
/* Calls `visit` with the name of each that is there, until it returns non-zero. */
int adopted_each(int (*visit)(const char *name, void *context), void *context,
		 struct error *err);

/* ---- snapshots and the boundary ---------------------------------------- */

enum snapshot_provider {
	PROVIDER_AUTO,		/* dm for device-mapper volumes, else none */
	PROVIDER_DM,
	PROVIDER_NONE,		/* the volume itself, not mounted for writing */
};

enum cow_kind { COW_RAM, COW_FILE, COW_DEVICE };

struct cow_options {
	enum cow_kind kind;
	char path[PATH_MAX];	/* COW_FILE: a folder on another volume; COW_DEVICE */
	uint64_t bytes;		/* 0: 256 MiB, or the whole device; RAM and FILE
				 * are never made larger than the volume */
};

/* One volume of a boundary. Filled by the caller; the rest by boundary_open. */
struct boundary_volume {
	/* in */
	const char *name;		/* for messages and helper devices' names */
	struct uuid id;
	struct device_facts device;
	enum snapshot_provider provider;
	struct cow_options cow;
	bool tracked;			/* false: no slot; everything is read */
	uint32_t slot;
	const struct bitmap *pending;	/* marks of a failed run, or NULL; same bits */

	/* out */
	enum snapshot_provider used;
	char read_path[PATH_MAX];	/* V-snap, or the volume itself */
	struct bitmap read_set;		/* tracked: what to read; owned, _close frees */
	struct tracker_ledger before;	/* just before the switch: kernel, then traced */
	struct tracker_ledger base;	/* the next ledger base: traced before the
					 * switch, kernel after it. What was traced
					 * between the two is slack in which as many
					 * missed sectors could hide: while a volume
					 * stays trusted, its older base is exacter */
	uint64_t time_ns;		/* CLOCK_REALTIME just before the switch: all
					 * writes that ended earlier are in the point */
	bool frozen_fs;			/* a file system was mounted, the kernel froze it */
};

struct boundary_options {
	/* Called after the switch, before boundary_open returns, for each volume:
	 * makes volume->read_set durable. The tracker's retired bitmap is dropped
	 * only after it returned 0. NULL: the retired bitmap is kept, and the
	 * next boundary's read set has its marks too; the caller may drop it with
	 * tracker_drop_retired. */
	int (*save)(void *context, const struct boundary_volume *volume,
		    struct error *err);
	/* Called once, as soon as all volumes run on after the switch and their
	 * counters were read: what stood still for the instant may go on. Not when
	 * the switch failed. NULL is fine. */
	void (*switched)(void *context);
	void *context;
	/* Where the time goes: snapshot_make, rotate, switch, collect, snapshot_open,
	 * save_marks. NULL is fine. */
	struct laps *laps;
};

struct boundary;

/*
 * The boundary protocol (docs/tracking.md) for one volume or a group. On success every
 * volume has its read_path and, if tracked, its read_set; the point in time is
 * one instant for all. On failure everything is as before, and no mark is lost.
 *
 * The caller holds every volume's lock: helper devices of these volumes that
 * exist already are taken for a dead run's and removed first. `volumes` and what
 * they point to must stay until boundary_close. `tracker` may be NULL when no
 * volume is tracked. read_path is to be read with O_DIRECT.
 *
 * Provider dm takes volumes made of the targets linear, striped, unstriped,
 * crypt, thin, zero, error, delay and flakey; others keep state that a second
 * instance would damage (-ENOTSUP). While it is open, discards on the volume fail
 * with EOPNOTSUPP, as on any snapshot origin.
 */
int boundary_open(struct tracker *tracker, struct boundary_volume *volumes,
		  size_t count, const struct boundary_options *options,
		  struct boundary **boundary, struct error *err);

/*
 * Is what was read so far still the point in time? dm: the snapshot has not
 * overflowed (-ENOSPC, hint to enlarge the COW). none: no write came since
 * (-EBUSY). To be asked after the last read and before it is trusted.
 */
int boundary_check(struct boundary *boundary, struct error *err);

/* How full the fullest COW store is, 0–100; 0 for provider none. */
int boundary_fill(struct boundary *boundary, unsigned *percent,
		  struct error *err);

/*
 * Puts the volumes' own tables back and removes every helper device; what failed is
 * boundary_recover's. Nothing may have read_path open any more (it waits 5 s for
 * that). udev is still at work on it afterwards: boundary_close has to follow.
 */
int boundary_drop(struct boundary *boundary, struct error *err);
/*
 * Waits, bounded, until udev has handled what it was told of the volumes so far. Else
 * that is done when the time comes; a process that dies until then leaves a
 * semaphore behind for each of them.
 */
void boundary_settle(struct boundary *boundary);
/*
 * Drops it, unless that was done; waits, bounded, for udev, since the next
 * boundary must not suspend a volume that it still looks at; frees all, also when
 * it fails. NULL is fine.
 */
int boundary_close(struct boundary *boundary, struct error *err);

/*
 * Removes what dead runs left: devices with our uuid prefix, their loop devices
 * and COW files; a volume that still runs on a helper device of ours gets its
 * own table back; one left suspended is resumed. Only runs whose volume lock is
 * free are touched (boundary_open cleans up behind its own volumes). `removed` counts devices. Safe at any time.
 */
int boundary_recover(const char *state_folder, unsigned *removed,
		     struct error *err);

/* ---- the state folder -------------------------------------------------- */

enum volume_trust { TRUST_UNTRUSTED, TRUST_TRACKED };

/* <state>/volumes/<name>/state.json */
struct volume_state {
	struct uuid id;			/* the volume's identity in the repository */
	char name[VOLUME_NAME_MAX + 1];
	char device_path[PATH_MAX];
	char dm_uuid[130], dm_name[128];
	uint8_t table[32];		/* device_facts.table at the last boundary */
	uint32_t device;
	uint64_t diskseq;
	uint64_t bytes;
	uint32_t granularity_bytes;	/* tracker's block */
	struct uuid repository;
	uint64_t head_point;		/* 0: none yet */
	uint8_t head_hash[32];		/* of the head's manifest */
	uint64_t head_time_ns;
	uint64_t full_point;		/* the last full, perhaps synthetic; 0: not known */
	/* Of the last of each kind; 0 when not known. */
	uint64_t full_time_ns, synthetic_time_ns, differential_time_ns;
	enum volume_trust trust;
	char reason[256];		/* why untrusted */
	uint64_t since_ns;		/* of the present trust */
	struct tracker_identity identity; /* at the last boundary */
	uint64_t recursion_misses;	/* at the last boundary */
	struct tracker_ledger base;	/* ledger base of the last boundary */
};

bool volume_state_exists(const char *state_folder, const char *name);
/* -ENOENT when the volume has never been seen. */
int volume_state_load(const char *state_folder, const char *name,
		      struct volume_state *state, struct error *err);
/* Atomic, durable, 0600. */
int volume_state_save(const char *state_folder, const struct volume_state *state,
		      struct error *err);

/* No state is left, durably; none was there: fine. */
int volume_state_remove(const char *state_folder, const char *name, struct error *err);

/*
 * The exclusive lock of a volume (flock on <state>/volumes/<name>/lock, holding
 * pid and verb). -EWOULDBLOCK with EXIT_LOCKED names the holder. The descriptor
 * is close-on-exec; closing it (or dying) releases.
 */
int volume_lock(const char *state_folder, const char *name, const char *verb,
		int *lock_fd, struct error *err);

/*
 * The same where nothing can be written: of a volume that has been locked before. What
 * a killed run left beside its files stays.
 */
int volume_lock_read_only(const char *state_folder, const char *name, int *lock_fd,
			  struct error *err);

/*
 * The pending file: marks between rotation and commit, <state>/volumes/<name>/
 * pending (docs/format.md "Pending file": header, bits, SHA-256). `load` gives
 * -ENOENT when there is none; a damaged one is -EBADMSG (the caller then makes
 * the volume untrusted), and so is one of another granularity. A zeroed `bitmap`
 * is made as large as the file says (bitmap_fini); one with bits must have as
 * many as the file, and the marks are OR-ed into it. `run` is the id under which
 * the run would commit: its point, and no other, may stand without the state's
 * knowing it.
 */
int pending_save(const char *state_folder, const char *name,
		 uint32_t granularity_bytes, const struct uuid *run,
		 const struct bitmap *bitmap, struct error *err);
int pending_load(const char *state_folder, const char *name,
		 uint32_t granularity_bytes, struct uuid *run, struct bitmap *bitmap,
		 struct error *err);
int pending_remove(const char *state_folder, const char *name,
		   struct error *err);
bool pending_exists(const char *state_folder, const char *name);

/* SHA-256 of the state file as it is now; -ENOENT when there is none. */
int volume_state_digest(const char *state_folder, const char *name,
			uint8_t digest[static 32], struct error *err);

/* ---- fingerprints ------------------------------------------------------ */

/*
 * What the volume's blocks held at its head point: 64 keyed bits for every
 * FINGERPRINT_BLOCK_BYTES, 0 for a block of zeros (docs/format.md "Fingerprints").
 * They let a volume whose marks are not to be believed be compared with the last
 * point, and drop blocks that were rewritten with what they held. 2 GiB of state
 * folder per TiB, none for what is zero; while a full runs the same again.
 *
 *   open → settle → begin → known, note … → [commit, save the state] → advance
 *
 * The table is believed only while it can be proven to be the head point's; what
 * a run finds goes to a journal, and into the table once the point stands. Killed
 * anywhere, `settle` completes it or says no. Losing the table costs a full.
 *
 * The caller holds the volume's lock. `known` may be called by any thread while
 * `note` is by one; all else by one alone.
 */
#define FINGERPRINT_BLOCK_BYTES 4096u

struct fingerprints;
struct tagger;			/* agent/crypto */

struct fingerprints_facts {
	bool current;			/* the table is the head point's */
	uint64_t stored_bytes;		/* what it takes in the state folder */
	uint64_t checked;		/* unmarked blocks compared, by all runs, */
	uint64_t mismatches;		/* and those that had changed nevertheless */
};

/*
 * Opens the table of a volume of `blocks` blocks; a missing, damaged or other
 * volume's one is as good as none. 0 with a table that may be empty; errors are
 * those of I/O and memory.
 */
int fingerprints_open(const char *state_folder, const char *name,
		      const struct uuid *volume, uint64_t blocks,
		      struct fingerprints **table, struct error *err);

/*
 * Whether the table is that of the point with this hash, made by run `run`; a
 * sealed journal of that run is applied first. Everything else gives false.
 */
bool fingerprints_settle(struct fingerprints *table, const uint8_t head_hash[static 32],
			 const struct uuid *run);

/*
 * Starts the journal of a run. `anew`: the table will hold what is noted and
 * nothing else, under a new key; to be used unless `settle` said true.
 */
int fingerprints_begin(struct fingerprints *table, const struct uuid *run, bool anew,
		       struct error *err);
/* 32 bytes for the run's taggers. */
const uint8_t *fingerprints_key(const struct fingerprints *table);
/* Of FINGERPRINT_BLOCK_BYTES, by a tagger with that key. 0, -EIO. */
int fingerprint_of_block(struct tagger *tagger, const uint8_t *block, uint64_t *fingerprint);
/* The table's fingerprints of [first, first + count); -errno when they cannot be had. */
int fingerprints_known(const struct fingerprints *table, uint64_t first, uint32_t count,
		       uint64_t *tags);
/* What the run found there. A failure is kept and told by `seal`. */
void fingerprints_note(struct fingerprints *table, uint64_t first, uint32_t count,
		       const uint64_t *tags);
/* Unmarked blocks that were compared, to be remembered. */
void fingerprints_count(struct fingerprints *table, uint64_t checked, uint64_t mismatches);
/* Ends the journal, durably; before the point is committed. */
int fingerprints_seal(struct fingerprints *table, struct error *err);
/* The point stands and the state file says so: it has this hash. */
int fingerprints_advance(struct fingerprints *table, const uint8_t head_hash[static 32],
			 struct error *err);
/* An unsealed journal goes. NULL is fine. */
void fingerprints_close(struct fingerprints *table);
/* Removes the table; none is fine. */
int fingerprints_discard(const char *state_folder, const char *name, struct error *err);
/* For looking only: nothing is applied. Missing: all zero. */
int fingerprints_look(const char *state_folder, const struct volume_state *state,
		      struct fingerprints_facts *facts, struct error *err);

/*
 * Whether the tracker's present answer for this volume can be believed: every
 * identity, the ledger, flags and missed runs compared with `state`. Returns
 * TRUST_TRACKED, or TRUST_UNTRUSTED with `reason` filled. `ledger` may be NULL
 * (then it is read now).
 */
enum volume_trust volume_judge(struct tracker *tracker,
			       const struct volume_state *state,
			       const struct device_facts *device,
			       const struct tracker_ledger *ledger,
			       char *reason, size_t room);

/* ---- hand-over to the next boot ----------------------------------------- */

/*
 * A device held still (docs/tracking.md "Across a reboot"): claimed, so that nobody
 * mounts it or stacks a device on it; read-only for everybody until the next boot
 * or device_free; everything written is on the device. A note in the state folder
 * remembers, for whoever comes after a killed run. -EBUSY names who uses it. On
 * failure everything is as before. `fd` reads past the page cache; closing it gives
 * up the claim, and leaves the device read-only.
 */
int device_hold(const char *state_folder, const char *name,
		const struct device_facts *device, int *fd, struct error *err);

/*
 * The same for a device-mapper device that carries a mounted, read-only file system:
 * nothing is claimed, and the mount may stay, but nobody else. `fd` is open for
 * writing, too, which device_hold_open allows for a while.
 */
int device_hold_mounted(const char *state_folder, const char *name,
			const struct device_facts *device, int *fd, struct error *err);

/* A device held in that way can, or cannot any more, be written to by whoever has it
 * open: which is the caller. */
int device_hold_open(const struct device_facts *device, int fd, bool writable,
		     struct error *err);

/* -EBUSY when anybody else has the held device open, or a write is under way. */
int device_hold_check(const struct device_facts *device, bool mounted, struct error *err);

/* Writable again, if it was before and device_hold, in this boot, changed that. */
int device_free(const char *state_folder, const char *name,
		const struct device_facts *device, struct error *err);

/*
 * What a device's contents look like from outside, to notice that somebody wrote:
 * SHA-256 of places that users of a device do not leave alone (witness.c).
 */
struct witness {
	uint8_t edges[32];	/* first and last MiB, usual places of superblocks */
	uint8_t journal[32];	/* where a known file system's log goes on */
	uint8_t sample[32];	/* blocks drawn from the marks, and from everywhere */
};

struct witness_plan {
	const struct bitmap *marks;
	uint32_t granularity_bytes;
	uint64_t seed;			/* the same draws the same sample */
	const struct slot_place *hidden; /* what saving writes itself; or NULL */
};

/* `fd` is open with O_DIRECT on a device of `bytes`. */
int witness_read(int fd, uint64_t bytes, const struct witness_plan *plan,
		 struct witness *witness, struct error *err);

/*
 * SHA-256 of a device's place: its device-mapper table without what may change from
 * boot to boot (numbers of devices) and without keys; a partition's start.
 */
int device_place_digest(const struct device_facts *device,
			uint8_t digest[static 32], struct error *err);

/*
 * What one boot leaves to the next, <state>/volumes/<name>/handover (docs/format.md
 * "Hand-over file"). `marks` is owned: handover_fini.
 */
struct handover {
	struct uuid volume;
	char boot_id[37];		/* of the boot that saved it */
	uint64_t time_ns;
	uint64_t bytes;			/* the volume's size */
	uint32_t granularity_bytes;
	char dm_uuid[130];
	uint8_t place[32];		/* device_place_digest */
	uint8_t state[32];		/* volume_state_digest */
	uint64_t seed;
	struct witness witness;
	struct bitmap marks;		/* all that was written since the last boundary */
};

void handover_fini(struct handover *handover);

/* As the pending file's; a volume has at most one. -EBADMSG when it is damaged. */
int handover_save(const char *state_folder, const char *name,
		  const struct handover *handover, struct error *err);
int handover_load(const char *state_folder, const char *name,
		  struct handover *handover, struct error *err);
int handover_remove(const char *state_folder, const char *name, struct error *err);

/* ---- hand-over of the root file system's volume --------------------------- */

/* What the device that carries the root file system, and the state folder, is like. */
struct rootfs {
	bool here;		/* the volume is that device; all else is void if not */
	bool writable;
	char unfit[128];	/* why it cannot be handed over, ever; "" when it can */
};

int rootfs_look(const struct device_facts *device, const char *state_folder,
		struct rootfs *fs, struct error *err);

/*
 * Is the read-only root file system on the device (`fd`, O_DIRECT) such that the next
 * boot mounts it without writing? -EOPNOTSUPP says what it is not.
 */
int rootfs_at_rest(int fd, struct error *err);

/* The superblock's part of that, NULL if so: in words what speaks against it. */
const char *ext4_unrest(const uint8_t block[static 4096]);

/*
 * The slot, <state>/volumes/<name>/handover.slot (docs/format.md "Hand-over slot"): a
 * file made while its file system, which is the volume's own, can be written to; filled
 * beneath it, on the device, when it cannot any more.
 */
#define SLOT_FILE "handover.slot"
bool slot_exists(const char *state_folder, const char *name);

/*
 * A state folder of this boot only, for what is noted of that volume while its own
 * cannot be written to.
 */
#define ROOT_FOLDER "/run/clawback/root"

/* Where its blocks of 4 KiB lie on the device, in the file's order. */
struct slot_place {
	struct extent *pieces;	/* owned: slot_place_fini */
	size_t count;
};

void slot_place_fini(struct slot_place *place);
uint64_t slot_place_blocks(const struct slot_place *place);
/* Sets the marks of all these blocks; -ERANGE when one lies behind their end. */
int slot_place_mark(const struct slot_place *place, uint32_t granularity_bytes,
		    struct bitmap *marks);

/*
 * Sees to it that there is an empty slot, on the disk to its last byte, with room for a
 * hand-over of `bits` marks: bits / 8 bytes and 8 KiB. A filled one must have been
 * emptied before. -EOPNOTSUPP where its place on the device cannot be told.
 */
int slot_keep(const char *state_folder, const char *name, uint64_t bits, struct error *err);

enum slot_content { SLOT_NONE, SLOT_EMPTY, SLOT_FILLED, SLOT_DAMAGED };

/* What it holds is invalid for good, durably, when this returns 0. */
int slot_empty(const char *state_folder, const char *name, enum slot_content *was,
	       struct error *err);

/* As handover_load; -ENOENT when there is none or it is empty. Changes nothing. */
int slot_load(const char *state_folder, const char *name, struct handover *handover,
	      struct error *err);

/* -EOPNOTSUPP when it is anything but plain ranges of one device. */
int slot_find(const char *state_folder, const char *name, struct slot_place *place,
	      struct error *err);

/*
 * Fills the empty slot through the device, which is held and open for writing at
 * `device_fd`, and reads it back. `sectors`: how many that wrote. After a failure it
 * may be filled or not: slot_unwrite.
 */
int slot_write(const char *state_folder, const char *name, int device_fd,
	       const struct slot_place *place, const struct handover *handover,
	       uint64_t *sectors, struct error *err);
/* Empties it again in the same way, durably. One that is not filled is left alone. */
int slot_unwrite(int device_fd, const struct slot_place *place, struct error *err);

/* ---- the judgement ---------------------------------------------------------- */

/* What is found at the boot after. */
struct handover_facts {
	const struct handover *saved;
	struct uuid volume;
	uint8_t state[32];		/* before anything was changed in it */
	const char *boot_id;
	const struct device_facts *device;
	uint32_t granularity_bytes;	/* as it is tracked from now on */
	uint8_t place[32];
	struct tracker_ledger ledger;	/* read after tracking began */
	const struct witness *witness;	/* NULL: could not be compared */
	bool counted;			/* reading it showed in the kernel's counters */
};

/*
 * Whether the saved marks are all that was written between the last boundary and
 * the beginning of tracking in this boot. TRUST_UNTRUSTED with the first reason.
 */
enum volume_trust handover_judge(const struct handover_facts *facts, char *reason,
				 size_t room);

#endif
