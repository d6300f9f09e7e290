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
	bool cached;		/* all through the page cache: it is read meanwhile, too */
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

/* ---- for whoever reads a point's frames himself ------------------------- */

#define RANGE_BYTES_MAX (4u << 20)	/* one read from the store */

_Static_assert(RANGE_BYTES_MAX >= FRAME_STORED_MAX, "a range holds a frame");

/* One read from the store: order[first_frame] … , all in one segment. */
struct plan_range {
	uint64_t offset;
	uint32_t length;
	uint32_t segment;
	size_t source;		/* index into plan.points */
	size_t first_frame;
	size_t frame_count;
};

/* A window, 256 blocks of the volume, some of which are data. */
struct plan_window {
	uint64_t number;	/* its first block over 256 */
	uint32_t entry;		/* of the map: the first one that reaches into it */
};

/* Where a needed frame is wanted. */
struct plan_use {
	uint32_t first, last;	/* index into plan.windows */
	uint32_t range;		/* index into plan.ranges */
	uint16_t windows;	/* how many want blocks of it; 0: it is not needed */
	bool stray;
};

struct plan {
	uint64_t point;		/* its number */
	struct places *places;	/* opened before the map: where its frames lie */
	struct map map;		/* the whole volume's; narrowed, a delta onto the target */
	struct frame_index index;
	uint64_t volume_bytes, data_bytes, hole_bytes, fetch_bytes;
	uint64_t held_max;	/* of struct restore_options */
	struct extent_list holes;
	struct extent_list fills, clears; /* holes, by how they are made */

	uint32_t *order;	/* needed frames as they are fetched: strays, then by
				 * bands of windows, newest point first, as stored */
	size_t frame_count, stray_count;
	struct plan_range *ranges;
	size_t range_count;
	uint64_t *points;	/* numbers, falling */
	size_t point_count;
	struct plan_window *windows;
	size_t window_count;
	struct plan_use *uses;	/* of all frames of the map */
};

/* Both steps of it. */
int plan_make(struct plan *plan, struct repo *repo, const struct point *point,
	      const struct key_ring *ring, const struct restore_known *known,
	      struct error *err);
/* The map and the holes (`known` NULL: all of the volume); the map may then lose entries
 * that need not be restored. */
int plan_open(struct plan *plan, struct repo *repo, const struct point *point,
	      const struct key_ring *ring, const struct restore_known *known,
	      struct error *err);
/* All else. */
int plan_finish(struct plan *plan, const struct point *point, struct error *err);
void plan_fini(struct plan *plan);

/* Bytes of the volume in [block, block + count): the last block may be cut. */
uint64_t plan_clip(const struct plan *plan, uint64_t block, uint64_t count);

/* A point that holds needed frames. */
struct source {
	struct point point;
	struct point_keys keys;
};

struct source_list {
	struct source *items;	/* as plan.points */
	size_t count;
};

/* Loads and opens all, in parallel: a wrong key must show before the first write. `list` is
 * zero; source_list_fini on success and on failure. */
int source_list_open(struct source_list *list, const struct plan *plan,
		     const struct point *point, const struct key_ring *ring,
		     uint32_t threads, struct error *err);
void source_list_fini(struct source_list *list);

#define FRAME_SEALERS 16u

/* Turns frames as they are stored into blocks; one thread. */
struct frame_opener {
	const struct plan *plan;
	const struct source_list *sources;
	struct frame_decoder *decoder;
	struct {
		size_t source;
		struct sealer *sealer;
	} sealers[FRAME_SEALERS];	/* by source modulo that */
};

/* -ENOMEM; frame_opener_fini on success and on failure. */
int frame_opener_init(struct frame_opener *opener, const struct plan *plan,
		      const struct source_list *sources);
void frame_opener_fini(struct frame_opener *opener);
/*
 * Authenticates frame `frame` of the map, which a point, index `source`, stored as
 * `stored`; `plain` has room for its blocks. EXIT_UNTRUSTWORTHY when it is not what was
 * written, or not what the map says.
 */
int frame_opener_open(struct frame_opener *opener, size_t source, uint32_t frame,
		      const uint8_t *stored, uint8_t *plain, struct error *err);

/* ---- for whoever writes to a target himself ------------------------------ */

/* Gives a file its size (empty first, unless in place). Before any write. */
int target_prepare(struct restore_target *target, uint64_t bytes,
		   struct error *err);
/* Whether holes need work: a file made anew has them already. */
bool target_needs_holes(const struct restore_target *target);
/*
 * Makes [offset, offset + length) what `data` says (NULL: zero; then length is not
 * limited unless in place). In place: reads first, into `scratch`
 * (1 MiB, as is then the limit of length; else NULL will do), and
 * writes what differs.
 * `written` grows by the bytes written or cleared.
 */
int target_put(struct restore_target *target, uint64_t offset,
	       const uint8_t *data, size_t length, uint8_t *scratch,
	       uint64_t *written, struct error *err);
int target_read(struct restore_target *target, uint64_t offset, void *buffer,
		size_t length, struct error *err);
/* An error is final: the kernel may have dropped what it could not write. */
int target_sync(struct restore_target *target, struct error *err);
bool target_is_device(const struct restore_target *target);
/* The length of a file; 0 for a device. */
int target_length(const struct restore_target *target, uint64_t *bytes, struct error *err);

#endif
