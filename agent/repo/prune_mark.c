/*
 * Marking: what visible points need, if nothing is to be needed of forgotten ones but
 * their frames. Each visible point's map is read once; where it lies on a forgotten
 * point's, both become one map, and so up to a visible point or a full map. Frames of
 * hidden points that these maps list are live: what a map lists at all is what its
 * point added to those below, so all maps together list all that any point needs.
 * Memory: the maps of a chain (33 at most), of several where all are small; 32 bytes a run
 * of live frames, often twice.
 */
#include "agent/repo/prune_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/parallel.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "pruning: out of memory");
}

/* ---- rebased maps ------------------------------------------------------ */

/* Takes what *map owns; it is sorted later. */
static int map_add(struct marking *marking, struct retention_map *map, struct error *err)
{
	struct retention *next = marking->next;

	if (next->map_count == marking->map_room) {
		size_t room = marking->map_room ? 2 * marking->map_room : 16;
		struct retention_map *maps = reallocarray(next->maps, room, sizeof(*maps));

		if (!maps)
			return no_memory(err);
		next->maps = maps;
		marking->map_room = room;
	}
	next->maps[next->map_count++] = *map;
	map->wraps = NULL;
	return 0;
}

static int compare_maps(const void *a, const void *b)
{
	const struct retention_map *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* One that is there already and lies on a visible point. */
static int map_keep(const struct retention_map *from, struct retention_map *map,
		    struct error *err)
{
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

/* Stores it, and fills *map, whose wraps are the caller's. */
static int map_rebase(struct marking *marking, const struct point *point,
		      const struct map *contents, uint64_t parent,
		      const uint8_t parent_hash[static CRYPTO_DIGEST_SIZE],
		      struct retention_map *map, struct error *err)
{
	CLEANUP_FREE uint8_t *sealed = NULL;
	struct point as = *point;
	char key[STORE_KEY_MAX];
	size_t length = 0;
	int ret;

	as.run = marking->run;
	*map = (struct retention_map){
		.number = point->number, .run = marking->run,
		.sequence = marking->next->sequence, .parent = parent,
	};
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
	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Whether `next` begins in `live` or at its end; then it becomes part of it. */
static bool live_join(struct live *live, const struct live *next)
{
	uint64_t end = next->offset + next->length;

	if (live->number != next->number || live->segment != next->segment ||
	    next->offset < live->offset || next->offset > live->offset + live->length)
		return false;
	if (end > live->offset + live->length)
		live->length = end - live->offset;
	return true;
}

static void live_sort(struct marking *marking)
{
	size_t kept = 0;

	if (marking->live_count)
		qsort(marking->live, marking->live_count, sizeof(*marking->live), compare_live);
	for (size_t i = 0; i < marking->live_count; i++)
		if (!kept || !live_join(&marking->live[kept - 1], &marking->live[i]))
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
	struct live live = {
		.number = frame->point, .segment = frame->segment, .offset = frame->offset,
		.length = frame->length,
	};

	if (marking->live_count && live_join(&marking->live[marking->live_count - 1], &live))
		return 0;	/* frames come in runs */
	if (marking->live_count == marking->live_room && live_make_room(marking))
		return no_memory(err);
	marking->live[marking->live_count++] = live;
	return 0;
}

/* What was given up earlier cannot be needed now; a record that says so would be wrong. */
static int frame_check(struct marking *marking, const struct map_frame *frame,
		       struct error *err)
{
	struct pack_place place;
	int ret;

	if (frame->length > UINT64_MAX - frame->offset)
		return -EBADMSG;
	if (retention_needs_segment(marking->old, frame->point, frame->segment))
		return 0;
	ret = packs_find_frames(marking->packs, frame->point, frame->segment, frame->offset,
				&place, err);
	if (ret)
		return ret;
	/* Packs hold runs of whole frames. */
	return place.item && frame->length <= place.item->offset + place.item->length -
	       frame->offset ? 0 : -EBADMSG;
}

static int live_of_map(struct marking *marking, const struct point *point,
		       const struct map *map, struct error *err)
{
	for (size_t i = 0; i < map->frame_count; i++) {
		const struct map_frame *frame = &map->frames[i];
		int ret = frame_check(marking, frame, err);

		if (ret && !err->code)
			return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
					      " of %s needs frames in segment %" PRIu32 " of "
					      "point %" PRIu64 ", which were pruned; look with "
					      "clawback verify", point->number,
					      point->volume_name, frame->segment, frame->point);
		if (ret)
			return ret;
		if (retention_hides(marking->old, frame->point) &&
		    live_add(marking, frame, err))
			return err->code;
	}
	return 0;
}

/* ---- the whole --------------------------------------------------------- */

/* So many points at once, if their maps are small: a chain of them is in memory for each. */
#define MARK_THREADS 4u
#define MARK_SMALL_MAP (1u << 20)

/* What a point adds to the record and to what is live. */
static int point_add(struct marking *marking, const struct point *point,
		     const struct map *map, struct retention_map *made, struct error *err)
{
	const struct prune_options *options = marking->prune->options;
	int ret;

	pthread_mutex_lock(&marking->lock);
	ret = made->number ? map_add(marking, made, err) : 0;
	if (!ret && made->sequence == marking->next->sequence)
		marking->prune->result->maps++;
	if (!ret)
		ret = live_of_map(marking, point, map, err);
	for (size_t i = 0; i < point->segment_count; i++)
		marking->visible_bytes += point->segments[i].bytes;
	marking->done++;
	if (!ret && options->report)
		options->report(options->context, marking->done, marking->number_count);
	pthread_mutex_unlock(&marking->lock);
	return ret;
}

static int mark_point(void *context, size_t item, struct error *err)
{
	struct marking *marking = context;
	struct prune *prune = marking->prune;
	struct key_ring ring = { .host_map_key = prune->options->host_map_key };
	uint64_t number = marking->numbers[item], parent, was;
	const struct retention_map *had = retention_map_find(marking->old, number);
	struct retention_map made = { .number = 0 };
	uint8_t parent_hash[CRYPTO_DIGEST_SIZE];
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
		ret = map_rebase(marking, &point, &map, parent, parent_hash, &made, err);
	else if (had)
		ret = map_keep(had, &made, err);
	if (!ret)
		ret = point_add(marking, &point, &map, &made, err);
	free(made.wraps);
	map_fini(&map);
out:
	point_fini(&point);
	return ret;
}

static int map_seen(void *context, const char *key, uint64_t bytes)
{
	bool *small = context;

	(void)key;
	if (bytes > MARK_SMALL_MAP)
		*small = false;
	return 0;
}

/* Whether all maps that are objects of their own are small; others are so anyway. */
static int maps_small(const struct prune *prune, bool *small, struct error *err)
{
	char prefix[STORE_KEY_MAX];

	uuid_format(&prune->volume, prefix);
	strcat(prefix, "/maps/");
	*small = true;
	return store_list(prune->repo->store, prefix, map_seen, small, err);
}

static int mark_points(struct marking *marking, struct error *err)
{
	struct prune *prune = marking->prune;
	CLEANUP_FREE uint64_t *numbers = NULL;
	bool small;
	size_t count;
	int ret = maps_small(prune, &small, err);

	if (!ret)
		ret = point_numbers_stored(prune->repo, &prune->volume, &numbers, &count, err);
	if (ret)
		return ret;
	if (count && numbers[count - 1] > marking->next->through)
		marking->next->through = numbers[count - 1];
	for (size_t i = 0; i < count; i++)
		if (!retention_hides(marking->old, numbers[i]))
			numbers[marking->number_count++] = numbers[i];
	marking->numbers = numbers;
	ret = parallel_run(small ? MARK_THREADS : 1, marking->number_count, mark_point, marking,
			   err);
	/* The newest is never forgotten: a replica that is not whole yet needs more than its
	 * own points tell. */
	if (!ret && (!marking->number_count ||
		     numbers[marking->number_count - 1] < marking->old->through))
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64 ", the "
				     "newest there was, is missing: points were taken away, or "
				     "clawback replicate has not filled this store yet",
				     marking->old->through);
	if (ret)
		return ret;
	if (marking->next->map_count)
		qsort(marking->next->maps, marking->next->map_count,
		      sizeof(*marking->next->maps), compare_maps);
	live_sort(marking);
	return prune_repack(marking, err);
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
	struct marking marking = {
		.prune = prune, .old = old, .next = next,
		.packs = packs_new(prune->repo, &prune->volume, old),
	};
	int ret = uuid_new(&marking.run);

	pthread_mutex_init(&marking.lock, NULL);
	if (ret) {
		packs_free(marking.packs);
		return error_set(err, ret, "no random numbers");
	}
	ret = next_begin(prune, old, next);
	if (ret || !marking.packs)
		ret = no_memory(err);
	else
		ret = mark_points(&marking, err);
	free(marking.live);
	packs_free(marking.packs);
	pthread_mutex_destroy(&marking.lock);
	prune->result->points = extent_list_blocks(&old->forgotten);
	prune->result->serving = next->serving_count;
	if (ret)
		retention_fini(next);
	return ret;
}
