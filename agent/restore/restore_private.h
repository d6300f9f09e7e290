/*
 * What the files of this room share.
 *
 *   plan    which frames, read in which ranges; which blocks are holes
 *   differ  … and of a target that is known, only what can be unlike the point
 *   source  the points that hold those frames, and their keys
 *   fetch   threads that read ranges into a fixed set of buffers
 *   write   threads that decode frames from those buffers and write their blocks
 *   check   reads the target back
 *
 * Fetchers wait for a free buffer, writers for a full one: memory is bounded by
 * two ranges a fetcher and two MiB a writer (three in place), beside the map.
 */
#ifndef CLAWBACK_RESTORE_RESTORE_PRIVATE_H
#define CLAWBACK_RESTORE_RESTORE_PRIVATE_H

#include "agent/base/parallel.h"
#include "agent/restore/restore.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#define RANGE_BYTES_MAX (4u << 20)	/* one read from the store */
#define RANGE_GAP_MAX (64u << 10)	/* read over rather than asking twice */
#define HOLE_PIECE_BYTES (64u << 20)	/* zeroed at once: interruptible in between */
#define COMPARE_PIECE_BYTES (1u << 20)	/* read back and compared at once */
#define RESTORE_THREADS_MAX PARALLEL_THREADS_MAX

_Static_assert(RANGE_BYTES_MAX >= FRAME_STORED_MAX, "a range holds a frame");

/* ---- target.c ---------------------------------------------------------- */

struct restore_target {
	int fd;
	int direct_fd;		/* the same device, O_DIRECT; -1 for a file */
	char *path;
	bool is_device;
	bool in_place;
	bool data_only;
	uint64_t bytes;		/* of a device */
	bool created;		/* by us: removed again if nothing was written */
	atomic_bool touched;	/* its content was changed */
	atomic_bool cannot_punch, cannot_zero;
};

/* Gives a file its size (empty first, unless in place). Before any write. */
int target_prepare(struct restore_target *target, uint64_t bytes,
		   struct error *err);
/* Whether holes need work: a file made anew has them already. */
bool target_needs_holes(const struct restore_target *target);
/*
 * Makes [offset, offset + length) what `data` says (NULL: zero; then length is not
 * limited unless in place). In place: reads first, into `scratch`
 * (COMPARE_PIECE_BYTES, as is then the limit of length; else NULL will do), and
 * writes what differs.
 * `written` grows by the bytes written or cleared.
 */
int target_put(struct restore_target *target, uint64_t offset,
	       const uint8_t *data, size_t length, uint8_t *scratch,
	       uint64_t *written, struct error *err);
int target_read(struct restore_target *target, uint64_t offset, void *buffer,
		size_t length, struct error *err);
/* The next offset >= `offset` that may hold data, at most `limit`; what lies
 * before reads as zero without being read. */
uint64_t target_next_data(struct restore_target *target, uint64_t offset,
			  uint64_t limit);
int target_sync(struct restore_target *target, struct error *err);
/* Forgets cached pages, so that what is read next comes from the medium. */
void target_drop_cache(struct restore_target *target);

/* ---- plan.c ------------------------------------------------------------ */

/* One read from the store: order[first_frame] … , all in one segment. */
struct plan_range {
	uint64_t offset;
	uint32_t length;
	uint32_t segment;
	size_t source;		/* index into plan.points */
	size_t first_frame;
	size_t frame_count;
};

struct plan {
	struct places *places;	/* opened before the map: where its frames lie */
	struct map map;		/* the whole volume's; narrowed, a delta onto the target */
	struct frame_index index;
	uint64_t volume_bytes, data_bytes, hole_bytes, fetch_bytes;
	uint32_t *order;	/* needed frames: newest point first, as stored */
	size_t frame_count;
	struct plan_range *ranges;
	size_t range_count;
	uint64_t *points;	/* numbers, falling */
	size_t point_count;
	struct extent_list holes;
};

/* `known` NULL: all of the volume. */
int plan_make(struct plan *plan, struct repo *repo, const struct point *point,
	      const struct key_ring *ring, const struct restore_known *known,
	      struct error *err);
void plan_fini(struct plan *plan);

/* Bytes of the volume in [block, block + count): the last block may be cut. */
uint64_t plan_clip(const struct plan *plan, uint64_t block, uint64_t count);

/* ---- differ.c ----------------------------------------------------------- */

/* Leaves of plan.map what the target may have otherwise. -errno. */
int plan_narrow(struct plan *plan, const struct restore_known *known);

/* ---- source.c ---------------------------------------------------------- */

/* A point that holds needed frames. */
struct source {
	struct point point;
	struct point_keys keys;
};

struct source_list {
	struct source *items;	/* as plan.points */
	size_t count;
};

/* Loads and opens all, in parallel: a wrong key must show before the first write. */
int source_list_open(struct source_list *list, const struct plan *plan,
		     const struct point *point, const struct key_ring *ring,
		     uint32_t threads, struct error *err);
void source_list_fini(struct source_list *list);

/* ---- run.c ------------------------------------------------------------- */

/* A range in memory. */
struct buffer {
	struct buffer *next;		/* in free or ready */
	const struct plan_range *range;
	size_t taken;			/* frames handed out */
	size_t undone;			/* frames not yet finished */
	uint8_t *data;			/* RANGE_BYTES_MAX */
};

struct job {
	const struct point *point;
	struct restore_target *target;
	const struct restore_options *options;
	struct plan plan;
	struct source_list sources;
	uint32_t fetchers, decoders;
	/* SHA-256 of the blocks needed from each frame, in plan.order's order; NULL
	 * unless the target will be read back without an image digest. */
	uint8_t (*digests)[CRYPTO_DIGEST_SIZE];

	pthread_mutex_t lock;		/* guards all below */
	pthread_cond_t freed;		/* a buffer came free, or the end */
	pthread_cond_t filled;		/* a buffer became ready, or the end */
	struct buffer *buffers;
	size_t buffer_count;
	struct buffer *free;
	struct buffer *ready, **ready_tail;
	size_t next_range;		/* to be fetched */
	size_t unready_ranges;		/* not yet in `ready` */
	size_t hole;			/* next hole piece: index and blocks done of it */
	uint64_t hole_done_blocks;
	uint64_t done_bytes, total_bytes, written_bytes, fetched_bytes;
	uint64_t reported_ns;
	bool stopped;
	struct error error;		/* the first, when stopped */
};

/* The first failure is kept; everybody is woken. */
void job_fail(struct job *job, const struct error *err);
void job_advance(struct job *job, uint64_t done_bytes, uint64_t written_bytes);

void *fetch_thread(void *job);
void *write_thread(void *job);

/* ---- check.c ----------------------------------------------------------- */

/* Reads the target back; -EBADMSG (EXIT_FAILED: the medium's fault) if it differs. */
int check_target(struct job *job, struct error *err);

#endif
