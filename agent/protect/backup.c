/* One run over one volume or a group: everything in order, everything undone. */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- before ------------------------------------------------------------ */

static int run_lock(struct run *run, struct error *err)
{
	for (size_t i = 0; i < run->count; i++) {
		int ret = volume_lock(run->host->config->agent.state,
				      run->volumes[i].config->name, "backup",
				      &run->volumes[i].lock_fd, err);

		if (ret)
			return ret;
	}
	return 0;
}

/* What the store still holds of a run that did not end well; ours is the only one. */
static void run_clean_store(struct run *run, const struct run_volume *volume)
{
	struct error err = ERROR_INIT;
	char prefix[UUID_TEXT_SIZE + 1];
	int ret;

	uuid_format(&volume->state.id, prefix);
	strcat(prefix, "/");
	ret = store_clean(run->host->store, prefix, 0, &err);
	if (ret < 0)
		log_warning("volume %s: removing unfinished uploads: %s", volume->config->name,
			    err.message);
	else if (ret)
		log_note("volume %s: removed %d unfinished uploads of a dead run",
			 volume->config->name, ret);
}

/* Marks that a run kept and did not bring home. */
int run_pending(struct run *run, struct run_volume *volume, struct error *err)
{
	const char *folder = run->host->config->agent.state;
	uint64_t bytes = volume->device.bytes;
	uint64_t bits = (bytes + volume->granularity_bytes - 1) / volume->granularity_bytes;
	int ret = bitmap_init(&volume->pending, bits);

	if (ret)
		return error_set(err, ret, "keeping the marks of %s in memory: %s",
				 volume->config->name, error_text(ret));
	ret = pending_load(folder, volume->config->name, volume->granularity_bytes,
			   &volume->pending_run, &volume->pending, err);
	volume->has_pending = ret == 0;
	if (ret == -ENOENT)
		return 0;
	run_clean_store(run, volume);
	if (ret == -ENOMEM || ret == -EIO || ret == -EACCES)
		return ret;
	if (ret) {
		/* Kept marks that cannot be read are unknown marks. */
		log_warning("volume %s: %s", volume->config->name, err->message);
		state_distrust(&volume->state, "the marks of an unfinished run are damaged");
		ret = volume_state_save(folder, &volume->state, err);
		return ret ? ret : pending_remove(folder, volume->config->name, err);
	}
	return volume_adopt(run->host, volume, err);
}

int run_options(struct run *run, struct error *err)
{
	const struct config *config = run->host->config;

	run->pipeline = (struct pipeline_options){
		.workers = config->agent.workers,
		.level = config->agent.compression,
		.queue_depth = config->agent.queue_depth,
		.segment_bytes = config->agent.segment_bytes,
		.read_bytes_per_second = config->agent.read_bytes_per_second,
	};
	return run_memory(config, run->volumes, run->count, &run->pipeline, err);
}

static int run_prepare(struct run *run, struct error *err)
{
	const struct config *config = run->host->config;
	int ret = FAULT_ERR("run.tracker", err) ?: tracker_open(true, &run->tracker, err);

	laps_end(&run->laps, "tracker");
	for (size_t i = 0; !ret && i < run->count; i++) {
		struct run_volume *volume = &run->volumes[i];
		struct boundary_volume *frozen = &run->frozen[i];

		ret = volume_prepare(config, run->tracker, volume, err);
		laps_end(&run->laps, "prepare");
		if (!ret && uuid_new(&volume->point.run))
			ret = error_set(err, -EIO, "no random numbers");
		if (!ret)
			ret = run_pending(run, volume, err);
		laps_end(&run->laps, "kept_marks");
		if (ret)
			break;
		frozen->name = volume->config->name;
		frozen->id = volume->state.id;
		frozen->device = volume->device;
		frozen->provider = volume->config->provider;
		frozen->cow = volume->config->cow;
		frozen->tracked = true;
		frozen->slot = volume->slot;
		frozen->pending = volume->has_pending ? &volume->pending : NULL;
	}
	return ret ? ret : run_options(run, err);
}

/* ---- the point in time ------------------------------------------------- */

static int run_save_marks(void *context, const struct boundary_volume *frozen,
			  struct error *err)
{
	struct run *run = context;
	struct run_volume *volume = &run->volumes[frozen - run->frozen];

	return pending_save(run->host->config->agent.state, frozen->name,
			    volume->granularity_bytes, &volume->point.run,
			    &frozen->read_set, err);
}

static void run_switched(void *context)
{
	struct run *run = context;

	run_hook_release(&run->hook);
}

static int run_boundary(struct run *run, struct error *err)
{
	struct boundary_options options = {
		.save = run_save_marks, .switched = run_switched, .context = run,
		.laps = &run->laps,
	};
	int ret = FAULT_ERR("run.boundary", err) ?:
		  boundary_open(run->tracker, run->frozen, run->count, &options,
				&run->boundary, err);

	ret = run_hook_over(&run->hook, ret, err);
	if (!ret)
		ret = FAULT_ERR("run.decide", err);
	for (size_t i = 0; !ret && i < run->count; i++) {
		struct point *point = &run->volumes[i].point;

		ret = volume_decide(run->host, run->tracker, &run->frozen[i],
				    run->options->type, &run->volumes[i], err);
		if (!ret && run->options->reason && !*point->reason)
			snprintf(point->reason, sizeof(point->reason), "%s",
				 run->options->reason);
	}
	laps_end(&run->laps, "decide");
	return ret;
}

/* ---- after ------------------------------------------------------------- */

void run_result(const struct run *run, size_t i, struct backup_result *result)
{
	const struct run_volume *volume = &run->volumes[i];

	result->kind = volume->kind;
	result->will_read_bytes = volume->point.marked_bytes;
	result->rescan = volume->rescan;
	result->unchanged_bytes = volume->output.unchanged_bytes;
	result->yields = volume->output.yields;
	result->read_cpu_ns = volume->output.read_cpu_ns;
	result->pack_cpu_ns = volume->output.pack_cpu_ns;
	result->write_cpu_ns = volume->output.write_cpu_ns;
	result->spot_mismatches = volume->spot_mismatches;
	strcpy(result->reason, volume->point.reason);
	result->times = run->times;
	result->laps = run->laps;
}

static int run_commit(struct run *run, struct backup_result *results, struct error *err)
{
	for (size_t i = 0; i < run->count; i++) {
		int ret = volume_commit(run->host, &run->frozen[i], &run->volumes[i],
					&run->laps, err);

		if (ret && i) {
			err->exit = EXIT_PARTIAL;
			return error_hint(err, "%zu of %zu points were committed", i, run->count);
		}
		if (ret)
			return ret;
		results[i].committed = true;
		results[i].point = run->volumes[i].point;
		run->volumes[i].point.segments = NULL;	/* the result's now */
		run->volumes[i].point.disk_layout = NULL;
	}
	return 0;
}

void run_fini(struct run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		struct run_volume *volume = &run->volumes[i];

		if (volume->has_output)
			pipeline_result_fini(&volume->output);
		point_fini(&volume->point);
		bitmap_fini(&volume->pending);
		extent_list_fini(&volume->extents);
		extent_list_fini(&volume->since);
		volume_fingerprints_close(volume);
		crypto_wipe(&volume->keys, sizeof(volume->keys));
		cleanup_close(&volume->lock_fd);
	}
	tracker_close(run->tracker);
	free(run);
}

static int run_steps(struct run *run, struct error *err)
{
	uint64_t start = elapsed_ns(), now;
	int ret = run_lock(run, err);

	laps_end(&run->laps, "lock");
	if (!ret)
		ret = run_prepare(run, err);
	if (!ret)
		ret = run_hook_begin(run->host->config, run->volumes, run->count, &run->hook, err);
	laps_end(&run->laps, "hook");
	run->times.prepare_ns = (now = elapsed_ns()) - start;
	if (!ret)
		ret = run_boundary(run, err);
	if (!ret)
		run_limit_snapshot(run, now);
	run->times.boundary_ns = elapsed_ns() - now;
	now = elapsed_ns();
	for (size_t i = 0; !ret && i < run->count; i++) {
		ret = run_read(run, i, err);
		if (ret)
			run_explain(run, err);
	}
	run->times.read_ns = elapsed_ns() - now;
	return ret;
}

/* The points are exact; that those before are as well is in doubt. */
static int run_doubts(const struct run *run, struct error *err)
{
	for (size_t i = 0; i < run->count; i++) {
		const struct run_volume *volume = &run->volumes[i];

		if (volume->spot_mismatches)
			return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "volume %s: "
				"point %" PRIu64 " was made by comparing the whole volume and "
				"is exact, but blocks had changed that were not marked (%s): "
				"earlier points since the last full or rescan may lack changes; "
				"please report this", volume->config->name, volume->point.number,
				volume->point.reason);
	}
	return 0;
}

int protect_backup(struct host *host, const struct config_volume *const *volumes,
		   size_t count, const struct backup_options *options,
		   struct backup_result *results, struct error *err)
{
	struct run *run = calloc(1, sizeof(*run));
	struct error undo = ERROR_INIT;
	struct store_counts requests;
	uint64_t start = elapsed_ns(), now;
	unsigned removed = 0;
	int ret;

	if (volumes[0]->disk) {
		free(run);
		return disk_backup(host, volumes[0], options, &results[0], err);
	}
	if (!run)
		return error_set(err, -ENOMEM, "starting a backup: out of memory");
	run->host = host;
	run->options = options;
	run->count = count;
	for (size_t i = 0; i < count; i++) {
		run->volumes[i].config = volumes[i];
		run->volumes[i].lock_fd = -1;
	}
	laps_start(&run->laps);
	laps_add(&run->laps, "open", host->open_ns);
	host->open_ns = 0;
	ret = boundary_recover(host->config->agent.state, &removed, err);
	laps_end(&run->laps, "recover");
	if (removed)
		log_note("removed %u devices that a dead run left behind", removed);
	if (!ret)
		ret = run_steps(run, err);
	if (run_drop_snapshot(run, &undo)) {
		log_warning("%s", undo.message);
		if (!ret) {
			*err = undo;
			ret = undo.code;
		}
	}
	run_hook_end(&run->hook, run->volumes, run->count);
	laps_end(&run->laps, "hook");
	now = elapsed_ns();
	if (!ret)
		ret = run_commit(run, results, err);
	if (!ret)
		ret = run_doubts(run, err);
	run->times.commit_ns = elapsed_ns() - now;
	run_settle(run);
	laps_end(&run->laps, "udev_end");
	run->times.total_ns = elapsed_ns() - start;
	store_counts(host->store, &requests);
	for (size_t i = 0; i < count; i++) {
		run_result(run, i, &results[i]);
		results[i].requests = requests.requests;
		if (results[i].committed)
			results[i].will_read_bytes = results[i].point.marked_bytes;
	}
	run_fini(run);
	return ret;
}
