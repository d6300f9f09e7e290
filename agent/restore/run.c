/* A restore from plan to report: threads, the first error, progress. */
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FETCHERS_DEFAULT 4u
#define DECODERS_DEFAULT_MAX 8u	/* some 2 MiB each; more than a target takes */
#define REPORT_INTERVAL_NS 100000000u

void job_fail(struct job *job, const struct error *err)
{
	pthread_mutex_lock(&job->lock);
	if (!job->stopped) {
		job->stopped = true;
		job->error = *err;
	}
	pthread_cond_broadcast(&job->freed);
	pthread_cond_broadcast(&job->moved);
	pthread_mutex_unlock(&job->lock);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void job_advance(struct job *job, uint64_t done_bytes, uint64_t written_bytes)
{
	uint64_t now = now_ns();

	pthread_mutex_lock(&job->lock);
	job->done_bytes += done_bytes;
	job->written_bytes += written_bytes;
	if (job->options->report && now - job->reported_ns >= REPORT_INTERVAL_NS) {
		job->reported_ns = now;
		job->options->report(job->options->context, job->done_bytes,
				     job->total_bytes);
	}
	pthread_mutex_unlock(&job->lock);
}

static uint32_t threads_of(uint32_t wanted, uint32_t otherwise)
{
	if (!wanted)
		wanted = otherwise;
	return wanted < RESTORE_THREADS_MAX ? wanted : RESTORE_THREADS_MAX;
}

static uint32_t decoders_default(void)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (online < 1)
		return 1;
	return online < DECODERS_DEFAULT_MAX ? (uint32_t)online : DECODERS_DEFAULT_MAX;
}

static int job_states(struct job *job)
{
	const struct plan *plan = &job->plan;

	job->ranges = calloc(plan->range_count + 1, sizeof(*job->ranges));
	job->frames = calloc(plan->map.frame_count + 1, sizeof(*job->frames));
	job->writers = calloc(job->decoders, sizeof(*job->writers));
	job->buffers = buffers_new();
	if (!job->buffers || !job->ranges || !job->frames || !job->writers)
		return -ENOMEM;
	for (size_t f = 0; f < plan->map.frame_count; f++)
		job->frames[f].left = plan->uses[f].windows;
	for (uint32_t i = 0; i < job->decoders; i++) {
		job->writers[i].job = job;
		job->writers[i].window = SIZE_MAX;
	}
	return 0;
}

/* What job_run needs beyond plan and sources. */
static int job_init(struct job *job, struct error *err)
{
	job->holes = target_needs_holes(job->target);
	job->total_bytes = job->plan.data_bytes - job->resumed_bytes +
			   (job->holes ? job->plan.hole_bytes : 0);
	if (job->options->verify)
		job->total_bytes += job->point->has_image_sha256 ? job->plan.volume_bytes :
				    job->plan.data_bytes - job->resumed_bytes +
				    job->plan.hole_bytes;
	if (job->options->verify && !job->point->has_image_sha256) {
		job->digests = calloc(job->plan.map.frame_count + 1,
				      sizeof(*job->digests));
		if (!job->digests)
			return error_set(err, -ENOMEM, "restoring: out of memory");
	}
	if (job_states(job))
		return error_set(err, -ENOMEM, "restoring: out of memory");
	return 0;
}

static void job_fini(struct job *job)
{
	for (size_t i = 0; job->ranges && i < job->plan.range_count; i++)
		buffer_put(job->buffers, job->ranges[i].data,
			   job->plan.ranges[i].length);
	for (size_t i = 0; job->frames && i < job->plan.map.frame_count; i++)
		free(job->frames[i].plain);
	buffers_free(job->buffers);
	free(job->ranges);
	free(job->frames);
	free(job->writers);
	free(job->digests);
	pthread_cond_destroy(&job->moved);
	pthread_cond_destroy(&job->freed);
	pthread_mutex_destroy(&job->lock);
}

static void job_start(struct job *job, pthread_t *thread, uint32_t *started,
		      void *(*function)(void *), void *argument)
{
	struct error err = ERROR_INIT;
	int ret = pthread_create(&thread[*started], NULL, function, argument);

	if (!ret) {
		++*started;
		return;
	}
	error_set(&err, -ret, "restoring: starting a thread: %s", error_text(ret));
	job_fail(job, &err);
}

/* Everything into the target; durable on success. */
static int job_run(struct job *job, struct error *err)
{
	pthread_t threads[2 * RESTORE_THREADS_MAX];
	uint32_t started = 0;

	for (uint32_t i = 0; i < job->fetchers; i++)
		job_start(job, threads, &started, fetch_thread, job);
	for (uint32_t i = 0; i < job->decoders; i++)
		job_start(job, threads, &started, write_thread, &job->writers[i]);
	while (started)
		pthread_join(threads[--started], NULL);
	if (job->stopped) {
		*err = job->error;
		return err->code;
	}
	return target_sync(job->target, err);
}

static int job_restore(struct job *job, struct error *err)
{
	int ret = target_prepare(job->target, job->plan.volume_bytes, err);

	if (!ret)
		ret = job_run(job, err);
	if (ret) {
		if (!atomic_load(&job->target->touched))
			return ret;
		if (err->exit == EXIT_UNTRUSTWORTHY)
			return error_hint(err, "%s holds a partial restore of no use: restore "
					  "another point, one that clawback verify --data finds "
					  "whole", job->target->path);
		error_hint(err, "%s holds a partial restore: run it again%s", job->target->path,
			   job->target->is_device || job->target->in_place ||
			   journal_wants(job->journal) ? "" : " with --force");
		return ret;
	}
	if (job->options->verify)
		ret = check_target(job, err);
	if (!ret && job->options->report)
		job->options->report(job->options->context, job->total_bytes,
				     job->total_bytes);
	return ret;
}

static void job_result(const struct job *job, struct restore_result *result)
{
	*result = (struct restore_result){
		.volume_bytes = job->plan.volume_bytes,
		.data_bytes = job->plan.data_bytes,
		.hole_bytes = job->plan.hole_bytes,
		.written_bytes = job->written_bytes,
		.fetched_bytes = job->fetched_bytes,
		.frames = job->plan.frame_count,
		.requests = job->plan.range_count,
		.resumed_bytes = job->resumed_bytes,
		.verified = job->options->verify,
	};
}

static void job_planned(const struct job *job)
{
	struct restore_result planned;

	if (!job->options->planned)
		return;
	job_result(job, &planned);
	planned.fetched_bytes = job->plan.fetch_bytes;
	planned.verified = false;
	job->options->planned(job->options->context, &planned);
}

/* With the map open: what is there already, what is to be done, and that. */
static int job_go(struct job *job, struct repo *repo, const struct key_ring *ring,
		  struct error *err)
{
	int ret = resume(job, repo, err);

	if (job->options->held_bytes)
		job->plan.held_max = job->options->held_bytes;
	if (!ret)
		ret = plan_finish(&job->plan, job->point, err);
	if (!ret)
		ret = job_init(job, err);
	if (!ret)
		ret = source_list_open(&job->sources, &job->plan, job->point, ring,
				       job->fetchers, err);
	if (ret)
		return ret;
	job_planned(job);
	return job_restore(job, err);
}

int restore_run(struct repo *repo, const struct point *point,
		const struct key_ring *ring, struct restore_target *target,
		const struct restore_options *options,
		struct restore_result *result, struct error *err)
{
	static const struct restore_options defaults;
	struct job job = {
		.point = point, .target = target,
		.options = options ? options : &defaults,
		.error = ERROR_INIT,
	};
	int ret;

	if (job.options->known && !target->in_place)
		return error_set(err, -EINVAL, "restoring to %s: it is not opened in place, "
				 "so what it holds does not count", target->path);
	ret = plan_open(&job.plan, repo, point, ring, job.options->known, err);

	if (ret)
		return ret;
	pthread_mutex_init(&job.lock, NULL);
	pthread_cond_init(&job.freed, NULL);
	pthread_cond_init(&job.moved, NULL);
	job.fetchers = threads_of(job.options->fetchers, FETCHERS_DEFAULT);
	job.decoders = threads_of(job.options->decoders, decoders_default());
	ret = job_go(&job, repo, ring, err);
	if (!ret && result)
		job_result(&job, result);
	journal_finish(job.journal, !ret);
	source_list_fini(&job.sources);
	job_fini(&job);
	plan_fini(&job.plan);
	return ret;
}
