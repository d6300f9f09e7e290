/*
 * Part of a check: some frames of all, drawn at random but so that it can be repeated;
 * some points of all, in an order that goes on where the last part ended.
 *
 * A frame is authenticated by itself, so one that is drawn is checked as well as in a
 * check of all; what is not drawn is not read. The digests of segments, which take
 * reading all of them, are not looked at.
 */
#include "agent/repo/verify_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* The finalizer of splitmix64: each bit of the result depends on each of the input's. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

bool verify_sampled(uint64_t seed, uint32_t ppm, uint64_t number, uint32_t segment,
		    uint64_t offset)
{
	uint64_t drawn = mix(mix(mix(mix(seed) ^ number) ^ segment) ^ offset);

	return (drawn >> 32) * 1000000 >> 32 < ppm;
}

void verify_order(struct verify *verify)
{
	size_t below = 0;

	while (below < verify->count && verify->known[below].number < verify->options->from)
		below++;
	verify->below = below ? below : verify->count;
}

/* Rising, or, with a limit of time, falling from `from` on, and around. */
struct verify_known *verify_nth(struct verify *verify, size_t n)
{
	return &verify->known[!verify->options->max_time_ns ? n :
			      (verify->below + verify->count - 1 - n) % verify->count];
}

static int frame_check(struct verify_worker *worker, const struct verify_point *open,
		       struct sealer *sealer, uint32_t frame, struct error *err)
{
	const struct map_frame *where = &open->map.frames[frame];
	struct extent_list extents = EXTENT_LIST_INIT;
	int ret = verify_room(worker, FRAME_STORED_MAX, err);

	if (!ret)
		ret = point_read_segment(worker->verify->repo, &open->point, where->segment,
					 where->offset, worker->buffer, where->length, err);
	if (!ret)
		ret = frame_decode(worker->decoder, sealer, &open->point.volume, where,
				   worker->buffer, where->length, worker->plain, &extents, err);
	if (!ret && frame_index_check(&open->index, &open->map, frame, &extents))
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "frame %" PRIu32
				     " of point %" PRIu64 " does not hold the blocks that its map "
				     "says", where->number, where->point);
	extent_list_fini(&extents);
	return ret;
}

static void frames_check(struct verify_worker *worker, struct verify_point *open,
			 uint32_t segment, struct sealer *sealer)
{
	const struct verify_options *options = worker->verify->options;
	size_t end = verify_frames_from(open, segment + 1);

	for (size_t i = verify_frames_from(open, segment); i < end; i++) {
		const struct map_frame *where = &open->map.frames[open->order[i]];
		bool drawn = verify_sampled(options->seed, options->sample_ppm, where->point,
					    where->segment, where->offset);
		struct error err = ERROR_INIT;

		if (drawn && verify_stopped(worker->verify))
			return;
		verify_drawn(worker->verify, where->length, drawn);
		if (!drawn)
			continue;
		if (frame_check(worker, open, sealer, open->order[i], &err))
			verify_fault(worker->verify, &err);
		else
			verify_count(worker->verify, 0, 0, 1);
		verify_advance(worker->verify, where->length);
	}
}

static bool segment_drawn(const struct verify_options *options, const struct point *point,
			  uint32_t segment)
{
	return verify_sampled(options->seed, options->sample_ppm, point->number, segment,
			      UINT64_MAX);
}

bool verify_segment_sample(struct verify_worker *worker, struct verify_point *open,
			   uint32_t segment)
{
	const struct verify_options *options = worker->verify->options;
	const struct point *point = &open->point;
	char prefix[STORE_KEY_MAX], key[STORE_KEY_MAX + 8];
	struct error err = ERROR_INIT;
	struct sealer *sealer;

	/* Of a pruned point there is no map to say where a frame begins: its digest, whole. */
	if (!options->sample_ppm || (open->serving && segment_drawn(options, point, segment)))
		return false;
	if (!point->frames_inline) {
		point_segment_prefix(point, prefix);
		snprintf(key, sizeof(key), "%s%06" PRIu32, prefix, segment);
		verify_count(worker->verify, 0, 1, 0);
		if (!verify_segment_sized(worker->verify, point, segment, key))
			return true;
	}
	/* One whose map is damaged: that was told. */
	if (!open->decode)
		return true;
	sealer = sealer_new(open->keys.data);
	if (!sealer) {
		error_set(&err, -ENOMEM, "verifying: out of memory");
		verify_fault(worker->verify, &err);
		return true;
	}
	frames_check(worker, open, segment, sealer);
	sealer_free(sealer);
	return true;
}
