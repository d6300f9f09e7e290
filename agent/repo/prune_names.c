/* What a volume's objects are called, and a listing of them all. Memory: 56 bytes each. */
#include "agent/repo/prune_private.h"

#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_DIGITS (2 * SWEPT_RUN_BYTES)

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
	else if (take_text(&name, "packs/"))
		swept->kind = SWEPT_PACK;
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
	if ((swept->kind == SWEPT_SEGMENT || swept->kind == SWEPT_PACK) &&
	    (!take_text(&name, "-") || !take_number(&name, 6, &segment)))
		return false;
	swept->segment = (uint32_t)segment;
	return !*name;
}

void swept_key(const struct uuid *volume, const struct swept *swept,
	       char key[static STORE_KEY_MAX])
{
	struct retention_map map = { .number = swept->number, .sequence = swept->sequence };
	struct point point = { .volume = *volume, .number = swept->number };
	struct retention_pack pack = { .sequence = swept->number, .number = swept->segment };
	char prefix[STORE_KEY_MAX];

	memcpy(map.run.b, swept->run, sizeof(swept->run));
	memcpy(pack.run.b, swept->run, sizeof(swept->run));
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
	case SWEPT_PACK:
		pack_key(&point.volume, &pack, key);
		break;
	case SWEPT_SEGMENT:
		point_segment_prefix(&point, prefix);
		snprintf(key, STORE_KEY_MAX, "%.*s%06" PRIu32, STORE_KEY_MAX - 8, prefix,
			 swept->segment);
	}
}

static int swept_seen(void *context, const char *key, uint64_t bytes)
{
	struct swept_list *list = context;
	const char *name = strchr(key, '/');
	struct swept swept;

	if (!name || !swept_parse(name + 1, &swept))
		return 0;
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 256;
		struct swept *items = reallocarray(list->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	swept.bytes = bytes;
	list->items[list->count++] = swept;
	return 0;
}

/* What belongs to a sequence, not to a point. */
bool swept_of_sequence(const struct swept *swept)
{
	return swept->kind == SWEPT_RECORD || swept->kind == SWEPT_PACK;
}

/* By number, a point before what belongs to it; packs and records last. */
static int compare_swept(const void *a, const void *b)
{
	const struct swept *x = a, *y = b;

	if (swept_of_sequence(x) != swept_of_sequence(y))
		return swept_of_sequence(x) ? 1 : -1;
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x->kind < y->kind ? -1 : x->kind > y->kind;
}

int swept_list(struct repo *repo, const struct uuid *volume, struct swept_list *list,
	       struct error *err)
{
	char prefix[UUID_TEXT_SIZE + 1];
	int ret;

	memset(list, 0, sizeof(*list));
	uuid_format(volume, prefix);
	strcat(prefix, "/");
	ret = store_list(repo->store, prefix, swept_seen, list, err);
	if (ret == -ENOMEM && !err->code)
		error_set(err, ret, "listing a volume's objects: out of memory");
	if (ret) {
		free(list->items);
		list->items = NULL;
	} else if (list->count) {
		qsort(list->items, list->count, sizeof(*list->items), compare_swept);
	}
	return ret;
}
