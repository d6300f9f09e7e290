/* Fetchers: ranges of segments from the store, as far ahead as there is room. */
#include "agent/restore/restore_private.h"

#include "agent/base/interrupt.h"

#include <errno.h>

/*
 * The next range; NULL when all are taken or the job stopped. What is fetched comes in
 * the order in which it is wanted, and a band fits into the room: so whatever fills it
 * up is wanted before this one, and goes.
 */
static const struct plan_range *fetch_next(struct job *job)
{
	const struct plan_range *range = NULL;

	pthread_mutex_lock(&job->lock);
	while (!job->stopped && job->next_range < job->plan.range_count &&
	       job->fetch_held + job->plan.ranges[job->next_range].length > FETCH_BYTES_MAX)
		pthread_cond_wait(&job->freed, &job->lock);
	if (!job->stopped && job->next_range < job->plan.range_count) {
		range = &job->plan.ranges[job->next_range++];
		job->fetch_held += range->length;
	}
	pthread_mutex_unlock(&job->lock);
	return range;
}

static void fetch_done(struct job *job, const struct plan_range *range, uint8_t *data)
{
	struct range_state *state = &job->ranges[range - job->plan.ranges];

	pthread_mutex_lock(&job->lock);
	state->data = data;
	state->undone = range->frame_count;
	job->fetched_bytes += range->length;
	pthread_cond_broadcast(&job->moved);
	pthread_mutex_unlock(&job->lock);
}

static int fetch(struct job *job, const struct plan_range *range, struct error *err)
{
	uint8_t *data = buffer_take(job->buffers, range->length);
	int ret = interrupt_check(err);

	if (!ret && !data)
		ret = error_set(err, -ENOMEM, "restoring: out of memory");
	if (!ret)
		ret = places_read(job->plan.places, &job->sources.items[range->source].point,
				  range->segment, range->offset, data, range->length, err);
	if (ret)
		buffer_put(job->buffers, data, range->length);
	else
		fetch_done(job, range, data);
	return ret;
}

void *fetch_thread(void *argument)
{
	struct job *job = argument;
	struct error err = ERROR_INIT;
	const struct plan_range *range;

	while ((range = fetch_next(job))) {
		if (fetch(job, range, &err)) {
			job_fail(job, &err);
			break;
		}
	}
	return NULL;
}
