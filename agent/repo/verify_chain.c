/*
 * Which points are to be checked, and how they hang together: the parents' hashes,
 * where each finds its full map.
 */
#include "agent/repo/verify_private.h"

#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- the chain --------------------------------------------------------- */

/* Whether a point's manifest says of its parent and base what can be. */
static bool parent_sane(const struct verify_known *known)
{
	if (known->base == known->number)
		return !known->depth;
	return known->rebased || (known->parent && known->parent < known->number);
}

/* Whether a point's map is needed, and lies on its parent's. */
static bool needs_parent(struct verify *verify, const struct verify_known *known)
{
	return (known->rebased || known->base != known->number) &&
	       !extent_list_contains(&verify->retention.pruned, known->number);
}

static void verify_parent(struct verify *verify, const struct verify_known *known)
{
	const struct verify_known *parent = verify_find(verify, known->parent);

	if (!parent_sane(known)) {
		verify_problem(verify, "point %" PRIu64 " names a parent or a base that "
			       "makes no sense", known->number);
		return;
	}
	if (!known->parent || (!parent && !needs_parent(verify, known)))
		return;
	if (!parent)
		verify_problem(verify, "point %" PRIu64 " needs its parent, point %"
			       PRIu64 ", which is missing", known->number,
			       known->parent);
	else if (parent->state != VERIFY_READ)
		return;	/* told already */
	else if (memcmp(parent->hash, known->parent_hash, sizeof(parent->hash)))
		verify_problem(verify, "point %" PRIu64 " is not the parent that point %"
			       PRIu64 " was made on: one of them was replaced",
			       parent->number, known->number);
	else if (!known->rebased && known->base != known->number &&
		 (parent->base != known->base || parent->depth + 1 != known->depth ||
		  known->depth > POINT_DEPTH_MAX))
		verify_problem(verify, "point %" PRIu64 " and its parent, point %" PRIu64
			       ", disagree about where their full map is",
			       known->number, parent->number);
}

void verify_chain(struct verify *verify)
{
	for (size_t i = 0; i < verify->count; i++)
		if (verify->known[i].state == VERIFY_READ)
			verify_parent(verify, &verify->known[i]);
}

/* ---- what is to be checked --------------------------------------------- */

struct number_set {
	uint64_t *items;
	size_t count, room;
};

static int number_add(struct number_set *set, uint64_t number, struct error *err)
{
	if (set->count && set->items[set->count - 1] == number)
		return 0;	/* frames come in runs of one point */
	if (set->count == set->room) {
		size_t room = set->room ? 2 * set->room : 64;
		uint64_t *items = reallocarray(set->items, room, sizeof(*items));

		if (!items)
			return error_set(err, -ENOMEM, "verifying: out of memory");
		set->items = items;
		set->room = room;
	}
	set->items[set->count++] = number;
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What of a point is moved has to be sought in packs, not in its own object. */
static int source_add(struct verify *verify, uint64_t number, struct number_set *set,
		      struct error *err)
{
	const struct retention *retention = &verify->retention;

	if (!extent_list_contains(&retention->pruned, number) ||
	    retention_serving_find(retention, number))
		if (number_add(set, number, err))
			return err->code;
	if (extent_list_contains(&retention->pruned, number))
		for (size_t i = 0; i < retention->pack_count; i++)
			if (number >= retention->packs[i].first &&
			    number <= retention->packs[i].last)
				verify->wanted_packs[i] = true;
	return 0;
}

static void packs_want(struct verify *verify)
{
	for (size_t i = 0; i < verify->retention.pack_count; i++)
		verify->wanted_packs[i] = true;
}

/* Its parents: to its base, or, where no map can be opened to tell which points
 * hold its data, to the last full, and all pruned ones that hold any. */
static int number_parents(struct verify *verify, const struct point *point,
			  struct number_set *set, struct error *err)
{
	const struct retention *retention = &verify->retention;
	struct point next = *point, as;
	char key[STORE_KEY_MAX];
	uint64_t offset, below;

	for (size_t i = 0; !verify->opens_maps && i < retention->serving_count; i++)
		if (retention->serving[i].number < point->number &&
		    number_add(set, retention->serving[i].number, err))
			return err->code;
	next.segments = NULL;
	next.disk_layout = NULL;
	for (;;) {
		struct error ignored = ERROR_INIT;	/* the check itself tells it */

		retention_apply(retention, &next, &as, key, &offset);
		point_fini(&next);
		if (verify->opens_maps ? as.map_kind == MAP_FULL : as.kind == POINT_FULL)
			return 0;
		/* Of a differential's data, what it does not hold the full does. */
		below = as.full && !verify->opens_maps ? as.full : as.parent;
		if (below >= as.number)
			return 0;
		while (extent_list_contains(&verify->gone, below))
			below--;
		if (!below)
			return 0;
		if (number_add(set, below, err))
			return err->code;
		if (point_load(verify->repo, &verify->volume, below, &next, &ignored))
			return 0;
	}
}

static int number_needs(struct verify *verify, uint64_t number,
			struct number_set *set, struct error *err)
{
	struct error unopened = ERROR_INIT;	/* the check itself tells it */
	struct point point;
	struct map map;
	int ret = point_load(verify->repo, &verify->volume, number, &point, err);

	if (ret && err->exit == EXIT_UNTRUSTWORTHY)
		return number_add(set, number, err);	/* and so does this */
	if (ret)
		return ret;
	ret = number_add(set, number, err);
	if (!ret)
		ret = number_parents(verify, &point, set, err);
	if (!verify->opens_maps)
		packs_want(verify);
	if (!ret && verify->opens_maps &&
	    !point_full_map(verify->repo, &point, &verify->options->ring, &map,
			    &unopened)) {
		for (size_t i = 0; !ret && i < map.frame_count; i++)
			ret = source_add(verify, map.frames[i].point, set, err);
		map_fini(&map);
	}
	point_fini(&point);
	return ret;
}

/* Sizes from the one listing: point objects', and their sum with what belongs to
 * the points to be checked (left-overs of dead runs included: an upper bound). */
static int known_listed(void *context, const char *key, uint64_t bytes)
{
	struct verify *verify = context;
	const char *name = strchr(key, '/');
	struct verify_known *known;
	uint64_t number;
	bool point = point_key_number(key, &number);

	name = name ? strchr(name + 1, '/') : NULL;
	if (!name)
		return 0;
	/* By a sequence, not a point. */
	if (!strncmp(strchr(key, '/'), "/packs/", strlen("/packs/")) ||
	    !strncmp(strchr(key, '/'), "/drills/", strlen("/drills/")))
		return 0;
	known = verify_find(verify, point ? number : strtoull(name + 1, NULL, 10));
	if (!known)
		return 0;
	verify->total_bytes += bytes;
	if (point) {
		known->listed = true;
		known->listed_bytes = bytes;
	}
	return 0;
}

/* All points but those that wait for being deleted. */
static int numbers_needed(struct verify *verify, struct number_set *set, struct error *err)
{
	size_t count, needed = 0;
	int ret = point_numbers_stored(verify->repo, &verify->volume, &set->items, &count, err);

	if (ret)
		return ret;
	for (size_t i = 0; i < count; i++)
		if (!extent_list_contains(&verify->gone, set->items[i]))
			set->items[needed++] = set->items[i];
	set->count = needed;
	packs_want(verify);
	return 0;
}

int verify_gather(struct verify *verify, uint64_t number, struct error *err)
{
	struct number_set set = { NULL, 0, 0 };
	char prefix[UUID_TEXT_SIZE + 1];
	int ret = number ? number_needs(verify, number, &set, err) :
			   numbers_needed(verify, &set, err);

	if (!ret && !set.count)
		ret = error_set(err, -ENOENT, "the volume has no recovery point to verify");
	if (!ret) {
		qsort(set.items, set.count, sizeof(*set.items), compare_numbers);
		verify->known = calloc(set.count, sizeof(*verify->known));
		if (!verify->known)
			ret = error_set(err, -ENOMEM, "verifying: out of memory");
	}
	for (size_t i = 0; !ret && i < set.count; i++)
		if (!i || set.items[i] != set.items[i - 1])
			verify->known[verify->count++].number = set.items[i];
	free(set.items);
	if (ret)
		return ret;
	for (size_t i = 0; i < verify->retention.pack_count; i++)
		if (verify->wanted_packs[i])
			verify->total_bytes += verify->retention.packs[i].bytes;
	uuid_format(&verify->volume, prefix);
	strcat(prefix, "/");
	return store_list(verify->repo->store, prefix, known_listed, verify, err);
}
