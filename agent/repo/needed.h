/*
 * Which objects of a volume are needed: what its points and its newest retention record
 * refer to, be it in the points' own objects, in rebased maps or in packs; no left-overs
 * of dead runs, and nothing that the next prune deletes. For whoever copies a repository.
 */
#ifndef CLAWBACK_REPO_NEEDED_H
#define CLAWBACK_REPO_NEEDED_H

#include "agent/repo/repo.h"

enum needed_kind {
	NEEDED_DATA,		/* segments, maps, rebased maps, packs */
	NEEDED_POINT,		/* points, and stubs that keep a number taken */
	NEEDED_RECORD,		/* the newest record */
};

/* `number`: the point's, or the record's sequence; of a pack the sequence of its record. A
 * result other than 0 ends it, and is returned; with `err` filled by whoever fails. */
typedef int (*needed_fn)(void *context, enum needed_kind kind, const char *key,
			 uint64_t number, uint64_t bytes, struct error *err);

/*
 * Data first, then points, rising, then the record: copied in this order, what is there of
 * a copy is always whole. `retention` is what retention_load gave, before; a point that
 * was committed later may be among them or not. One listing of the volume, and one read
 * a point that has objects besides its own.
 */
int repo_needed(struct repo *repo, const struct uuid *volume,
		const struct retention *retention, needed_fn visit, void *context,
		struct error *err);

#endif
