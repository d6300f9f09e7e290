/*
 * Frames that lie one behind another in the store, by one read: where frames are small, a
 * read for each would make whoever reads in sequence wait for the store again and again.
 * What cannot be had is left to whoever wants it, who is told why.
 */
#include "agent/serve/serve_private.h"


/* Frames that nobody else has or loads, and where they lie together. */
struct together {
	struct point_reader *reader;
	struct cache_item *items[TOGETHER_FRAMES_MAX];
	size_t count;
	uint64_t offset, length, plain_bytes;
};

/* Whether `frame` lies right behind `before`. */
static bool frame_follows(const struct map_frame *before, const struct map_frame *frame)
{
	return frame->point == before->point && frame->segment == before->segment &&
	       frame->offset == before->offset + before->length;
}

/* As much as one frame at most: an opener has room for that, and so has the cache. */
static bool is_too_much(uint64_t stored_bytes, uint64_t plain_bytes)
{
	return stored_bytes > FRAME_STORED_MAX || plain_bytes > FRAME_PLAIN_MAX;
}

static const struct map_frame *frame_where(const struct together *together, uint32_t frame)
{
	return &together->reader->plan.map.frames[frame];
}

/* If the read fails each is tried by itself: the damage may be another's. */
static void together_load(struct together *together)
{
	struct point_reader *reader = together->reader;
	struct cache *cache = &reader->cache;
	struct opener *opener = together->count > 1 ? opener_take(reader) : NULL;
	size_t source = 0;
	bool read = false;

	if (opener) {
		struct error ignored = ERROR_INIT;
		uint32_t first = together->items[0]->frame;

		source = reader_source(reader, first);
		read = !opener_read(opener, reader, source, frame_where(together, first)->segment,
				    together->offset, (uint32_t)together->length, &ignored);
	}
	for (size_t i = 0; i < together->count; i++) {
		struct cache_item *item = together->items[i];
		uint64_t at = frame_where(together, item->frame)->offset - together->offset;
		struct error err = ERROR_INIT;
		int ret = 0;

		if (!read || frame_opener_open(&opener->frames, source, item->frame,
					       opener->stored + at, item->plain, &err)) {
			err = (struct error)ERROR_INIT;
			ret = cache->load(cache->context, item, &err);
		}
		cache_loaded(cache, item, ret, &err);
	}
	if (opener)
		opener_put(reader, opener);
	together->count = 0;
}

static void together_add(struct together *together, uint32_t frame)
{
	const struct map_frame *where = frame_where(together, frame);
	struct cache_item *item;
	size_t bytes = reader_frame_bytes(together->reader, frame);
	size_t last = together->count - 1;

	if (together->count &&
	    (together->count == TOGETHER_FRAMES_MAX ||
	     !frame_follows(frame_where(together, together->items[last]->frame), where) ||
	     is_too_much(together->length + where->length, together->plain_bytes + bytes)))
		together_load(together);
	item = cache_claim(&together->reader->cache, frame, bytes);
	if (!item)
		return;
	if (!together->count) {
		together->offset = where->offset;
		together->length = together->plain_bytes = 0;
	}
	together->items[together->count++] = item;
	together->length += where->length;
	together->plain_bytes += bytes;
}

void reader_fetch_together(struct point_reader *reader, const uint32_t *frames, size_t count)
{
	struct together together = { .reader = reader };

	for (size_t i = 0; i < count; i++)
		together_add(&together, frames[i]);
	together_load(&together);
}

size_t reader_together(const struct point_reader *reader, const uint32_t *frames, size_t count)
{
	const struct map_frame *all = reader->plan.map.frames;
	uint64_t stored = all[frames[0]].length, plain = reader_frame_bytes(reader, frames[0]);
	size_t n = 1;

	for (; n < count && n < TOGETHER_FRAMES_MAX; n++) {
		stored += all[frames[n]].length;
		plain += reader_frame_bytes(reader, frames[n]);
		if (!frame_follows(&all[frames[n - 1]], &all[frames[n]]) ||
		    is_too_much(stored, plain))
			break;
	}
	return n;
}

size_t reader_frames(const struct point_reader *reader, uint64_t from, uint64_t to,
		     uint32_t frames[static TOGETHER_FRAMES_MAX])
{
	const struct plan *plan = &reader->plan;
	struct map_entry entry;
	size_t count = 0;

	for (uint64_t block = from / BLOCK_BYTES; block * BLOCK_BYTES < to; block += entry.count) {
		if (!map_find(&plan->map, block, &entry) || count == TOGETHER_FRAMES_MAX)
			break;
		if (entry.frame != MAP_FRAME_HOLE && (!count || frames[count - 1] != entry.frame))
			frames[count++] = entry.frame;
	}
	return count;
}
