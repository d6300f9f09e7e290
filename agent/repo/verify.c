/*
 * Checking a volume's points: threads, what they find, the verdict. Memory: about 120 bytes a point, and for each thread
 * one piece of a segment and one point with its map.
 */
#include "agent/repo/verify_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define REPORT_INTERVAL_NS 100000000u

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- what was found ---------------------------------------------------- */

struct verify_known *verify_find(struct verify *verify, uint64_t number)
{
	size_t low = 0, high = verify->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (verify->known[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < verify->count && verify->known[low].number == number ?
	       &verify->known[low] : NULL;
}

void verify_problem(struct verify *verify, const char *format, ...)
{
	char text[sizeof(((struct error *)NULL)->message)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pthread_mutex_lock(&verify->lock);
	verify->result.problems++;
	if (verify->options->problem)
		verify->options->problem(verify->options->context, text);
	pthread_mutex_unlock(&verify->lock);
}

static void verify_stop(struct verify *verify, const struct error *err)
{
	if (!verify->stopped)
		verify->error = *err;
	verify->stopped = true;
	pthread_cond_broadcast(&verify->changed);
}

static void verify_unchecked(struct verify *verify, const struct error *err)
{
	char text[sizeof(err->message) + 32];

	if (!verify->unchecked++)
		verify->first_unchecked = *err;
	snprintf(text, sizeof(text), "cannot be checked: %s", err->message);
	if (verify->options->problem)
		verify->options->problem(verify->options->context, text);
	/* A key that does not fit says nothing about the store. */
	if (err->exit != EXIT_WRONG_KEY &&
	    ++verify->unchecked_run >= VERIFY_UNCHECKED_MAX)
		verify_stop(verify, err);
}

void verify_fault(struct verify *verify, const struct error *err)
{
	if (err->exit == EXIT_UNTRUSTWORTHY) {
		verify_problem(verify, "%s", err->message);
		return;
	}
	pthread_mutex_lock(&verify->lock);
	if (err->exit == EXIT_INTERRUPTED || err->code == -ENOMEM)
		verify_stop(verify, err);
	else
		verify_unchecked(verify, err);
	pthread_mutex_unlock(&verify->lock);
}

bool verify_stopped(struct verify *verify)
{
	struct error err = ERROR_INIT;
	bool stopped;

	if (interrupt_check(&err))
		verify_fault(verify, &err);
	pthread_mutex_lock(&verify->lock);
	stopped = verify->stopped;
	pthread_mutex_unlock(&verify->lock);
	return stopped;
}

void verify_advance(struct verify *verify, uint64_t bytes)
{
	uint64_t now = now_ns();

	pthread_mutex_lock(&verify->lock);
	verify->result.bytes += bytes;
	verify->unchecked_run = 0;
	/* An object that grew since the listing must not give 101 %. */
	if (verify->result.bytes > verify->total_bytes)
		verify->total_bytes = verify->result.bytes;
	if (verify->options->report && now - verify->reported_ns >= REPORT_INTERVAL_NS) {
		verify->reported_ns = now;
		verify->options->report(verify->options->context,
					verify->result.bytes, verify->total_bytes);
	}
	pthread_mutex_unlock(&verify->lock);
}

void verify_count(struct verify *verify, uint64_t points, uint64_t objects,
		  uint64_t frames)
{
	pthread_mutex_lock(&verify->lock);
	verify->result.points += points;
	verify->result.objects += objects;
	verify->result.frames += frames;
	pthread_mutex_unlock(&verify->lock);
}

void verify_passed_over(struct verify *verify)
{
	pthread_mutex_lock(&verify->lock);
	verify->result.passed_over++;
	pthread_mutex_unlock(&verify->lock);
}

void verify_drawn(struct verify *verify, uint64_t bytes, bool sampled)
{
	pthread_mutex_lock(&verify->lock);
	verify->result.all_frames++;
	verify->result.all_frame_bytes += bytes;
	verify->result.frame_bytes += sampled ? bytes : 0;
	pthread_mutex_unlock(&verify->lock);
}

/* ---- threads ----------------------------------------------------------- */

/* Asked for each piece of work: whether the time is up, which is no failure. */
static bool out_of_time(struct verify *verify)
{
	if (verify->deadline_ns && now_ns() >= verify->deadline_ns)
		verify->result.out_of_time = true;
	return verify->result.out_of_time;
}

/* The next pack that is to be checked. */
static bool verify_take_pack(struct verify *verify, size_t *pack)
{
	while (verify->next_pack < verify->retention.pack_count) {
		*pack = verify->next_pack++;
		if (verify->wanted_packs[*pack])
			return true;
	}
	return false;
}

/* Takes a segment of an open point, else a pack, else the next point; false at the end. */
static bool verify_take(struct verify *verify, struct verify_point **open,
			uint32_t *segment, struct verify_known **known, size_t *pack)
{
	bool found = false;

	*open = NULL;
	*known = NULL;
	pthread_mutex_lock(&verify->lock);
	while (!verify->stopped && !found && !out_of_time(verify)) {
		if (verify->open) {
			*open = verify->open;
			*segment = (*open)->taken++;
			if ((*open)->taken == (*open)->point.segment_count)
				verify->open = (*open)->next;
			found = true;
		} else if (verify_take_pack(verify, pack)) {
			found = true;
		} else if (verify->next_point < verify->count) {
			*known = verify_nth(verify, verify->next_point++);
			verify->result.reached = (*known)->number;
			verify->opening++;
			found = true;
		} else if (verify->opening) {
			pthread_cond_wait(&verify->changed, &verify->lock);
		} else {
			break;
		}
	}
	pthread_mutex_unlock(&verify->lock);
	return found;
}

static void verify_opened(struct verify *verify, struct verify_point *open)
{
	pthread_mutex_lock(&verify->lock);
	verify->opening--;
	if (open) {
		open->next = verify->open;
		verify->open = open;
	}
	pthread_cond_broadcast(&verify->changed);
	pthread_mutex_unlock(&verify->lock);
}

static void verify_segment_done(struct verify *verify, struct verify_point *open)
{
	bool last;

	pthread_mutex_lock(&verify->lock);
	last = !--open->undone;
	pthread_mutex_unlock(&verify->lock);
	if (last)
		verify_point_free(open);
}

int verify_room(struct verify_worker *worker, uint64_t object_bytes, struct error *err)
{
	size_t room = object_bytes <= VERIFY_PIECE_BYTES ? (size_t)object_bytes :
			VERIFY_PIECE_BYTES + FRAME_STORED_MAX;
	bool decodes = worker->verify->options->data;

	if (worker->room < room || !worker->buffer) {
		free(worker->buffer);
		worker->buffer = malloc(room ? room : 1);
		worker->room = worker->buffer ? room : 0;
	}
	if (decodes && !worker->plain)
		worker->plain = malloc(FRAME_PLAIN_MAX);
	if (decodes && !worker->decoder)
		worker->decoder = frame_decoder_new();
	if (!worker->buffer || (decodes && (!worker->plain || !worker->decoder)))
		return error_set(err, -ENOMEM, "verifying: out of memory");
	return 0;
}

static void *verify_thread(void *argument)
{
	struct verify *verify = argument;
	struct verify_worker worker = { .verify = verify };
	struct verify_point *open;
	struct verify_known *known;
	uint32_t segment = 0;
	size_t pack = 0;

	while (!verify_stopped(verify) &&
	       verify_take(verify, &open, &segment, &known, &pack)) {
		if (known) {
			verify_opened(verify, verify_point_open(&worker, known));
		} else if (open) {
			verify_segment(&worker, open, segment);
			verify_segment_done(verify, open);
		} else {
			verify_pack(&worker, pack);
		}
	}
	frame_decoder_free(worker.decoder);
	free(worker.buffer);
	free(worker.plain);
	return NULL;
}

static void verify_objects(struct verify *verify)
{
	pthread_t ids[VERIFY_THREADS];
	uint32_t started = 0;

	while (started + 1 < VERIFY_THREADS &&
	       !pthread_create(&ids[started], NULL, verify_thread, verify))
		started++;
	verify_thread(verify);
	while (started)
		pthread_join(ids[--started], NULL);
	/* Stopped early: points whose segments nobody took any more. */
	while (verify->open) {
		struct verify_point *open = verify->open;

		verify->open = open->next;
		verify_point_free(open);
	}
}

/* ---- the whole --------------------------------------------------------- */

/* Tries the keys on the newest point that can be read, before hours of work. */
static int verify_try_keys(struct verify *verify, struct error *err)
{
	const struct key_ring *ring = &verify->options->ring;

	if (!ring->recovery && !verify->options->data)
		return 0;
	for (size_t i = verify->count; i-- > 0;) {
		struct error ignored = ERROR_INIT;
		struct point_keys keys;
		struct point point;
		int ret;

		if (point_load(verify->repo, &verify->volume, verify->known[i].number,
			       &point, &ignored))
			continue;
		ret = point_open_keys(&point, ring, &keys, err);
		crypto_wipe(&keys, sizeof(keys));
		point_fini(&point);
		return ret;
	}
	return 0;
}

static int verify_conclude(const struct verify *verify, struct error *err)
{
	if (verify->stopped) {
		*err = verify->error;
		return error_prefix(err, "the check was ended after %" PRIu64
				    " problems", verify->result.problems);
	}
	if (verify->result.problems && verify->unchecked)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%" PRIu64
				      " problems were found, and %" PRIu64 " things could "
				      "not be checked", verify->result.problems,
				      verify->unchecked);
	if (verify->result.problems)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%" PRIu64
				      " problems were found", verify->result.problems);
	if (verify->unchecked) {
		*err = verify->first_unchecked;
		return error_prefix(err, "no problem was found, but %" PRIu64
				    " things could not be checked, the first",
				    verify->unchecked);
	}
	return 0;
}

static int verify_run(struct verify *verify, uint64_t number, struct error *err)
{
	int ret = verify_records(verify, err);

	if (!ret)
		ret = verify_gather(verify, number, err);
	if (!ret)
		ret = verify_try_keys(verify, err);
	if (ret)
		return ret;
	if (!number)
		verify_sequence(verify);
	verify->result.all_points = verify->count;
	verify_order(verify);
	if (verify->options->sample_ppm)
		verify->total_bytes = verify->total_bytes / 1000000 * verify->options->sample_ppm;
	if (verify->options->max_time_ns)
		verify->deadline_ns = now_ns() + verify->options->max_time_ns;
	verify_objects(verify);
	verify_chain(verify);
	if (!verify->stopped && verify->options->report)
		verify->options->report(verify->options->context,
					verify->total_bytes, verify->total_bytes);
	return verify_conclude(verify, err);
}

int repo_verify(struct repo *repo, const struct uuid *volume, uint64_t number,
		const struct verify_options *options,
		struct verify_result *result, struct error *err)
{
	struct verify verify = {
		.repo = repo, .volume = *volume, .options = options,
		.opens_maps = options->ring.recovery || options->ring.host_map_key,
		.error = ERROR_INIT,
	};
	int ret;

	pthread_mutex_init(&verify.lock, NULL);
	pthread_cond_init(&verify.changed, NULL);
	ret = verify_run(&verify, number, err);
	if (result)
		*result = verify.result;
	free(verify.known);
	free(verify.wanted_packs);
	packs_free(verify.packs);
	retention_fini(&verify.retention);
	extent_list_fini(&verify.gone);
	pthread_cond_destroy(&verify.changed);
	pthread_mutex_destroy(&verify.lock);
	return ret;
}
