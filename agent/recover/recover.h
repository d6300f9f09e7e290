/*
 * Bare-metal recovery: a lost machine's disks made anew from the points of its disks
 * (agent/disk) and volumes, on other disks, which may be larger, or smaller by what was
 * free at their end.
 *
 *   load   which disks and volumes the repository has at a time, and how they were laid out
 *   plan   which disk goes onto which device, whether it fits, and what lies there now
 *   unlock whether what is given opens each LUKS, by its header in the disk's point
 *   run    table and boot parts, LUKS, LVM, swap, volumes; then what can be checked
 *
 * All identifiers stay: GUIDs of disks and partitions, UUIDs of LVM, file systems and
 * swap. So what names them, from the boot loader to /etc/fstab, needs no change. No
 * partition moves; only the last one may grow.
 *
 * Nothing is written before run. A run that failed or was killed can be begun again from
 * the start. Threads: one at a time; restore_run uses its own.
 */
#ifndef CLAWBACK_RECOVER_RECOVER_H
#define CLAWBACK_RECOVER_RECOVER_H

#include "agent/base/error.h"
#include "agent/disk/disk.h"
#include "agent/repo/repo.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECOVER_DISKS_MAX 16
#define RECOVER_NOTES_MAX 64

struct recover_options {
	const char *at;		/* as for point_find, for all; NULL or "": latest */
	const char *disks;	/* "NAME:/dev/… NAME:/dev/…"; NULL or "": of one disk, the only
				 * device that is free */
	bool erase;		/* devices may hold something */
	bool grow;		/* the last partition takes what a larger device has more */
	bool verify;		/* read every volume back and compare */
	bool dry_run;		/* plan changes nothing, also not what a killed run left */
	/* What opens the lost machine's LUKS: each is tried with the first line of one file,
	 * and all of the other one; NULL or "": not given. Failing these, `ask`s at the
	 * terminal. */
	const char *luks_passphrase_file, *luks_key_file;
	bool ask;
	struct key_ring ring;	/* for unlock and run: with the recovery key */
	/* For run: a step begins; and how far it is (bytes). */
	void (*step)(void *context, const char *text);
	void (*report)(void *context, uint64_t done_bytes, uint64_t total_bytes);
	void *context;
};

/* One disk that was lost, and the device that takes its place. */
struct recover_disk {
	char name[REPO_NAME_MAX + 1];
	struct point point;
	struct disk_layout layout;
	/* from plan on */
	char target[PATH_MAX];
	uint64_t target_bytes;
	char target_model[128];
	char holds[256];	/* what lies there now, "" nothing that is known */
	bool resized;		/* it has another size */
	size_t grown;		/* index of the partition that grows + 1; 0: none */
	uint64_t grown_bytes;	/* to so much */
};

struct recover_volume {
	struct point point;
	size_t disk;		/* whose layout has it */
	struct disk_place place;
	uint64_t room_bytes;	/* of that place */
};

/* What opens a LUKS. */
struct recover_secret {
	uint8_t *bytes;		/* owned; wiped when it is freed */
	size_t length;
};

/* A LUKS in which something is to be made; its header is in the disk's point. */
struct recover_crypt {
	size_t disk;
	uint32_t index;		/* into its layout's crypts */
	struct recover_secret secret;	/* from unlock on */
};

/* A volume group; all its PVs lie on disks that are recovered. */
struct recover_group {
	size_t disk, group;	/* where its layout is taken from */
};

struct recovery {
	struct repo *repo;
	struct recover_disk disks[RECOVER_DISKS_MAX];
	size_t disk_count;
	struct recover_volume *volumes;
	size_t volume_count;
	struct recover_crypt *crypts;
	size_t crypt_count;
	struct recover_group *groups;
	size_t group_count;
	/* What a person should know, but is no failure; in the order in which it was found. */
	char *notes[RECOVER_NOTES_MAX];
	size_t note_count;
	uint64_t fetched_bytes, written_bytes;	/* from run on */
};

/* -ENOENT when the repository has no disk at that time; EXIT_UNTRUSTWORTHY for a layout
 * that is not as it should be. */
int recovery_load(struct recovery *recovery, struct repo *repo,
		  const struct recover_options *options, struct error *err);
/* -EBUSY, -EEXIST (without erase), -ENOSPC, -EOPNOTSUPP, each with what to do. */
int recovery_plan(struct recovery *recovery, const struct recover_options *options,
		  struct error *err);
/* EXIT_WRONG_KEY when nothing that is given opens a LUKS, EXIT_USAGE when nothing is given
 * and nobody is to be asked. Does nothing when the machine had none. */
int recovery_unlock(struct recovery *recovery, const struct recover_options *options,
		    struct error *err);
int recovery_run(struct recovery *recovery, const struct recover_options *options,
		 struct error *err);
void recovery_fini(struct recovery *recovery);

/* One line of what will be: a disk, a partition, a volume group, what lies in it. */
struct recover_row {
	uint32_t depth;		/* 0 a disk or a volume group */
	char what[DISK_NAME_ROOM + 96];
	uint64_t bytes, new_bytes;
	char action[256];	/* "from point 3 of root, 2026-11-23 20:15:00Z", "made anew", … */
	const struct recover_disk *disk;	/* depth 0, if it is one */
	const struct recover_volume *volume;	/* if its content is one */
};
/* After plan. */
int recovery_rows(const struct recovery *recovery,
		  int (*visit)(void *context, const struct recover_row *row), void *context);

/* Parts of plan and run, for tests too: whether a layout fits its target, -ENOSPC; and the
 * text for sfdisk of its GPT there, NULL without memory. */
int recover_disk_fit(struct recovery *recovery, struct recover_disk *disk, bool grow,
		     struct error *err);
char *recover_table_script(const struct recover_disk *disk);

#endif
