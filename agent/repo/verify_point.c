/*
 * One point: its object (signature, size), its map (digest; contents when a key
 * opens it), and what its own frames claim about its segments.
 */
#include "agent/repo/verify_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void verify_point_free(struct verify_point *open)
{
	if (!open)
		return;
	point_fini(&open->point);
	map_fini(&open->map);
	frame_index_fini(&open->index);
	free(open->order);
	crypto_wipe(&open->keys, sizeof(open->keys));
	free(open);
}

/* The digest of the map as stored in `key`, without a key of ours. */
static int map_digest_check(struct verify_worker *worker, const struct point *point,
			    const char *key, uint64_t offset, struct error *err)
{
	struct verify *verify = worker->verify;
	uint64_t done = 0, bytes;
	uint8_t found[CRYPTO_DIGEST_SIZE];
	struct digest *digest;
	int ret = 0;

	if (!point->map_inline) {
		verify_count(verify, 0, 1, 0);
		ret = store_size(verify->repo->store, key, &bytes, err);
		if (ret == -ENOENT || (!ret && bytes != point->map_bytes))
			return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
					      "%s, the map of point %" PRIu64 " of %s, %s",
					      key, point->number, point->volume_name,
					      ret ? "is missing" : "has another size "
					      "than its manifest says");
	}
	digest = ret ? NULL : digest_new();
	if (!ret && !digest)
		ret = error_set(err, -ENOMEM, "verifying: out of memory");
	if (!ret)
		ret = verify_room(worker, point->map_bytes, err);
	while (!ret && done < point->map_bytes) {
		size_t got, n = point->map_bytes - done < VERIFY_PIECE_BYTES ?
			point->map_bytes - done : VERIFY_PIECE_BYTES;

		ret = store_get(verify->repo->store, key, offset + done,
				worker->buffer, n, &got, err);
		if (ret || !got)
			break;	/* cut short: the digest will say so */
		digest_update(digest, worker->buffer, got);
		verify_advance(verify, got);
		done += got;
	}
	if (ret) {
		digest_free(digest);
		return ret;
	}
	digest_finish(digest, found);
	if (memcmp(found, point->map_sha256, sizeof(found)))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "the map of point %"
				      PRIu64 " of %s is damaged: its SHA-256 is not the "
				      "one in the manifest", point->number,
				      point->volume_name);
	return 0;
}

static int compare_own(const void *a, const void *b, void *context)
{
	const struct map_frame *frames = context;
	const struct map_frame *x = &frames[*(const uint32_t *)a];
	const struct map_frame *y = &frames[*(const uint32_t *)b];

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Own frames must lie one behind the other inside the segments. */
static bool own_frames_fit(const struct verify_point *open)
{
	uint32_t segment = 0;
	uint64_t end = SEGMENT_HEADER_BYTES;

	for (size_t i = 0; i < open->frame_count; i++) {
		const struct map_frame *frame = &open->map.frames[open->order[i]];

		if (frame->segment != segment) {
			segment = frame->segment;
			end = SEGMENT_HEADER_BYTES;
		}
		if (segment >= open->point.segment_count || frame->offset < end ||
		    frame->length > FRAME_STORED_MAX ||
		    frame->offset > UINT64_MAX - frame->length ||
		    frame->offset + frame->length >
			    open->point.segments[segment].bytes)
			return false;
		end = frame->offset + frame->length;
	}
	return true;
}

/* Every frame that a segment has must be in the map, or its data is unreachable. */
static bool own_frames_complete(const struct verify_point *open)
{
	size_t at = 0;

	for (uint32_t s = 0; s < open->point.segment_count; s++) {
		size_t from = at;

		while (at < open->frame_count &&
		       open->map.frames[open->order[at]].segment == s)
			at++;
		if (at - from != open->point.segments[s].frames)
			return false;
	}
	return true;
}

/* A frame that another point wrote. */
static int foreign_frame_check(struct verify *verify, const struct point *point,
			       const struct map_frame *frame, struct error *err)
{
	bool packed = false, serves = retention_needs_segment(&verify->retention, frame->point,
							       frame->segment);
	int ret = serves ? 0 : verify_packed(verify, frame, &packed, err);

	if (ret)
		return ret;
	if (!serves && !packed)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
				      " of %s needs frames in segment %" PRIu32 " of point %"
				      PRIu64 ", which were pruned", point->number,
				      point->volume_name, frame->segment, frame->point);
	if (frame->point > point->number || (serves && !verify_find(verify, frame->point)))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64
				      " of %s needs data of point %" PRIu64 ", which is missing",
				      point->number, point->volume_name, frame->point);
	return 0;
}

/* Sorts out the point's own frames; looks for points that others lie in. */
static int map_check_frames(struct verify *verify, struct verify_point *open,
			    struct error *err)
{
	const struct point *point = &open->point;
	const struct map_frame *last = NULL;

	open->order = calloc(open->map.frame_count + 1, sizeof(*open->order));
	if (!open->order || frame_index_init(&open->index, &open->map))
		return error_set(err, -ENOMEM, "verifying: out of memory");
	for (uint32_t f = 0; f < open->map.frame_count; f++) {
		const struct map_frame *frame = &open->map.frames[f];

		if (frame->point == point->number) {
			open->order[open->frame_count++] = f;
			continue;
		}
		if (last && last->point == frame->point && last->segment == frame->segment &&
		    retention_needs_segment(&verify->retention, frame->point, frame->segment))
			continue;	/* looked up with success */
		last = frame;
		if (foreign_frame_check(verify, point, frame, err))
			return err->code;
	}
	qsort_r(open->order, open->frame_count, sizeof(*open->order), compare_own,
		open->map.frames);
	if (!own_frames_fit(open) || !own_frames_complete(open))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "the map of point %"
				      PRIu64 " of %s does not agree with its segments",
				      point->number, point->volume_name);
	return 0;
}

static int map_verify(struct verify_worker *worker, struct verify_point *open,
		      const struct point *as, const char *key, uint64_t offset,
		      struct error *err)
{
	const struct key_ring *ring = &worker->verify->options->ring;
	int ret = map_digest_check(worker, as, key, offset, err);

	if (ret || !worker->verify->opens_maps)
		return ret;
	ret = point_map_fetch(worker->verify->repo, as, key, offset, ring, &open->map, err);
	/* Intact, and yet not to be opened with a host's key: another host's map. */
	if (ret && err->exit == EXIT_UNTRUSTWORTHY && !ring->recovery)
		return error_set_exit(err, EXIT_WRONG_KEY, -ENOKEY, "the map of point %"
				      PRIu64 " of %s is intact, but this host's map key "
				      "does not open it; give --recovery-key to check it",
				      open->point.number, open->point.volume_name);
	if (!ret)
		ret = map_check_frames(worker->verify, open, err);
	if (!ret && worker->verify->options->data) {
		ret = point_open_keys(&open->point, ring, &open->keys, err);
		open->decode = !ret;
	}
	return ret;
}

static void known_fill(struct verify *verify, struct verify_known *known,
		       const struct point *point, const struct point *as)
{
	known->parent = as->parent;
	known->base = point->base;
	known->depth = point->depth;
	known->rebased = retention_map_find(&verify->retention, point->number) != NULL;
	memcpy(known->hash, point->hash, sizeof(known->hash));
	memcpy(known->parent_hash, as->parent_hash, sizeof(known->parent_hash));
	known->state = VERIFY_READ;
	if (known->listed && known->listed_bytes != point->object_bytes)
		verify_problem(verify, "the object of point %" PRIu64 " of %s has %" PRIu64
			       " bytes, its head says %" PRIu64, point->number,
			       point->volume_name, known->listed_bytes,
			       point->object_bytes);
}

/* Of a pruned point only segments are needed, and must be there. */
static void serving_check(struct verify *verify, const struct verify_point *open)
{
	const struct extent_list *segments = &open->serving->segments;
	const struct extent *last = &segments->items[segments->count - 1];

	if (last->first + last->count > open->point.segment_count)
		verify_problem(verify, "the retention record lists segments that point %" PRIu64
			       " of %s does not have", open->point.number,
			       open->point.volume_name);
}

static int point_open_object(struct verify *verify, const struct verify_known *known,
			     struct verify_point *open, struct error *err)
{
	int ret = point_load(verify->repo, &verify->volume, known->number, &open->point, err);

	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				      "point %" PRIu64 " is missing", known->number);
	return ret;
}

struct verify_point *verify_point_open(struct verify_worker *worker,
				       struct verify_known *known)
{
	struct verify *verify = worker->verify;
	struct verify_point *open = calloc(1, sizeof(*open));
	struct error err = ERROR_INIT;
	char key[STORE_KEY_MAX];
	struct point as;
	uint64_t offset;

	if (!open) {
		error_set(&err, -ENOMEM, "verifying: out of memory");
		verify_fault(verify, &err);
		return NULL;
	}
	if (point_open_object(verify, known, open, &err)) {
		if (err.exit == EXIT_UNTRUSTWORTHY)
			known->state = VERIFY_BAD;
		verify_fault(verify, &err);
		verify_point_free(open);
		return NULL;
	}
	verify_count(verify, 1, 1, 0);
	verify_advance(verify, open->point.head_bytes);
	retention_apply(&verify->retention, &open->point, &as, key, &offset);
	known_fill(verify, known, &open->point, &as);
	if (open->point.time_ns < verify->options->since_ns) {
		verify_passed_over(verify);
		verify_point_free(open);
		return NULL;
	}
	open->serving = retention_serving_find(&verify->retention, known->number);
	/* Segments can be hashed whatever is wrong with the map. */
	if (open->serving)
		serving_check(verify, open);
	else if (map_verify(worker, open, &as, key, offset, &err))
		verify_fault(verify, &err);
	open->undone = (uint32_t)open->point.segment_count;
	if (open->undone)
		return open;
	verify_point_free(open);
	return NULL;
}
