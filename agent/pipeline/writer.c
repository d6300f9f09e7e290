#include "agent/pipeline/writer.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPORT_NS UINT64_C(100000000)

/* ---- progress ------------------------------------------------------------ */

/*
 * A report that comes while read_done runs (it may take long) is left out: the
 * two never run at once, and uploading goes on meanwhile. The last one waits.
 */
static void writer_report(struct writer *writer, bool last)
{
	const struct pipeline_progress *progress = &writer->job->progress;
	struct timespec now;
	uint64_t now_ns;

	if (!progress->report)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (!last && now_ns - writer->report_ns < REPORT_NS)
		return;
	if (last)
		pthread_mutex_lock(writer->callbacks);
	else if (pthread_mutex_trylock(writer->callbacks))
		return;
	writer->report_ns = now_ns;
	progress->report(progress->context, writer->done_bytes,
			 writer->total_bytes, writer->result->stored_bytes);
	pthread_mutex_unlock(writer->callbacks);
}

/* ---- bytes ---------------------------------------------------------------- */

static int writer_inline(struct writer *writer, const void *data, size_t length,
			 struct error *err)
{
	struct pipeline_result *result = writer->result;
	size_t needed = result->inline_length + length;

	if (needed > writer->inline_room) {
		size_t room = writer->inline_room ? writer->inline_room * 2 : 65536;
		uint8_t *bigger;

		while (room < needed)
			room *= 2;
		bigger = realloc(result->inline_frames, room);
		if (!bigger)
			return error_set(err, -ENOMEM, "no memory for %zu bytes of frames",
					 room);
		result->inline_frames = bigger;
		writer->inline_room = room;
		if (room > writer->inline_peak)
			writer->inline_peak = room;
	}
	memcpy(result->inline_frames + result->inline_length, data, length);
	result->inline_length = needed;
	return 0;
}

/* Starts the upload of the present segment; what was kept in memory goes first. */
static int writer_upload(struct writer *writer, struct error *err)
{
	struct pipeline_result *result = writer->result;
	char key[STORE_KEY_MAX + 1];
	int n = snprintf(key, sizeof(key), "%s%06zu", writer->job->segment_prefix,
			 result->segment_count - 1);
	int ret;

	if (n < 0 || (size_t)n >= sizeof(key))
		return error_set(err, -ENAMETOOLONG, "segment name %s… is too long",
				 key);
	ret = store_upload_start(writer->job->store, key, &writer->upload, err);
	if (!ret && result->inline_length)
		ret = store_upload_write(writer->upload, result->inline_frames,
					 result->inline_length, err);
	free(result->inline_frames);
	result->inline_frames = NULL;
	result->inline_length = 0;
	writer->inline_room = 0;
	return ret;
}

static int writer_put(struct writer *writer, const void *data, size_t length,
		      struct error *err)
{
	struct pipeline_result *result = writer->result;
	int ret;

	digest_update(writer->digest, data, length);
	writer->segment_bytes += length;
	result->stored_bytes += length;
	if (!writer->upload) {
		if (result->segment_count == 1 &&
		    writer->segment_bytes <= writer->job->options.inline_bytes)
			return writer_inline(writer, data, length, err);
		ret = writer_upload(writer, err);
		if (ret)
			return ret;
	}
	return store_upload_write(writer->upload, data, length, err);
}

/* ---- segments -------------------------------------------------------------- */

static int writer_segment_open(struct writer *writer, struct error *err)
{
	struct pipeline_result *result = writer->result;
	size_t count = result->segment_count + 1;
	struct pipeline_segment *bigger;
	struct segment_header header;

	bigger = reallocarray(result->segments, count, sizeof(*bigger));
	if (!bigger)
		return error_set(err, -ENOMEM, "no memory for %zu segments", count);
	result->segments = bigger;
	writer->digest = digest_new();
	if (!writer->digest)
		return error_set(err, -ENOMEM, "no memory for a digest");
	memset(&bigger[count - 1], 0, sizeof(*bigger));
	result->segment_count = count;
	writer->segment_bytes = 0;
	segment_header_put(&writer->job->volume, writer->job->point,
			   (uint32_t)(count - 1), &header);
	return writer_put(writer, &header, sizeof(header), err);
}

/* `inline_allowed`: it is the run's end, so a short segment 0 may stay in memory. */
static int writer_segment_close(struct writer *writer, bool inline_allowed,
				struct error *err)
{
	struct pipeline_result *result = writer->result;
	struct pipeline_segment *segment =
		&result->segments[result->segment_count - 1];
	struct store_upload *upload;
	int ret;

	if (!writer->upload && !inline_allowed) {
		ret = writer_upload(writer, err);
		if (ret)
			return ret;
	}
	segment->bytes = writer->segment_bytes;
	digest_finish(writer->digest, segment->sha256);
	writer->digest = NULL;
	if (!writer->upload)
		return 0;
	upload = writer->upload;
	writer->upload = NULL;
	return store_upload_finish(upload, err);
}

/* ---- frames ---------------------------------------------------------------- */

static int writer_map_frames(struct writer *writer, const struct slot *slot)
{
	int ret = 0;

	for (uint32_t i = 0; !ret && i < slot->frame_count; i++) {
		const struct frame_facts *facts = &slot->frames[i].facts;
		struct map_frame frame = {
			.point = writer->job->point,
			.segment = facts->segment,
			.number = facts->number,
			.offset = slot->frames[i].offset,
			.length = frame_stored_bytes(facts),
			.blocks = facts->blocks,
		};

		ret = map_append_frame(&writer->result->map, &frame);
		writer->result->data_bytes += (uint64_t)facts->blocks * BLOCK_BYTES;
	}
	return ret;
}

static int writer_map(struct writer *writer, const struct slot *slot,
		      struct error *err)
{
	struct pipeline_result *result = writer->result;
	uint32_t limit = writer->job->options.frame_blocks;
	size_t first = result->map.frame_count;
	int ret = writer_map_frames(writer, slot);

	for (uint32_t i = 0; !ret && i < slot->run_count; i++) {
		const struct span *run = &slot->runs[i];
		struct map_entry entry = { run->first, run->count, MAP_FRAME_HOLE, 0 };

		if (run->position != SPAN_HOLE) {
			entry.frame = (uint32_t)(first + run->position / limit);
			entry.position = run->position % limit;
		} else {
			result->zero_bytes += (uint64_t)run->count * BLOCK_BYTES;
		}
		ret = map_append_entry(&result->map, &entry);
		writer->done_bytes += (uint64_t)run->count * BLOCK_BYTES;
	}
	writer->done_bytes += (uint64_t)slot->unchanged * BLOCK_BYTES;
	result->unchanged_bytes += (uint64_t)slot->unchanged * BLOCK_BYTES;
	if (ret)
		return error_set(err, ret, "cannot add the frames of piece %u to the map: %s",
				 slot->plan.number, error_text(ret));
	return 0;
}

/* Only of what goes into the map: the rest is in the table as it is. */
static void writer_fingerprints(struct writer *writer, const struct slot *slot)
{
	for (uint32_t i = 0; i < slot->plan.wanted_count; i++) {
		const struct span *span = &slot->plan.wanted[i];

		fingerprints_note(writer->job->fingerprints, span->first, span->count,
				  slot->tags + span->position);
	}
}

static int writer_piece(struct writer *writer, const struct slot *slot,
			struct error *err)
{
	struct pipeline_result *result = writer->result;
	int ret = FAULT_ERR("pipeline.write", err);

	if (ret)
		return ret;
	if (slot->frame_count) {
		uint32_t segment = slot->frames[0].facts.segment;

		if (result->segment_count && segment == result->segment_count)
			ret = writer_segment_close(writer, false, err);
		if (!ret && segment == result->segment_count)
			ret = writer_segment_open(writer, err);
		if (!ret)
			ret = writer_put(writer, slot->buffer->memory, slot->frame_bytes, err);
		if (ret)
			return ret;
		result->segments[result->segment_count - 1].frames += slot->frame_count;
	}
	if (writer->job->fingerprints)
		writer_fingerprints(writer, slot);
	return writer_map(writer, slot, err);
}

static int writer_pieces(struct writer *writer, struct error *err)
{
	struct slot *slot;
	int ret = 0;

	while (!ret && (slot = queue_take_sealed(writer->queue))) {
		ret = writer_piece(writer, slot, err);
		queue_put_written(writer->queue, slot);
		writer_report(writer, false);
	}
	if (ret)
		return ret;
	if (queue_failed(writer->queue))
		return -ECANCELED;
	return writer->result->segment_count ?
	       writer_segment_close(writer, true, err) : 0;
}

int writer_run(struct writer *writer, struct pipeline_result *result,
	       struct error *err)
{
	int ret;

	writer->result = result;
	writer->total_bytes = extent_list_blocks(writer->job->extents) * BLOCK_BYTES;
	ret = writer_pieces(writer, err);
	store_upload_abort(STEAL(writer->upload));
	digest_free(STEAL(writer->digest));
	return ret;
}

void writer_report_end(struct writer *writer)
{
	writer_report(writer, true);
}
