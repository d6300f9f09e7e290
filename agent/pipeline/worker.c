#include "agent/pipeline/worker.h"

#include "agent/base/fault.h"
#include "agent/base/laps.h"
#include "agent/base/memory.h"

#include "agent/pipeline/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

struct worker {
	struct worker_options options;
	struct buffer *scratch;
	uint64_t cpu_ns;
	ZSTD_CCtx *zstd;
	struct sealer *sealer;
	struct compare *compare;	/* NULL: no fingerprints */
};

struct worker *worker_new(const struct worker_options *options,
			  struct error *err)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	size_t bad;

	if (!worker) {
		error_set(err, -ENOMEM, "no memory for a worker");
		return NULL;
	}
	worker->options = *options;
	worker->scratch = options->scratch;
	worker->zstd = ZSTD_createCCtx();
	worker->sealer = sealer_new(options->data_key);
	worker->options.data_key = NULL;
	if (options->fingerprints)
		worker->compare = compare_new(options->fingerprints, options->compare);
	if (!worker->zstd || !worker->sealer ||
	    (options->fingerprints && !worker->compare)) {
		error_set(err, -ENOMEM, "no memory for a worker's compression and sealing");
		worker_free(worker);
		return NULL;
	}
	/* The seal authenticates: zstd's own checksum would be one pass too many. */
	bad = ZSTD_CCtx_setParameter(worker->zstd, ZSTD_c_checksumFlag, 0);
	if (!ZSTD_isError(bad))
		bad = ZSTD_CCtx_setParameter(worker->zstd, ZSTD_c_compressionLevel,
					     options->level);
	if (ZSTD_isError(bad)) {
		error_set(err, -EINVAL, "cannot set compression level %d: %s",
			  options->level, ZSTD_getErrorName(bad));
		worker_free(worker);
		return NULL;
	}
	return worker;
}

void worker_free(struct worker *worker)
{
	if (!worker)
		return;
	ZSTD_freeCCtx(worker->zstd);
	sealer_free(worker->sealer);
	compare_free(worker->compare);
	free(worker);
}

/* Adds one run; merges it into the one before where it goes on. */
static void slot_run_add(struct slot *slot, const struct span *run)
{
	struct span *last = slot->run_count ? &slot->runs[slot->run_count - 1] : NULL;

	if (last && last->first + last->count == run->first &&
	    (last->position == SPAN_HOLE) == (run->position == SPAN_HOLE))
		last->count += run->count;
	else
		slot->runs[slot->run_count++] = *run;
}

/* Adds a run of data, in as many as frames of `limit` blocks make of it. */
static void slot_data_add(struct slot *slot, uint64_t first, uint32_t position,
			  uint32_t count, uint32_t limit)
{
	while (count) {
		uint32_t room = limit - position % limit;
		struct span run = { first, count < room ? count : room, position };

		if (position % limit)
			slot_run_add(slot, &run);
		else
			slot->runs[slot->run_count++] = run;
		first += run.count;
		position += run.count;
		count -= run.count;
	}
}

/* Length of the run of zero (or not zero) blocks at the start of `data`. */
static uint32_t zero_run(const uint8_t *data, uint32_t blocks, bool *zero)
{
	uint32_t count = 1;

	*zero = memory_is_zero(data, BLOCK_BYTES);
	while (count < blocks &&
	       memory_is_zero(data + (size_t)count * BLOCK_BYTES, BLOCK_BYTES) == *zero)
		count++;
	return count;
}

/* Drops gaps and zero blocks: moves the rest together, notes the runs. Blocks left. */
static uint32_t slot_compact(struct slot *slot, uint32_t limit)
{
	uint8_t *data = slot->buffer->memory;
	uint32_t used = 0;

	slot->run_count = 0;
	for (uint32_t i = 0; i < slot->plan.wanted_count; i++) {
		struct span left = slot->plan.wanted[i];

		while (left.count) {
			const uint8_t *from = data + (size_t)left.position * BLOCK_BYTES;
			struct span run = { left.first, 0, SPAN_HOLE };
			bool zero;

			run.count = zero_run(from, left.count, &zero);
			if (zero) {
				slot_run_add(slot, &run);
			} else {
				slot_data_add(slot, left.first, used, run.count, limit);
				if (used != left.position)
					memmove(data + (size_t)used * BLOCK_BYTES, from,
						(size_t)run.count * BLOCK_BYTES);
				used += run.count;
			}
			left.first += run.count;
			left.position += run.count;
			left.count -= run.count;
		}
	}
	return used;
}

/* The extent list of the frame's runs, which begin with number *run. */
static void frame_extents(const struct slot *slot, uint32_t *run, uint32_t end,
			  struct frame_facts *facts, uint8_t *out)
{
	uint64_t block = 0;

	for (; *run < slot->run_count; ++*run) {
		const struct span *at = &slot->runs[*run];

		if (at->position == SPAN_HOLE)
			continue;
		if (at->position >= end)
			break;
		frame_extent_put(out, &facts->extents_bytes, &block, at->first, at->count);
		facts->extent_count++;
	}
}

/*
 * There is room for less than the data, so zstd gives up by itself where it saves
 * nothing; the data are then copied as they are.
 */
static int worker_compress(struct worker *worker, const uint8_t *data,
			   struct frame_facts *facts, uint8_t *to, struct error *err)
{
	size_t plain = (size_t)facts->blocks * BLOCK_BYTES;
	size_t got = ZSTD_compress2(worker->zstd, to, plain - 1, data, plain);

	if (!ZSTD_isError(got)) {
		facts->flags = FRAME_ZSTD;
		facts->payload_bytes = (uint32_t)got;
		return 0;
	}
	if (ZSTD_getErrorCode(got) != ZSTD_error_dstSize_tooSmall)
		return error_set(err, -ENOMEM, "cannot compress a frame: %s",
				 ZSTD_getErrorName(got));
	memcpy(to, data, plain);
	facts->payload_bytes = (uint32_t)plain;
	return 0;
}

/* Makes frames of the slot's data in the scratch buffer, which then becomes the slot's. */
static int worker_frames(struct worker *worker, struct slot *slot, uint32_t blocks,
			 struct error *err)
{
	struct buffer *data = slot->buffer;
	uint32_t limit = worker->options.frame_blocks;
	uint32_t run = 0;

	for (uint32_t first = 0; first < blocks; first += limit) {
		struct slot_frame *frame = &slot->frames[slot->frame_count++];
		struct frame_facts *facts = &frame->facts;
		uint8_t *inner;
		int ret;

		*frame = (struct slot_frame){ .start = slot->frame_bytes };
		facts->blocks = limit < blocks - first ? limit : blocks - first;
		inner = worker->scratch->memory + frame->start + FRAME_HEADER_BYTES;
		frame_extents(slot, &run, first + facts->blocks, facts, inner);
		ret = worker_compress(worker, data->memory + (size_t)first * BLOCK_BYTES, facts,
				      inner + facts->extents_bytes, err);
		if (ret)
			return ret;
		slot->frame_bytes += frame_stored_bytes(facts);
	}
	slot->buffer = worker->scratch;
	worker->scratch = data;
	return 0;
}

static int worker_pack(struct worker *worker, struct slot *slot,
		       struct error *err)
{
	int ret;

	slot->unchanged = slot->frame_count = slot->frame_bytes = 0;
	ret = worker->compare ? compare_slot(worker->compare, slot) : 0;
	if (ret)
		return error_set(err, ret, "cannot take the fingerprints of piece %u: %s",
				 slot->plan.number, error_text(ret));
	return worker_frames(worker, slot,
			     slot_compact(slot, worker->options.frame_blocks), err);
}

static int worker_seal(struct worker *worker, struct slot *slot,
		       struct error *err)
{
	int ret = 0;

	for (uint32_t i = 0; !ret && i < slot->frame_count; i++) {
		const struct slot_frame *frame = &slot->frames[i];

		ret = frame_seal(worker->sealer, worker->options.volume, worker->options.point,
				 &frame->facts, slot->buffer->memory + frame->start);
		if (ret)
			error_set(err, ret, "cannot seal frame %u: %s", frame->facts.number,
				  error_text(ret));
	}
	return ret;
}

void *worker_run(void *context)
{
	struct worker *worker = context;
	struct queue *queue = worker->options.queue;
	struct error err = ERROR_INIT;
	struct slot *slot;
	int ret = 0;

	while (!ret && (slot = queue_take_work(queue))) {
		if (slot->state == SLOT_READ) {
			ret = FAULT_ERR("pipeline.pack", &err) ?:
			      worker_pack(worker, slot, &err);
			if (!ret)
				queue_put_packed(queue, slot);
		} else {
			ret = worker_seal(worker, slot, &err);
			if (!ret)
				queue_put_sealed(queue, slot);
		}
	}
	if (ret)
		queue_fail(queue, &err);
	worker->cpu_ns = thread_cpu_ns();
	return NULL;
}

uint64_t worker_cpu_ns(const struct worker *worker)
{
	return worker->cpu_ns;
}
