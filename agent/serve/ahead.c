/*
 * Reading ahead: who reads on where he stopped will go on, so that the frames behind are
 * fetched before he asks. Several may do so at once, each a stream. Two reads in a row
 * begin one; it runs ahead as far as it has come, up to WINDOW_MAX, which is little of
 * the cache. What the queue has no room for is left to who wants it.
 */
#include "agent/serve/serve_private.h"

#include <errno.h>
#include <string.h>

#define WINDOW_MAX (8u << 20)
#define WINDOW_MIN (512u << 10)
#define STREAM_GAP_MAX (256u << 10)	/* left out in a sequence, at most */

static void *ahead_thread(void *argument)
{
	struct ahead *ahead = argument;

	pthread_mutex_lock(&ahead->lock);
	while (!ahead->stopped) {
		struct error ignored = ERROR_INIT;
		uint32_t frame;

		if (!ahead->count) {
			pthread_cond_wait(&ahead->wanted, &ahead->lock);
			continue;
		}
		frame = ahead->queue[ahead->first];
		ahead->first = (ahead->first + 1) % AHEAD_QUEUE;
		ahead->count--;
		pthread_mutex_unlock(&ahead->lock);
		/* Who really wants it is told what is wrong with it. */
		if (!cache_has(&ahead->reader->cache, frame))
			reader_fetch(ahead->reader, frame, &ignored);
		pthread_mutex_lock(&ahead->lock);
	}
	pthread_mutex_unlock(&ahead->lock);
	return NULL;
}

int ahead_init(struct ahead *ahead, struct point_reader *reader, uint32_t threads)
{
	*ahead = (struct ahead){ .reader = reader };
	pthread_mutex_init(&ahead->lock, NULL);
	pthread_cond_init(&ahead->wanted, NULL);
	if (threads > AHEAD_THREADS_MAX)
		threads = AHEAD_THREADS_MAX;
	while (ahead->thread_count < threads) {
		if (pthread_create(&ahead->threads[ahead->thread_count], NULL, ahead_thread,
				   ahead))
			return -EAGAIN;
		ahead->thread_count++;
	}
	return 0;
}

void ahead_fini(struct ahead *ahead)
{
	if (!ahead->reader)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->stopped = true;
	pthread_cond_broadcast(&ahead->wanted);
	pthread_mutex_unlock(&ahead->lock);
	while (ahead->thread_count)
		pthread_join(ahead->threads[--ahead->thread_count], NULL);
	pthread_cond_destroy(&ahead->wanted);
	pthread_mutex_destroy(&ahead->lock);
}

/* The stream that goes on here, or the one that was used least recently, made new. */
static struct stream *stream_of(struct ahead *ahead, uint64_t offset, size_t length)
{
	struct stream *oldest = &ahead->streams[0];

	for (size_t i = 0; i < AHEAD_STREAMS; i++) {
		struct stream *stream = &ahead->streams[i];

		if (stream->used && offset >= stream->next &&
		    offset - stream->next <= STREAM_GAP_MAX)
			return stream;
		if (stream->used < oldest->used)
			oldest = stream;
	}
	*oldest = (struct stream){ .next = offset, .ahead = offset + length };
	return oldest;
}

/* Frames of [from, to), as far as the queue takes them. */
static void ahead_queue(struct ahead *ahead, uint64_t from, uint64_t to)
{
	const struct plan *plan = &ahead->reader->plan;
	uint32_t last = MAP_FRAME_HOLE;
	struct map_entry entry;

	for (uint64_t block = from / BLOCK_BYTES; block * BLOCK_BYTES < to; block += entry.count) {
		if (!map_find(&plan->map, block, &entry))
			break;
		if (entry.frame == MAP_FRAME_HOLE || entry.frame == last)
			continue;
		if (ahead->count == AHEAD_QUEUE)
			break;
		last = entry.frame;
		ahead->queue[(ahead->first + ahead->count++) % AHEAD_QUEUE] = last;
		pthread_cond_signal(&ahead->wanted);
	}
}

void ahead_read(struct ahead *ahead, uint64_t offset, size_t length)
{
	uint64_t limit = ahead->reader->plan.volume_bytes, window;
	struct stream *stream;

	pthread_mutex_lock(&ahead->lock);
	stream = stream_of(ahead, offset, length);
	stream->used = ++ahead->reads;
	stream->next = offset + length;
	stream->run_bytes += length;
	window = stream->run_bytes < WINDOW_MAX ? stream->run_bytes : WINDOW_MAX;
	if (window > limit - stream->next)
		window = limit - stream->next;
	if (stream->ahead < stream->next)
		stream->ahead = stream->next;
	/* In pieces, not with each small read. */
	if (stream->run_bytes > length && stream->ahead - stream->next <= window / 2 &&
	    (window >= WINDOW_MIN || stream->next + window == limit)) {
		ahead_queue(ahead, stream->ahead, stream->next + window);
		stream->ahead = stream->next + window;
	}
	pthread_mutex_unlock(&ahead->lock);
}
