/* Opening a point: its keys, its map, the bytes of its frames. */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"

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

int point_own_map(struct repo *repo, const struct point *point,
		  const struct key_ring *ring, struct map *map,
		  struct error *err)
{
	CLEANUP_FREE uint8_t *sealed = malloc(point->map_bytes + 1);
	uint8_t key[CRYPTO_KEY_SIZE], digest[CRYPTO_DIGEST_SIZE];
	char name[STORE_KEY_MAX];
	int ret;

	if (!sealed)
		return error_set(err, -ENOMEM, "reading the map of point %" PRIu64
				 ": out of memory", point->number);
	if (point->map_inline)
		point_key(&point->volume, point->number, name);
	else
		point_map_key(point, name);
	ret = point_read(repo, name, point->map_inline ? point->head_bytes : 0, sealed,
			 point->map_bytes, err);
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

/* Puts `map` (a delta or full) on top of its parents' maps, recursively upwards. */
static int map_on_parents(struct repo *repo, const struct point *point,
			  const struct key_ring *ring, unsigned depth,
			  struct map *map, struct error *err)
{
	struct map own, below;
	struct point parent;
	int ret = point_own_map(repo, point, ring, &own, err);

	if (ret)
		return ret;
	if (own.kind == MAP_FULL) {
		*map = own;
		return 0;
	}
	if (depth >= POINT_DEPTH_MAX) {
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
				     " of %s has no full map within %d parents",
				     point->number, point->volume_name, POINT_DEPTH_MAX);
		goto out_own;
	}
	ret = point_load(repo, &point->volume, point->parent, &parent, err);
	if (ret == -ENOENT)
		error_set_exit(err, EXIT_UNTRUSTWORTHY, ret = -EBADMSG, "point %" PRIu64
			       " of %s needs point %" PRIu64 ", which is missing",
			       point->number, point->volume_name, point->parent);
	if (ret)
		goto out_own;
	if (memcmp(parent.hash, point->parent_hash, sizeof(parent.hash)))
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
				     " of %s is not the parent that point %" PRIu64
				     " was made on: it was replaced", parent.number,
				     point->volume_name, point->number);
	else
		ret = map_on_parents(repo, &parent, ring, depth + 1, &below, err);
	point_fini(&parent);
	if (ret)
		goto out_own;
	ret = map_overlay(&below, &own, map);
	map_fini(&below);
	if (ret)
		error_set(err, ret, "merging maps: %s", error_text(ret));
out_own:
	map_fini(&own);
	return ret;
}

int point_full_map(struct repo *repo, const struct point *point,
		   const struct key_ring *ring, struct map *map,
		   struct error *err)
{
	int ret = map_on_parents(repo, point, ring, 0, map, err);

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
