/*
 * Whether all is there that a restore of one point reads, before it begins: looked up, not
 * read. Damage inside an object shows only when it is read.
 */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/repo/pack_format.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct part { uint64_t number; uint32_t segment; };

static int compare_part(const void *a, const void *b)
{
	const struct part *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x->segment < y->segment ? -1 : x->segment > y->segment;
}

/* The segments that a map's frames lie in where they were stored, each once. */
static struct part *parts_of(const struct map *map, const struct retention *retention,
			     size_t *count)
{
	struct part *parts = calloc(map->frame_count + 1, sizeof(*parts));
	size_t kept = 0;

	*count = 0;
	for (size_t i = 0; parts && i < map->frame_count; i++) {
		struct part part = { map->frames[i].point, map->frames[i].segment };

		/* Frames come in runs of one segment. */
		if ((!*count || compare_part(&parts[*count - 1], &part)) &&
		    retention_needs_segment(retention, part.number, part.segment))
			parts[(*count)++] = part;
	}
	if (!parts || !*count)
		return parts;
	qsort(parts, *count, sizeof(*parts), compare_part);
	for (size_t i = 0; i < *count; i++)
		if (!kept || compare_part(&parts[kept - 1], &parts[i]))
			parts[kept++] = parts[i];
	*count = kept;
	return parts;
}

static int object_check(struct repo *repo, const char *key, uint64_t bytes, struct error *err)
{
	uint64_t there;
	int ret = interrupt_check(err) ?: store_size(repo->store, key, &there, err);

	if (ret == -ENOENT || (!ret && there < bytes))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s is %s",
				      store_url(repo->store), key, ret ? "missing" : "cut short");
	return ret;
}

/* All segments wanted of one point. */
static int source_check(struct repo *repo, const struct uuid *volume, const struct part *parts,
			size_t count, struct error *err)
{
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX];
	struct point point;
	int ret = point_load(repo, volume, parts->number, &point, err);

	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
				      ", which holds some of it, is missing", parts->number);
	if (ret)
		return ret;
	point_segment_prefix(&point, prefix);
	point_key(volume, point.number, key);
	if (point.frames_inline)
		ret = object_check(repo, key, point.object_bytes, err);
	for (size_t i = 0; !ret && !point.frames_inline && i < count; i++) {
		if (parts[i].segment >= point.segment_count) {
			ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
					     " has no segment %" PRIu32, point.number,
					     parts[i].segment);
			break;
		}
		snprintf(key, sizeof(key), "%.*s%06" PRIu32, STORE_KEY_MAX - 8, prefix,
			 parts[i].segment);
		ret = object_check(repo, key, point.segments[parts[i].segment].bytes, err);
	}
	point_fini(&point);
	return ret;
}

/* The packs that frames of the map lie in, and whether these are all there. */
static int packs_check(struct repo *repo, const struct retention *retention,
		       const struct uuid *volume, const struct map *map, struct error *err)
{
	struct packs *packs = packs_new(repo, volume, retention);
	CLEANUP_FREE bool *seen = calloc(retention->pack_count + 1, sizeof(*seen));
	char key[STORE_KEY_MAX];
	int ret = packs && seen ? 0 :
		  error_set(err, -ENOMEM, "looking for what a point needs: out of memory");

	for (size_t i = 0; !ret && i < map->frame_count; i++) {
		const struct map_frame *frame = &map->frames[i];
		struct pack_place place;

		if (retention_needs_segment(retention, frame->point, frame->segment))
			continue;
		ret = packs_find_frames(packs, frame->point, frame->segment, frame->offset, &place,
					err);
		if (!ret && !place.item)
			ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "a frame of point %"
					     PRIu64 ", which holds some of it, was pruned",
					     frame->point);
		if (ret || seen[place.pack])
			continue;
		seen[place.pack] = true;
		pack_key(volume, &retention->packs[place.pack], key);
		ret = object_check(repo, key, retention->packs[place.pack].bytes, err);
	}
	packs_free(packs);
	return ret;
}

int point_complete(struct repo *repo, const struct point *point, const struct key_ring *ring,
		   struct error *err)
{
	CLEANUP_FREE struct part *parts = NULL;
	struct retention retention;
	uint8_t parent_hash[CRYPTO_DIGEST_SIZE];
	uint64_t parent;
	struct map map;
	size_t count = 0;
	int ret = retention_load(repo, &point->volume, &retention, err);

	if (ret)
		return ret;
	ret = point_merged_map(repo, &retention, point, ring, false, &map, &parent, parent_hash,
			       err);
	if (!ret) {
		ret = packs_check(repo, &retention, &point->volume, &map, err);
		parts = parts_of(&map, &retention, &count);
		map_fini(&map);
		if (!ret && !parts)
			ret = error_set(err, -ENOMEM, "looking for what a point needs: out of memory");
	}
	retention_fini(&retention);
	for (size_t at = 0; !ret && at < count; ) {
		size_t run = 1;

		while (at + run < count && parts[at + run].number == parts[at].number)
			run++;
		ret = source_check(repo, &point->volume, &parts[at], run, err);
		at += run;
	}
	return ret ? error_prefix(err, "point %" PRIu64 " of %s is not complete there",
				  point->number, point->volume_name) : 0;
}
