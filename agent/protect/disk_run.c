/*
 * A run over a whole disk: what no volume has of it, and how it is laid out. There is no
 * snapshot beneath a disk in use. So what is read is watched, and read again if it was
 * written to: the second time with its file systems held still, where they allow it.
 */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISK_GRANULARITY_BYTES (64u << 20)	/* of the pending file: it has no marks */
#define DISK_TRIES 3
#define DISK_HOLD_MS 30000	/* how long a file system may be held still */

struct disk_run {
	struct run *run;
	struct run_volume *volume;	/* the run's only one */
	const struct device_facts *device;
	struct boundary_volume frozen;	/* as of a volume that nobody writes to */
	struct disk_layout layout;
	char *before;			/* owned: as text, before anything was read */
	struct disk_watch *watch;
	bool stay_live;			/* file systems were held, and it did not help */
};

/* ---- before ------------------------------------------------------------------------ */

static int disk_prepare(struct disk_run *disk, struct error *err)
{
	struct run *run = disk->run;
	struct run_volume *volume = disk->volume;
	const struct config *config = run->host->config;
	int ret = volume_lock(config->agent.state, volume->config->name, "backup",
			      &volume->lock_fd, err);

	if (ret)
		return ret;
	ret = volume_state_load(config->agent.state, volume->config->name, &volume->state, err);
	if (ret == -ENOENT)
		ret = state_new(volume->config, &volume->state, err);
	if (!ret)
		ret = device_facts(volume->config->device, &volume->device, err);
	if (ret)
		return error_prefix(err, "disk %s", volume->config->name);
	volume->granularity_bytes = DISK_GRANULARITY_BYTES;
	ret = disk_layout_of(config, volume->config, &volume->device, &disk->layout, err);
	if (!ret)
		ret = disk_layout_text(&disk->layout, &disk->before, err);
	if (!ret && uuid_new(&volume->point.run))
		ret = error_set(err, -EIO, "no random numbers");
	if (!ret)
		ret = run_pending(run, volume, err);
	return ret ? ret : run_options(run, err);
}

/* Whole blocks; neighbours may share one, where a table is older than 4 KiB. */
static int disk_extents(const struct disk_layout *layout, struct extent_list *extents)
{
	uint64_t next = 0;
	int ret = 0;

	for (size_t i = 0; !ret && i < layout->range_count; i++) {
		const struct disk_range *range = &layout->ranges[i];
		uint64_t first = range->offset / BLOCK_BYTES;
		uint64_t end = (range->offset + range->bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;

		first = first < next ? next : first;
		if (first < end)
			ret = extent_list_append(extents, first, end - first);
		next = end > next ? end : next;
	}
	return ret;
}

/* What the last point holds of the disk is no other part of it. */
static bool same_ranges(const struct point *head, const struct extent_list *extents)
{
	struct extent_list before = EXTENT_LIST_INIT;
	struct error ignored = ERROR_INIT;
	struct disk_layout layout;
	bool same;

	if (!head->disk_layout || disk_layout_decode(head->disk_layout,
						     strlen(head->disk_layout), &layout, &ignored))
		return false;
	same = !disk_extents(&layout, &before) && before.count == extents->count &&
	       !memcmp(before.items, extents->items, before.count * sizeof(*before.items));
	extent_list_fini(&before);
	disk_layout_fini(&layout);
	return same;
}

static void disk_kind(enum backup_type type, const struct point *head,
		      struct run_volume *volume)
{
	char *reason = volume->point.reason;
	size_t room = sizeof(volume->point.reason);

	volume->full = true;
	if (type == BACKUP_FULL)
		snprintf(reason, room, "a full was asked for");
	else if (!head->number)
		snprintf(reason, room, "there is no point yet");
	else if (!volume->compare)
		snprintf(reason, room, "there are no fingerprints of the last point");
	else if (!same_ranges(head, &volume->extents))
		snprintf(reason, room, "other parts of the disk are kept than before");
	else
		volume->full = false;
	volume->rescan = !volume->full;
	volume->kind = volume->full ? POINT_FULL :
		       type == BACKUP_SYNTHETIC ? POINT_SYNTHETIC : POINT_INCREMENTAL;
}

static int disk_decide(struct disk_run *disk, struct error *err)
{
	struct run *run = disk->run;
	struct run_volume *volume = disk->volume;
	enum backup_type type = run->options->type;
	struct point head = { 0 };
	int ret = volume_head(run->host, type, volume, &head, err);

	if (ret)
		return ret;
	if (disk_extents(&disk->layout, &volume->extents))
		ret = error_set(err, -ENOMEM, "listing what to read of %s: out of memory",
				volume->config->name);
	if (!ret) {
		volume_fingerprints_open(run->host->config, &head, volume);
		disk_kind(type, &head, volume);
	}
	if (!ret && volume->full && type == BACKUP_INCREMENTAL)
		ret = error_set(err, -ESTALE, "disk %s cannot be backed up incrementally: %s; use "
				"--type auto", volume->config->name, volume->point.reason);
	if (!ret) {
		disk->frozen.name = volume->config->name;
		disk->frozen.used = PROVIDER_NONE;
		disk->frozen.time_ns = clock_ns();
		volume_describe(&disk->frozen, &head, volume);
		volume->point.marked_bytes = extent_list_blocks(&volume->extents) * BLOCK_BYTES;
		ret = volume_fingerprints_begin(volume, err);
	}
	point_fini(&head);
	return ret ? ret : point_keys_new(&volume->point, run->host->map_key, &volume->keys, err);
}

/* ---- reading ----------------------------------------------------------------------- */

/* From the reader: what follows needs the disk no more. */
static int disk_read_done(void *context, struct error *err)
{
	struct disk_run *disk = context;
	bool still = false;
	int ret = FAULT_ERR("disk.read-done", err) ?:
		  disk_watch_end(STEAL(disk->watch), &disk->layout, &still, err);

	laps_end(&disk->run->laps, "read");
	if (ret || still || disk->stay_live)
		return ret;
	return error_set(err, -EAGAIN, "a file system of %s was written to while it was read",
			 disk->device->path);
}

static void disk_report(void *context, uint64_t done, uint64_t total, uint64_t stored)
{
	struct disk_run *disk = context;
	const struct backup_options *options = disk->run->options;

	options->report(options->context, disk->volume->config->name, done, total, stored);
}

static int disk_read(struct disk_run *disk, struct error *err)
{
	struct run *run = disk->run;
	struct run_volume *volume = disk->volume;
	char prefix[STORE_KEY_MAX];
	CLEANUP_CLOSE int fd = open(disk->device->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	struct pipeline_job job = {
		.volume_bytes = volume->device.bytes,
		.extents = &volume->extents,
		.kind = volume->full ? MAP_FULL : MAP_DELTA,
		.volume = volume->state.id,
		.point = volume->point.number,
		.data_key = volume->keys.data,
		.store = run->host->store,
		.segment_prefix = prefix,
		.fingerprints = volume->fingerprints,
		.compare = volume->compare,
		.options = run->pipeline,
		.progress = { run->options->report ? disk_report : NULL, disk_read_done, disk },
	};
	int ret;

	if (fd < 0 && errno == EINVAL)
		fd = open(disk->device->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "opening %s to read it: %s", disk->device->path,
				 error_text(errno));
	job.fd = fd;
	point_segment_prefix(&volume->point, prefix);
	run_stand_back(run);
	ret = FAULT_ERR("disk.read", err) ?: pipeline_run(&job, &volume->output, err);
	priority_restore(&run->before);
	laps_end(&run->laps, "store");
	volume->has_output = !ret;
	return ret;
}

/* ---- after -------------------------------------------------------------------------- */

/*
 * What was read was watched since shortly after the layout was taken; if it still is the
 * same, the two belong together.
 */
static int disk_still_so(struct disk_run *disk, struct error *err)
{
	CLEANUP_FREE char *now = NULL;
	struct disk_layout layout;
	int ret = disk_layout_of(disk->run->host->config, disk->volume->config, disk->device, &layout,
			    err);

	if (ret)
		return ret;
	layout.time_ns = disk->layout.time_ns;
	ret = disk_layout_text(&layout, &now, err);
	disk_layout_fini(&layout);
	if (ret || !strcmp(disk->before, now))
		return ret;
	return error_set(err, -EAGAIN, "the layout of %s changed while it was read",
			 disk->device->path);
}

/* The weakest of its parts is what the point is. */
static int disk_describe(struct disk_run *disk, struct error *err)
{
	struct point *point = &disk->volume->point;

	for (size_t i = 0; i < disk->layout.range_count; i++) {
		const struct disk_range *range = &disk->layout.ranges[i];
		const struct disk_partition *partition =
			disk_partition_numbered(&disk->layout, range->partition);

		if (range->how == DISK_FROZEN && point->consistency == CONSISTENCY_UNMOUNTED)
			point->consistency = CONSISTENCY_FROZEN;
		if (range->how != DISK_LIVE)
			continue;
		point->consistency = CONSISTENCY_CRASH;
		log_warning("disk %s: partition %" PRIu32 " (%s%s%s) was written to while it was "
			    "read, and what the point has of it may not fit together",
			    disk->volume->config->name, range->partition,
			    partition ? partition->content.type : "",
			    partition && *partition->content.mount ? ", mounted on " : "",
			    partition ? partition->content.mount : "");
	}
	return disk_layout_encode(&disk->layout, &point->disk_layout, err);
}

/* That a run means to commit under this id: who finds the point knows it for this host's. */
static int disk_commit(struct disk_run *disk, struct error *err)
{
	struct run_volume *volume = disk->volume;
	struct bitmap none;
	int ret = bitmap_init(&none, (volume->device.bytes + DISK_GRANULARITY_BYTES - 1) /
			      DISK_GRANULARITY_BYTES);

	if (ret)
		return error_set(err, ret, "disk %s: %s", volume->config->name, error_text(ret));
	ret = pending_save(disk->run->host->config->agent.state, volume->config->name,
			   DISK_GRANULARITY_BYTES, &volume->point.run, &none, err);
	bitmap_fini(&none);
	return ret ? ret : volume_commit(disk->run->host, &disk->frozen, volume,
					 &disk->run->laps, err);
}

static int disk_steps(struct disk_run *disk, bool freeze, struct error *err)
{
	struct run *run = disk->run;
	uint64_t start = elapsed_ns(), now;
	int ret = disk_prepare(disk, err);

	laps_end(&run->laps, "prepare");
	if (!ret)
		ret = disk_decide(disk, err);
	laps_end(&run->laps, "decide");
	run->times.prepare_ns = (now = elapsed_ns()) - start;
	if (!ret)
		ret = disk_watch_begin(disk->device, &disk->layout, freeze, DISK_HOLD_MS,
				       &disk->watch, err);
	laps_end(&run->laps, "settle");
	run->times.boundary_ns = elapsed_ns() - now;
	now = elapsed_ns();
	if (!ret)
		ret = disk_read(disk, err);
	if (!ret)
		ret = disk_still_so(disk, err);
	run->times.read_ns = elapsed_ns() - now;
	if (!ret)
		ret = disk_describe(disk, err);
	now = elapsed_ns();
	if (!ret)
		ret = disk_commit(disk, err);
	run->times.commit_ns = elapsed_ns() - now;
	run->times.total_ns = elapsed_ns() - start;
	return ret;
}

static int disk_try(struct host *host, const struct config_volume *config,
		    const struct backup_options *options, unsigned attempt,
		    struct backup_result *result, struct error *err)
{
	struct disk_run disk = { .run = calloc(1, sizeof(*disk.run)) };
	struct error ignored = ERROR_INIT;
	struct store_counts requests;
	bool still;
	int ret;

	if (!disk.run)
		return error_set(err, -ENOMEM, "starting a backup: out of memory");
	disk.run->host = host;
	disk.run->options = options;
	disk.run->count = 1;
	disk.volume = &disk.run->volumes[0];
	disk.volume->config = config;
	disk.volume->lock_fd = -1;
	disk.device = &disk.volume->device;
	disk.stay_live = attempt > 0;
	laps_start(&disk.run->laps);
	laps_add(&disk.run->laps, "open", host->open_ns);
	host->open_ns = 0;
	ret = disk_steps(&disk, attempt > 0, err);
	if (disk.watch)
		disk_watch_end(STEAL(disk.watch), &disk.layout, &still, &ignored);
	run_result(disk.run, 0, result);
	store_counts(host->store, &requests);
	result->requests = requests.requests;
	if (!ret) {
		result->committed = true;
		result->point = disk.volume->point;
		disk.volume->point.segments = NULL;	/* the result's now */
		disk.volume->point.disk_layout = NULL;
	}
	disk_layout_fini(&disk.layout);
	free(disk.before);
	run_fini(disk.run);
	return ret;
}

/* A try begins anew in all: with keys of its own, for a key's nonces are used up once. */
int disk_backup(struct host *host, const struct config_volume *disk,
		const struct backup_options *options, struct backup_result *result,
		struct error *err)
{
	int ret = -EAGAIN;

	for (unsigned attempt = 0; ret == -EAGAIN && attempt < DISK_TRIES; attempt++) {
		if (attempt)
			log_note("disk %s: reading it again: %s", disk->name, err->message);
		*err = (struct error)ERROR_INIT;
		ret = disk_try(host, disk, options, attempt, result, err);
	}
	if (ret != -EAGAIN)
		return ret;
	err->code = -EBUSY;
	error_prefix(err, "disk %s", disk->name);
	return error_hint(err, "stop what writes there, or name it in leave_out");
}
