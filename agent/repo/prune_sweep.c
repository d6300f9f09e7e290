/*
 * Sweeping: all objects of a volume, number by number, each needed or not by what the
 * record says and, where runs have to be told apart, the point's own manifest. What
 * belongs to a number without a point may be that of a run under way, and stays; where
 * there is a point, no other run can commit any more. Memory: 48 bytes an object.
 */
#include "agent/repo/prune_private.h"

#include "agent/base/fault.h"
#include "agent/base/interrupt.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_DIGITS 16

enum swept_kind { SWEPT_POINT, SWEPT_MAP, SWEPT_REBASED, SWEPT_SEGMENT, SWEPT_RECORD };

struct swept {
	enum swept_kind kind;
	uint32_t segment;
	uint64_t number;		/* of a record: its sequence */
	uint64_t sequence;		/* of a rebased map */
	uint8_t run[RUN_DIGITS / 2];
	uint64_t bytes;
};

struct sweep {
	struct prune *prune;
	const struct retention *retention;
	bool deletes;
	struct sweep_count *count;
	struct swept *items;
	size_t item_count, room;
	uint64_t kept_point;		/* the last one that stays */
};

/* ---- names ------------------------------------------------------------- */

/* Takes `digits` decimal digits off the front. */
static bool take_number(const char **text, size_t digits, uint64_t *number)
{
	*number = 0;
	for (size_t i = 0; i < digits; i++, (*text)++) {
		if (**text < '0' || **text > '9')
			return false;
		*number = *number * 10 + (uint64_t)(**text - '0');
	}
	return true;
}

static bool take_text(const char **text, const char *what)
{
	if (strncmp(*text, what, strlen(what)))
		return false;
	*text += strlen(what);
	return true;
}

static bool take_run(const char **text, uint8_t run[static RUN_DIGITS / 2])
{
	char digits[RUN_DIGITS + 1];

	if (strspn(*text, "0123456789abcdef") != RUN_DIGITS)
		return false;
	memcpy(digits, *text, RUN_DIGITS);
	digits[RUN_DIGITS] = '\0';
	*text += RUN_DIGITS;
	return !hex_decode(digits, run, RUN_DIGITS / 2);
}

/* What is called otherwise than we call things is not ours. */
static bool swept_parse(const char *name, struct swept *swept)
{
	uint64_t segment = 0;

	memset(swept, 0, sizeof(*swept));
	if (take_text(&name, "retention/"))
		swept->kind = SWEPT_RECORD;
	else if (take_text(&name, "points/"))
		swept->kind = SWEPT_POINT;
	else if (take_text(&name, "maps/"))
		swept->kind = SWEPT_MAP;
	else if (take_text(&name, "segments/"))
		swept->kind = SWEPT_SEGMENT;
	else
		return false;
	if (!take_number(&name, 10, &swept->number) || !swept->number)
		return false;
	if (swept->kind == SWEPT_MAP && take_text(&name, "-r")) {
		swept->kind = SWEPT_REBASED;
		if (!take_number(&name, 10, &swept->sequence))
			return false;
	}
	if (swept->kind != SWEPT_RECORD && swept->kind != SWEPT_POINT &&
	    (!take_text(&name, "-") || !take_run(&name, swept->run)))
		return false;
	if (swept->kind == SWEPT_SEGMENT &&
	    (!take_text(&name, "-") || !take_number(&name, 6, &segment)))
		return false;
	swept->segment = (uint32_t)segment;
	return !*name;
}

static void swept_key(const struct sweep *sweep, const struct swept *swept,
		      char key[static STORE_KEY_MAX])
{
	struct retention_map map = { .number = swept->number, .sequence = swept->sequence };
	struct point point = { .volume = sweep->prune->volume, .number = swept->number };
	char prefix[STORE_KEY_MAX];

	memcpy(map.run.b, swept->run, sizeof(swept->run));
	point.run = map.run;
	switch (swept->kind) {
	case SWEPT_RECORD:
		retention_key(&point.volume, swept->number, key);
		break;
	case SWEPT_POINT:
		point_key(&point.volume, swept->number, key);
		break;
	case SWEPT_MAP:
		point_map_key(&point, key);
		break;
	case SWEPT_REBASED:
		retention_map_key(&point.volume, &map, key);
		break;
	case SWEPT_SEGMENT:
		point_segment_prefix(&point, prefix);
		snprintf(key, STORE_KEY_MAX, "%.*s%06" PRIu32, STORE_KEY_MAX - 8, prefix,
			 swept->segment);
	}
}

static int swept_seen(void *context, const char *key, uint64_t bytes)
{
	struct sweep *sweep = context;
	const char *name = strchr(key, '/');
	struct swept swept;

	if (!name || !swept_parse(name + 1, &swept))
		return 0;
	if (sweep->item_count == sweep->room) {
		size_t room = sweep->room ? 2 * sweep->room : 256;
		struct swept *items = reallocarray(sweep->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		sweep->items = items;
		sweep->room = room;
	}
	swept.bytes = bytes;
	sweep->items[sweep->item_count++] = swept;
	return 0;
}

/* Records last; else by number, a point before what belongs to it. */
static int compare_swept(const void *a, const void *b)
{
	const struct swept *x = a, *y = b;
	bool x_record = x->kind == SWEPT_RECORD, y_record = y->kind == SWEPT_RECORD;

	if (x_record != y_record)
		return x_record ? 1 : -1;
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x->kind < y->kind ? -1 : x->kind > y->kind;
}

/* ---- deleting ---------------------------------------------------------- */

static int object_delete(struct sweep *sweep, const struct swept *swept, struct error *err)
{
	char key[STORE_KEY_MAX];
	int ret = interrupt_check(err);

	if (ret || !sweep->deletes)
		return ret;
	swept_key(sweep, swept, key);
	return FAULT_ERR("prune.delete", err) ?:
	       store_delete(sweep->prune->repo->store, key, err);
}

static int drop(struct sweep *sweep, const struct swept *swept, struct error *err)
{
	sweep->count->objects++;
	sweep->count->bytes += swept->bytes;
	return object_delete(sweep, swept, err);
}

/*
 * A host that was set back to the point before would take this number again, and its
 * point would be hidden by the record. So behind a point that stays the number does.
 */
static int drop_to_stub(struct sweep *sweep, const struct swept *swept, struct error *err)
{
	static const uint8_t stub[POINT_STUB_BYTES] = POINT_STUB_MAGIC;
	char key[STORE_KEY_MAX];
	int ret = interrupt_check(err);

	sweep->count->objects++;
	sweep->count->bytes += swept->bytes - sizeof(stub);
	if (ret || !sweep->deletes)
		return ret;
	swept_key(sweep, swept, key);
	return FAULT_ERR("prune.stub", err) ?:
	       store_put(sweep->prune->repo->store, key, stub, sizeof(stub), 0, err);
}

/* ---- one number -------------------------------------------------------- */

static int sweep_point(struct sweep *sweep, const struct swept *swept, bool needed,
		       struct error *err)
{
	bool stub = swept->bytes == POINT_STUB_BYTES;
	bool behind = sweep->kept_point && sweep->kept_point == swept->number - 1;

	if (needed) {
		if (!stub)
			sweep->kept_point = swept->number;
		return 0;
	}
	if (behind)
		return stub ? 0 : drop_to_stub(sweep, swept, err);
	return drop(sweep, swept, err);
}

static bool rebased_needed(const struct sweep *sweep, const struct swept *swept)
{
	struct retention_map map = { .number = swept->number, .sequence = swept->sequence };

	memcpy(map.run.b, swept->run, sizeof(swept->run));
	/* Of a prune that is under way, or of a dead one: which, the next record tells. */
	return swept->sequence > sweep->retention->sequence ||
	       retention_needs_rebased(sweep->retention, &map);
}

/* `point` NULL: nothing of this number is needed. */
static bool swept_needed(const struct sweep *sweep, const struct swept *swept,
			 const struct point *point)
{
	const struct retention *retention = sweep->retention;

	if (swept->kind == SWEPT_REBASED)
		return rebased_needed(sweep, swept);
	if (!point || memcmp(point->run.b, swept->run, sizeof(swept->run)))
		return false;
	return swept->kind == SWEPT_SEGMENT
		? retention_needs_segment(retention, swept->number, swept->segment)
		: retention_needs_map(retention, swept->number);
}

/* All objects of one number. */
static int sweep_number(struct sweep *sweep, const struct swept *items, size_t count,
			struct error *err)
{
	uint64_t number = items->number;
	bool needed = retention_needs_point(sweep->retention, number);
	bool alone = count == 1 && items->kind == SWEPT_POINT;
	struct point point;
	int ret = 0;

	if (needed && !alone) {
		ret = point_load(sweep->prune->repo, &sweep->prune->volume, number, &point, err);
		/* Not committed yet; or missing: what is left may help to mend that. */
		if (ret)
			return ret == -ENOENT ? 0 : ret;
	}
	for (size_t i = 0; !ret && i < count; i++) {
		if (items[i].kind == SWEPT_POINT)
			ret = sweep_point(sweep, &items[i], needed, err);
		else if (!swept_needed(sweep, &items[i], needed ? &point : NULL))
			ret = drop(sweep, &items[i], err);
	}
	if (needed && !alone)
		point_fini(&point);
	return ret;
}

/* Older records, once whoever may have begun with them has had the grace period. They
 * are not counted: it is not they that take space. */
static int sweep_record(struct sweep *sweep, const struct swept *swept, struct error *err)
{
	const struct retention *retention = sweep->retention;
	const struct prune *prune = sweep->prune;

	if (swept->number >= retention->sequence || prune->now_ns < retention->created_ns ||
	    prune->now_ns - retention->created_ns < prune->options->grace_ns)
		return 0;
	return object_delete(sweep, swept, err);
}

static int sweep_items(struct sweep *sweep, struct error *err)
{
	size_t at = 0;
	int ret = 0;

	if (sweep->item_count)
		qsort(sweep->items, sweep->item_count, sizeof(*sweep->items), compare_swept);
	while (!ret && at < sweep->item_count) {
		const struct swept *first = &sweep->items[at];
		size_t count = 1;

		if (first->kind == SWEPT_RECORD) {
			ret = sweep_record(sweep, first, err);
		} else {
			while (at + count < sweep->item_count &&
			       first[count].kind != SWEPT_RECORD &&
			       first[count].number == first->number)
				count++;
			ret = sweep_number(sweep, first, count, err);
		}
		at += count;
	}
	return ret;
}

int prune_sweep(struct prune *prune, const struct retention *retention, bool deletes,
		struct sweep_count *count, struct error *err)
{
	struct sweep sweep = {
		.prune = prune, .retention = retention, .deletes = deletes, .count = count,
	};
	char prefix[UUID_TEXT_SIZE + 1];
	int ret;

	memset(count, 0, sizeof(*count));
	uuid_format(&prune->volume, prefix);
	strcat(prefix, "/");
	ret = store_list(prune->repo->store, prefix, swept_seen, &sweep, err);
	if (ret == -ENOMEM && !err->code)
		error_set(err, ret, "listing a volume's objects: out of memory");
	if (!ret)
		ret = sweep_items(&sweep, err);
	free(sweep.items);
	return ret ? error_prefix(err, "pruning") : 0;
}
