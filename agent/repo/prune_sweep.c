/*
 * Sweeping: all objects of a volume, number by number, each needed or not by what the
 * record says and, where runs have to be told apart, the point's own manifest. What
 * belongs to a number without a point may be that of a run under way, and stays; where
 * there is a point, no other run can commit any more. Memory: 48 bytes an object.
 */
#include "agent/repo/prune_private.h"

#include "agent/base/fault.h"
#include "agent/base/interrupt.h"
#include "agent/base/parallel.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Requests at once; a store may allow itself fewer. */
#define SWEEP_THREADS 16u

struct sweep {
	struct repo *repo;
	struct uuid volume;
	const struct retention *retention;
	uint64_t kept_point;		/* the last one that stays */
};

/* ---- one number -------------------------------------------------------- */

/*
 * A host that was set back to the point before would take the number of one that goes,
 * and its point would be hidden by the record. So behind a point that stays the number
 * does.
 */
static void sweep_point(struct sweep *sweep, struct swept *swept, bool needed)
{
	bool stub = swept->bytes == POINT_STUB_BYTES;
	bool behind = sweep->kept_point && sweep->kept_point == swept->number - 1;

	swept->fate = needed || (behind && stub) ? FATE_NEEDED : behind ? FATE_STUB : FATE_GOES;
	if (needed && !stub)
		sweep->kept_point = swept->number;
}

static enum swept_fate rebased_fate(const struct sweep *sweep, const struct swept *swept)
{
	struct retention_map map = { .number = swept->number, .sequence = swept->sequence };

	memcpy(map.run.b, swept->run, sizeof(swept->run));
	/* Of a prune that is under way, or of a dead one: which, the next record tells. */
	if (swept->sequence > sweep->retention->sequence)
		return FATE_UNKNOWN;
	return retention_needs_rebased(sweep->retention, &map) ? FATE_NEEDED : FATE_GOES;
}

/* `run` NULL: nothing of this number is needed. */
static enum swept_fate fate_of(const struct sweep *sweep, const struct swept *swept,
			       const struct uuid *run)
{
	const struct retention *retention = sweep->retention;
	bool needed;

	if (swept->kind == SWEPT_REBASED)
		return rebased_fate(sweep, swept);
	if (!run || memcmp(run->b, swept->run, sizeof(swept->run)))
		return FATE_GOES;
	needed = swept->kind == SWEPT_SEGMENT
		? retention_needs_segment(retention, swept->number, swept->segment)
		: retention_needs_map(retention, swept->number);
	return needed ? FATE_NEEDED : FATE_GOES;
}

/* Whether it takes the point's manifest to tell what of a number is needed. */
static bool has_runs(const struct swept *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].kind == SWEPT_MAP || items[i].kind == SWEPT_SEGMENT)
			return true;
	return false;
}

/* All objects of one number. */
static int sweep_number(struct sweep *sweep, struct swept *items, size_t count,
			struct error *err)
{
	uint64_t number = items->number;
	bool needed = retention_needs_point(sweep->retention, number);
	struct uuid run = { { 0 } };
	struct point point;

	/* Not committed yet; or missing: what is left may help to mend that. */
	if (needed && items->kind != SWEPT_POINT)
		return 0;
	if (needed && has_runs(items, count)) {
		int ret = point_load(sweep->repo, &sweep->volume, number, &point, err);

		if (ret)
			return ret == -ENOENT ? 0 : ret;
		run = point.run;
		point_fini(&point);
	}
	for (size_t i = 0; i < count; i++)
		if (items[i].kind == SWEPT_POINT)
			sweep_point(sweep, &items[i], needed);
		else
			items[i].fate = fate_of(sweep, &items[i], needed ? &run : NULL);
	return 0;
}

/* One of a later record may be that of a prune that is under way, as a rebased map. */
static enum swept_fate pack_fate(const struct retention *retention, const struct swept *swept)
{
	struct retention_pack pack = { .sequence = swept->number, .number = swept->segment };

	memcpy(pack.run.b, swept->run, sizeof(swept->run));
	if (swept->number > retention->sequence)
		return FATE_UNKNOWN;
	return retention_needs_pack(retention, &pack) ? FATE_NEEDED : FATE_GOES;
}

int sweep_judge(struct repo *repo, const struct uuid *volume, const struct retention *retention,
		struct swept_list *list, struct error *err)
{
	struct sweep sweep = { .repo = repo, .volume = *volume, .retention = retention };
	size_t at = 0;
	int ret = 0;

	while (!ret && at < list->count) {
		struct swept *first = &list->items[at];
		size_t count = 1;

		if (first->kind == SWEPT_RECORD) {
			first->fate = first->number < retention->sequence ? FATE_GOES :
				      first->number == retention->sequence ? FATE_NEEDED :
				      FATE_UNKNOWN;
		} else if (first->kind == SWEPT_PACK) {
			first->fate = pack_fate(retention, first);
		} else {
			while (at + count < list->count && !swept_of_sequence(&first[count]) &&
			       first[count].number == first->number)
				count++;
			ret = interrupt_check(err) ?: sweep_number(&sweep, first, count, err);
		}
		at += count;
	}
	return ret;
}

/* ---- deleting ---------------------------------------------------------- */

/* At least so many points one behind the other, so that short lists cost no stubs. */
#define RUN_POINTS 16u

struct deleting {
	struct prune *prune;
	struct swept **items;
	size_t count, run;		/* points: all, and those one behind the other */
};

static int stub_put(void *context, size_t i, struct error *err)
{
	static const uint8_t stub[POINT_STUB_BYTES] = POINT_STUB_MAGIC;
	const struct deleting *deleting = context;
	char key[STORE_KEY_MAX];

	swept_key(&deleting->prune->volume, deleting->items[i], key);
	return FAULT_ERR("prune.stub", err) ?:
	       store_put(deleting->prune->repo->store, key, stub, sizeof(stub), 0, err);
}

static int object_delete(void *context, size_t i, struct error *err)
{
	const struct deleting *deleting = context;
	char key[STORE_KEY_MAX];

	swept_key(&deleting->prune->volume, deleting->items[i], key);
	return FAULT_ERR("prune.delete", err) ?:
	       store_delete(deleting->prune->repo->store, key, err);
}

/* The first point of every run but the first is a stub by now, and goes last. */
static int run_delete(void *context, size_t i, struct error *err)
{
	const struct deleting *deleting = context;
	size_t first = i * deleting->run, end = first + deleting->run;
	int ret = 0;

	for (size_t at = first + !!i; !ret && at < end && at < deleting->count; at++)
		ret = interrupt_check(err) ?: object_delete(context, at, err);
	return ret;
}

static int first_stub(void *context, size_t i, struct error *err)
{
	return stub_put(context, (i + 1) * ((struct deleting *)context)->run, err);
}

static int first_delete(void *context, size_t i, struct error *err)
{
	return object_delete(context, (i + 1) * ((struct deleting *)context)->run, err);
}

/*
 * At no moment a point may be there and the number behind it be free, which a host that
 * was set back could take. So points go one by one, rising; and for that to take less
 * time, in several runs at once, with a stub between each and the one before.
 */
static int points_delete(struct deleting *deleting, struct error *err)
{
	size_t runs;
	int ret;

	deleting->run = deleting->count / SWEEP_THREADS + 1;
	if (deleting->run < RUN_POINTS)
		deleting->run = RUN_POINTS;
	runs = (deleting->count + deleting->run - 1) / deleting->run;
	if (!runs)
		return 0;
	ret = parallel_run(SWEEP_THREADS, runs - 1, first_stub, deleting, err);
	if (!ret)
		ret = parallel_run(SWEEP_THREADS, runs, run_delete, deleting, err);
	return ret ? ret : parallel_run(1, runs - 1, first_delete, deleting, err);
}

/* Those of `list` with that fate, points only or no points. Caller frees *items. */
static size_t swept_select(const struct swept_list *list, enum swept_fate fate, bool points,
			   struct swept **items)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		if (list->items[i].fate == fate &&
		    (list->items[i].kind == SWEPT_POINT) == points)
			items[count++] = &list->items[i];
	return count;
}

static int sweep_delete(struct prune *prune, const struct swept_list *list, struct error *err)
{
	struct swept **items = calloc(list->count + 1, sizeof(*items));
	struct deleting deleting = { .prune = prune, .items = items };
	size_t count;
	int ret;

	if (!items)
		return error_set(err, -ENOMEM, "pruning: out of memory");
	count = swept_select(list, FATE_STUB, true, items);
	ret = parallel_run(SWEEP_THREADS, count, stub_put, &deleting, err);
	if (!ret) {
		deleting.count = swept_select(list, FATE_GOES, true, items);
		ret = points_delete(&deleting, err);
	}
	if (!ret) {
		count = swept_select(list, FATE_GOES, false, items);
		ret = parallel_run(SWEEP_THREADS, count, object_delete, &deleting, err);
	}
	free(items);
	return ret;
}

/*
 * Older records go once whoever may have begun with them has had the grace period. They
 * are not counted: it is not they that take space.
 */
static void sweep_count(const struct prune *prune, const struct retention *retention,
			const struct swept_list *list, struct sweep_count *count)
{
	bool old = prune->now_ns >= retention->created_ns &&
		   prune->now_ns - retention->created_ns >= prune->options->grace_ns;

	memset(count, 0, sizeof(*count));
	for (size_t i = 0; i < list->count; i++) {
		struct swept *swept = &list->items[i];

		if (swept->kind == SWEPT_RECORD) {
			if (swept->fate == FATE_GOES && !old)
				swept->fate = FATE_UNKNOWN;
			continue;
		}
		count->total_bytes += swept->bytes;
		if (swept->fate != FATE_GOES && swept->fate != FATE_STUB)
			continue;
		count->objects++;
		count->bytes += swept->bytes - (swept->fate == FATE_STUB ? POINT_STUB_BYTES : 0);
	}
}

int prune_sweep(struct prune *prune, const struct retention *retention, bool deletes,
		struct sweep_count *count, struct error *err)
{
	struct swept_list list;
	int ret = swept_list(prune->repo, &prune->volume, &list, err);

	if (!ret)
		ret = sweep_judge(prune->repo, &prune->volume, retention, &list, err);
	if (!ret)
		sweep_count(prune, retention, &list, count);
	if (!ret && deletes)
		ret = sweep_delete(prune, &list, err);
	free(list.items);
	return ret ? error_prefix(err, "pruning") : 0;
}
