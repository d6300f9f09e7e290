/*
 * A drill: a recovery point is restored to a scratch place, checked, mounted and tried
 * with a program of the administrator's, and all of that is taken away again. What is
 * measured is how long a recovery takes; what is shown, that there is one.
 *
 *	restore		into FOLDER/clawback-drill-XXXXXX/volume, or onto a device
 *	attach		a loop device, read-write
 *	replay		mounted and unmounted: the kernel replays the journal
 *	check		e2fsck -fn, xfs_repair -n, fsck.fat -n; other types have none
 *	mount		at DRILL_PLACE_VOLUME
 *	command		with a time limit, told in its environment what is there
 *	cleanup
 *
 * From `replay` on all happens in a process with mounts, process numbers, networks and
 * IPC of its own (namespaces): nobody else sees the mount; what the command starts cannot
 * meet the real application or reach a network; and when that process ends, however it
 * ends, the kernel ends all that it started, and unmounts. It ends when we do. The loop
 * device clears itself, so that of a killed drill only the file is left, which the next
 * drill in that folder removes.
 *
 * Not for a file system that finds its parts by a UUID, which its copy has, too: btrfs,
 * and members of LVM, RAID and ZFS are refused before they are attached.
 *
 * Threads: one at a time; restoring uses threads of its own.
 */
#ifndef CLAWBACK_DRILL_DRILL_H
#define CLAWBACK_DRILL_DRILL_H

#include "agent/base/error.h"
#include "agent/repo/repo.h"

#include <stdbool.h>
#include <stdint.h>

#define DRILL_PLACE "/run/clawback-drill"	/* a tmpfs, of this drill only */
#define DRILL_PLACE_VOLUME DRILL_PLACE "/volume"
#define DRILL_PLACE_TMP DRILL_PLACE "/tmp"		/* mode 1777 */
#define DRILL_COMMAND_WORDS 32

struct drill_options {
	const char *folder;	/* where the copy goes, or … */
	const char *device;	/* … NULL: a device, which is overwritten and stays so */
	const char *command;	/* absolute path and arguments, split at blanks; NULL: none */
	uint64_t timeout_ns;	/* of the command */
	/* The point is restored: from here on no key is needed. The command's processes are
	 * forked from this one. NULL is fine, for all three. */
	void (*restored)(void *context);
	void (*report)(void *context, uint64_t done_bytes, uint64_t total_bytes);
	void (*step)(void *context, enum drill_step step, uint64_t took_ns);
	void *context;
};

/*
 * Fills of `record` what it finds out: the steps' times, bytes, file system, and which
 * step failed. What the restore finds damaged is EXIT_UNTRUSTWORTHY; a check or a command
 * that fails is EXIT_FAILED. Whatever happens, all is taken away again but what is on a
 * device; should that fail, the step that failed is DRILL_CLEANUP.
 */
int drill_run(struct repo *repo, const struct point *point, const struct key_ring *ring,
	      const struct drill_options *options, struct drill_record *record,
	      struct error *err);

/* What drill_run would want of its folder or device, before any byte moves. */
int drill_look(struct repo *repo, const struct point *point, const struct key_ring *ring,
	       const struct drill_options *options, uint64_t *needed_bytes, struct error *err);

/*
 * Which of `count` points a random drill takes, counted from the newest: the newest ones
 * more often, but all now and then. Half of all drills take one of the newest quarter.
 */
size_t drill_pick(size_t count, uint64_t random);

#endif
