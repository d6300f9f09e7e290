/*
 * One segment: read once, front to back, in pieces; hashed; and every frame that
 * the point's own map lists in it decoded as soon as its last byte is there.
 */
#include "agent/repo/verify_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A reading of a segment. buffer[0] is byte `base` of it, `have` bytes are there. */
struct reading {
	struct verify_worker *worker;
	struct verify_point *open;
	uint32_t segment;
	const char *key;
	struct sealer *sealer;		/* NULL: only hash */
	uint64_t base;
	size_t have;
	size_t frame, frame_end;	/* in open->order */
	uint32_t damaged_frames;
};

/* The first of the own frames at or behind `segment`. */
size_t verify_frames_from(const struct verify_point *open, uint32_t segment)
{
	size_t low = 0, high = open->frame_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (open->map.frames[open->order[middle]].segment < segment)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void frame_verify(struct reading *reading, uint32_t frame)
{
	const struct verify_point *open = reading->open;
	const struct map_frame *where = &open->map.frames[frame];
	struct verify_worker *worker = reading->worker;
	struct extent_list extents = EXTENT_LIST_INIT;
	struct error err = ERROR_INIT;
	int ret = frame_decode(worker->decoder, reading->sealer, &open->point.volume,
			       where, worker->buffer + (where->offset - reading->base),
			       where->length, worker->plain, &extents, &err);

	if (!ret && frame_index_check(&open->index, &open->map, frame, &extents))
		ret = error_set_exit(&err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				     "frame %" PRIu32 " of point %" PRIu64 " does not hold "
				     "the blocks that its map says", where->number,
				     where->point);
	extent_list_fini(&extents);
	if (!ret)
		verify_count(worker->verify, 0, 0, 1);
	else if (!reading->damaged_frames++ || err.exit != EXIT_UNTRUSTWORTHY)
		verify_fault(worker->verify, &err);
}

/* Decodes what is complete; keeps the beginning of what is not. */
static void frames_verify(struct reading *reading)
{
	const struct verify_point *open = reading->open;
	uint8_t *buffer = reading->worker->buffer;
	uint64_t end = reading->base + reading->have, keep = end;

	while (reading->frame < reading->frame_end) {
		uint32_t frame = open->order[reading->frame];
		const struct map_frame *where = &open->map.frames[frame];

		if (where->offset + where->length > end) {
			if (where->offset < end)
				keep = where->offset;
			break;
		}
		frame_verify(reading, frame);
		reading->frame++;
	}
	reading->have = end - keep;
	memmove(buffer, buffer + (keep - reading->base), reading->have);
	reading->base = keep;
}

/* Size first: a request that costs little and tells missing from short from long. */
bool verify_segment_sized(struct verify *verify, const struct point *point, uint32_t segment,
			  const char *key)
{
	struct error err = ERROR_INIT;
	uint64_t bytes, wanted = point->segments[segment].bytes;
	int ret = store_size(verify->repo->store, key, &bytes, &err);

	if (ret == -ENOENT)
		verify_problem(verify, "%s is missing: data of point %" PRIu64 " of %s "
			       "is lost", key, point->number, point->volume_name);
	else if (ret)
		verify_fault(verify, &err);
	else if (bytes != wanted)
		verify_problem(verify, "%s has %" PRIu64 " bytes, its manifest says %"
			       PRIu64, key, bytes, wanted);
	else
		return true;
	return false;
}

static int segment_read(struct reading *reading, struct digest *digest,
			struct error *err)
{
	struct verify_worker *worker = reading->worker;
	const struct point *point = &reading->open->point;
	uint64_t bytes = point->segments[reading->segment].bytes;
	int ret = verify_room(worker, bytes, err);

	for (uint64_t offset = 0; !ret && offset < bytes;) {
		size_t n = bytes - offset < VERIFY_PIECE_BYTES ? bytes - offset :
								 VERIFY_PIECE_BYTES;
		uint8_t *at = worker->buffer + reading->have;

		if (verify_stopped(worker->verify))
			return -ECANCELED;
		ret = point_read_segment(worker->verify->repo, point,
					 reading->segment, offset, at, n, err);
		if (ret)
			return ret;
		digest_update(digest, at, n);
		if (!offset && segment_check(at, n, &point->volume, point->number,
					     reading->segment, err))
			verify_fault(worker->verify, err);
		reading->have += n;
		offset += n;
		if (reading->sealer) {
			frames_verify(reading);
		} else {
			reading->base = offset;
			reading->have = 0;
		}
		verify_advance(worker->verify, n);
	}
	return ret;
}

/* What only shows when all of it has been read. */
static void segment_judge(struct reading *reading,
			  const uint8_t digest[static CRYPTO_DIGEST_SIZE])
{
	struct verify *verify = reading->worker->verify;
	const struct point *point = &reading->open->point;
	const struct pipeline_segment *segment = &point->segments[reading->segment];

	if (memcmp(digest, segment->sha256, CRYPTO_DIGEST_SIZE))
		verify_problem(verify, "%s is damaged: its SHA-256 is not the one in the "
			       "manifest of point %" PRIu64 " of %s", reading->key,
			       point->number, point->volume_name);
	if (reading->damaged_frames > 1)
		verify_problem(verify, "%s: %" PRIu32 " of its %" PRIu32 " frames are "
			       "damaged", reading->key, reading->damaged_frames,
			       segment->frames);
	if (reading->sealer && reading->frame < reading->frame_end)
		verify_problem(verify, "the map of point %" PRIu64 " of %s points behind "
			       "the end of %s", point->number, point->volume_name,
			       reading->key);
}

void verify_segment(struct verify_worker *worker, struct verify_point *open,
		    uint32_t segment)
{
	const struct point *point = &open->point;
	struct reading reading = {
		.worker = worker, .open = open, .segment = segment,
	};
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX + 8];
	uint8_t found[CRYPTO_DIGEST_SIZE];
	struct error err = ERROR_INIT;
	struct digest *digest;
	int ret = 0;

	if (open->serving && !extent_list_contains(&open->serving->segments, segment))
		return;
	if (verify_segment_sample(worker, open, segment))
		return;
	if (point->frames_inline)
		point_key(&point->volume, point->number, key);
	else
		point_segment_prefix(point, prefix);
	if (!point->frames_inline)
		snprintf(key, sizeof(key), "%s%06" PRIu32, prefix, segment);
	reading.key = key;
	if (!point->frames_inline) {
		verify_count(worker->verify, 0, 1, 0);
		if (!verify_segment_sized(worker->verify, point, segment, key))
			return;
	}
	digest = digest_new();
	if (open->decode) {
		reading.sealer = sealer_new(open->keys.data);
		reading.frame = verify_frames_from(open, segment);
		reading.frame_end = verify_frames_from(open, segment + 1);
	}
	if (!digest || (open->decode && !reading.sealer))
		ret = error_set(&err, -ENOMEM, "verifying: out of memory");
	if (!ret)
		ret = segment_read(&reading, digest, &err);
	if (!ret) {
		digest_finish(digest, found);
		segment_judge(&reading, found);
	} else {
		digest_free(digest);
		if (ret != -ECANCELED)
			verify_fault(worker->verify, &err);
	}
	sealer_free(reading.sealer);
}
