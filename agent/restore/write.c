/*
 * Writers: put windows together out of frames and hand them to the target; where the
 * frames are not there yet, clear holes. Nothing is written from a frame before all of
 * it has authenticated.
 */
#include "agent/restore/restore_private.h"

#include "agent/base/interrupt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- a window --------------------------------------------------------------- */

/* Which frames it wants; whether strays have blocks in it. */
static bool window_collect(struct writer *writer, const struct plan_window *window)
{
	const struct plan *plan = &writer->job->plan;
	uint64_t end = (window->number + 1) * WINDOW_BLOCKS;
	bool strays = false;

	writer->frame_count = 0;
	for (size_t i = window->entry; i < plan->map.entry_count; i++) {
		uint32_t frame = plan->map.entries[i].frame;
		size_t at = writer->frame_count;

		if (plan->map.entries[i].block >= end)
			break;
		if (frame == MAP_FRAME_HOLE)
			continue;
		strays |= plan->uses[frame].stray;
		while (at && writer->frames[at - 1] != frame)
			at--;
		if (!at && !plan->uses[frame].stray)
			writer->frames[writer->frame_count++] = frame;
	}
	return strays;
}

/* The frame's blocks that lie in the window. */
static void window_copy(struct writer *writer, uint64_t number, uint32_t frame,
			const uint8_t *plain)
{
	const struct plan *plan = &writer->job->plan;
	uint64_t first = number * WINDOW_BLOCKS, end = first + WINDOW_BLOCKS;

	for (uint32_t i = plan->index.first[frame]; i < plan->index.first[frame + 1]; i++) {
		const struct map_entry *entry = &plan->map.entries[plan->index.items[i]];
		uint64_t from = entry->block < first ? first : entry->block;
		uint64_t to = entry->block + entry->count < end ? entry->block + entry->count :
								  end;

		if (from >= to)
			continue;
		if (plain)
			memcpy(writer->slot->data + (from - first) * BLOCK_BYTES, plain +
			       (entry->position + (from - entry->block)) * BLOCK_BYTES,
			       (to - from) * BLOCK_BYTES);
		memset(writer->filled + (from - first), true, to - from);
	}
}

/* A frame that only this window wants; where it lies as one piece, straight into it. */
static int window_private(struct writer *writer, uint64_t number, uint32_t frame,
			  struct error *err)
{
	const struct plan *plan = &writer->job->plan;
	const struct map_entry *entry =
		&plan->map.entries[plan->index.items[plan->index.first[frame]]];
	bool straight = entry->count == plan->map.frames[frame].blocks;
	uint8_t *plain = straight ? writer->slot->data + (entry->block - number * WINDOW_BLOCKS) *
						 BLOCK_BYTES : writer->plain;
	int ret = frame_open(writer, frame, plain, err);

	if (!ret)
		window_copy(writer, number, frame, straight ? NULL : plain);
	return ret;
}

/* First what need not be waited for. */
static int window_fill(struct writer *writer, uint64_t number, struct error *err)
{
	struct job *job = writer->job;
	int ret = 0;

	for (size_t i = 0; !ret && i < writer->frame_count; i++)
		if (job->plan.uses[writer->frames[i]].windows > 1)
			ret = frame_share(writer, writer->frames[i], false, err);
	for (size_t i = 0; !ret && i < writer->frame_count; i++)
		if (job->plan.uses[writer->frames[i]].windows == 1)
			ret = window_private(writer, number, writer->frames[i], err);
	for (size_t i = 0; !ret && i < writer->frame_count; i++) {
		uint32_t frame = writer->frames[i];

		if (job->plan.uses[frame].windows == 1)
			continue;
		ret = frame_share(writer, frame, true, err);
		if (!ret) {
			window_copy(writer, number, frame, job->frames[frame].plain);
			frame_release(job, frame);
		}
	}
	return ret;
}

/* Small holes in it, where holes need work. */
static uint64_t window_zeros(struct writer *writer, uint64_t number)
{
	const struct plan *plan = &writer->job->plan;
	uint64_t first = number * WINDOW_BLOCKS, end = first + WINDOW_BLOCKS, bytes = 0;
	size_t low = 0, high = plan->fills.count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct extent *fill = &plan->fills.items[middle];

		if (fill->first + fill->count <= first)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < plan->fills.count && plan->fills.items[low].first < end; low++) {
		const struct extent *fill = &plan->fills.items[low];
		uint64_t from = fill->first < first ? first : fill->first;
		uint64_t to = fill->first + fill->count < end ? fill->first + fill->count : end;

		memset(writer->slot->data + (from - first) * BLOCK_BYTES, 0,
		       (to - from) * BLOCK_BYTES);
		memset(writer->filled + (from - first), true, to - from);
		bytes += plan_clip(plan, from, to - from);
	}
	return bytes;
}

/* Calls for each run of blocks that are in the slot; *bytes: how many they are. */
static int window_put(struct writer *writer, uint64_t number, uint64_t *bytes,
		      uint64_t *differing, struct error *err)
{
	struct job *job = writer->job;
	uint64_t first = number * WINDOW_BLOCKS;
	int ret = 0;

	*bytes = 0;
	for (uint32_t at = 0, count; !ret && at < WINDOW_BLOCKS; at += count) {
		bool filled = writer->filled[at];
		uint64_t offset = (first + at) * BLOCK_BYTES;
		uint32_t length;

		for (count = 1; at + count < WINDOW_BLOCKS; count++)
			if (writer->filled[at + count] != filled)
				break;
		if (!filled)
			continue;
		length = (uint32_t)plan_clip(&job->plan, first + at, count);
		*bytes += length;
		if (job->target->in_place)
			ret = target_put(job->target, offset,
					 writer->slot->data + at * BLOCK_BYTES, length,
					 writer->scratch, differing, err);
		else
			ret = output_write(&writer->output, writer->slot, at * BLOCK_BYTES,
					   offset, length, err);
	}
	return ret;
}

/* Before small holes are put in: they are zero in the tag anyhow. */
static int window_record(struct writer *writer, uint64_t number, struct error *err)
{
	struct output_slot *slot = writer->slot;
	int ret;

	for (uint32_t at = 0; at < WINDOW_BLOCKS; at++)
		if (!writer->filled[at])
			memset(slot->data + at * BLOCK_BYTES, 0, BLOCK_BYTES);
	ret = tagger_tag(writer->tagger, slot->data, WINDOW_BYTES, &slot->tag);
	if (ret)
		return error_set(err, ret, "noting what is restored: %s", error_text(ret));
	slot->window = number;
	slot->record = true;
	return 0;
}

static int write_window(struct writer *writer, size_t item, struct error *err)
{
	struct job *job = writer->job;
	const struct plan_window *window = &job->plan.windows[item];
	uint64_t bytes, zeros = 0, differing = 0;
	bool strays = window_collect(writer, window);
	int ret = output_take(&writer->output, &writer->slot, err);

	if (ret)
		return ret;
	memset(writer->filled, 0, sizeof(writer->filled));
	ret = window_fill(writer, window->number, err);
	pthread_mutex_lock(&job->lock);
	writer->window = SIZE_MAX;
	pthread_cond_broadcast(&job->moved);
	pthread_mutex_unlock(&job->lock);
	if (!ret && !strays && journal_wants(job->journal))
		ret = window_record(writer, window->number, err);
	if (!ret && job->holes)
		zeros = window_zeros(writer, window->number);
	if (!ret)
		ret = window_put(writer, window->number, &bytes, &differing, err);
	if (ret)
		return ret;
	job_advance(job, bytes, job->target->in_place ? differing : bytes - zeros);
	return output_put(&writer->output, writer->slot, err);
}

/* ---- strays and holes --------------------------------------------------------- */

static int write_stray(struct writer *writer, size_t item, struct error *err)
{
	struct job *job = writer->job;
	const struct plan *plan = &job->plan;
	uint32_t frame = plan->order[item];
	uint64_t done = 0, written = 0;
	int ret = frame_open(writer, frame, writer->plain, err);

	for (uint32_t i = plan->index.first[frame];
	     !ret && i < plan->index.first[frame + 1]; i++) {
		const struct map_entry *entry = &plan->map.entries[plan->index.items[i]];
		size_t length = plan_clip(plan, entry->block, entry->count);

		ret = target_put(job->target, entry->block * BLOCK_BYTES,
				 writer->plain + (size_t)entry->position * BLOCK_BYTES, length,
				 writer->scratch, &written, err);
		done += length;
	}
	if (!ret)
		job_advance(job, done, written);
	return ret;
}

static int write_hole(struct writer *writer, const struct work *work,
		      struct error *err)
{
	struct job *job = writer->job;
	uint64_t length = plan_clip(&job->plan, work->block, work->count);
	uint64_t written = 0;
	int ret = target_put(job->target, work->block * BLOCK_BYTES, NULL, length,
			     writer->scratch, &written, err);

	if (!ret)
		job_advance(job, length, job->target->in_place ? written : 0);
	return ret;
}

/* ---- the thread --------------------------------------------------------------- */

static int writer_init(struct writer *writer, struct error *err)
{
	struct job *job = writer->job;

	writer->decoder = frame_decoder_new();
	writer->plain = aligned_alloc(BLOCK_BYTES, FRAME_PLAIN_MAX);
	if (job->target->in_place)
		writer->scratch = aligned_alloc(BLOCK_BYTES, COMPARE_PIECE_BYTES);
	if (job->journal)
		writer->tagger = tagger_new(journal_key(job->journal));
	if (!writer->decoder || !writer->plain ||
	    (job->target->in_place && !writer->scratch) || (job->journal && !writer->tagger))
		return error_set(err, -ENOMEM, "restoring: out of memory");
	return output_init(&writer->output, job, err);
}

static void writer_fini(struct writer *writer)
{
	for (size_t i = 0; i < WRITER_SEALERS; i++)
		sealer_free(writer->sealers[i].sealer);
	frame_decoder_free(writer->decoder);
	tagger_free(writer->tagger);
	output_fini(&writer->output);
	free(writer->plain);
	free(writer->scratch);
}

static int write_one(struct writer *writer, const struct work *work, struct error *err)
{
	int ret = interrupt_check(err);

	if (ret)
		return ret;
	switch (work->kind) {
	case WORK_STRAY:
		return write_stray(writer, work->item, err);
	case WORK_WINDOW:
		return write_window(writer, work->item, err);
	case WORK_HOLE:
		break;
	}
	return write_hole(writer, work, err);
}

void *write_thread(void *argument)
{
	struct writer *writer = argument;
	struct error err = ERROR_INIT, draining = ERROR_INIT;
	struct work work;
	int ret = writer_init(writer, &err);

	while (!ret && work_next(writer, &work))
		ret = write_one(writer, &work, &err);
	if (ret)
		job_fail(writer->job, &err);
	/* What is on its way is done, and noted, also after a failure. */
	if (output_drain(&writer->output, &draining) && !ret)
		job_fail(writer->job, &draining);
	writer_fini(writer);
	return NULL;
}
