/* Writing a point: everything it refers to first, the point object last. */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static int point_wrap_keys(const struct repo *repo, struct point *point,
			   const struct point_keys *keys, struct error *err)
{
	struct point_context context;

	point_context(point, &context);
	point->wrap_count = repo->facts.recipient_count;
	for (size_t i = 0; i < point->wrap_count; i++) {
		struct point_wrap *wrap = &point->wraps[i];
		int ret;

		wrap->recipient = repo->facts.recipients[i];
		ret = keys_wrap(&wrap->recipient, keys, &context, sizeof(context),
				wrap->wrap, err);
		if (ret)
			return ret;
	}
	return 0;
}

static int point_store_map(struct repo *repo, struct point *point,
			   const uint8_t *sealed, size_t length, struct error *err)
{
	char key[STORE_KEY_MAX];

	digest_of(sealed, length, point->map_sha256);
	point->map_bytes = length;
	point->map_inline = length <= POINT_MAP_INLINE_MAX;
	if (point->map_inline)
		return 0;
	point_map_key(point, key);
	if (store_put(repo->store, key, sealed, length, 0, err))
		return error_prefix(err, "storing the map");
	return 0;
}

/* header, manifest, signature, map, frames in one new buffer. */
static int point_assemble(struct point *point, const uint8_t *map, size_t map_length,
			  const uint8_t *frames, size_t frames_length,
			  const struct signing_private *signer, uint8_t **object,
			  size_t *length, struct error *err)
{
	CLEANUP_FREE char *manifest = point_manifest_text(point);
	CLEANUP_FREE uint8_t *buffer = NULL;
	struct point_header header;
	size_t manifest_length, signed_length;
	uint8_t *at;
	int ret;

	if (!manifest)
		return error_set(err, -ENOMEM, "writing the manifest: out of memory, "
				 "or a name that is not UTF-8");
	manifest_length = strlen(manifest);
	if (manifest_length > POINT_MANIFEST_MAX)
		return error_set(err, -EFBIG, "the manifest has %zu bytes, more than a reader "
				 "accepts; use larger segments", manifest_length);
	memset(&header, 0, sizeof(header));
	memcpy(header.magic, POINT_MAGIC, sizeof(header.magic));
	header.version = le32(POINT_VERSION);
	header.manifest_length = le32((uint32_t)manifest_length);
	header.map_length = le32((uint32_t)map_length);
	header.frames_length = le64(frames_length);
	signed_length = sizeof(header) + manifest_length;
	point->head_bytes = signed_length + CRYPTO_SIGNATURE_SIZE;
	point->object_bytes = point->head_bytes + map_length + frames_length;
	buffer = malloc(point->object_bytes);
	if (!buffer)
		return error_set(err, -ENOMEM, "writing the point object: out of memory");
	memcpy(buffer, &header, sizeof(header));
	memcpy(buffer + sizeof(header), manifest, manifest_length);
	ret = sign_data(signer, POINT_SIGN_LABEL, buffer, signed_length,
			buffer + signed_length, err);
	if (ret)
		return ret;
	digest_of(buffer, point->head_bytes, point->hash);
	at = buffer + point->head_bytes;
	if (map_length)
		memcpy(at, map, map_length);
	if (frames_length)
		memcpy(at + map_length, frames, frames_length);
	*length = point->object_bytes;
	*object = STEAL(buffer);
	return 0;
}

/* Somebody was quicker: who, if it can be read. */
static int point_taken(struct repo *repo, const struct point *point, struct error *err)
{
	struct error ignored = ERROR_INIT;
	struct point other;
	char where[96] = "";
	bool own = false;
	int ret = point_load(repo, &point->volume, point->number, &other, &ignored);

	if (ret == -ENOENT)
		return point_number_used(point->number, err);
	if (!ret) {
		own = !memcmp(&other.signer, &point->signer, sizeof(other.signer));
		if (*other.host)
			snprintf(where, sizeof(where), " (on %.64s)", other.host);
		point_fini(&other);
	}
	if (own) {
		error_set_exit(err, EXIT_LOCKED, -EEXIST, "point %" PRIu64 " of %s exists already, "
			       "signed by this host%s, which does not know it: the machine or its "
			       "state was set back to an earlier image, or is a copy of another",
			       point->number, point->volume_name, where);
		return error_hint(err, "the next run takes that point over and stores the whole "
				  "volume; a copy needs a state folder and a repository of its own");
	}
	error_set_exit(err, EXIT_LOCKED, -EEXIST, "point %" PRIu64 " of %s exists already: another "
		       "writer%s uses this volume's place in the repository", point->number,
		       point->volume_name, where);
	return error_hint(err, "a volume has one writer; stop the other, or give it a "
			  "repository of its own");
}

static int point_create(struct repo *repo, const struct point *point,
			const uint8_t *object, size_t length, struct error *err)
{
	char key[STORE_KEY_MAX];
	int ret;

	point_key(&point->volume, point->number, key);
	ret = store_put(repo->store, key, object, length, STORE_IF_ABSENT, err);
	if (ret == -EEXIST)
		return point_taken(repo, point, err);
	return ret;
}

int point_commit(struct repo *repo, struct point *point, const struct map *map,
		 const uint8_t *inline_frames, size_t inline_length,
		 const struct point_keys *keys,
		 const struct signing_private *signer, struct error *err)
{
	CLEANUP_FREE uint8_t *sealed = NULL;
	CLEANUP_FREE uint8_t *object = NULL;
	struct timespec now;
	size_t sealed_length = 0, length = 0;
	int ret;

	point->repository = repo->facts.id;
	point->map_kind = map->kind;
	point->frames_inline = inline_frames != NULL;
	signing_public(signer, &point->signer);
	ret = point_wrap_keys(repo, point, keys, err);
	if (!ret)
		ret = map_seal(point, map, keys->map, &sealed, &sealed_length, err);
	if (!ret)
		ret = FAULT_ERR("commit.map", err) ?: point_store_map(repo, point, sealed, sealed_length, err);
	if (!ret) {
		clock_gettime(CLOCK_REALTIME, &now);
		point->committed_ns = (uint64_t)now.tv_sec * 1000000000u +
				      (uint64_t)now.tv_nsec;
		ret = point_assemble(point, sealed, point->map_inline ? sealed_length : 0,
				     inline_frames, inline_frames ? inline_length : 0,
				     signer, &object, &length, err);
	}
	if (!ret)
		ret = point_create(repo, point, object, length, err);
	return ret ? error_prefix(err, "committing point %" PRIu64 " of %s", point->number,
				  point->volume_name) : 0;
}
