/*
 * What the files of repo_verify share.
 *
 * Work is handed out in three sizes: a pack, a point (its manifest and map), and then
 * each of its segments. Threads take open segments before they open another point, so
 * that at most VERIFY_THREADS points are in memory, and one large full is read by
 * all threads as well as ten thousand small points are.
 */
#ifndef CLAWBACK_REPO_VERIFY_PRIVATE_H
#define CLAWBACK_REPO_VERIFY_PRIVATE_H

#include "agent/repo/pack_format.h"
#include "agent/repo/repo_private.h"

#include <pthread.h>

#define VERIFY_THREADS 4u
#define VERIFY_PIECE_BYTES (8u << 20)
/* So many failures to reach anything in a row end the check. */
#define VERIFY_UNCHECKED_MAX 8u

enum verify_state {
	VERIFY_UNREAD,		/* could not be checked */
	VERIFY_BAD,		/* missing or damaged: reported already */
	VERIFY_READ,
};

/* What is remembered of every point until the end, for the chain. */
struct verify_known {
	uint64_t number;
	enum verify_state state;
	bool listed;
	uint64_t listed_bytes;	/* size of its object in the listing */
	uint64_t parent, base;	/* parent: on which its map lies, if that was rebased */
	uint32_t depth;
	bool rebased;		/* base and depth are those of the map before */
	uint8_t hash[CRYPTO_DIGEST_SIZE], parent_hash[CRYPTO_DIGEST_SIZE];
};

/* An open point: some of its segments are still to be read. */
struct verify_point {
	struct verify_point *next;
	struct point point;
	const struct retention_serving *serving; /* only these segments are needed */
	bool decode;		/* keys, map, index and order are there */
	struct point_keys keys;
	struct map map;
	struct frame_index index;
	uint32_t *order;	/* its own frames by segment and offset */
	size_t frame_count;
	uint32_t taken, undone;	/* segments; guarded by verify.lock */
};

struct verify {
	struct repo *repo;
	struct uuid volume;
	const struct verify_options *options;
	bool opens_maps;
	struct retention retention;
	struct packs *packs;		/* of that record */
	bool *wanted_packs;		/* which of them are to be checked */
	struct extent_list gone;	/* pruned, and their objects are not needed */
	struct verify_known *known;	/* by number */
	size_t count;

	pthread_mutex_t lock;		/* guards all below; callbacks run under it */
	pthread_cond_t changed;		/* open, opening or stopped changed */
	struct verify_result result;
	uint64_t total_bytes, reported_ns;
	uint64_t unchecked;
	uint32_t unchecked_run;		/* without a success in between */
	struct error first_unchecked;
	size_t next_pack, next_point;	/* how many were taken */
	size_t below;			/* so many points are below `from`, or all */
	uint64_t deadline_ns;		/* of CLOCK_MONOTONIC; 0: none */
	uint32_t opening;		/* points being opened: may give segments */
	struct verify_point *open;
	bool stopped;
	struct error error;
};

/* Memory of one thread, which has it once verify_room was called. */
struct verify_worker {
	struct verify *verify;
	uint8_t *buffer;
	size_t room;
	/* Where data are decoded: */
	struct frame_decoder *decoder;
	uint8_t *plain;		/* FRAME_PLAIN_MAX */
};

/*
 * Makes worker->buffer large enough for an object of so many bytes, read whole or in pieces
 * of VERIFY_PIECE_BYTES behind the beginning of a frame. What was in it goes. Most objects
 * are much smaller than a piece, and memory that is not touched costs nothing.
 */
int verify_room(struct verify_worker *worker, uint64_t object_bytes, struct error *err);

struct verify_known *verify_find(struct verify *verify, uint64_t number);

/* Reports and counts something wrong. */
void verify_problem(struct verify *verify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/*
 * Sorts a failure: a problem found; something that could not be checked; or
 * (interrupt, memory, nothing reachable any more) the end of the run.
 */
void verify_fault(struct verify *verify, const struct error *err);
bool verify_stopped(struct verify *verify);
void verify_advance(struct verify *verify, uint64_t bytes);
void verify_passed_over(struct verify *verify);
/* Another frame of those the sample is drawn from. */
void verify_drawn(struct verify *verify, uint64_t bytes, bool sampled);
void verify_count(struct verify *verify, uint64_t points, uint64_t objects,
		  uint64_t frames);

/* verify_retention.c: reads the records and compares each with the one before it;
 * looks for missing points. */
int verify_records(struct verify *verify, struct error *err);
void verify_sequence(struct verify *verify);

/* verify_chain.c: fills `known` (all points, or `number` and what it needs) and
 * total_bytes; compares every point with its parent. */
int verify_gather(struct verify *verify, uint64_t number, struct error *err);
void verify_chain(struct verify *verify);

/* verify_point.c: opens a point and checks its object and map; NULL when there is
 * nothing further to check in it. */
struct verify_point *verify_point_open(struct verify_worker *worker,
				       struct verify_known *known);
void verify_point_free(struct verify_point *open);

/* verify_pack.c: one pack of the newest record. */
void verify_pack(struct verify_worker *worker, size_t pack);
/* Whether a pack holds the frame, and its point's head. */
int verify_packed(struct verify *verify, const struct map_frame *frame, bool *packed,
		  struct error *err);

/* verify_sample.c: where to begin, and the n-th point that is to be taken; a segment of
 * which only some frames are, false when all of it is to be. */
void verify_order(struct verify *verify);
struct verify_known *verify_nth(struct verify *verify, size_t n);
bool verify_segment_sample(struct verify_worker *worker, struct verify_point *open,
			   uint32_t segment);

/* verify_segment.c; the size by a request that costs little, told when it is wrong; the
 * first of a point's own frames at or behind a segment. */
bool verify_segment_sized(struct verify *verify, const struct point *point, uint32_t segment,
			  const char *key);
size_t verify_frames_from(const struct verify_point *open, uint32_t segment);
void verify_segment(struct verify_worker *worker, struct verify_point *open,
		    uint32_t segment);

#endif
