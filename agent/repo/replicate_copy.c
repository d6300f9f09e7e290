/*
 * Copying one point: what it needs, then its object. Nothing is written before it was
 * compared with the manifest, but for objects larger than a piece, which do not become
 * visible before all of them was. So an object that is there was whole when it came; one
 * of the right length is not copied again when a pass goes on where another was killed.
 */
#include "agent/repo/replicate_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/repo/pack_format.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct object {
	char from[STORE_KEY_MAX];	/* in the source */
	char key[STORE_KEY_MAX];
	uint64_t bytes;
	const uint8_t *sha256;
};

static int object_damaged(const struct replication *replication, const struct object *object,
			  const char *how, struct error *err)
{
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s %s: it is not copied",
			      store_url(replication->source->store), object->from, how);
}

static int read_piece(struct replication *replication, const struct object *object,
		      uint64_t offset, size_t length, struct error *err)
{
	size_t got;
	int ret = interrupt_check(err) ?:
		  store_get(replication->source->store, object->from, offset, replication->piece,
			    length, &got, err);

	if (!ret && got != length)
		ret = object_damaged(replication, object, "is shorter than its manifest says", err);
	return ret;
}

static int copy_small(struct replication *replication, const struct object *object,
		      struct error *err)
{
	uint8_t sha256[CRYPTO_DIGEST_SIZE];
	int ret = read_piece(replication, object, 0, object->bytes, err);

	if (ret)
		return ret;
	digest_of(replication->piece, object->bytes, sha256);
	if (memcmp(sha256, object->sha256, sizeof(sha256)))
		return object_damaged(replication, object, "is damaged", err);
	return store_put(replication->target->store, object->key, replication->piece,
			 object->bytes, 0, err);
}

static void drop_digest(struct digest **digest)
{
	digest_free(*digest);
}

static int copy_pieces(struct replication *replication, const struct object *object,
		       struct store_upload *upload, struct error *err)
{
	CLEANUP(drop_digest) struct digest *digest = digest_new();
	uint8_t sha256[CRYPTO_DIGEST_SIZE];

	if (!digest)
		return error_set(err, -ENOMEM, "copying an object: out of memory");
	for (uint64_t done = 0; done < object->bytes; ) {
		size_t length = replication->piece_bytes;
		int ret;

		if (length > object->bytes - done)
			length = object->bytes - done;
		ret = read_piece(replication, object, done, length, err) ?:
		      store_upload_write(upload, replication->piece, length, err);
		if (ret)
			return ret;
		digest_update(digest, replication->piece, length);
		done += length;
	}
	digest_finish(STEAL(digest), sha256);
	return memcmp(sha256, object->sha256, sizeof(sha256))
		? object_damaged(replication, object, "is damaged", err) : 0;
}

static int copy_large(struct replication *replication, const struct object *object,
		      struct error *err)
{
	struct store_upload *upload = NULL;
	int ret = store_upload_start(replication->target->store, object->key, &upload, err);

	if (ret)
		return ret;
	ret = copy_pieces(replication, object, upload, err);
	if (!ret)
		return store_upload_finish(upload, err);
	store_upload_abort(upload);
	return ret;
}

static int object_there(struct replication *replication, const struct object *object,
			bool *there, struct error *err)
{
	uint64_t bytes;
	int ret;

	*there = false;
	if (!replication->resumed)
		return 0;
	ret = store_size(replication->target->store, object->key, &bytes, err);
	*there = !ret && bytes == object->bytes;
	return ret == -ENOENT ? 0 : ret;
}

static int copy_object(struct replication *replication, const struct object *object,
		       struct error *err)
{
	bool there;
	int ret = object_there(replication, object, &there, err);

	if (ret || there)
		return ret;
	ret = object->bytes <= replication->piece_bytes ? copy_small(replication, object, err)
							: copy_large(replication, object, err);
	if (!ret) {
		replication->result->objects++;
		replication->result->bytes += object->bytes;
	}
	return ret;
}

/* The map that counts in the target, unless the point's object holds it. */
static int copy_map(struct replication *replication, const struct retention *record,
		    const struct point *point, struct error *err)
{
	const struct retention *source = replication->source_record;
	struct object object;
	struct point as, there;
	uint64_t offset;

	retention_apply(record, point, &as, object.key, &offset);
	if (as.map_inline)
		return 0;
	strcpy(object.from, object.key);
	/* The same map may have another name there. */
	if (source) {
		retention_apply(source, point, &there, object.from, &offset);
		if (there.map_inline ||
		    memcmp(there.map_sha256, as.map_sha256, sizeof(as.map_sha256)))
			strcpy(object.from, object.key);
	}
	object.bytes = as.map_bytes;
	object.sha256 = as.map_sha256;
	return copy_object(replication, &object, err);
}

static int copy_segments(struct replication *replication, const struct retention *record,
			 const struct point *point, struct error *err)
{
	char prefix[STORE_KEY_MAX];
	int ret = 0;

	point_segment_prefix(point, prefix);
	for (uint32_t s = 0; !ret && !point->frames_inline && s < point->segment_count; s++) {
		struct object object = { .bytes = point->segments[s].bytes,
					 .sha256 = point->segments[s].sha256 };

		if (!retention_needs_segment(record, point->number, s))
			continue;
		snprintf(object.key, sizeof(object.key), "%.*s%06" PRIu32, STORE_KEY_MAX - 8,
			 prefix, s);
		strcpy(object.from, object.key);
		ret = copy_object(replication, &object, err);
	}
	return ret;
}

/* Where the pack lies in the source, where the same one may have another name. */
static void pack_from(const struct replication *replication, const struct retention_pack *pack,
		      char key[static STORE_KEY_MAX])
{
	const struct retention *source = replication->source_record;

	for (size_t i = 0; source && i < source->pack_count; i++)
		if (!memcmp(source->packs[i].sha256, pack->sha256, sizeof(pack->sha256)))
			pack = &source->packs[i];
	pack_key(&replication->volume->id, pack, key);
}

int replicate_packs(struct replication *replication, const struct retention *record,
		    struct error *err)
{
	struct replicate_result *result = replication->result;
	int ret = 0;

	for (size_t i = 0; !ret && i < record->pack_count; i++) {
		struct object object = { .bytes = record->packs[i].bytes,
					 .sha256 = record->packs[i].sha256 };

		pack_key(&replication->volume->id, &record->packs[i], object.key);
		pack_from(replication, &record->packs[i], object.from);
		if (replication->options->dry_run) {
			result->objects++;
			result->bytes += object.bytes;
		} else {
			ret = copy_object(replication, &object, err);
		}
	}
	return ret;
}

/* ---- the commit ---------------------------------------------------------- */

/* A point that another pass was quicker with, or one of another history. */
static int point_taken(struct replication *replication, const struct point *point,
		       struct error *err)
{
	struct point other;
	bool same;
	int ret = point_load(replication->target, &point->volume, point->number, &other, err);

	if (ret && ret != -ENOENT)
		return ret;
	same = !ret && !memcmp(other.hash, point->hash, sizeof(other.hash));
	if (!ret)
		point_fini(&other);
	if (same)
		return 0;
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s holds another point %" PRIu64
			      " of %s than %s: one of them went on from an earlier state; nothing "
			      "is copied over it", store_url(replication->target->store),
			      point->number, point->volume_name,
			      store_url(replication->source->store));
}

static int point_put(struct replication *replication, const struct point *point,
		     const uint8_t *object, size_t length, struct error *err)
{
	char key[STORE_KEY_MAX];
	int ret;

	point_key(&point->volume, point->number, key);
	ret = store_put(replication->target->store, key, object, length, STORE_IF_ABSENT, err);
	return ret == -EEXIST ? point_taken(replication, point, err) : ret;
}

/* The point before it in the target is the one on which it was made. */
static int parent_check(const struct replication *replication, const struct point *point,
			struct error *err)
{
	if (!replication->has_hash || point->parent != replication->place->through ||
	    !memcmp(point->parent_hash, replication->hash, sizeof(replication->hash)))
		return 0;
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64 " of %s at %s "
			      "was made on another point %" PRIu64 " than %s holds; nothing is "
			      "copied on top of it", point->number, point->volume_name,
			      store_url(replication->source->store), point->parent,
			      store_url(replication->target->store));
}

static void point_done(struct replication *replication, const struct point *point)
{
	const struct replicate_options *options = replication->options;

	replication->has_hash = true;
	memcpy(replication->hash, point->hash, sizeof(point->hash));
	replication->place->through = point->number;
	replication->place->time_ns = point->time_ns;
	replication->resumed = false;
	replication->result->points++;
	replication->result->objects++;
	replication->result->bytes += point->object_bytes;
	if (options->copied)
		options->copied(options->context, replication->place);
	if (options->report)
		options->report(options->context, replication->result->points,
				replication->total);
}

/* What would be copied; nothing of it is read but heads. */
static int point_look(struct replication *replication, uint64_t number, struct error *err)
{
	struct replicate_result *result = replication->result;
	struct point point;
	int ret = point_load(replication->source, &replication->volume->id, number, &point, err);

	if (ret)
		return ret;
	result->points++;
	result->objects += 1 + (point.map_inline ? 0 : 1) +
			   (point.frames_inline ? 0 : point.segment_count);
	result->bytes += point.object_bytes + (point.map_inline ? 0 : point.map_bytes);
	for (size_t s = 0; !point.frames_inline && s < point.segment_count; s++)
		result->bytes += point.segments[s].bytes;
	point_fini(&point);
	return 0;
}

int replicate_point(struct replication *replication, const struct retention *record,
		    uint64_t number, struct error *err)
{
	CLEANUP_FREE uint8_t *object = NULL;
	struct point point;
	size_t length = 0;
	int ret = interrupt_check(err);

	if (!ret && replication->options->dry_run)
		return point_look(replication, number, err);
	if (!ret)
		ret = point_fetch(replication->source, &replication->volume->id, number, &object,
				  &length, &point, err);
	if (ret)
		return ret;
	ret = parent_check(replication, &point, err);
	if (!ret && !extent_list_contains(&record->pruned, number))
		ret = copy_map(replication, record, &point, err);
	if (!ret)
		ret = copy_segments(replication, record, &point, err);
	if (!ret)
		ret = point_put(replication, &point, object, length, err);
	if (!ret)
		point_done(replication, &point);
	point_fini(&point);
	return ret;
}
