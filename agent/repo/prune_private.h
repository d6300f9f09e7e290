/*
 * What the files of repo_prune share.
 *
 *   mark   makes the next record: every visible point's map without any forgotten
 *	    point below it, and which segments of pruned points still serve
 *   sweep  goes through the volume's objects with one record, which says of each
 *	    whether it is needed; needs no map and no key
 */
#ifndef CLAWBACK_REPO_PRUNE_PRIVATE_H
#define CLAWBACK_REPO_PRUNE_PRIVATE_H

#include "agent/repo/repo_private.h"

struct prune {
	struct repo *repo;
	struct uuid volume;
	const struct prune_options *options;
	uint64_t now_ns;
	struct prune_result *result;
};

/*
 * `next` is what follows `old` when all that is forgotten in it is pruned; its rebased
 * maps are stored, unless dry_run. Initialised on success only.
 */
int prune_mark(struct prune *prune, const struct retention *old, struct retention *next,
	       struct error *err);

struct sweep_count { uint64_t objects, bytes; };

/* Counts what `retention` does not need; deletes it, if `deletes`. */
int prune_sweep(struct prune *prune, const struct retention *retention, bool deletes,
		struct sweep_count *count, struct error *err);

#endif
