/*
 * Frames as they are stored, with their neighbours. What compresses well makes frames of a
 * few KiB, for which a request is all time and no bytes; so the point's stored bytes are
 * cut into pieces of whole frames that lie side by side, and who wants a frame has its
 * piece fetched. The other frames of it wait here, compressed, which holds many times what
 * the decoded ones would: a database that recovers jumps about in all of its tables.
 */
#include "agent/serve/serve_private.h"

#include <errno.h>
#include <stdlib.h>

/* As long as this takes to come, about, a request takes to be answered. */
#define PIECE_BYTES (512u << 10)

static uint64_t frame_end(const struct map_frame *frame)
{
	return frame->offset + frame->length;
}

/* Ranges are cut where the next frame would make a piece too long. */
static void stored_cut(struct stored *stored, const struct plan *plan)
{
	for (size_t i = 0; i < plan->range_count; i++) {
		const struct plan_range *range = &plan->ranges[i];
		struct stored_piece *piece = NULL;

		for (size_t n = 0; n < range->frame_count; n++) {
			uint32_t number = plan->order[range->first_frame + n];
			const struct map_frame *frame = &plan->map.frames[number];

			if (!piece || frame_end(frame) - piece->offset > PIECE_BYTES) {
				piece = &stored->pieces[stored->piece_count++];
				*piece = (struct stored_piece){
					.offset = frame->offset, .source = range->source,
					.segment = range->segment,
				};
			}
			piece->length = (uint32_t)(frame_end(frame) - piece->offset);
			stored->piece_of[number] = (uint32_t)(piece - stored->pieces);
		}
	}
}

static int piece_load(void *context, struct cache_item *item, struct error *err)
{
	struct point_reader *reader = context;
	const struct stored_piece *piece = &reader->stored.pieces[item->frame];
	int ret = places_read(reader->plan.places, &reader->sources.items[piece->source].point,
			      piece->segment, piece->offset, item->plain, piece->length, err);

	atomic_fetch_add(&reader->fetches, 1);
	if (!ret)
		atomic_fetch_add(&reader->fetched_bytes, piece->length);
	return ret;
}

int stored_init(struct point_reader *reader, uint64_t limit_bytes)
{
	struct stored *stored = &reader->stored;
	const struct plan *plan = &reader->plan;

	/* A frame each, at most. */
	stored->pieces = calloc(plan->frame_count + 1, sizeof(*stored->pieces));
	stored->piece_of = calloc(plan->map.frame_count + 1, sizeof(*stored->piece_of));
	if (!stored->pieces || !stored->piece_of)
		return -ENOMEM;
	stored_cut(stored, plan);
	return cache_init(&stored->cache, stored->piece_count, limit_bytes, piece_load, reader);
}

void stored_fini(struct stored *stored)
{
	if (stored->cache.frames)
		cache_fini(&stored->cache);
	free(stored->pieces);
	free(stored->piece_of);
}

int stored_get(struct point_reader *reader, uint32_t frame, struct cache_item **item,
	       const uint8_t **bytes, struct error *err)
{
	struct stored *stored = &reader->stored;
	uint32_t number = stored->piece_of[frame];
	const struct stored_piece *piece = &stored->pieces[number];
	int ret = cache_get(&stored->cache, number, piece->length, item, err);

	if (!ret)
		*bytes = (*item)->plain + (reader->plan.map.frames[frame].offset - piece->offset);
	return ret;
}

void stored_put(struct point_reader *reader, struct cache_item *item)
{
	cache_put(&reader->stored.cache, item);
}
