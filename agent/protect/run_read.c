/* While the snapshot stands: read, and let go as soon as it can be. */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * How long the snapshot may stand. A full, a differential, a rescan is let go on: ended,
 * it would have to begin anew, and there never would be a point.
 */
void run_limit_snapshot(struct run *run, uint64_t since_ns)
{
	uint64_t limit = run->host->config->agent.limits.snapshot_max_ns;
	bool lengthy = false;

	for (size_t i = 0; i < run->count; i++)
		if (run->volumes[i].rescan || run->volumes[i].kind != POINT_INCREMENTAL)
			lengthy = true;
	if (lengthy) {
		limit = 0;
		/* What is short beside it, and the semaphores are gone from then on. */
		boundary_settle(run->boundary);
	}
	run->snapshot_end_ns = limit ? since_ns + limit : 0;
	interrupt_deadline(run->snapshot_end_ns);
}

int run_drop_snapshot(struct run *run, struct error *err)
{
	struct boundary *boundary = STEAL(run->boundary);

	(void)FAULT("run.drop-snapshot");
	interrupt_deadline(0);
	if (!boundary)
		return 0;
	run->dropped = boundary;
	return boundary_drop(boundary, err);
}

void run_settle(struct run *run)
{
	struct error ignored = ERROR_INIT;

	/* Dropped already, so it cannot fail. */
	boundary_close(STEAL(run->dropped), &ignored);
}

void run_stand_back(struct run *run)
{
	const struct config_limits *limits = &run->host->config->agent.limits;
	const struct priority priority = {
		.nice = (int)limits->nice,
		.io_class = (enum io_class)limits->io_class,
		.io_level = (int)limits->io_priority,
	};

	priority_lower(&priority, &run->before);
}

static int snapshot_open(const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0 && errno == EINVAL)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_set(err, -errno, "opening %s to read it: %s", path,
				  error_text(errno)) : fd;
}

/* SHA-256 of all that the snapshot shows; for demonstrations and drills. */
static int image_digest(const char *path, struct point *point, struct error *err)
{
	CLEANUP_FREE void *buffer = NULL;
	CLEANUP_CLOSE int fd = snapshot_open(path, err);
	struct digest *digest;
	size_t piece = 4u << 20;

	if (fd < 0)
		return fd;
	if (posix_memalign(&buffer, 4096, piece)) {
		buffer = NULL;
		return error_set(err, -ENOMEM, "hashing %s: out of memory", path);
	}
	digest = digest_new();
	if (!digest)
		return error_set(err, -ENOMEM, "hashing %s: out of memory", path);
	for (uint64_t at = 0; at < point->volume_bytes; ) {
		uint64_t left = point->volume_bytes - at;
		ssize_t n = pread(fd, buffer, left < piece ? left : piece, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || interrupt_check(err)) {
			digest_free(digest);
			return err->code ? err->code :
			       error_set(err, n < 0 ? -errno : -EIO, "hashing %s at %llu: %s",
					 path, (unsigned long long)at,
					 n < 0 ? error_text(errno) : "it ended early");
		}
		digest_update(digest, buffer, (size_t)n);
		at += (uint64_t)n;
	}
	digest_finish(digest, point->image_sha256);
	point->has_image_sha256 = true;
	return 0;
}

/* From the reader, once a volume's last block is in memory; who called waits for it. */
static int run_read_done(void *context, struct error *err)
{
	struct run *run = context;
	size_t i = run->reading;
	int ret;

	laps_end(&run->laps, "read");
	ret = FAULT_ERR("run.read-done", err);
	if (!ret && run->options->image_digest)
		ret = image_digest(run->frozen[i].read_path, &run->volumes[i].point, err);
	if (!ret)
		ret = boundary_check(run->boundary, err);
	/* Open, the snapshot could not be removed. */
	close(STEAL_FD(run->reading_fd));
	/* It costs every write; it goes as soon as it can. */
	if (!ret && i + 1 == run->count) {
		priority_restore(&run->before);
		boundary_settle(run->boundary);
		laps_end(&run->laps, "udev_switch");
		ret = run_drop_snapshot(run, err);
	}
	laps_end(&run->laps, "snapshot_drop");
	return ret;
}

static void run_report(void *context, uint64_t done, uint64_t total, uint64_t stored)
{
	struct run *run = context;

	run->options->report(run->options->context,
			     run->volumes[run->reading].config->name, done, total, stored);
}

static int run_look_at_io(void *context, struct pipeline_io *io)
{
	struct device_io counted;
	int ret = device_io(*(const uint32_t *)context, &counted);

	if (!ret)
		*io = (struct pipeline_io){ counted.ended, counted.ticks_ms * 1000000,
					    counted.in_flight };
	return ret;
}

int run_read(struct run *run, size_t i, struct error *err)
{
	struct run_volume *volume = &run->volumes[i];
	const struct config *config = run->host->config;
	char prefix[STORE_KEY_MAX];
	int fd = snapshot_open(run->frozen[i].read_path, err);
	struct pipeline_job job = {
		.fd = fd,
		.volume_bytes = volume->device.bytes,
		.extents = &volume->extents,
		.kind = volume->full ? MAP_FULL : MAP_DELTA,
		.volume = volume->state.id,
		.point = volume->point.number,
		.data_key = volume->keys.data,
		.store = run->host->store,
		.segment_prefix = prefix,
		.fingerprints = volume->fingerprints,
		/* A differential has what is unlike the full, not unlike the last point. */
		.compare = volume->compare && volume->kind != POINT_DIFFERENTIAL &&
			   (volume->rescan || volume->config->skip_unchanged),
		.options = run->pipeline,
		.progress = { run->options->report ? run_report : NULL, run_read_done, run },
		.watch = {
			/* What nobody writes to, this run alone reads. */
			.target_ns = run->frozen[i].used == PROVIDER_NONE ? 0 :
				     config->agent.limits.latency_target_ns,
			.look = run_look_at_io,
			.context = &volume->device.device,
		},
	};
	int ret;

	if (fd < 0)
		return fd;
	job.options.frame_blocks = run_frame_blocks(volume->config->frame_bytes,
						    volume->device.bytes);
	point_segment_prefix(&volume->point, prefix);
	run->reading = i;
	run->reading_fd = fd;
	/* Not while volumes are switched: then all who write wait for this run. */
	run_stand_back(run);
	ret = FAULT_ERR("run.read", err) ?: pipeline_run(&job, &volume->output, err);
	priority_restore(&run->before);
	laps_end(&run->laps, "store");
	cleanup_close(&run->reading_fd);
	volume->has_output = !ret;
	return ret;
}

/*
 * A read that failed because the snapshot did is the snapshot's failure: the
 * kernel says "I/O error", the person needs "the COW store was too small".
 */
int run_explain(struct run *run, struct error *err)
{
	struct error why = ERROR_INIT;

	if (err->exit == EXIT_INTERRUPTED && run->snapshot_end_ns &&
	    elapsed_ns() >= run->snapshot_end_ns) {
		error_set(err, -ETIMEDOUT, "the snapshot of volume %s stood longer than "
			  "snapshot_max, so the run was ended; what it had marked is kept",
			  run->volumes[run->reading].config->name);
		return error_hint(err, "find out what is slow, or raise snapshot_max");
	}
	if (!run->boundary || err->exit == EXIT_INTERRUPTED ||
	    !boundary_check(run->boundary, &why))
		return err->code;
	*err = why;
	if (why.code == -ENOSPC)
		error_hint(err, "set cow_size, or another cow, in its section of the configuration");
	return err->code;
}
