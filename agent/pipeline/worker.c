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
	uint8_t extents[FRAME_EXTENTS_MAX];
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

/* Drops gaps and zero blocks: moves the rest together, notes the runs. */
static void slot_compact(struct slot *slot)
{
	uint8_t *data = buffer_data(slot->buffer);
	uint32_t used = 0;

	slot->run_count = 0;
	for (uint32_t i = 0; i < slot->plan.wanted_count; i++) {
		struct span left = slot->plan.wanted[i];

		while (left.count) {
			const uint8_t *from = data + (size_t)left.position * BLOCK_BYTES;
			struct span run = { left.first, 0, SPAN_HOLE };
			bool zero;

			run.count = zero_run(from, left.count, &zero);
			if (!zero) {
				run.position = used;
				if (used != left.position)
					memmove(data + (size_t)used * BLOCK_BYTES, from,
						(size_t)run.count * BLOCK_BYTES);
				used += run.count;
			}
			slot_run_add(slot, &run);
			left.first += run.count;
			left.position += run.count;
			left.count -= run.count;
		}
	}
	slot->facts.blocks = used;
}

static void worker_extents(struct worker *worker, struct slot *slot)
{
	struct frame_facts *facts = &slot->facts;
	uint64_t end = 0;

	for (uint32_t i = 0; i < slot->run_count; i++) {
		const struct span *run = &slot->runs[i];

		if (run->position == SPAN_HOLE)
			continue;
		frame_extent_put(worker->extents, &facts->extents_bytes, &end,
				 run->first, run->count);
		facts->extent_count++;
	}
}

/*
 * Compresses into the scratch buffer, which then becomes the slot's. Where that
 * saves nothing the data stay raw where they are. There is room for less than the
 * data, so zstd gives up by itself.
 */
static int worker_compress(struct worker *worker, struct slot *slot,
			   struct error *err)
{
	size_t plain = (size_t)slot->facts.blocks * BLOCK_BYTES;
	struct buffer *buffer = slot->buffer;
	size_t got = ZSTD_compress2(worker->zstd, buffer_data(worker->scratch),
				    plain - 1, buffer_data(buffer), plain);

	if (!ZSTD_isError(got)) {
		slot->facts.flags = FRAME_ZSTD;
		slot->facts.payload_bytes = (uint32_t)got;
		slot->buffer = worker->scratch;
		worker->scratch = buffer;
		return 0;
	}
	if (ZSTD_getErrorCode(got) != ZSTD_error_dstSize_tooSmall)
		return error_set(err, -ENOMEM, "cannot compress a frame: %s",
				 ZSTD_getErrorName(got));
	slot->facts.payload_bytes = (uint32_t)plain;
	return 0;
}

static int worker_pack(struct worker *worker, struct slot *slot,
		       struct error *err)
{
	struct frame_facts *facts = &slot->facts;
	uint8_t *payload;
	int ret;

	memset(facts, 0, sizeof(*facts));
	facts->number = slot->plan.number;
	slot->unchanged = 0;
	ret = worker->compare ? compare_slot(worker->compare, slot) : 0;
	if (ret)
		return error_set(err, ret, "cannot take the fingerprints of frame %u: %s",
				 slot->plan.number, error_text(ret));
	slot_compact(slot);
	if (!facts->blocks)
		return 0;
	worker_extents(worker, slot);
	ret = worker_compress(worker, slot, err);
	if (ret)
		return ret;
	payload = buffer_data(slot->buffer);
	memcpy(payload - facts->extents_bytes, worker->extents,
	       facts->extents_bytes);
	slot->frame = payload - facts->extents_bytes - FRAME_HEADER_BYTES;
	return 0;
}

static int worker_seal(struct worker *worker, struct slot *slot,
		       struct error *err)
{
	int ret = frame_seal(worker->sealer, worker->options.volume,
			     worker->options.point, &slot->facts, slot->frame);

	if (ret)
		return error_set(err, ret, "cannot seal frame %u: %s",
				 slot->facts.number, error_text(ret));
	return 0;
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
