#include "agent/pipeline/reader.h"

#include "agent/base/laps.h"
#include "agent/base/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define READ_STALLS_MAX 100u
#define STALL_NS 1000000L
#define PACE_SLICE_NS UINT64_C(50000000)
#define PACE_BURST_NS UINT64_C(100000000)

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec span = { (time_t)(ns / 1000000000u),
				 (long)(ns % 1000000000u) };

	nanosleep(&span, NULL);
}

uint32_t reader_depth(const struct reader *reader)
{
	return reader->job->watch.target_ns ? yield_depth(&reader->yield) : reader->depth;
}

/* How those fare who use the disk, too. */
static void reader_look(struct reader *reader, uint64_t now)
{
	const struct pipeline_watch *watch = &reader->job->watch;
	struct pipeline_io io;

	if (now < reader->look_ns)
		return;
	reader->look_ns = now + YIELD_EVERY_NS;
	if (!watch->look(watch->context, &io)) {
		yield_sample(&reader->yield, now, &io);
		return;
	}
	reader->look_ns = UINT64_MAX;
	reader->yield.allowed = reader->depth;
}

/*
 * Whether rate and others allow to read on, now or after waiting. What was not used
 * while the rest of the pipeline held us back may be caught up for a tenth of a second
 * only.
 */
static bool reader_pace(struct reader *reader, bool wait)
{
	bool rate = reader->job->options.read_bytes_per_second;
	bool watched = reader->job->watch.target_ns;
	uint64_t now, then;

	if (!rate && !watched)
		return true;
	now = clock_ns();
	if (watched)
		reader_look(reader, now);
	if (rate && reader->pace_ns + PACE_BURST_NS < now)
		reader->pace_ns = now - PACE_BURST_NS;
	then = reader->pace_ns > reader->pause_ns ? reader->pace_ns : reader->pause_ns;
	while (wait && now < then && !queue_failed(reader->queue)) {
		uint64_t left = then - now;

		sleep_ns(left < PACE_SLICE_NS ? left : PACE_SLICE_NS);
		now = clock_ns();
	}
	return now >= then;
}

bool reader_next(struct reader *reader, bool wait, struct slot **slot)
{
	uint64_t rate = reader->job->options.read_bytes_per_second;

	*slot = NULL;
	if (reader->plan.index == reader->plan.extents->count ||
	    !reader_pace(reader, wait))
		return false;
	*slot = queue_take_free(reader->queue, wait);
	if (!*slot)
		return false;
	plan_next(&reader->plan, &(*slot)->plan);
	(*slot)->reads_left = (*slot)->plan.read_count;
	if (rate)
		reader->pace_ns += (uint64_t)((double)(*slot)->plan.blocks *
					      BLOCK_BYTES * 1e9 / (double)rate);
	if (reader->job->watch.target_ns && yield_pause_ns(&reader->yield))
		reader->pause_ns = clock_ns() + yield_pause_ns(&reader->yield);
	return true;
}

/*
 * Whole blocks are asked for even at the volume's end: O_DIRECT wants them whole
 * where the logical block is 4096 bytes, and the kernel cuts what lies beyond the
 * end of a device or file.
 */
void read_request_start(struct reader *reader, struct slot *slot, uint32_t index,
			struct read_request *request)
{
	const struct span *span = &slot->plan.reads[index];
	uint64_t left = reader->job->volume_bytes - span->first * BLOCK_BYTES;
	uint32_t bytes = span->count * BLOCK_BYTES;

	*request = (struct read_request){
		.slot = slot,
		.offset = span->first * BLOCK_BYTES,
		.to = slot->buffer->memory +
		      (size_t)span->position * BLOCK_BYTES,
		.bytes = bytes,
		.needed = left < bytes ? (uint32_t)left : bytes,
	};
	reader->read_bytes += request->needed;
}

static int read_request_fail(const struct read_request *request, int code,
			     struct error *err)
{
	uint64_t at = request->offset + request->done;

	if (code == -ENODATA)
		return error_set(err, code, "reading the volume at byte %llu: it ends "
				 "before byte %llu; has it shrunk during the backup?",
				 (unsigned long long)at,
				 (unsigned long long)(request->offset + request->needed));
	return error_set(err, code, "reading the volume at byte %llu (%u bytes): %s; "
			 "see the kernel log for the device's trouble",
			 (unsigned long long)at, request->bytes - request->done,
			 error_text(code));
}

int read_request_advance(struct read_request *request, int64_t result,
			 struct error *err)
{
	uint32_t before = request->done;

	if (result < 0 && result != -EINTR && result != -EAGAIN)
		return read_request_fail(request, (int)result, err);
	if (result == 0)
		return read_request_fail(request, -ENODATA, err);
	if (result > 0) {
		uint64_t got = request->done + (uint64_t)result;

		if (got >= request->needed) {
			memset(request->to + request->needed, 0,
			       request->bytes - request->needed);
			return READ_DONE;
		}
		/* O_DIRECT goes on at a block's start only: read that block anew. */
		request->done = (uint32_t)(got / BLOCK_BYTES * BLOCK_BYTES);
	}
	if (request->done > before) {
		request->stalls = 0;
		return READ_AGAIN;
	}
	if (++request->stalls < READ_STALLS_MAX) {
		sleep_ns(STALL_NS);
		return READ_AGAIN;
	}
	return read_request_fail(request, result < 0 ? (int)result : -ENODATA, err);
}

static int pread_one(struct reader *reader, struct slot *slot, uint32_t index,
		     struct error *err)
{
	struct read_request request;
	int ret = READ_AGAIN;

	read_request_start(reader, slot, index, &request);
	while (ret == READ_AGAIN && !queue_failed(reader->queue)) {
		ssize_t n = pread(reader->job->fd, request.to + request.done,
				  request.bytes - request.done,
				  (off_t)(request.offset + request.done));

		ret = read_request_advance(&request, n < 0 ? -errno : n, err);
	}
	return ret < 0 ? ret : 0;
}

static int pread_all(struct reader *reader, struct error *err)
{
	struct slot *slot;
	int ret = 0;

	while (!ret && reader_next(reader, true, &slot)) {
		for (uint32_t i = 0; !ret && i < slot->plan.read_count; i++)
			ret = pread_one(reader, slot, i, err);
		if (!ret)
			queue_put_read(reader->queue, slot);
	}
	return ret;
}

static int reader_done(struct reader *reader, struct error *err)
{
	const struct pipeline_progress *progress = &reader->job->progress;
	int ret;

	if (!progress->read_done)
		return 0;
	pthread_mutex_lock(reader->callbacks);
	ret = progress->read_done(progress->context, err);
	pthread_mutex_unlock(reader->callbacks);
	return ret;
}

void *reader_run(void *context)
{
	struct reader *reader = context;
	struct error err = ERROR_INIT;
	int why = 0;
	int ret;

	plan_init(&reader->plan, reader->job->extents);
	yield_init(&reader->yield, reader->job->watch.target_ns, reader->depth);
	ret = ring_read(reader, &why, &err);
	if (ret == -ENOSYS && why) {
		static atomic_flag said = ATOMIC_FLAG_INIT;

		if (!atomic_flag_test_and_set(&said))
			log_detail("io_uring is not available (%s); reading with pread",
				   error_text(why));
		ret = pread_all(reader, &err);
	}
	reader->cpu_ns = thread_cpu_ns();
	if (!ret && !queue_failed(reader->queue))
		ret = reader_done(reader, &err);
	if (ret) {
		if (!err.code)
			error_set(&err, ret, "reading the volume: %s",
				  error_text(ret));
		queue_fail(reader->queue, &err);
	}
	return NULL;
}
