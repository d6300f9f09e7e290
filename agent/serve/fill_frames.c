/*
 * A fill's data: the point's frames in the order in which they are stored, several to a
 * read, as a restore does. Who reads the point goes first: before each read from the store
 * the fill waits until nobody else has waited for one for a moment, but not for ever.
 */
#include "agent/serve/serve_private.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define QUIET_NS (10 * UINT64_C(1000000))	/* nobody has waited for the store so long */
#define YIELD_MAX_NS (200 * UINT64_C(1000000))	/* at most, a read of ours */

/* ---- holding back ----------------------------------------------------------------- */

static void fill_yield(struct fill *fill)
{
	struct point_reader *reader = fill->overlay->reader;
	uint64_t start = serve_now_ns(), now = start;

	while (now - start < YIELD_MAX_NS && !fill_stopped(fill) &&
	       (atomic_load(&reader->demand) || now < atomic_load(&reader->demand_ns) + QUIET_NS)) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		now = serve_now_ns();
	}
}

/* Each read pushes the next one's begin back by what it takes of a second's bytes. */
static void fill_pace(struct fill *fill, uint64_t bytes)
{
	uint64_t rate = fill->options.bytes_per_second, begin, now = serve_now_ns();

	if (!rate)
		return;
	pthread_mutex_lock(&fill->lock);
	begin = fill->free_ns > now ? fill->free_ns : now;
	fill->free_ns = begin + (uint64_t)((double)bytes * 1e9 / (double)rate);
	while (now < begin && fill_sleep_locked(fill, begin - now))
		now = serve_now_ns();
	pthread_mutex_unlock(&fill->lock);
}

/* ---- frames ------------------------------------------------------------------------- */

struct filler {
	struct fill *fill;
	struct frame_opener opener;
	uint8_t *stored, *plain;
};

static bool frame_present(const struct fill *fill, uint32_t frame)
{
	const struct plan *plan = &fill->overlay->reader->plan;

	for (uint32_t i = plan->index.first[frame]; i < plan->index.first[frame + 1]; i++) {
		const struct map_entry *entry = &plan->map.entries[plan->index.items[i]];

		if (!present_test(&fill->overlay->present, entry->block) ||
		    present_run(&fill->overlay->present, entry->block, entry->count) <
		    entry->count)
			return false;
	}
	return true;
}

/* What cannot be had is left out; the first reason is kept. */
static void fill_missed(struct fill *fill, uint64_t frames, const struct error *err)
{
	pthread_mutex_lock(&fill->lock);
	if (!fill->damaged && !fill->missed)
		fill->error = *err;
	*(err->exit == EXIT_UNTRUSTWORTHY ? &fill->damaged : &fill->missed) += frames;
	pthread_mutex_unlock(&fill->lock);
}

static void fill_frame(struct filler *filler, const struct plan_range *range, uint32_t frame)
{
	struct overlay *overlay = filler->fill->overlay;
	const struct plan *plan = &overlay->reader->plan;
	uint64_t skip = plan->map.frames[frame].offset - range->offset;
	struct error err = ERROR_INIT;
	int ret = frame_opener_open(&filler->opener, range->source, frame, filler->stored + skip,
				    filler->plain, &err);

	if (ret) {
		reader_failed(overlay->reader, frame, &err);
		fill_missed(filler->fill, 1, &err);
		return;
	}
	for (uint32_t i = plan->index.first[frame]; !ret && i < plan->index.first[frame + 1]; i++) {
		const struct map_entry *entry = &plan->map.entries[plan->index.items[i]];

		ret = overlay_fill(overlay, entry->block, entry->count,
				   filler->plain + (size_t)entry->position * BLOCK_BYTES, &err);
	}
	if (ret)
		fill_failed(filler->fill, ret, &err);
}

static void fill_range(struct filler *filler, const struct plan_range *range)
{
	struct point_reader *reader = filler->fill->overlay->reader;
	const uint32_t *order = reader->plan.order + range->first_frame;
	struct error err = ERROR_INIT;
	size_t wanted = 0;
	int ret;

	for (size_t i = 0; i < range->frame_count; i++)
		wanted += !frame_present(filler->fill, order[i]);
	if (!wanted)
		return;
	fill_pace(filler->fill, range->length);
	fill_yield(filler->fill);
	if (fill_stopped(filler->fill))
		return;
	ret = places_read(reader->plan.places, &reader->sources.items[range->source].point,
			  range->segment, range->offset, filler->stored, range->length, &err);
	atomic_fetch_add(&reader->fetches, 1);
	if (ret) {
		reader_failed(reader, order[0], &err);
		fill_missed(filler->fill, wanted, &err);
		return;
	}
	atomic_fetch_add(&reader->fetched_bytes, range->length);
	for (size_t i = 0; i < range->frame_count && !fill_stopped(filler->fill); i++)
		if (!frame_present(filler->fill, order[i]))
			fill_frame(filler, range, order[i]);
}

static const struct plan_range *fill_next(struct fill *fill)
{
	const struct plan *plan = &fill->overlay->reader->plan;
	const struct plan_range *range = NULL;

	pthread_mutex_lock(&fill->lock);
	if (!fill->stopped && !fill->ret && fill->next_range < plan->range_count)
		range = &plan->ranges[fill->next_range++];
	pthread_mutex_unlock(&fill->lock);
	return range;
}

void *fill_thread(void *argument)
{
	struct fill *fill = argument;
	struct point_reader *reader = fill->overlay->reader;
	struct filler filler = {
		.fill = fill, .stored = malloc(RANGE_BYTES_MAX),
		.plain = aligned_alloc(BLOCK_BYTES, FRAME_PLAIN_MAX),
	};
	struct error err = ERROR_INIT;
	const struct plan_range *range;
	int ret = frame_opener_init(&filler.opener, &reader->plan, &reader->sources);

	if (ret || !filler.stored || !filler.plain)
		fill_failed(fill, error_set(&err, -ENOMEM, "filling: out of memory"), &err);
	while ((range = fill_next(fill)))
		fill_range(&filler, range);
	frame_opener_fini(&filler.opener);
	free(filler.stored);
	free(filler.plain);
	pthread_mutex_lock(&fill->lock);
	fill->running--;
	pthread_cond_broadcast(&fill->changed);
	pthread_mutex_unlock(&fill->lock);
	return NULL;
}
