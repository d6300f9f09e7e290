/*
 * The end of the pipeline: takes sealed pieces in order, fills segments, hashes
 * and uploads them, and builds the map. What fits inline_bytes stays in memory.
 */
#ifndef CLAWBACK_PIPELINE_WRITER_H
#define CLAWBACK_PIPELINE_WRITER_H

#include "agent/pipeline/queue.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct writer {
	/* set by the caller */
	const struct pipeline_job *job;	/* options resolved */
	struct queue *queue;
	pthread_mutex_t *callbacks;	/* held while a callback runs */

	/* the writer's */
	struct pipeline_result *result;	/* filled as pieces come */
	struct store_upload *upload;	/* of the present segment; NULL: inline so far */
	struct digest *digest;		/* of the present segment; NULL: none open */
	uint64_t segment_bytes;		/* written to it so far */
	size_t inline_room;
	uint64_t inline_peak;
	uint64_t total_bytes, done_bytes; /* of the job's extents */
	uint64_t report_ns;		/* time of the last report */
};

/*
 * Writes all frames into `result`, which the caller has initialised (zero, and its
 * map). 0, or negative with `err` filled or -ECANCELED when the queue had failed;
 * then every upload is aborted.
 */
int writer_run(struct writer *writer, struct pipeline_result *result,
	       struct error *err);

/* The last report, when the whole run has succeeded. */
void writer_report_end(struct writer *writer);

#endif
