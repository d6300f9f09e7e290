/* Fetchers: ranges of segments from the store into free buffers. */
#include "agent/restore/restore_private.h"

#include "agent/base/interrupt.h"

/* A free buffer with the next range; NULL when all are taken or the job stopped. */
static struct buffer *fetch_next(struct job *job)
{
	struct buffer *buffer = NULL;

	pthread_mutex_lock(&job->lock);
	while (!job->stopped && job->next_range < job->plan.range_count && !job->free)
		pthread_cond_wait(&job->freed, &job->lock);
	if (!job->stopped && job->next_range < job->plan.range_count) {
		buffer = job->free;
		job->free = buffer->next;
		buffer->next = NULL;
		buffer->range = &job->plan.ranges[job->next_range++];
		buffer->taken = 0;
		buffer->undone = buffer->range->frame_count;
	}
	pthread_mutex_unlock(&job->lock);
	return buffer;
}

static void fetch_done(struct job *job, struct buffer *buffer)
{
	pthread_mutex_lock(&job->lock);
	*job->ready_tail = buffer;
	job->ready_tail = &buffer->next;
	job->unready_ranges--;
	job->fetched_bytes += buffer->range->length;
	pthread_cond_broadcast(&job->filled);
	pthread_mutex_unlock(&job->lock);
}

void *fetch_thread(void *argument)
{
	struct job *job = argument;
	struct error err = ERROR_INIT;
	struct buffer *buffer;

	while ((buffer = fetch_next(job))) {
		const struct plan_range *range = buffer->range;

		if (interrupt_check(&err) ||
		    places_read(job->plan.places, &job->sources.items[range->source].point,
				range->segment, range->offset, buffer->data, range->length,
				&err)) {
			job_fail(job, &err);
			break;
		}
		fetch_done(job, buffer);
	}
	return NULL;
}
