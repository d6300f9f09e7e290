/*
 * What a run's buffers and workers take in memory, and how many of them fit. Buffers
 * go first, as they only even out how unevenly the stages work; then workers.
 */
#define ZSTD_STATIC_LINKING_ONLY	/* for what a context will take before it is there */
#include "agent/pipeline/pool.h"

#include <errno.h>
#include <stdbool.h>
#include <zstd.h>

#define BUFFERS_LEAST(workers) ((workers) + 2u)	/* each stage has one */
#define WORKER_MORE_BYTES (256u << 10)		/* its stack as far as it is used, seals */

static uint64_t worker_bytes(int level)
{
	ZSTD_compressionParameters parameters = ZSTD_getCParams(level, FRAME_PLAIN_MAX, 0);

	return BUFFER_BYTES + ZSTD_estimateCCtxSize_usingCParams(parameters) + WORKER_MORE_BYTES;
}

uint64_t pipeline_memory(const struct pipeline_options *options)
{
	return (uint64_t)options->buffers * BUFFER_BYTES +
	       options->workers * worker_bytes(options->level) + options->inline_bytes;
}

int pipeline_fit(struct pipeline_options *options, uint64_t bytes, struct error *err)
{
	bool workers_given = options->workers;

	pipeline_defaults(options);
	while (pipeline_memory(options) > bytes && options->buffers > BUFFERS_LEAST(options->workers))
		options->buffers--;
	while (!workers_given && pipeline_memory(options) > bytes && options->workers > 1) {
		options->workers--;
		options->buffers = BUFFERS_LEAST(options->workers);
	}
	if (pipeline_memory(options) <= bytes)
		return 0;
	return error_set_exit(err, EXIT_USAGE, -ENOMEM, "%u workers at compression %d want %llu MiB "
			      "of memory, and %llu MiB are left of what a run may take",
			      options->workers, options->level,
			      (unsigned long long)(pipeline_memory(options) >> 20) + 1,
			      (unsigned long long)(bytes >> 20));
}
