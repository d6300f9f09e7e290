/*
 * Filling in what is not present: the point's frames in the order in which they are
 * stored, several to a read, as a restore does, then its holes. Who reads the point goes
 * first: before each read from the store the fill waits until nobody else has waited for
 * one for a moment, but not for ever.
 *
 * What was filled is made durable every few seconds, so that a fill that is killed has
 * lost little of its work, and nothing else.
 */
#include "agent/serve/serve_private.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define FILL_THREADS 2u
#define FILL_THREADS_MAX 16u
#define FLUSH_INTERVAL_NS (5 * UINT64_C(1000000000))
#define REPORT_INTERVAL_NS (250 * UINT64_C(1000000))
#define RETRY_PAUSE_NS (10 * UINT64_C(1000000000))
#define QUIET_NS (10 * UINT64_C(1000000))	/* nobody has waited for the store so long */
#define YIELD_MAX_NS (200 * UINT64_C(1000000))	/* at most, a read of ours */
#define HOLE_PIECE_BLOCKS ((64u << 20) / BLOCK_BYTES)

struct fill {
	struct overlay *overlay;
	struct fill_options options;
	pthread_t main, threads[FILL_THREADS_MAX];
	bool started;

	pthread_mutex_t lock;		/* guards all below */
	pthread_cond_t changed;		/* stopped, or a thread ended */
	bool stopped;
	uint32_t running;
	size_t next_range;
	uint64_t free_ns;		/* when the rate lets the next read begin */
	uint64_t damaged, missed;	/* frames of this pass: never, or not now, to be had */
	int ret;			/* of the target: ends it */
	struct error error;		/* the first of each pass */
};

static bool fill_stopped(struct fill *fill)
{
	bool stopped;

	pthread_mutex_lock(&fill->lock);
	stopped = fill->stopped || fill->ret;
	pthread_mutex_unlock(&fill->lock);
	return stopped;
}

/* False when it was stopped meanwhile. */
static bool fill_sleep_locked(struct fill *fill, uint64_t ns)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ns % 1000000000u);
	until.tv_sec += (time_t)(ns / 1000000000u) + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (!fill->stopped)
		pthread_cond_timedwait(&fill->changed, &fill->lock, &until);
	return !fill->stopped;
}

static void fill_sleep(struct fill *fill, uint64_t ns)
{
	pthread_mutex_lock(&fill->lock);
	fill_sleep_locked(fill, ns);
	pthread_mutex_unlock(&fill->lock);
}

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

static void fill_failed(struct fill *fill, int ret, const struct error *err)
{
	pthread_mutex_lock(&fill->lock);
	if (!fill->ret) {
		fill->ret = ret;
		fill->error = *err;
	}
	pthread_cond_broadcast(&fill->changed);
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

static void *fill_thread(void *argument)
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

/* ---- all of it --------------------------------------------------------------------------- */

static void fill_report(struct fill *fill)
{
	struct overlay_counts counts;
	uint64_t total = fill->overlay->volume_bytes, done;

	overlay_counts(fill->overlay, &counts);
	done = counts.present_blocks * BLOCK_BYTES;
	if (fill->options.report)
		fill->options.report(fill->options.context, done < total ? done : total, total);
}

static void fill_flush(struct fill *fill)
{
	struct error err = ERROR_INIT;
	int ret = overlay_flush(fill->overlay, &err);

	if (ret)
		fill_failed(fill, ret, &err);
}

/* Until no thread runs any more. */
static void fill_watch(struct fill *fill)
{
	uint64_t flushed_ns = serve_now_ns();

	pthread_mutex_lock(&fill->lock);
	while (fill->running) {
		fill_sleep_locked(fill, REPORT_INTERVAL_NS);
		if (fill->stopped && fill->running)
			pthread_cond_wait(&fill->changed, &fill->lock);
		pthread_mutex_unlock(&fill->lock);
		fill_report(fill);
		if (serve_now_ns() - flushed_ns >= FLUSH_INTERVAL_NS) {
			fill_flush(fill);
			flushed_ns = serve_now_ns();
		}
		pthread_mutex_lock(&fill->lock);
	}
	pthread_mutex_unlock(&fill->lock);
}

static void fill_frames(struct fill *fill)
{
	uint32_t wanted = fill->options.threads ? fill->options.threads : FILL_THREADS;
	uint32_t started = 0;
	struct error err = ERROR_INIT;

	fill->next_range = 0;
	fill->damaged = fill->missed = 0;
	if (wanted > FILL_THREADS_MAX)
		wanted = FILL_THREADS_MAX;
	pthread_mutex_lock(&fill->lock);
	while (started < wanted &&
	       !pthread_create(&fill->threads[started], NULL, fill_thread, fill))
		started++;
	fill->running = started;
	pthread_mutex_unlock(&fill->lock);
	if (!started)
		fill_failed(fill, error_set(&err, -EAGAIN, "filling: no thread can be started"),
			    &err);
	fill_watch(fill);
	while (started)
		pthread_join(fill->threads[--started], NULL);
}

static void fill_holes(struct fill *fill)
{
	const struct extent_list *holes = &fill->overlay->reader->plan.holes;
	uint64_t flushed_ns = serve_now_ns();

	for (size_t i = 0; i < holes->count; i++) {
		const struct extent *hole = &holes->items[i];

		for (uint64_t done = 0, n; done < hole->count && !fill_stopped(fill); done += n) {
			struct error err = ERROR_INIT;
			int ret;

			n = hole->count - done < HOLE_PIECE_BLOCKS ? hole->count - done :
								     HOLE_PIECE_BLOCKS;
			ret = overlay_fill(fill->overlay, hole->first + done, n, NULL, &err);
			if (ret)
				fill_failed(fill, ret, &err);
			if (serve_now_ns() - flushed_ns < FLUSH_INTERVAL_NS)
				continue;
			fill_report(fill);
			fill_flush(fill);
			flushed_ns = serve_now_ns();
		}
	}
}

/* Pass after pass, while the store may yet give what it did not. */
static void fill_passes(struct fill *fill)
{
	while (!fill_stopped(fill)) {
		fill_frames(fill);
		if (!fill->missed || fill_stopped(fill))
			break;
		log_warning("filling: %" PRIu64 " frames could not be had: %s; trying again",
			    fill->missed, fill->error.message);
		fill_sleep(fill, RETRY_PAUSE_NS);
	}
	if (!fill_stopped(fill))
		fill_holes(fill);
	fill_flush(fill);
}

static void *fill_main(void *argument)
{
	struct fill *fill = argument;
	struct overlay_counts counts;
	int ret;

	fill_passes(fill);
	overlay_counts(fill->overlay, &counts);
	fill_report(fill);
	ret = fill->ret;
	if (!ret && fill->damaged && !counts.complete) {
		ret = fill->error.code;
		error_prefix(&fill->error, "%" PRIu64 " frames of the point cannot be had: what "
			     "they hold is missing in %s", fill->damaged,
			     fill->overlay->target_path);
	}
	if (fill->options.ended && (ret || counts.complete))
		fill->options.ended(fill->options.context, ret, &fill->error);
	return NULL;
}

int fill_start(struct overlay *overlay, const struct fill_options *options, struct fill **started,
	       struct error *err)
{
	struct fill *fill = calloc(1, sizeof(*fill));
	pthread_condattr_t monotonic;

	*started = NULL;
	if (!fill)
		return error_set(err, -ENOMEM, "filling: out of memory");
	fill->overlay = overlay;
	fill->options = *options;
	fill->error = (struct error)ERROR_INIT;
	pthread_mutex_init(&fill->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&fill->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (pthread_create(&fill->main, NULL, fill_main, fill)) {
		fill_stop(fill);
		return error_set(err, -EAGAIN, "filling: no thread can be started");
	}
	fill->started = true;
	*started = fill;
	return 0;
}

void fill_stop(struct fill *fill)
{
	if (!fill)
		return;
	pthread_mutex_lock(&fill->lock);
	fill->stopped = true;
	pthread_cond_broadcast(&fill->changed);
	pthread_mutex_unlock(&fill->lock);
	if (fill->started)
		pthread_join(fill->main, NULL);
	pthread_cond_destroy(&fill->changed);
	pthread_mutex_destroy(&fill->lock);
	free(fill);
}
