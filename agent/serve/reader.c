/*
 * A point at any place: the map is searched by block, and what it says lies in a frame
 * comes from the cache, which has the frame, and what lies beside it, fetched by one ranged
 * read of at most 1 MiB: who wants one block waits for no more than that.
 */
#include "agent/serve/serve_private.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TELL_INTERVAL_NS (10 * UINT64_C(1000000000))
#define SOURCE_THREADS 8u
#define AHEAD_THREADS 4u

uint64_t serve_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- frames ------------------------------------------------------------------- */

size_t reader_source(const struct point_reader *reader, uint32_t frame)
{
	const struct plan *plan = &reader->plan;
	uint64_t number = plan->map.frames[frame].point;
	size_t low = 0, high = plan->point_count - 1;

	while (low < high) {		/* numbers fall */
		size_t middle = low + (high - low) / 2;

		if (plan->points[middle] > number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

size_t reader_frame_bytes(const struct point_reader *reader, uint32_t frame)
{
	return (size_t)reader->plan.map.frames[frame].blocks * BLOCK_BYTES;
}

/* A client that asks again and again shall not fill the log. */
static bool reader_tells(struct point_reader *reader, uint32_t frame)
{
	uint64_t now = serve_now_ns();
	uint64_t *told = &reader->told_ns[frame % 64];
	bool tells;

	pthread_mutex_lock(&reader->lock);
	tells = !*told || now - *told >= TELL_INTERVAL_NS;
	if (tells)
		*told = now;
	pthread_mutex_unlock(&reader->lock);
	return tells;
}

void reader_failed(struct point_reader *reader, uint32_t frame, struct error *err)
{
	const struct map_frame *where = &reader->plan.map.frames[frame];
	const struct source *source = &reader->sources.items[reader_source(reader, frame)];
	char key[STORE_KEY_MAX];

	atomic_fetch_add(&reader->failures, 1);
	if (source->point.frames_inline)
		point_key(&source->point.volume, where->point, key);
	else
		point_segment_prefix(&source->point, key);
	error_hint(err, source->point.frames_inline ? "object %s" : "object %s%06" PRIu32, key,
		   where->segment);
	if (reader_tells(reader, frame))
		log_warning("serving %s@%" PRIu64 ": blocks of frame %" PRIu32 " of point %" PRIu64
			    " cannot be read: %s", reader->volume_name, reader->plan.point,
			    where->number, where->point, err->message);
}

static struct opener *opener_take(struct point_reader *reader)
{
	struct opener *opener;

	pthread_mutex_lock(&reader->lock);
	opener = reader->openers;
	if (opener)
		reader->openers = opener->next;
	pthread_mutex_unlock(&reader->lock);
	if (opener)
		return opener;
	opener = calloc(1, sizeof(*opener));
	if (!opener)
		return NULL;
	opener->stored = malloc(FRAME_STORED_MAX);
	if (!opener->stored ||
	    frame_opener_init(&opener->frames, &reader->plan, &reader->sources)) {
		free(opener->stored);
		free(opener);
		return NULL;
	}
	return opener;
}

static void opener_put(struct point_reader *reader, struct opener *opener)
{
	pthread_mutex_lock(&reader->lock);
	opener->next = reader->openers;
	reader->openers = opener;
	pthread_mutex_unlock(&reader->lock);
}

/* By itself, past what is kept of it. */
static int load_alone(struct point_reader *reader, struct opener *opener, size_t source,
		      struct cache_item *item, struct error *err)
{
	const struct map_frame *where = &reader->plan.map.frames[item->frame];
	int ret = places_read(reader->plan.places, &reader->sources.items[source].point,
			      where->segment, where->offset, opener->stored, where->length, err);

	atomic_fetch_add(&reader->fetches, 1);
	if (ret)
		return ret;
	atomic_fetch_add(&reader->fetched_bytes, where->length);
	return frame_opener_open(&opener->frames, source, item->frame, opener->stored,
				 item->plain, err);
}

/*
 * From its piece. What does not come, or is not right, is tried once more by itself: a
 * neighbour's damage is none of ours, and an object that was mended is read anew.
 */
static int load_with(struct point_reader *reader, struct opener *opener,
		     struct cache_item *item, struct error *err)
{
	size_t source = reader_source(reader, item->frame);
	struct error ignored = ERROR_INIT;
	struct cache_item *piece;
	const uint8_t *bytes;
	int ret = stored_get(reader, item->frame, &piece, &bytes, &ignored);

	if (!ret) {
		ret = frame_opener_open(&opener->frames, source, item->frame, bytes, item->plain,
					&ignored);
		stored_put(reader, piece);
	}
	return ret ? load_alone(reader, opener, source, item, err) : 0;
}

/* The cache's: a frame from the store. */
static int reader_load(void *context, struct cache_item *item, struct error *err)
{
	struct point_reader *reader = context;
	struct opener *opener = opener_take(reader);
	int ret;

	if (!opener)
		return error_set(err, -ENOMEM, "reading a frame: out of memory");
	ret = load_with(reader, opener, item, err);
	opener_put(reader, opener);
	if (ret)
		reader_failed(reader, item->frame, err);
	return ret;
}

int reader_fetch(struct point_reader *reader, uint32_t frame, struct error *err)
{
	struct cache_item *item;
	int ret = cache_get(&reader->cache, frame, reader_frame_bytes(reader, frame), &item, err);

	if (!ret)
		cache_put(&reader->cache, item);
	return ret;
}

/* ---- reading ------------------------------------------------------------------- */

/* From one frame; whoever else fetches stands back meanwhile. */
static int read_piece(struct point_reader *reader, const struct map_entry *entry, size_t skip,
		      uint8_t *buffer, size_t length, struct error *err)
{
	size_t bytes = reader_frame_bytes(reader, entry->frame);
	bool waits = !cache_has(&reader->cache, entry->frame);
	struct cache_item *item;
	int ret;

	if (waits)
		atomic_fetch_add(&reader->demand, 1);
	ret = cache_get(&reader->cache, entry->frame, bytes, &item, err);
	if (waits) {
		atomic_store(&reader->demand_ns, serve_now_ns());
		atomic_fetch_sub(&reader->demand, 1);
	}
	if (ret)
		return ret;
	memcpy(buffer, item->plain + (size_t)entry->position * BLOCK_BYTES + skip, length);
	cache_put(&reader->cache, item);
	return 0;
}

int point_reader_read(struct point_reader *reader, uint64_t offset, void *buffer,
		      size_t length, struct error *err)
{
	uint64_t at = offset;
	uint8_t *out = buffer;
	size_t left = length;

	if (offset > reader->plan.volume_bytes || length > reader->plan.volume_bytes - offset)
		return error_set(err, -EINVAL, "reading %zu bytes at %" PRIu64 ": the volume has %"
				 PRIu64, length, offset, reader->plan.volume_bytes);
	while (left) {
		struct map_entry entry;
		size_t skip = at % BLOCK_BYTES, piece;
		int ret = 0;

		if (!map_find(&reader->plan.map, at / BLOCK_BYTES, &entry))
			return error_set(err, -EIO, "block %" PRIu64 " is not in the map",
					 at / BLOCK_BYTES);
		/* A hole may be longer than a size_t; compared as blocks it cannot wrap. */
		piece = entry.count > left / BLOCK_BYTES + 1 ? left :
			(size_t)entry.count * BLOCK_BYTES - skip;
		piece = piece < left ? piece : left;
		if (entry.frame == MAP_FRAME_HOLE)
			memset(out, 0, piece);
		else
			ret = read_piece(reader, &entry, skip, out, piece, err);
		if (ret)
			return ret;
		out += piece;
		at += piece;
		left -= piece;
	}
	ahead_read(&reader->ahead, offset, length);
	return 0;
}

bool point_reader_hole(const struct point_reader *reader, uint64_t offset, uint64_t *length)
{
	const struct plan *plan = &reader->plan;
	uint64_t block = offset / BLOCK_BYTES, end = block, most = *length;
	struct map_entry entry;
	bool hole = false;

	/* Neighbouring entries lie in several frames, and make one extent. */
	while (map_find(&plan->map, end, &entry)) {
		if (end > block && (entry.frame == MAP_FRAME_HOLE) != hole)
			break;
		hole = entry.frame == MAP_FRAME_HOLE;
		end += entry.count;
		if ((end - block) * BLOCK_BYTES - offset % BLOCK_BYTES >= most)
			break;
	}
	*length = plan_clip(plan, block, end - block) - offset % BLOCK_BYTES;
	*length = *length < most ? *length : most;
	return hole;
}

uint64_t point_reader_bytes(const struct point_reader *reader)
{
	return reader->plan.volume_bytes;
}

static void counts_add(struct cache *cache, struct point_reader_counts *counts)
{
	pthread_mutex_lock(&cache->lock);
	counts->cache_bytes += cache->bytes;
	counts->cache_peak_bytes += cache->peak_bytes;
	pthread_mutex_unlock(&cache->lock);
}

void point_reader_counts(struct point_reader *reader, struct point_reader_counts *counts)
{
	*counts = (struct point_reader_counts){
		.fetches = atomic_load(&reader->fetches),
		.fetched_bytes = atomic_load(&reader->fetched_bytes),
		.failures = atomic_load(&reader->failures),
	};
	counts_add(&reader->cache, counts);
	counts_add(&reader->stored.cache, counts);
}

/* ---- opening --------------------------------------------------------------------- */

int point_reader_open(struct repo *repo, const struct point *point,
		      const struct key_ring *ring, const struct point_reader_options *options,
		      struct point_reader **opened, struct error *err)
{
	struct point_reader *reader = calloc(1, sizeof(*reader));
	uint64_t cache_bytes = options->cache_bytes ? options->cache_bytes : CACHE_BYTES_DEFAULT;
	int ret;

	*opened = NULL;
	if (!reader)
		return error_set(err, -ENOMEM, "opening a point: out of memory");
	ret = plan_make(&reader->plan, repo, point, ring, NULL, err);
	if (ret) {
		free(reader);
		return ret;
	}
	reader->volume = point->volume;
	strcpy(reader->volume_name, point->volume_name);
	pthread_mutex_init(&reader->lock, NULL);
	if (cache_bytes < CACHE_BYTES_MIN)
		cache_bytes = CACHE_BYTES_MIN;
	/* Half for what is decoded, half for what came with it. */
	ret = cache_init(&reader->cache, reader->plan.map.frame_count, cache_bytes / 2, reader_load,
			 reader);
	if (!ret)
		ret = stored_init(reader, cache_bytes / 2);
	if (!ret)
		ret = ahead_init(&reader->ahead, reader, options->ahead ? options->ahead :
				 AHEAD_THREADS);
	if (ret)
		error_set(err, ret, "opening point %" PRIu64 " of %s: %s", point->number,
			  point->volume_name, error_text(ret));
	else
		ret = source_list_open(&reader->sources, &reader->plan, point, ring,
				       SOURCE_THREADS, err);
	if (ret)
		point_reader_close(reader);
	else
		*opened = reader;
	return ret;
}

void point_reader_close(struct point_reader *reader)
{
	if (!reader)
		return;
	ahead_fini(&reader->ahead);
	cache_fini(&reader->cache);
	stored_fini(&reader->stored);
	while (reader->openers) {
		struct opener *opener = reader->openers;

		reader->openers = opener->next;
		frame_opener_fini(&opener->frames);
		free(opener->stored);
		free(opener);
	}
	source_list_fini(&reader->sources);
	plan_fini(&reader->plan);
	pthread_mutex_destroy(&reader->lock);
	free(reader);
}
