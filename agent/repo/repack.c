/*
 * Repacking: what is needed of hidden points is found in their own objects or in packs;
 * where too little of such a holder is needed, that is copied into a new pack, and the
 * holder goes. Frames are sealed with keys that the host does not have, so it is whole
 * frames that are kept, of which one block at least is needed.
 * Memory: 48 bytes a run of live frames, 128 a holder, 80 a point and 48 each of its
 * segments.
 */
#include "agent/repo/repack_private.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "repacking: out of memory");
}

/* ---- what moves -------------------------------------------------------- */

/* The least needed first. */
static int compare_share(const void *a, const void *b)
{
	const struct holder *x = *(struct holder *const *)a, *y = *(struct holder *const *)b;
	__extension__ typedef unsigned __int128 wide;
	wide left = (wide)x->live * y->bytes, right = (wide)y->live * x->bytes;

	return left < right ? -1 : left > right;
}

static int compare_bytes(const void *a, const void *b)
{
	const struct holder *x = *(struct holder *const *)a, *y = *(struct holder *const *)b;

	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

struct choice {
	struct holder **items;		/* what could move, and does not yet */
	size_t count;
	uint64_t total, live, moved;
};

static void choose(struct choice *choice, struct holder *holder)
{
	holder->moves = true;
	choice->total -= holder->bytes - holder->live;
	choice->moved += holder->live;
}

/*
 * What is mostly dead, and what lies in a point's own object: such are small and many.
 * Then the least needed, until all together is within a tenth of what is needed, which
 * with what packs take for themselves is less than a fifth.
 */
static void choose_dead(struct choice *choice)
{
	size_t kept = 0;

	for (size_t i = 0; i < choice->count; i++)
		if (choice->items[i]->is_inline ||
		    choice->items[i]->live < choice->items[i]->bytes / 2)
			choose(choice, choice->items[i]);
		else
			choice->items[kept++] = choice->items[i];
	choice->count = kept;
	qsort(choice->items, kept, sizeof(*choice->items), compare_share);
	for (kept = 0; kept < choice->count; kept++) {
		if (choice->total - choice->live <= choice->live / 10)
			break;
		choose(choice, choice->items[kept]);
	}
	choice->items += kept;
	choice->count -= kept;
}

/*
 * Small packs go along with what is written anyway, each as long as it is not much more
 * than that: so there are few, and nothing is copied often.
 */
static void choose_packs(const struct repack *repack, struct choice *choice)
{
	qsort(choice->items, choice->count, sizeof(*choice->items), compare_bytes);
	for (size_t i = 0; choice->moved && i < choice->count; i++)
		if (holder_is_pack(repack, choice->items[i])) {
			if (choice->items[i]->bytes / 2 > choice->moved)
				break;
			choose(choice, choice->items[i]);
		}
}

static int choose_all(struct repack *repack, struct error *err)
{
	CLEANUP_FREE struct holder **items = calloc(repack->holder_count + 1, sizeof(*items));
	struct choice choice = {
		.items = items, .total = repack->marking->visible_bytes,
		.live = repack->marking->visible_bytes,
	};

	if (!items)
		return no_memory(err);
	for (size_t i = 0; i < repack->holder_count; i++) {
		struct holder *holder = &repack->holders[i];

		if (holder->bytes < holder->live)	/* unread, or overhead counted twice */
			holder->bytes = holder->live;
		if (!holder->live)
			continue;
		choice.total += holder->bytes;
		choice.live += holder->live;
		if (!holder->fixed)
			items[choice.count++] = holder;
	}
	choose_dead(&choice);
	choose_packs(repack, &choice);
	return 0;
}

/* ---- the record -------------------------------------------------------- */

static int packs_keep(struct repack *repack, struct error *err)
{
	const struct retention *old = repack->marking->old;
	struct retention *next = repack->marking->next;
	size_t kept = 0, added = next->pack_count;
	struct retention_pack *packs = calloc(old->pack_count + added + 1, sizeof(*packs));

	if (!packs)
		return no_memory(err);
	for (size_t i = 0; i < old->pack_count; i++)
		if (repack->holders[i].live && !repack->holders[i].moves)
			packs[kept++] = old->packs[i];
	if (added)
		memcpy(packs + kept, next->packs, added * sizeof(*packs));
	free(next->packs);
	next->packs = packs;
	next->pack_count = kept + added;
	return 0;
}

static int serving_keep(struct repack *repack, struct error *err)
{
	struct retention *next = repack->marking->next;
	struct retention_serving *serving = NULL;

	next->serving = calloc(repack->holder_count + 1, sizeof(*next->serving));
	if (!next->serving)
		return no_memory(err);
	for (size_t i = repack->marking->old->pack_count; i < repack->holder_count; i++) {
		const struct holder *holder = &repack->holders[i];

		if (holder->moves)
			continue;
		if (!serving || serving->number != holder->number) {
			serving = &next->serving[next->serving_count++];
			serving->number = holder->number;
		}
		if (extent_list_append(&serving->segments, holder->segment, 1))
			return no_memory(err);
	}
	return 0;
}

int prune_repack(struct marking *marking, struct error *err)
{
	struct repack repack = { .marking = marking };
	int ret = repack_gather(&repack, err);

	if (!ret)
		ret = choose_all(&repack, err);
	if (!ret)
		ret = repack_copy(&repack, err);
	if (!ret)
		ret = packs_keep(&repack, err);
	if (!ret)
		ret = serving_keep(&repack, err);
	for (size_t i = 0; i < repack.holder_count; i++)
		if (repack.holders[i].live && !repack.holders[i].moves)
			marking->next->dead_bytes += repack.holders[i].bytes -
						     repack.holders[i].live;
	for (size_t i = 0; i < repack.origin_count; i++)
		free(repack.origins[i].segments);
	free(repack.origins);
	free(repack.holders);
	free(repack.pieces);
	return ret;
}
