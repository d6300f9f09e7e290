/*
 * What the files of repo_prune share.
 *
 *   mark   makes the next record: every visible point's map without any forgotten
 *	    point below it, and which bytes of pruned points are still needed
 *   repack moves these out of objects that are mostly dead, and says for the record
 *	    where they lie
 *   sweep  goes through the volume's objects with one record, which says of each
 *	    whether it is needed; needs no map and no key
 */
#ifndef CLAWBACK_REPO_PRUNE_PRIVATE_H
#define CLAWBACK_REPO_PRUNE_PRIVATE_H

#include "agent/repo/pack_format.h"
#include "agent/repo/repo_private.h"
#include "agent/repo/retention_format.h"

#include <pthread.h>

struct prune {
	struct repo *repo;
	struct uuid volume;
	const struct prune_options *options;
	uint64_t now_ns;
	struct prune_result *result;
};

/* Bytes of a hidden point's segment that visible points need: one frame or neighbours. */
struct live {
	uint64_t number, offset, length;
	uint32_t segment;
};

struct marking {
	struct prune *prune;
	const struct retention *old;
	struct retention *next;
	struct packs *packs;		/* of `old` */
	struct uuid run;
	size_t map_room;
	struct live *live;
	size_t live_count, live_room;
	uint64_t visible_bytes;		/* of visible points' segments: all needed */
	const uint64_t *numbers;	/* of visible points */
	size_t number_count, done;
	pthread_mutex_t lock;		/* guards all that a point adds, while many are looked at */
};

/*
 * Fills `serving`, `packs` and `dead_bytes` of marking->next so that all of marking->live
 * (sorted, none overlapping) is kept; stores new packs, unless dry_run.
 */
int prune_repack(struct marking *marking, struct error *err);

/* A pack on its way to the store. */
struct pack_writer;

/* Nothing is stored when `dry_run`; the result is the same but for digests. */
struct pack_writer *pack_writer_new(struct marking *marking, struct error *err);
/* Begins an item; one that continues the last is made part of it. */
int pack_writer_item(struct pack_writer *writer, const struct pack_item *item,
		     struct error *err);
/* Its bytes, in any number of pieces; NULL when dry_run. */
int pack_writer_add(struct pack_writer *writer, const void *data, size_t length,
		    struct error *err);
bool pack_writer_full(const struct pack_writer *writer);
bool pack_writer_empty(const struct pack_writer *writer);
/* Stores the index, and adds the pack to marking->next. Ends the writer, as abort does. */
int pack_writer_finish(struct pack_writer *writer, struct error *err);
void pack_writer_abort(struct pack_writer *writer);

/*
 * `next` is what follows `old` when all that is forgotten in it is pruned; its rebased
 * maps are stored, unless dry_run. Initialised on success only.
 */
int prune_mark(struct prune *prune, const struct retention *old, struct retention *next,
	       struct error *err);

/* ---- a volume's objects ------------------------------------------------ */

#define SWEPT_RUN_BYTES REPO_RUN_NAMED

enum swept_kind {
	SWEPT_POINT, SWEPT_MAP, SWEPT_REBASED, SWEPT_SEGMENT, SWEPT_PACK, SWEPT_RECORD,
};

enum swept_fate {
	FATE_UNKNOWN,			/* stays: of a run or a prune under way, perhaps */
	FATE_NEEDED,
	FATE_STUB,			/* what keeps its number taken is put in its place */
	FATE_GOES,
};

struct swept {
	enum swept_fate fate;
	enum swept_kind kind;
	uint32_t segment;		/* of a pack: its number */
	uint64_t number;		/* of a record or a pack: its sequence */
	uint64_t sequence;		/* of a rebased map */
	uint8_t run[SWEPT_RUN_BYTES];
	uint64_t bytes;
};

/* By number, a point before what belongs to it; packs and records last. */
struct swept_list {
	struct swept *items;		/* to be freed */
	size_t count, room;
};
int swept_list(struct repo *repo, const struct uuid *volume, struct swept_list *list,
	       struct error *err);
void swept_key(const struct uuid *volume, const struct swept *swept,
	       char key[static STORE_KEY_MAX]);
/* Whether it belongs to a sequence, not to a point. */
bool swept_of_sequence(const struct swept *swept);

/* Says of each what is to become of it, if `retention` is what counts; needs no key. */
int sweep_judge(struct repo *repo, const struct uuid *volume, const struct retention *retention,
		struct swept_list *list, struct error *err);

struct sweep_count {
	uint64_t objects, bytes;
	uint64_t total_bytes;		/* of all there are, but records */
};

/* Counts what `retention` does not need; deletes it, if `deletes`. */
int prune_sweep(struct prune *prune, const struct retention *retention, bool deletes,
		struct sweep_count *count, struct error *err);

#endif
