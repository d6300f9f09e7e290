/* What the files of repo_replicate share. */
#ifndef CLAWBACK_REPO_REPLICATE_PRIVATE_H
#define CLAWBACK_REPO_REPLICATE_PRIVATE_H

#include "agent/repo/repo_private.h"

#define REPLICATE_PIECE_BYTES (4u << 20)

struct replication {
	struct repo *source, *target;
	const struct repo_volume *volume;
	struct replica_place *place;
	const struct replicate_options *options;
	struct replicate_result *result;
	uint8_t *piece;
	size_t piece_bytes;
	/* Some of the next point's objects may be there already, of a pass that was killed. */
	bool resumed;
	/* The source's newest record, if it was read: where the maps lie that stand in. */
	const struct retention *source_record;
	/* What a child names as its parent's hash; of point place->through. */
	uint8_t hash[CRYPTO_DIGEST_SIZE];
	bool has_hash;
	uint64_t total;			/* points to be copied, for progress; 0: not known */
};

/*
 * replicate_copy.c: copies the point `number` with all that `record`, the target's, says
 * is needed of it. -ENOENT when the source has no such point, or not all of it any more.
 */
int replicate_point(struct replication *replication, const struct retention *record,
		    uint64_t number, struct error *err);

/*
 * Copies the packs that `record`, the target's, names, as far as they are not there yet.
 * -ENOENT when the source has one of them not any more.
 */
int replicate_packs(struct replication *replication, const struct retention *record,
		    struct error *err);

/* replicate_fill.c: finds out by listing what there is and what is to be there, and
 * copies that. */
int replicate_fill(struct replication *replication, struct error *err);

/* replicate_rejoin.c: commits a record to the target, which becomes `target`, with which
 * it can go on behind points that the source pruned; -ESTALE when that is not possible. */
int replicate_rejoin(struct replication *replication, const struct retention *source,
		     struct retention *target, struct error *err);

#endif
