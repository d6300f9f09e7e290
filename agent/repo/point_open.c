/* Opening a point: its keys, its map, the bytes of its frames. */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int no_key(const struct point *point, struct error *err)
{
	char have[CRYPTO_FINGERPRINT_TEXT] = "nobody";

	if (point->wrap_count)
		key_fingerprint(point->wraps[0].recipient.key, have);
	return error_set_exit(err, EXIT_WRONG_KEY, -ENOKEY, "point %" PRIu64 " of %s is not "
			      "sealed to this recovery key; it is sealed to %.16s…%s",
			      point->number, point->volume_name, have,
			      point->wrap_count > 1 ? " and others" : "");
}

int point_open_keys(const struct point *point, const struct key_ring *ring,
		    struct point_keys *keys, struct error *err)
{
	struct point_context context;
	struct recovery_public public;

	if (!ring->recovery)
		return error_set_exit(err, EXIT_WRONG_KEY, -ENOKEY, "point %" PRIu64 " of %s "
				      "can only be opened with its recovery key; give "
				      "--recovery-key", point->number, point->volume_name);
	point_context(point, &context);
	recovery_private_public(ring->recovery, &public);
	for (size_t i = 0; i < point->wrap_count; i++)
		if (!memcmp(&point->wraps[i].recipient, &public, sizeof(public)))
			return keys_unwrap(ring->recovery, point->wraps[i].wrap, &context,
					   sizeof(context), keys, err);
	return no_key(point, err);
}

/* By the host's map key if there is one (it needs no unwrapping), else the wrap. */
static int open_map_key(const struct point *point, const struct key_ring *ring,
			uint8_t key[static CRYPTO_KEY_SIZE], struct error *err)
{
	struct point_context context;
	struct point_keys keys;
	int ret;

	if (ring->recovery) {
		ret = point_open_keys(point, ring, &keys, err);
		if (!ret)
			memcpy(key, keys.map, CRYPTO_KEY_SIZE);
		crypto_wipe(&keys, sizeof(keys));
		return ret;
	}
	if (!ring->host_map_key)
		return point_open_keys(point, ring, &keys, err);
	point_context(point, &context);
	ret = key_derive(ring->host_map_key, &context, sizeof(context),
			 "clawback map v1", key);
	return ret ? error_set(err, ret, "deriving a map key") : 0;
}

static int point_read(struct repo *repo, const char *key, uint64_t offset,
		      void *buffer, size_t length, struct error *err)
{
	size_t got;
	int ret = store_get(repo->store, key, offset, buffer, length, &got, err);

	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				      "%s/%s is missing", store_url(repo->store), key);
	if (!ret && got != length)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				      "%s/%s is shorter than its manifest says",
				      store_url(repo->store), key);
	return ret;
}

int point_map_fetch(struct repo *repo, const struct point *point, const char *name,
		    uint64_t offset, const struct key_ring *ring, struct map *map,
		    struct error *err)
{
	CLEANUP_FREE uint8_t *sealed = malloc(point->map_bytes + 1);
	uint8_t key[CRYPTO_KEY_SIZE], digest[CRYPTO_DIGEST_SIZE];
	int ret;

	if (!sealed)
		return error_set(err, -ENOMEM, "reading the map of point %" PRIu64
				 ": out of memory", point->number);
	ret = point_read(repo, name, offset, sealed, point->map_bytes, err);
	if (ret)
		return ret;
	digest_of(sealed, point->map_bytes, digest);
	if (memcmp(digest, point->map_sha256, sizeof(digest)))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "the map of point %"
				      PRIu64 " of %s is damaged: its digest is not the "
				      "manifest's", point->number, point->volume_name);
	ret = open_map_key(point, ring, key, err);
	if (!ret)
		ret = map_unseal(point, sealed, point->map_bytes, key, map, err);
	crypto_wipe(key, sizeof(key));
	if (!ret && (map->kind != point->map_kind ||
		     map->volume_blocks != (point->volume_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES)) {
		map_fini(map);
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "the map of point %"
				     PRIu64 " of %s is not of this volume", point->number,
				     point->volume_name);
	}
	return ret;
}

int point_own_map(struct repo *repo, const struct point *point,
		  const struct key_ring *ring, struct map *map,
		  struct error *err)
{
	static const struct retention nothing;
	char name[STORE_KEY_MAX];
	struct point as;
	uint64_t offset;

	retention_apply(&nothing, point, &as, name, &offset);
	return point_map_fetch(repo, &as, name, offset, ring, map, err);
}

/* The map that counts: makes of *point what retention_apply makes of it, and reads. */
static int stored_map(struct repo *repo, const struct retention *retention,
		      const struct key_ring *ring, struct point *point, struct map *map,
		      struct error *err)
{
	char name[STORE_KEY_MAX];
	struct point as;
	uint64_t offset;

	retention_apply(retention, point, &as, name, &offset);
	*point = as;
	return point_map_fetch(repo, point, name, offset, ring, map, err);
}

/* The point that `point` names as its parent, and no other in its place. */
static int parent_load(struct repo *repo, const struct point *point, struct point *parent,
		       struct error *err)
{
	int ret = point_load(repo, &point->volume, point->parent, parent, err);

	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
				      " of %s needs point %" PRIu64 ", which is missing",
				      point->number, point->volume_name, point->parent);
	if (ret || !memcmp(parent->hash, point->parent_hash, sizeof(parent->hash)))
		return ret;
	point_fini(parent);
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
			      " of %s is not the parent that point %" PRIu64
			      " was made on: it was replaced", point->parent,
			      point->volume_name, point->number);
}

/* Maps from a point's own down, each a delta onto the next. */
struct map_pile {
	struct map maps[POINT_DEPTH_MAX + 1];
	size_t count;
};

static int pile_gather(struct repo *repo, const struct retention *retention,
		       const struct key_ring *ring, bool to_visible, struct point *at,
		       struct map_pile *pile, struct error *err)
{
	for (;;) {
		struct map *map = &pile->maps[pile->count];
		struct point parent;
		int ret = stored_map(repo, retention, ring, at, map, err);

		if (ret)
			return ret;
		pile->count++;
		if (map->kind == MAP_FULL ||
		    (to_visible && !retention_hides(retention, at->parent)))
			return 0;
		if (pile->count > POINT_DEPTH_MAX)
			return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
					      " of %s has no full map within %d parents",
					      at->number, at->volume_name, POINT_DEPTH_MAX);
		ret = parent_load(repo, at, &parent, err);
		if (ret)
			return ret;
		point_fini(at);
		*at = parent;
	}
}

/* Lays all on the lowest, which is left alone. */
static int pile_merge(struct map_pile *pile, struct error *err)
{
	while (pile->count > 1) {
		struct map *below = &pile->maps[pile->count - 1], merged;
		int ret = map_overlay(below, below - 1, &merged);

		if (ret)
			return error_set(err, ret, "merging maps: %s", error_text(ret));
		map_fini(below);
		map_fini(below - 1);
		below[-1] = merged;
		pile->count--;
	}
	return 0;
}

int point_merged_map(struct repo *repo, const struct retention *retention,
		     const struct point *point, const struct key_ring *ring,
		     bool to_visible, struct map *map, uint64_t *parent,
		     uint8_t parent_hash[static CRYPTO_DIGEST_SIZE], struct error *err)
{
	struct map_pile *pile = calloc(1, sizeof(*pile));
	struct point at = *point;
	int ret;

	if (!pile)
		return error_set(err, -ENOMEM, "opening a map: out of memory");
	/* `at` goes up from point to point, and frees what it leaves. */
	at.segments = NULL;
	at.segment_count = 0;
	at.disk_layout = NULL;
	ret = pile_gather(repo, retention, ring, to_visible, &at, pile, err);
	if (!ret)
		ret = pile_merge(pile, err);
	if (!ret) {
		*map = pile->maps[0];
		pile->count = 0;
		*parent = map->kind == MAP_FULL ? 0 : at.parent;
		memcpy(parent_hash, at.parent_hash, CRYPTO_DIGEST_SIZE);
	}
	while (pile->count)
		map_fini(&pile->maps[--pile->count]);
	point_fini(&at);
	free(pile);
	return ret;
}

int point_full_map(struct repo *repo, const struct point *point,
		   const struct key_ring *ring, struct map *map,
		   struct error *err)
{
	struct retention retention;
	uint8_t parent_hash[CRYPTO_DIGEST_SIZE];
	uint64_t parent;
	int ret = retention_load(repo, &point->volume, &retention, err);

	if (!ret) {
		ret = point_merged_map(repo, &retention, point, ring, false, map, &parent,
				       parent_hash, err);
		retention_fini(&retention);
	}
	return ret ? error_prefix(err, "opening point %" PRIu64 " of %s", point->number,
				  point->volume_name) : 0;
}

int point_read_segment(struct repo *repo, const struct point *point,
		       uint32_t segment, uint64_t offset, void *buffer,
		       size_t length, struct error *err)
{
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX];

	if (segment >= point->segment_count ||
	    offset > point->segments[segment].bytes ||
	    length > point->segments[segment].bytes - offset)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "a map points outside "
				      "the segments of point %" PRIu64 " of %s",
				      point->number, point->volume_name);
	if (point->frames_inline) {
		point_key(&point->volume, point->number, key);
		offset += point->head_bytes + (point->map_inline ? point->map_bytes : 0);
	} else {
		point_segment_prefix(point, prefix);
		snprintf(key, sizeof(key), "%.*s%06" PRIu32, STORE_KEY_MAX - 8, prefix, segment);
	}
	return point_read(repo, key, offset, buffer, length, err);
}
