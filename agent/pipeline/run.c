/*
 * Puts a run together: checks the job, plans it once to know its size, gives it
 * no more buffers and threads than that, starts reader and workers, writes in the
 * calling thread, and takes everything down again whatever happened.
 */
#include "agent/pipeline/reader.h"
#include "agent/pipeline/worker.h"
#include "agent/pipeline/writer.h"

#include "agent/base/cleanup.h"
#include "agent/base/laps.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS_MAX 256u
#define WORKERS_DEFAULT_MAX 8u	/* keeps the default memory below 100 MiB */
#define BUFFERS_MAX 4096u
#define DEPTH_MAX 1024u
#define SEGMENT_BYTES_DEFAULT (UINT64_C(512) << 20)
#define INLINE_BYTES_DEFAULT (1u << 20)

struct run {
	struct pipeline_job job;	/* a copy, with options resolved */
	uint64_t pieces;
	struct pool pool;
	struct queue queue;
	pthread_mutex_t callbacks;
	struct reader reader;
	struct writer writer;
	struct worker **workers;
	pthread_t *threads;		/* the workers', then the reader's */
	uint32_t thread_count;		/* started */
};

static uint32_t at_most(uint32_t value, uint64_t limit)
{
	return value < limit ? value : (uint32_t)limit;
}

static int job_check(const struct pipeline_job *job, struct error *err)
{
	const struct extent_list *extents = job->extents;
	const struct extent *last;
	uint64_t blocks = (job->volume_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;

	if (job->compare && (job->kind == MAP_FULL || !job->fingerprints))
		return error_set(err, -EINVAL, "only an incremental with fingerprints can leave "
				 "out what has not changed");
	if (job->volume_bytes > FRAME_BLOCK_LIMIT * BLOCK_BYTES - BLOCK_BYTES)
		return error_set(err, -EFBIG, "a volume of %llu bytes is too large",
				 (unsigned long long)job->volume_bytes);
	if (job->options.frame_blocks > MAP_FRAME_BLOCKS_MAX ||
	    job->options.frame_blocks & (job->options.frame_blocks - 1))
		return error_set(err, -EINVAL, "frames of %u blocks are not possible",
				 job->options.frame_blocks);
	if (strlen(job->segment_prefix) + 6 > STORE_KEY_MAX)
		return error_set(err, -ENAMETOOLONG, "segment prefix %s is too long",
				 job->segment_prefix);
	if (!extents->count)
		return 0;
	last = &extents->items[extents->count - 1];
	if (last->first >= blocks || last->count > blocks - last->first)
		return error_set(err, -ERANGE, "blocks %llu to %llu are to be read, "
				 "but the volume has %llu",
				 (unsigned long long)last->first,
				 (unsigned long long)(last->first + last->count - 1),
				 (unsigned long long)blocks);
	return 0;
}

/* How many pieces the extents make: the plan is cheap, and gives it exactly. */
static int job_pieces(const struct pipeline_job *job, uint64_t *pieces,
		      struct error *err)
{
	CLEANUP_FREE struct plan_piece *piece = malloc(sizeof(*piece));
	uint64_t most = UINT32_MAX / (PLAN_PIECE_BLOCKS / job->options.frame_blocks);
	struct plan plan;

	if (!piece)
		return error_set(err, -ENOMEM, "no memory for a plan");
	plan_init(&plan, job->extents);
	while (plan_next(&plan, piece))
		if (plan.pieces > most)
			return error_set(err, -EOVERFLOW, "the volume has more changed blocks "
					 "than one point can hold in frames of %u KiB; "
					 "give it a larger frame_size",
					 job->options.frame_blocks * (BLOCK_BYTES >> 10));
	*pieces = plan.pieces;
	return 0;
}

void pipeline_defaults(struct pipeline_options *options)
{
	if (!options->workers) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);

		options->workers = at_most(cpus > 0 ? (uint32_t)cpus : 1,
					   WORKERS_DEFAULT_MAX);
	}
	options->workers = at_most(options->workers, WORKERS_MAX);
	if (!options->buffers)
		options->buffers = 4 * options->workers + 8;
	if (!options->level)
		options->level = 1;
	if (!options->queue_depth)
		options->queue_depth = 32;
	if (!options->frame_blocks)
		options->frame_blocks = MAP_FRAME_BLOCKS_MAX;
	if (!options->segment_bytes)
		options->segment_bytes = SEGMENT_BYTES_DEFAULT;
	if (!options->inline_bytes)
		options->inline_bytes = INLINE_BYTES_DEFAULT;
	options->queue_depth = at_most(options->queue_depth, DEPTH_MAX);
	options->buffers = at_most(options->buffers, BUFFERS_MAX);
}

/* No more of anything than there are pieces. */
static void options_resolve(struct pipeline_options *options, uint64_t pieces)
{
	if (!pieces)
		pieces = 1;
	options->workers = at_most(options->workers, pieces);
	options->buffers = at_most(options->buffers, pieces);
}

static int run_workers_init(struct run *run, struct error *err)
{
	const struct pipeline_options *options = &run->job.options;

	run->workers = calloc(options->workers, sizeof(struct worker *));
	run->threads = calloc(options->workers + 1, sizeof(*run->threads));
	if (!run->workers || !run->threads)
		return error_set(err, -ENOMEM, "no memory for %u workers",
				 options->workers);
	for (uint32_t i = 0; i < options->workers; i++) {
		struct worker_options worker = {
			.queue = &run->queue,
			.scratch = &run->pool.buffers[options->buffers + i],
			.volume = &run->job.volume,
			.point = run->job.point,
			.data_key = run->job.data_key,
			.level = options->level,
			.frame_blocks = options->frame_blocks,
			.fingerprints = run->job.fingerprints,
			.compare = run->job.compare,
		};

		run->workers[i] = worker_new(&worker, err);
		if (!run->workers[i])
			return err->code;
	}
	return 0;
}

static int run_init(struct run *run, struct error *err)
{
	const struct pipeline_options *options = &run->job.options;
	int ret;

	pthread_mutex_init(&run->callbacks, NULL);
	ret = pool_init(&run->pool, options->buffers + options->workers);
	if (!ret)
		ret = queue_init(&run->queue, &run->pool, options->buffers,
				 run->pieces, options->segment_bytes);
	if (ret)
		return error_set(err, ret, "no memory for %u buffers of %u bytes",
				 options->buffers + options->workers, BUFFER_BYTES);
	run->reader = (struct reader){
		.job = &run->job, .queue = &run->queue, .pool = &run->pool,
		.depth = options->queue_depth, .callbacks = &run->callbacks,
	};
	run->writer = (struct writer){
		.job = &run->job, .queue = &run->queue,
		.callbacks = &run->callbacks,
	};
	return run_workers_init(run, err);
}

static void run_fini(struct run *run)
{
	for (uint32_t i = 0; run->workers && i < run->job.options.workers; i++)
		worker_free(run->workers[i]);
	free(run->workers);
	free(run->threads);
	queue_fini(&run->queue);
	pool_fini(&run->pool);
	pthread_mutex_destroy(&run->callbacks);
}

static int run_thread(struct run *run, void *(*body)(void *), void *context,
		      struct error *err)
{
	int ret = pthread_create(&run->threads[run->thread_count], NULL, body,
				 context);

	if (ret)
		return error_set(err, -ret, "cannot start a thread: %s",
				 error_text(ret));
	run->thread_count++;
	return 0;
}

/* Signals are for the threads that were there before: ours never see one. */
static int run_start(struct run *run, struct error *err)
{
	sigset_t all, before;
	int ret = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (uint32_t i = 0; !ret && i < run->job.options.workers; i++)
		ret = run_thread(run, worker_run, run->workers[i], err);
	if (!ret)
		ret = run_thread(run, reader_run, &run->reader, err);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

/* On return no thread is left, and *err holds the first failure. */
static int run_threads(struct run *run, struct pipeline_result *result,
		       struct error *err)
{
	uint64_t before_ns = thread_cpu_ns();
	int ret = run_start(run, err);

	if (!ret)
		ret = writer_run(&run->writer, result, err);
	if (ret && ret != -ECANCELED)
		queue_fail(&run->queue, err);
	queue_end(&run->queue);
	for (uint32_t i = 0; i < run->thread_count; i++)
		pthread_join(run->threads[i], NULL);
	if (queue_failed(&run->queue)) {
		*err = run->queue.error;
		return err->code;
	}
	result->read_bytes = run->reader.read_bytes;
	result->yields = run->reader.yield.yields;
	result->read_cpu_ns = run->reader.cpu_ns;
	result->write_cpu_ns = thread_cpu_ns() - before_ns;
	for (uint32_t i = 0; i < run->job.options.workers; i++)
		result->pack_cpu_ns += worker_cpu_ns(run->workers[i]);
	result->peak_buffer_bytes =
		(uint64_t)(run->queue.peak + run->job.options.workers) *
		BUFFER_BYTES + run->writer.inline_peak;
	writer_report_end(&run->writer);
	return 0;
}

int pipeline_run(const struct pipeline_job *job, struct pipeline_result *result,
		 struct error *err)
{
	struct run run = { .job = *job };
	struct pipeline_result made = { 0 };
	int ret;

	pipeline_defaults(&run.job.options);
	ret = job_check(&run.job, err);
	if (!ret)
		ret = job_pieces(&run.job, &run.pieces, err);
	if (ret)
		return ret;
	options_resolve(&run.job.options, run.pieces);
	map_init(&made.map, job->kind,
		 (job->volume_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
	ret = run_init(&run, err);
	if (!ret)
		ret = run_threads(&run, &made, err);
	run_fini(&run);
	if (ret) {
		pipeline_result_fini(&made);
		return ret;
	}
	*result = made;
	return 0;
}

void pipeline_result_fini(struct pipeline_result *result)
{
	if (!result)
		return;
	map_fini(&result->map);
	free(result->segments);
	free(result->inline_frames);
	memset(result, 0, sizeof(*result));
}
