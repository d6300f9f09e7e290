/*
 * Writers: decode frames out of fetched buffers, write their blocks; while no
 * buffer is ready, clear holes. Nothing is written from a frame before all of it
 * has authenticated.
 */
#include "agent/restore/restore_private.h"

#include "agent/base/interrupt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct writer {
	struct job *job;
	struct frame_opener opener;
	uint8_t *plain, *scratch;	/* scratch: in place only */
};

/* One piece of work: a frame of a buffer, or a piece of a hole. */
struct work {
	struct buffer *buffer;		/* NULL: a hole */
	size_t frame;			/* index into plan.order */
	uint64_t block, count;
};

static bool work_take_frame(struct job *job, struct work *work)
{
	struct buffer *buffer = job->ready;

	if (!buffer)
		return false;
	work->buffer = buffer;
	work->frame = buffer->range->first_frame + buffer->taken++;
	if (buffer->taken == buffer->range->frame_count) {
		job->ready = buffer->next;
		if (!job->ready)
			job->ready_tail = &job->ready;
		buffer->next = NULL;
	}
	return true;
}

static bool work_take_hole(struct job *job, struct work *work)
{
	uint64_t most = job->target->in_place ? COMPARE_PIECE_BYTES / BLOCK_BYTES :
						HOLE_PIECE_BYTES / BLOCK_BYTES;
	const struct extent *hole;

	if (job->hole == job->plan.holes.count)
		return false;
	hole = &job->plan.holes.items[job->hole];
	work->buffer = NULL;
	work->block = hole->first + job->hole_done_blocks;
	work->count = hole->count - job->hole_done_blocks;
	if (work->count > most) {
		work->count = most;
		job->hole_done_blocks += most;
	} else {
		job->hole++;
		job->hole_done_blocks = 0;
	}
	return true;
}

/* False at the end, or when the job stopped. */
static bool work_next(struct job *job, struct work *work)
{
	bool found = false;

	pthread_mutex_lock(&job->lock);
	while (!job->stopped) {
		found = work_take_frame(job, work) || work_take_hole(job, work);
		if (found || !job->unready_ranges)
			break;
		pthread_cond_wait(&job->filled, &job->lock);
	}
	pthread_mutex_unlock(&job->lock);
	return found;
}

static void buffer_release(struct job *job, struct buffer *buffer)
{
	pthread_mutex_lock(&job->lock);
	if (!--buffer->undone) {
		buffer->next = job->free;
		job->free = buffer;
		pthread_cond_signal(&job->freed);
	}
	pthread_mutex_unlock(&job->lock);
}

static int write_entries(struct writer *writer, const struct work *work,
			 uint32_t frame, struct error *err)
{
	struct job *job = writer->job;
	const struct plan *plan = &job->plan;
	struct digest *digest = NULL;
	uint64_t done = 0, written = 0;
	int ret = 0;

	if (job->digests && !(digest = digest_new()))
		return error_set(err, -ENOMEM, "restoring: out of memory");
	for (uint32_t i = plan->index.first[frame];
	     !ret && i < plan->index.first[frame + 1]; i++) {
		const struct map_entry *entry =
			&plan->map.entries[plan->index.items[i]];
		const uint8_t *data = writer->plain +
				      (size_t)entry->position * BLOCK_BYTES;
		size_t length = plan_clip(plan, entry->block, entry->count);

		if (digest)
			digest_update(digest, data, length);
		ret = target_put(job->target, entry->block * BLOCK_BYTES, data,
				 length, writer->scratch, &written, err);
		done += length;
	}
	if (digest)
		digest_finish(digest, job->digests[work->frame]);
	if (!ret)
		job_advance(job, done, written);
	return ret;
}

static int write_frame(struct writer *writer, const struct work *work,
		       struct error *err)
{
	const struct plan *plan = &writer->job->plan;
	const struct plan_range *range = work->buffer->range;
	uint32_t frame = plan->order[work->frame];
	uint64_t skip = plan->map.frames[frame].offset - range->offset;
	int ret = frame_opener_open(&writer->opener, range->source, frame,
				    work->buffer->data + skip, writer->plain, err);

	return ret ? ret : write_entries(writer, work, frame, err);
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

static int writer_init(struct writer *writer, struct job *job, struct error *err)
{
	int ret;

	*writer = (struct writer){ .job = job };
	ret = frame_opener_init(&writer->opener, &job->plan, &job->sources);
	writer->plain = aligned_alloc(BLOCK_BYTES, FRAME_PLAIN_MAX);
	if (job->target->in_place)
		writer->scratch = aligned_alloc(BLOCK_BYTES, COMPARE_PIECE_BYTES);
	if (ret || !writer->plain ||
	    (job->target->in_place && !writer->scratch))
		return error_set(err, -ENOMEM, "restoring: out of memory");
	return 0;
}

static void writer_fini(struct writer *writer)
{
	frame_opener_fini(&writer->opener);
	free(writer->plain);
	free(writer->scratch);
}

void *write_thread(void *argument)
{
	struct job *job = argument;
	struct error err = ERROR_INIT;
	struct writer writer;
	struct work work;
	int ret = writer_init(&writer, job, &err);

	while (!ret && work_next(job, &work)) {
		ret = interrupt_check(&err);
		if (!ret)
			ret = work.buffer ? write_frame(&writer, &work, &err) :
					    write_hole(&writer, &work, &err);
		if (work.buffer)
			buffer_release(job, work.buffer);
	}
	if (ret)
		job_fail(job, &err);
	writer_fini(&writer);
	return NULL;
}
