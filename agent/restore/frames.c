/*
 * Frames: each is decoded once. Most are wanted by one window; the others are shared,
 * by whichever writer comes first, and kept until the last window had its blocks.
 */
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <stdlib.h>

static int stopped(struct error *err)
{
	/* Somebody else's failure is the one that is told. */
	return error_set(err, -ECANCELED, "restoring: stopped");
}

/* Waits for it; NULL when the job stopped. */
static const uint8_t *range_wait(struct job *job, uint32_t range)
{
	const uint8_t *data = NULL;

	pthread_mutex_lock(&job->lock);
	while (!job->stopped && !(data = job->ranges[range].data))
		pthread_cond_wait(&job->moved, &job->lock);
	pthread_mutex_unlock(&job->lock);
	return data;
}

static void range_done(struct job *job, uint32_t range)
{
	struct range_state *state = &job->ranges[range];
	uint8_t *data = NULL;

	pthread_mutex_lock(&job->lock);
	if (!--state->undone) {
		data = state->data;
		state->data = NULL;
		job->fetch_held -= job->plan.ranges[range].length;
		pthread_cond_broadcast(&job->freed);
	}
	pthread_mutex_unlock(&job->lock);
	buffer_put(job->buffers, data, job->plan.ranges[range].length);
}

/* Of the blocks needed from it, for reading back. */
static int frame_digest(struct job *job, uint32_t frame, const uint8_t *plain,
			struct error *err)
{
	const struct plan *plan = &job->plan;
	struct digest *digest;

	if (!job->digests)
		return 0;
	digest = digest_new();
	if (!digest)
		return error_set(err, -ENOMEM, "restoring: out of memory");
	for (uint32_t i = plan->index.first[frame]; i < plan->index.first[frame + 1]; i++) {
		const struct map_entry *entry = &plan->map.entries[plan->index.items[i]];

		digest_update(digest, plain + (size_t)entry->position * BLOCK_BYTES,
			      plan_clip(plan, entry->block, entry->count));
	}
	digest_finish(digest, job->digests[frame]);
	return 0;
}

int frame_open(struct writer *writer, uint32_t frame, uint8_t *plain, struct error *err)
{
	struct job *job = writer->job;
	uint32_t at = job->plan.uses[frame].range;
	const struct plan_range *range = &job->plan.ranges[at];
	uint64_t skip = job->plan.map.frames[frame].offset - range->offset;
	const uint8_t *stored = range_wait(job, at);
	int ret;

	if (!stored)
		return stopped(err);
	ret = frame_opener_open(&writer->opener, range->source, frame, stored + skip, plain, err);
	if (!ret)
		ret = frame_digest(job, frame, plain, err);
	if (!ret)
		range_done(job, at);
	return ret;
}

/* Whether nobody puts a window together that lies before this one. */
static bool writer_is_first(const struct writer *writer)
{
	const struct job *job = writer->job;

	for (uint32_t i = 0; i < job->decoders; i++)
		if (job->writers[i].window < writer->window)
			return false;
	return true;
}

/*
 * The foremost window never waits for room, and what it wants fits into as much as
 * there is for all others: the plan has seen to that.
 */
static bool frame_claim(struct writer *writer, uint32_t frame, uint64_t bytes, bool wait)
{
	struct job *job = writer->job;
	struct frame_state *state = &job->frames[frame];
	bool mine = false;

	pthread_mutex_lock(&job->lock);
	while (!job->stopped && state->stage != FRAME_DECODED) {
		if (state->stage == FRAME_ABSENT &&
		    (job->held_bytes + bytes <= job->plan.held_max || writer_is_first(writer)) &&
		    (wait || job->ranges[job->plan.uses[frame].range].data)) {
			state->stage = FRAME_DECODING;
			job->held_bytes += bytes;
			mine = true;
			break;
		}
		if (!wait)
			break;
		pthread_cond_wait(&job->moved, &job->lock);
	}
	pthread_mutex_unlock(&job->lock);
	return mine;
}

int frame_share(struct writer *writer, uint32_t frame, bool wait, struct error *err)
{
	struct job *job = writer->job;
	uint64_t bytes = job->plan.map.frames[frame].blocks * (uint64_t)BLOCK_BYTES;
	uint8_t *plain;
	int ret;

	if (!frame_claim(writer, frame, bytes, wait)) {
		bool end;

		pthread_mutex_lock(&job->lock);
		end = job->stopped;
		pthread_mutex_unlock(&job->lock);
		return end ? stopped(err) : 0;
	}
	plain = malloc(bytes);
	ret = plain ? frame_open(writer, frame, plain, err) :
		      error_set(err, -ENOMEM, "restoring: out of memory");
	if (ret) {
		free(plain);
		return ret;	/* ends the job: nobody waits for the frame any more */
	}
	pthread_mutex_lock(&job->lock);
	job->frames[frame].plain = plain;
	job->frames[frame].stage = FRAME_DECODED;
	pthread_cond_broadcast(&job->moved);
	pthread_mutex_unlock(&job->lock);
	return 0;
}

void frame_release(struct job *job, uint32_t frame)
{
	struct frame_state *state = &job->frames[frame];
	uint8_t *plain = NULL;

	pthread_mutex_lock(&job->lock);
	if (!--state->left) {
		plain = state->plain;
		state->plain = NULL;
		job->held_bytes -= job->plan.map.frames[frame].blocks * (uint64_t)BLOCK_BYTES;
		pthread_cond_broadcast(&job->moved);
	}
	pthread_mutex_unlock(&job->lock);
	free(plain);
}
