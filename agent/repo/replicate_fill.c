/*
 * What is to be in a replica, found out by listing: when nothing is remembered, when a
 * store is new, and when a point is not where it should be. A store without anything of
 * the volume gets the source's newest retention record first, as it is, so that a reader
 * sees from then on what is visible; then all that this record needs: packs, then points
 * in the order of numbers. As long as the newest point that a record knows of is not there, filling is
 * not over, and prune keeps its hands off.
 */
#include "agent/repo/replicate_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct numbers { struct stored { uint64_t number; bool stub; } *items; size_t count, room; };

struct fill {
	struct replication *replication;
	struct retention source, target;	/* the newest records */
	const struct retention *record;		/* which says what the target needs */
	struct numbers numbers;			/* of the source */
	uint64_t kept;				/* the last point that the target has, or gets */
};

static int number_seen(void *context, const char *key, uint64_t bytes)
{
	struct numbers *numbers = context;
	uint64_t number;

	if (!point_key_number(key, &number))
		return 0;
	if (numbers->count == numbers->room) {
		size_t room = numbers->room ? 2 * numbers->room : 64;
		struct stored *items = reallocarray(numbers->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		numbers->items = items;
		numbers->room = room;
	}
	numbers->items[numbers->count++] = (struct stored){ number, bytes == POINT_STUB_BYTES };
	return 0;
}

static int numbers_list(struct repo *repo, const struct uuid *volume, struct numbers *numbers,
			struct error *err)
{
	char prefix[STORE_KEY_MAX];
	int ret;

	point_key(volume, 0, prefix);
	*(strrchr(prefix, '/') + 1) = '\0';
	ret = store_list(repo->store, prefix, number_seen, numbers, err);
	if (ret == -ENOMEM && !err->code)
		error_set(err, ret, "listing points: out of memory");
	return ret;
}

/* ---- what is there --------------------------------------------------------- */

static int target_look(struct fill *fill, struct error *err)
{
	struct replication *replication = fill->replication;
	const struct uuid *volume = &replication->volume->id;
	struct replica_place *place = replication->place;
	CLEANUP_FREE uint64_t *numbers = NULL;
	struct point point;
	size_t count = 0;
	int ret = point_numbers_stored(replication->target, volume, &numbers, &count, err) ?:
		  retention_load(replication->target, volume, &fill->target, err);

	if (ret)
		return ret;
	memset(place, 0, sizeof(*place));
	replication->has_hash = false;
	if (!count)
		return 0;
	ret = point_load(replication->target, volume, numbers[count - 1], &point, err);
	if (ret)
		return ret;
	fill->kept = place->through = point.number;
	place->time_ns = point.time_ns;
	replication->has_hash = true;
	memcpy(replication->hash, point.hash, sizeof(point.hash));
	point_fini(&point);
	return 0;
}

/* The source's record, byte for byte: its signature counts in the target as well. */
static int record_copy(struct fill *fill, struct error *err)
{
	struct replication *replication = fill->replication;
	CLEANUP_FREE uint8_t *object = NULL;
	uint8_t hash[CRYPTO_DIGEST_SIZE];
	char key[STORE_KEY_MAX];
	size_t length;
	int ret;

	retention_key(&replication->volume->id, fill->source.sequence, key);
	ret = store_get_all(replication->source->store, key, RETENTION_RECORD_MAX, &object,
			    &length, err);
	if (ret)
		return ret;
	digest_of(object, length, hash);
	if (memcmp(hash, fill->source.hash, sizeof(hash)))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s changed while it "
				      "was read", store_url(replication->source->store), key);
	ret = store_put(replication->target->store, key, object, length, STORE_IF_ABSENT, err);
	if (ret && ret != -EEXIST)
		return ret;
	retention_fini(&fill->target);
	return retention_load(replication->target, &replication->volume->id, &fill->target, err);
}

/* Points that the source gave up before the target had them: how many, and the first. */
static int gap_find(struct fill *fill, uint64_t *count, uint64_t *first, struct error *err)
{
	uint64_t from = fill->replication->place->through + 1;
	struct extent_list late = EXTENT_LIST_INIT, given = EXTENT_LIST_INIT, gap = EXTENT_LIST_INIT;
	int ret = extent_list_append(&late, from, UINT64_MAX - from);

	if (!ret)
		ret = extent_list_intersect(&fill->source.pruned, &late, &given);
	if (!ret)
		ret = extent_list_subtract(&given, &fill->record->pruned, &gap);
	*count = ret ? 0 : extent_list_blocks(&gap);
	*first = *count ? gap.items[0].first : 0;
	extent_list_fini(&late);
	extent_list_fini(&given);
	extent_list_fini(&gap);
	return ret ? error_set(err, ret, "replicating: %s", error_text(ret)) : 0;
}

/* A point whose map was made anew in the source since some below it were pruned. */
static bool map_moved(const struct fill *fill)
{
	for (size_t i = 0; i < fill->source.map_count; i++) {
		const struct retention_map *map = &fill->source.maps[i], *had;

		if (map->number <= fill->replication->place->through)
			continue;
		had = retention_map_find(fill->record, map->number);
		if (!had || memcmp(had->sha256, map->sha256, sizeof(map->sha256)))
			return true;
	}
	return false;
}

static int gap_check(struct fill *fill, struct error *err)
{
	struct replication *replication = fill->replication;
	uint64_t count, first;
	int ret = gap_find(fill, &count, &first, err);

	if (ret || (!count && !map_moved(fill)) || replication->options->dry_run)
		return ret;
	if (replication->options->signer)
		return replicate_rejoin(replication, &fill->source, &fill->target, err);
	return error_set(err, -ESTALE, "%" PRIu64 " points of %s were pruned at %s before %s had "
			 "them, or what stands on them: only the host that writes them can go on "
			 "from there", count, replication->volume->name,
			 store_url(replication->source->store),
			 store_url(replication->target->store));
}

/* ---- copying ----------------------------------------------------------------- */

/* As prune: a number stays taken behind a point that is there. */
static int stub_put(struct fill *fill, uint64_t number, struct error *err)
{
	static const uint8_t stub[POINT_STUB_BYTES] = POINT_STUB_MAGIC;
	struct replication *replication = fill->replication;
	char key[STORE_KEY_MAX];
	int ret;

	if (!fill->kept || fill->kept != number - 1 || replication->options->dry_run)
		return 0;
	point_key(&replication->volume->id, number, key);
	ret = store_put(replication->target->store, key, stub, sizeof(stub), STORE_IF_ABSENT, err);
	return ret == -EEXIST ? 0 : ret;
}

/* Damage; or a prune went on meanwhile, which the next pass finds. */
static int point_gone(const struct fill *fill, uint64_t number, struct error *err)
{
	const struct replication *replication = fill->replication;

	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64 " of %s, or "
			      "something of it, is missing at %s; look with clawback verify",
			      number, replication->volume->name,
			      store_url(replication->source->store));
}

static int pack_gone(const struct fill *fill, struct error *err)
{
	const struct replication *replication = fill->replication;

	return error_set(err, -ESTALE, "%s was pruned at %s before %s had all of it; it cannot go "
			 "on from there: give that store another url, to be filled anew",
			 replication->volume->name, store_url(replication->source->store),
			 store_url(replication->target->store));
}

static int fill_number(struct fill *fill, const struct stored *stored, struct error *err)
{
	int ret;

	if (!retention_needs_point(fill->record, stored->number))
		return stub_put(fill, stored->number, err);
	if (stored->stub)
		return point_gone(fill, stored->number, err);
	ret = replicate_point(fill->replication, fill->record, stored->number, err);
	fill->kept = stored->number;
	return ret == -ENOENT ? point_gone(fill, stored->number, err) : ret;
}

static void count_total(struct fill *fill)
{
	struct replication *replication = fill->replication;

	replication->total = replication->result->points;
	for (size_t i = 0; i < fill->numbers.count; i++)
		replication->total += fill->numbers.items[i].number > replication->place->through &&
			retention_needs_point(fill->record, fill->numbers.items[i].number);
}

static int fill_all(struct fill *fill, struct error *err)
{
	struct replication *replication = fill->replication;
	struct replica_place *place = replication->place;
	uint64_t from = place->through;
	int ret = gap_check(fill, err);

	if (ret)
		return ret;
	place->filled = place->through && place->through >= fill->record->through;
	replication->resumed = true;
	replication->source_record = &fill->source;
	count_total(fill);
	/* Later packs are the target's own prunes'. */
	if (!place->filled) {
		ret = replicate_packs(replication, fill->record, err);
		if (ret == -ENOENT)
			ret = pack_gone(fill, err);
	}
	for (size_t i = 0; !ret && i < fill->numbers.count; i++)
		if (fill->numbers.items[i].number > from)
			ret = fill_number(fill, &fill->numbers.items[i], err);
	if (!ret && place->through && !replication->options->dry_run)
		place->filled = place->through >= fill->record->through;
	return ret;
}

int replicate_fill(struct replication *replication, struct error *err)
{
	struct fill fill = { .replication = replication, .record = &fill.target };
	const struct uuid *volume = &replication->volume->id;
	bool dry_run = replication->options->dry_run;
	/* The record first: what is listed after it is at least what it needs. */
	int ret = retention_load(replication->source, volume, &fill.source, err) ?:
		  numbers_list(replication->source, volume, &fill.numbers, err);

	if (!ret && replication->target)
		ret = target_look(&fill, err);

	if (!ret && !replication->place->through && !fill.target.sequence) {
		replication->result->anew = true;
		if (!dry_run)
			ret = repo_volume_add(replication->target, replication->volume, err);
		if (!ret && fill.source.sequence && !dry_run)
			ret = record_copy(&fill, err);
		else
			fill.record = &fill.source;
	}
	if (!ret)
		ret = fill_all(&fill, err);
	free(fill.numbers.items);
	retention_fini(&fill.source);
	retention_fini(&fill.target);
	return ret;
}
