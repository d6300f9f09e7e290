/* Where frames lie: in a point's own objects, or in packs. */
#include "agent/repo/pack_format.h"
#include "agent/repo/repo_private.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct places {
	struct repo *repo;
	struct uuid volume;
	struct retention retention;
	struct packs *packs;
};

int places_open(struct repo *repo, const struct uuid *volume, struct places **opened,
		struct error *err)
{
	struct places *places = calloc(1, sizeof(*places));
	int ret;

	if (!places)
		return error_set(err, -ENOMEM, "reading a retention record: out of memory");
	places->repo = repo;
	places->volume = *volume;
	ret = retention_load(repo, volume, &places->retention, err);
	if (!ret) {
		places->packs = packs_new(repo, volume, &places->retention);
		if (!places->packs)
			ret = error_set(err, -ENOMEM, "reading a retention record: out of memory");
	}
	if (ret)
		places_close(places);
	else
		*opened = places;
	return ret;
}

void places_close(struct places *places)
{
	if (!places)
		return;
	packs_free(places->packs);
	retention_fini(&places->retention);
	free(places);
}

int places_full_map(struct places *places, const struct point *point,
		    const struct key_ring *ring, struct map *map, struct error *err)
{
	uint8_t parent_hash[CRYPTO_DIGEST_SIZE];
	uint64_t parent;
	int ret = point_merged_map(places->repo, &places->retention, point, ring, false, map,
				   &parent, parent_hash, err);

	return ret ? error_prefix(err, "opening point %" PRIu64 " of %s", point->number,
				  point->volume_name) : 0;
}

/* Whether a point's object went, or goes, because what is needed of it was moved. */
static bool moved(const struct places *places, uint64_t number)
{
	return !retention_needs_point(&places->retention, number);
}

int places_point(struct places *places, uint64_t number, struct point *point,
		 struct error *err)
{
	return moved(places, number) ? packs_point(places->packs, number, point, err) :
	       point_load(places->repo, &places->volume, number, point, err);
}

/* What of [offset, offset + length) the item at `offset` and those behind it in the
 * same pack hold, in one piece of that pack. */
struct run {
	const struct pack_item *first, *last;
	uint64_t bytes;			/* in the pack */
	size_t length;			/* in the segment */
};

static void run_take(const struct pack_index *index, const struct pack_item *item,
		     uint64_t offset, size_t length, struct run *run)
{
	const struct pack_item *end = index->items + index->count;
	uint64_t skip = offset - item->offset, stop = offset + length, till;

	*run = (struct run){ .first = item, .last = item };
	while (run->last + 1 < end && run->last[1].point == item->point &&
	       run->last[1].segment == item->segment && run->last[1].offset < stop)
		run->last++;
	till = run->last->offset + run->last->length;
	till = till < stop ? till : stop;
	run->length = till - offset;
	run->bytes = run->last->at + (till - run->last->offset) - (item->at + skip);
}

/* Items lie in the pack without the gaps that they had; put back from the last on. */
static void run_spread(const struct run *run, uint64_t offset, uint8_t *buffer)
{
	uint64_t base = run->first->at + (offset - run->first->offset);
	uint64_t end = offset + run->length;

	for (const struct pack_item *item = run->last; item > run->first; item--) {
		uint64_t stop = item->offset + item->length;

		stop = stop < end ? stop : end;
		memmove(buffer + (item->offset - offset), buffer + (item->at - base),
			stop - item->offset);
	}
	for (const struct pack_item *item = run->first; item < run->last; item++) {
		uint64_t stop = item->offset + item->length;

		memset(buffer + (stop - offset), 0, item[1].offset - stop);
	}
}

/*
 * Nothing is at `offset`: a gap between two items, of which the second may be in another
 * pack, is zeros; what lies before the first or behind the last should have been there.
 */
static int read_gap(struct places *places, const struct point *point, uint32_t segment,
		    uint64_t offset, uint8_t *buffer, size_t length, bool begun, size_t *gap,
		    struct error *err)
{
	uint64_t next;
	int ret = packs_find_next(places->packs, point->number, segment, offset, &next, err);

	if (ret)
		return ret;
	if (!begun || next >= offset + length)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "byte %" PRIu64 " of "
				      "segment %" PRIu32 " of point %" PRIu64 " of %s is needed, "
				      "and was pruned; look with clawback verify", offset, segment,
				      point->number, point->volume_name);
	*gap = next - offset;
	memset(buffer, 0, *gap);
	return 0;
}

static int read_moved(struct places *places, const struct point *point, uint32_t segment,
		      uint64_t offset, uint8_t *buffer, size_t length, struct error *err)
{
	bool begun = false;

	for (; length; begun = true) {
		const struct pack_index *index;
		struct pack_place place;
		struct run run = { .length = 0 };
		int ret = packs_find_frames(places->packs, point->number, segment, offset, &place,
					    err);

		if (!ret && !place.item) {
			ret = read_gap(places, point, segment, offset, buffer, length, begun,
				       &run.length, err);
		} else if (!ret) {
			ret = packs_index(places->packs, place.pack, &index, err);
			if (!ret) {
				run_take(index, place.item, offset, length, &run);
				ret = packs_read(places->packs, place.pack, place.item->at +
						 (offset - place.item->offset), buffer, run.bytes,
						 err);
			}
			if (!ret)
				run_spread(&run, offset, buffer);
		}
		if (ret)
			return ret;
		buffer += run.length;
		offset += run.length;
		length -= run.length;
	}
	return 0;
}

int places_read(struct places *places, const struct point *point, uint32_t segment,
		uint64_t offset, void *buffer, size_t length, struct error *err)
{
	if (retention_needs_segment(&places->retention, point->number, segment))
		return point_read_segment(places->repo, point, segment, offset, buffer, length,
					  err);
	return read_moved(places, point, segment, offset, buffer, length, err);
}
