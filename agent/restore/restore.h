/*
 * Restore: one pass over exactly the frames that a point needs, each fetched
 * once, decoded on all cores, written where its blocks belong. Nothing that did
 * not authenticate is ever written.
 *
 * Threads: restore_run uses its own and returns when all have ended.
 */
#ifndef CLAWBACK_RESTORE_RESTORE_H
#define CLAWBACK_RESTORE_RESTORE_H

#include "agent/base/error.h"
#include "agent/crypto/crypto.h"
#include "agent/repo/repo.h"

#include <stdbool.h>
#include <stdint.h>

struct restore_target;

struct restore_target_options {
	uint64_t bytes;		/* what will be written: the volume's size */
	bool force;		/* an existing non-empty regular file may be replaced */
	bool in_place;		/* keep what is there: only differing blocks are written */
	/* Of a device: what is a hole in the point stays as it is, and what lies beyond the
	 * device's end, which may be too small, is left out. Not to be verified. */
	bool data_only;
	/* As in restore_options, and the point: a file that this journal says to be a
	 * broken restore of it is kept, and needs no `force`. NULL is fine for both. */
	const char *journal;
	const struct point *point;
};

/*
 * Opens a block device or a regular file (made, 0600, if it does not exist) for
 * restoring. Refuses: a device that is mounted, used as swap or held by another
 * device (O_EXCL too), one that is too small (says both sizes), a non-empty
 * regular file without `force`, one that somebody has locked (flock; the target
 * keeps such a lock until it is closed), anything else.
 */
int restore_target_open(const char *path,
			const struct restore_target_options *options,
			struct restore_target **target, struct error *err);

/* fsyncs; then closes. To be called on success and on failure (NULL is fine). */
int restore_target_close(struct restore_target *target, struct error *err);

/*
 * Sends what is written but not on the device yet there, and forgets what is cached of
 * it: what is marked is then complete, and what is read is what the device holds. To be
 * called before it is asked what may have changed. Does nothing for a file.
 */
int restore_target_settle(struct restore_target *target, struct error *err);

/*
 * A target of which it is known that it holds what `map` says, a whole volume's, but
 * perhaps for the blocks `changed`. Then only what can differ from the point is read,
 * fetched and, where it does differ, written. The target must be opened in place.
 */
struct restore_known {
	const struct map *map;
	const struct extent_list *changed;
};

struct restore_result;

struct restore_options {
	const struct restore_known *known;	/* NULL: anything can be there */
	/*
	 * Where to note what is done, so that a restore that breaks off can be taken up
	 * by the next one of the same point to the same target; NULL: nowhere. What it
	 * says is compared with what the target holds before it is believed. Begun when
	 * a restore has taken `journal_delay_ns` (0: 3 s), and written as often, at
	 * least four times a second; gone when it is done.
	 * Not of a known target.
	 */
	const char *journal;
	uint64_t journal_delay_ns;
	uint32_t fetchers;	/* parallel ranged reads, default 4 */
	uint32_t decoders;	/* default: online CPUs, at most 8 */
	uint32_t held_bytes;	/* decoded frames kept for later, default 48 MiB */
	bool verify;		/* read the target back; compare with the point's own
				 * image digest if it has one, else block by block with
				 * what was decoded: of a known target only that */
	/* What will be done, before the first write. */
	void (*planned)(void *context, const struct restore_result *plan);
	void (*report)(void *context, uint64_t done_bytes, uint64_t total_bytes);
	void *context;
};

struct restore_result {
	/* Data and holes are all of the volume, or of a known target what can differ. */
	uint64_t volume_bytes, data_bytes, hole_bytes;
	uint64_t written_bytes;	/* in place: only what differed */
	uint64_t fetched_bytes, frames;
	uint64_t requests;	/* for these frames; opening the point takes more */
	uint64_t resumed_bytes;	/* of data_bytes: there already, and compared */
	bool verified;
};

/* What would be done, without doing it. */
int restore_plan(struct repo *repo, const struct point *point,
		 const struct key_ring *ring, const struct restore_known *known,
		 struct restore_result *result, struct error *err);

int restore_run(struct repo *repo, const struct point *point,
		const struct key_ring *ring, struct restore_target *target,
		const struct restore_options *options,
		struct restore_result *result, struct error *err);

#endif
