/*
 * What the files of prune_repack share.
 *
 *   gather  where everything lies that is needed: pieces of holders
 *   repack  which holders have to go, and what the record says then
 *   copy    what is needed of these into packs
 */
#ifndef CLAWBACK_REPO_REPACK_PRIVATE_H
#define CLAWBACK_REPO_REPACK_PRIVATE_H

#include "agent/repo/prune_private.h"

#include <errno.h>

#define REPACK_THREADS 16u	/* requests at once; a store may allow itself fewer */
#define BATCH 64u		/* small segments read at once */

/* A segment of a point, or a pack: an object, or what lies in a point's. */
struct holder {
	uint64_t number;		/* of a pack: 0 */
	uint32_t segment;		/* of a pack: its index in old->packs */
	bool is_inline;
	bool fixed;			/* it cannot be read: stays as it is */
	bool moves;
	struct uuid run;
	uint64_t base;			/* where in the object the segment begins */
	uint64_t head_bytes;		/* of the point */
	uint64_t segment_bytes;
	uint8_t sha256[CRYPTO_DIGEST_SIZE]; /* of the segment */
	uint64_t bytes, live;
};

/* A hidden point of which segments are needed that are where its run stored them. */
struct origin {
	uint64_t number, head_bytes, map_bytes;	/* of the map in its object */
	bool readable, is_inline;
	struct uuid run;
	struct pipeline_segment *segments;	/* owned */
	size_t segment_count;
};

/* A small segment, with all before it in its object; in memory. */
struct batched {
	uint32_t holder;
	uint8_t *data;
	int ret;
	struct error err;
};

/* A run of live bytes in one holder. */
struct piece {
	uint64_t number, offset, length, at;
	uint32_t segment;
	uint32_t holder;
};

struct repack {
	struct marking *marking;
	struct holder *holders;		/* old->packs first */
	size_t holder_count, holder_room;
	struct piece *pieces;
	size_t piece_count, piece_room;
	struct origin *origins;		/* by number */
	size_t origin_count;
	struct batched batch[BATCH];
	size_t batch_count;
	uint64_t head_counted;		/* the point whose head is part of a pack's `live` */
	uint8_t *buffer;		/* `have` bytes from `from` on of holder `loaded` */
	uint32_t loaded;
	uint64_t from;
	size_t have;
};

/* Fills holders, pieces and origins. */
int repack_gather(struct repack *repack, struct error *err);

/* Copies the pieces of all holders that move. One that cannot be read does not move. */
int repack_copy(struct repack *repack, struct error *err);

/* Whether a failure is the fault of what was read. Such is kept as it is, for verify to
 * tell and for who may have a copy; it does not keep space from coming back elsewhere. */
static inline bool repack_is_damage(int ret, const struct error *err)
{
	return ret == -ENOENT || err->exit == EXIT_UNTRUSTWORTHY;
}

static inline bool holder_is_pack(const struct repack *repack, const struct holder *holder)
{
	return holder < repack->holders + repack->marking->old->pack_count;
}

#endif
