/*
 * Filling in what is not present: the point's frames (fill_frames.c), then its holes. What
 * was filled is made durable every few seconds, so that a fill that is killed has lost
 * little of its work, and nothing else.
 */
#include "agent/serve/serve_private.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define FILL_THREADS 2u
#define FLUSH_INTERVAL_NS (5 * UINT64_C(1000000000))
#define REPORT_INTERVAL_NS (250 * UINT64_C(1000000))
#define RETRY_PAUSE_NS (10 * UINT64_C(1000000000))
#define HOLE_PIECE_BLOCKS ((64u << 20) / BLOCK_BYTES)

bool fill_stopped(struct fill *fill)
{
	bool stopped;

	pthread_mutex_lock(&fill->lock);
	stopped = fill->stopped || fill->ret;
	pthread_mutex_unlock(&fill->lock);
	return stopped;
}

bool fill_sleep_locked(struct fill *fill, uint64_t ns)
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

void fill_failed(struct fill *fill, int ret, const struct error *err)
{
	pthread_mutex_lock(&fill->lock);
	if (!fill->ret) {
		fill->ret = ret;
		fill->error = *err;
	}
	pthread_cond_broadcast(&fill->changed);
	pthread_mutex_unlock(&fill->lock);
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
