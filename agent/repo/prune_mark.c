/*
 * Marking: what visible points need, if nothing is to be needed of forgotten ones but
 * their frames. Each visible point's map is read once; where it lies on a forgotten
 * point's, both become one map, and so up to a visible point or a full map. Frames of
 * hidden points that these maps list are live: what a map lists at all is what its
 * point added to those below, so all maps together list all that any point needs.
 * Memory: one map of a chain (33 at most) at a time, 16 bytes a live segment, often twice.
 */
#include "agent/repo/prune_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/interrupt.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct live { uint64_t number; uint32_t segment; };

struct marking {
	struct prune *prune;
	const struct retention *old;
	struct retention *next;
	struct uuid run;
	size_t map_room;
	struct live *live;
	size_t live_count, live_room;
};

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "pruning: out of memory");
}

/* ---- rebased maps ------------------------------------------------------ */

static struct retention_map *map_add(struct marking *marking)
{
	struct retention *next = marking->next;

	if (next->map_count == marking->map_room) {
		size_t room = marking->map_room ? 2 * marking->map_room : 16;
		struct retention_map *maps = reallocarray(next->maps, room, sizeof(*maps));

		if (!maps)
			return NULL;
		next->maps = maps;
		marking->map_room = room;
	}
	next->maps[next->map_count] = (struct retention_map){ .number = 0 };
	return &next->maps[next->map_count++];
}

/* One that is there already and lies on a visible point. */
static int map_keep(struct marking *marking, const struct retention_map *from,
		    struct error *err)
{
	struct retention_map *map = map_add(marking);

	if (!map)
		return no_memory(err);
	*map = *from;
	map->wraps = calloc(from->wrap_count + 1, sizeof(*map->wraps));
	if (!map->wraps)
		return no_memory(err);
	memcpy(map->wraps, from->wraps, from->wrap_count * sizeof(*map->wraps));
	return 0;
}

/* The host has no data keys; what is wrapped in their place is zero, and not used. */
static int map_wrap(const struct repo *repo, struct retention_map *map,
		    const struct point_keys *keys, const struct point_context *context,
		    struct error *err)
{
	size_t count = repo->facts.recipient_count;

	map->wraps = calloc(count + 1, sizeof(*map->wraps));
	if (!map->wraps)
		return no_memory(err);
	for (size_t i = 0; i < count; i++) {
		struct point_wrap *wrap = &map->wraps[map->wrap_count++];
		int ret;

		wrap->recipient = repo->facts.recipients[i];
		ret = keys_wrap(&wrap->recipient, keys, context, sizeof(*context), wrap->wrap,
				err);
		if (ret)
			return ret;
	}
	return 0;
}

/* The run's id is new, so this key is used for one map of this point, like the first. */
static int map_seal_rebased(struct marking *marking, const struct point *as,
			    const struct map *contents, struct retention_map *map,
			    uint8_t **sealed, size_t *length, struct error *err)
{
	struct point_keys keys = { .data = { 0 } };
	struct point_context context;
	int ret;

	point_context(as, &context);
	ret = key_derive(marking->prune->options->host_map_key, &context, sizeof(context),
			 "clawback map v1", keys.map);
	if (ret)
		error_set(err, ret, "deriving a map key");
	if (!ret)
		ret = map_wrap(marking->prune->repo, map, &keys, &context, err);
	if (!ret)
		ret = map_seal(as, contents, keys.map, sealed, length, err);
	crypto_wipe(&keys, sizeof(keys));
	return ret;
}

static int map_rebase(struct marking *marking, const struct point *point,
		      const struct map *contents, uint64_t parent,
		      const uint8_t parent_hash[static CRYPTO_DIGEST_SIZE], struct error *err)
{
	CLEANUP_FREE uint8_t *sealed = NULL;
	struct retention_map *map = map_add(marking);
	struct point as = *point;
	char key[STORE_KEY_MAX];
	size_t length = 0;
	int ret;

	marking->prune->result->maps++;
	if (!map)
		return no_memory(err);
	as.run = marking->run;
	map->number = point->number;
	map->run = marking->run;
	map->sequence = marking->next->sequence;
	map->parent = parent;
	memcpy(map->parent_hash, parent_hash, CRYPTO_DIGEST_SIZE);
	if (marking->prune->options->dry_run)
		return 0;
	ret = map_seal_rebased(marking, &as, contents, map, &sealed, &length, err);
	if (ret)
		return ret;
	map->bytes = length;
	digest_of(sealed, length, map->sha256);
	retention_map_key(&point->volume, map, key);
	ret = FAULT_ERR("prune.map", err) ?:
	      store_put(marking->prune->repo->store, key, sealed, length, 0, err);
	return ret ? error_prefix(err, "storing the map of point %" PRIu64, point->number) : 0;
}

/* ---- live frames ------------------------------------------------------- */

static int compare_live(const void *a, const void *b)
{
	const struct live *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x->segment < y->segment ? -1 : x->segment > y->segment;
}

static void live_sort(struct marking *marking)
{
	size_t kept = 0;

	if (marking->live_count)
		qsort(marking->live, marking->live_count, sizeof(*marking->live), compare_live);
	for (size_t i = 0; i < marking->live_count; i++)
		if (!kept || compare_live(&marking->live[kept - 1], &marking->live[i]))
			marking->live[kept++] = marking->live[i];
	marking->live_count = kept;
}

/* By dropping what is there twice, or if that does not help much, by more memory. */
static int live_make_room(struct marking *marking)
{
	size_t room = marking->live_room ? 2 * marking->live_room : 1024;
	struct live *live;

	live_sort(marking);
	if (marking->live_room && marking->live_count < marking->live_room / 2)
		return 0;
	live = reallocarray(marking->live, room, sizeof(*live));
	if (!live)
		return -ENOMEM;
	marking->live = live;
	marking->live_room = room;
	return 0;
}

static int live_add(struct marking *marking, const struct map_frame *frame,
		    struct error *err)
{
	const struct live *last = marking->live_count ?
				  &marking->live[marking->live_count - 1] : NULL;

	if (last && last->number == frame->point && last->segment == frame->segment)
		return 0;	/* frames come in runs of one segment */
	if (marking->live_count == marking->live_room && live_make_room(marking))
		return no_memory(err);
	marking->live[marking->live_count++] = (struct live){ frame->point, frame->segment };
	return 0;
}

/* What was given up earlier cannot be needed now; a record that says so would be wrong. */
static bool frame_gone(const struct retention *old, const struct map_frame *frame)
{
	const struct retention_serving *serving;

	if (!extent_list_contains(&old->pruned, frame->point))
		return false;
	serving = retention_serving_find(old, frame->point);
	return !serving || !extent_list_contains(&serving->segments, frame->segment);
}

static int live_of_map(struct marking *marking, const struct point *point,
		       const struct map *map, struct error *err)
{
	for (size_t i = 0; i < map->frame_count; i++) {
		const struct map_frame *frame = &map->frames[i];

		if (frame_gone(marking->old, frame))
			return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
					      " of %s needs segment %" PRIu32 " of point %"
					      PRIu64 ", which was pruned; look with clawback "
					      "verify", point->number, point->volume_name,
					      frame->segment, frame->point);
		if (retention_hides(marking->old, frame->point) &&
		    live_add(marking, frame, err))
			return err->code;
	}
	return 0;
}

static int serving_make(struct marking *marking, struct error *err)
{
	struct retention *next = marking->next;
	struct retention_serving *serving = NULL;

	live_sort(marking);
	next->serving = calloc(marking->live_count + 1, sizeof(*next->serving));
	if (!next->serving)
		return no_memory(err);
	for (size_t i = 0; i < marking->live_count; i++) {
		const struct live *live = &marking->live[i];

		if (!serving || serving->number != live->number) {
			serving = &next->serving[next->serving_count++];
			serving->number = live->number;
		}
		if (extent_list_append(&serving->segments, live->segment, 1))
			return no_memory(err);
	}
	return 0;
}

/* ---- the whole --------------------------------------------------------- */

static int mark_point(struct marking *marking, uint64_t number, struct error *err)
{
	struct prune *prune = marking->prune;
	struct key_ring ring = { .host_map_key = prune->options->host_map_key };
	const struct retention_map *had = retention_map_find(marking->old, number);
	uint8_t parent_hash[CRYPTO_DIGEST_SIZE];
	uint64_t parent, was;
	struct point point;
	struct map map;
	int ret = point_load(prune->repo, &prune->volume, number, &point, err);

	if (ret)
		return ret;
	ret = point_merged_map(prune->repo, marking->old, &point, &ring, true, &map, &parent,
			       parent_hash, err);
	if (ret)
		goto out;
	was = had ? had->parent : point.map_kind == MAP_FULL ? 0 : point.parent;
	if (parent != was)
		ret = map_rebase(marking, &point, &map, parent, parent_hash, err);
	else if (had)
		ret = map_keep(marking, had, err);
	if (!ret)
		ret = live_of_map(marking, &point, &map, err);
	map_fini(&map);
out:
	point_fini(&point);
	return ret;
}

static int mark_points(struct marking *marking, struct error *err)
{
	struct prune *prune = marking->prune;
	const struct prune_options *options = prune->options;
	CLEANUP_FREE uint64_t *numbers = NULL;
	size_t count;
	int ret = point_numbers_stored(prune->repo, &prune->volume, &numbers, &count, err);

	for (size_t i = 0; !ret && i < count; i++) {
		if (numbers[i] > marking->next->through)
			marking->next->through = numbers[i];
		if (!retention_hides(marking->old, numbers[i]))
			ret = interrupt_check(err) ?: mark_point(marking, numbers[i], err);
		if (!ret && options->report)
			options->report(options->context, i + 1, count);
	}
	/* The newest is never forgotten: a replica that is not whole yet needs more than its
	 * own points tell. */
	if (!ret && (!count || numbers[count - 1] < marking->old->through))
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64 ", the "
				     "newest there was, is missing: points were taken away, or "
				     "clawback replicate has not filled this store yet",
				     marking->old->through);
	return ret ? ret : serving_make(marking, err);
}

static int next_begin(struct prune *prune, const struct retention *old,
		      struct retention *next)
{
	static const struct extent_list none = EXTENT_LIST_INIT;

	memset(next, 0, sizeof(*next));
	next->sequence = old->sequence + 1;
	memcpy(next->previous, old->hash, sizeof(next->previous));
	next->created_ns = next->marked_ns = prune->now_ns;
	next->through = old->through;
	return extent_list_union(&old->pruned, &old->forgotten, &next->pruned) ||
	       extent_list_union(&old->pinned, &none, &next->pinned) ? -ENOMEM : 0;
}

int prune_mark(struct prune *prune, const struct retention *old, struct retention *next,
	       struct error *err)
{
	struct marking marking = { .prune = prune, .old = old, .next = next };
	int ret = uuid_new(&marking.run);

	if (ret)
		return error_set(err, ret, "no random numbers");
	ret = next_begin(prune, old, next);
	if (ret)
		no_memory(err);
	else
		ret = mark_points(&marking, err);
	free(marking.live);
	prune->result->points = extent_list_blocks(&old->forgotten);
	prune->result->serving = next->serving_count;
	if (ret)
		retention_fini(next);
	return ret;
}
