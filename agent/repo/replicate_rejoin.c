/*
 * Going on after the source pruned points that the target never had. The target gets a
 * record of its own that says of the numbers it has what it said before, and of those
 * behind them what the source's says: which are pruned, what these still serve, and the
 * maps that stand in. Such a map is a delta onto a point that the source kept; so it leads
 * on only if the target has that one, too. What it refers to of the target's own points is
 * in the view of the newest of them, which is never pruned: what was not written since is
 * what it shows.
 */
#include "agent/repo/replicate_private.h"

#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct rejoin {
	const struct retention *source, *target;
	struct retention *next;
	uint64_t through;		/* the target's newest point */
};

static int numbers_merge(struct rejoin *rejoin)
{
	struct extent_list late = EXTENT_LIST_INIT, gone = EXTENT_LIST_INIT;
	uint64_t from = rejoin->through + 1;
	int ret = extent_list_append(&late, from, UINT64_MAX - from);

	if (!ret)
		ret = extent_list_intersect(&rejoin->source->pruned, &late, &gone);
	if (!ret)
		ret = extent_list_union(&rejoin->target->pruned, &gone, &rejoin->next->pruned);
	/* Of a store that is not filled yet they may name what is pruned by now. */
	if (!ret)
		ret = extent_list_subtract(&rejoin->target->forgotten, &gone,
					   &rejoin->next->forgotten);
	if (!ret)
		ret = extent_list_subtract(&rejoin->target->pinned, &gone, &rejoin->next->pinned);
	extent_list_fini(&late);
	extent_list_fini(&gone);
	return ret;
}

static int serving_add(struct rejoin *rejoin, const struct retention *from, bool behind)
{
	static const struct extent_list none = EXTENT_LIST_INIT;
	struct retention *next = rejoin->next;
	int ret = 0;

	for (size_t i = 0; !ret && i < from->serving_count; i++) {
		const struct retention_serving *serving = &from->serving[i];

		if ((serving->number > rejoin->through) != behind)
			continue;
		next->serving[next->serving_count].number = serving->number;
		ret = extent_list_union(&serving->segments, &none,
					&next->serving[next->serving_count++].segments);
	}
	return ret;
}

static int maps_add(struct rejoin *rejoin, const struct retention *from, bool behind)
{
	struct retention *next = rejoin->next;

	for (size_t i = 0; i < from->map_count; i++) {
		struct retention_map *map = &next->maps[next->map_count];

		if ((from->maps[i].number > rejoin->through) != behind)
			continue;
		*map = from->maps[i];
		/* The seal knows the run, not the sequence: it is the same map by another name. */
		if (behind)
			map->sequence = next->sequence;
		map->wraps = calloc(map->wrap_count + 1, sizeof(*map->wraps));
		next->map_count++;
		if (!map->wraps)
			return -ENOMEM;
		memcpy(map->wraps, from->maps[i].wraps, map->wrap_count * sizeof(*map->wraps));
	}
	return 0;
}

/* What is in them of the target's own points is there twice, and the same. */
static int packs_add(struct rejoin *rejoin)
{
	const struct retention *source = rejoin->source, *target = rejoin->target;
	struct retention *next = rejoin->next;
	uint32_t number = 0;

	next->packs = calloc(source->pack_count + target->pack_count + 1, sizeof(*next->packs));
	if (!next->packs)
		return -ENOMEM;
	for (size_t i = 0; i < target->pack_count; i++)
		next->packs[next->pack_count++] = target->packs[i];
	for (size_t i = 0; i < source->pack_count; i++) {
		struct retention_pack *pack = &next->packs[next->pack_count];

		if (source->packs[i].last <= rejoin->through)
			continue;
		*pack = source->packs[i];
		pack->sequence = next->sequence;
		pack->number = number++;
		next->pack_count++;
	}
	next->dead_bytes = target->dead_bytes;
	return 0;
}

static int record_merge(struct rejoin *rejoin)
{
	const struct retention *source = rejoin->source, *target = rejoin->target;
	struct retention *next = rejoin->next;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	next->sequence = target->sequence + 1;
	memcpy(next->previous, target->hash, sizeof(next->previous));
	next->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	next->marked_ns = target->marked_ns;
	next->through = source->through > target->through ? source->through : target->through;
	next->serving = calloc(source->serving_count + target->serving_count + 1,
			       sizeof(*next->serving));
	next->maps = calloc(source->map_count + target->map_count + 1, sizeof(*next->maps));
	if (!next->serving || !next->maps)
		return -ENOMEM;
	return numbers_merge(rejoin) ?:
	       serving_add(rejoin, target, false) ?: serving_add(rejoin, source, true) ?:
	       maps_add(rejoin, target, false) ?: maps_add(rejoin, source, true) ?:
	       packs_add(rejoin);
}

/* A map onto a point that the target gave up, by a policy of its own. */
static const struct retention_map *map_astray(const struct rejoin *rejoin)
{
	for (size_t i = 0; i < rejoin->next->map_count; i++) {
		const struct retention_map *map = &rejoin->next->maps[i];

		if (extent_list_contains(&rejoin->next->pruned, map->parent))
			return map;
	}
	return NULL;
}

int replicate_rejoin(struct replication *replication, const struct retention *source,
		     struct retention *target, struct error *err)
{
	struct retention next = { .sequence = 0 };
	struct rejoin rejoin = { source, target, &next, replication->place->through };
	const struct retention_map *astray;
	int ret = record_merge(&rejoin);

	if (ret)
		error_set(err, ret, "going on behind pruned points: %s", error_text(ret));
	astray = ret ? NULL : map_astray(&rejoin);
	if (astray)
		ret = error_set(err, -ESTALE, "point %" PRIu64 " of %s stands on point %" PRIu64
				" at %s, since what was between them was pruned there, and at %s that "
				"was pruned, too: it cannot go on from there; give that store another "
				"url, to be filled anew", astray->number, replication->volume->name,
				astray->parent, store_url(replication->source->store),
				store_url(replication->target->store));
	if (!ret)
		ret = retention_commit(replication->target, &replication->volume->id, &next,
				       replication->options->signer, err);
	if (ret) {
		retention_fini(&next);
		return ret;
	}
	retention_fini(target);
	*target = next;
	return 0;
}
