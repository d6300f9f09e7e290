/* backup: one run over volumes and groups. */
#include "agent/cli/show_disk.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct backup {
	enum backup_type type;
	bool all, image_digest, dry_run;
	struct progress progress;
	const char *reporting;
};

static int take_type(struct cli *cli, const char *value, struct error *err)
{
	struct backup *backup = cli->settings;

	for (int i = 0; i < BACKUP_TYPES; i++)
		if (!strcmp(value, backup_type_name((enum backup_type)i))) {
			backup->type = (enum backup_type)i;
			return 0;
		}
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is none of auto, full, "
			      "incremental, synthetic, differential", value);
}

/* ---- what is run together ---------------------------------------------- */

struct batch {
	const struct config_volume *volumes[VOLUME_GROUP_MAX];
	size_t count;
};

static int batch_group(const struct cli *cli, const char *group, struct batch *batch,
		       struct error *err)
{
	batch->count = 0;
	for (size_t i = 0; i < cli->config.volume_count; i++) {
		if (strcmp(cli->config.volumes[i].group, group))
			continue;
		if (batch->count == VOLUME_GROUP_MAX)
			return error_set_exit(err, EXIT_USAGE, -E2BIG, "group %s has more than "
					      "%d volumes", group, VOLUME_GROUP_MAX);
		batch->volumes[batch->count++] = &cli->config.volumes[i];
	}
	return batch->count ? 0 : -ENOENT;
}

/* A group's name, or a volume's. */
static int batch_named(const struct cli *cli, const char *name, struct batch *batch,
		       struct error *err)
{
	int ret = batch_group(cli, name, batch, err);

	if (ret != -ENOENT)
		return ret;
	batch->count = 1;
	return cli_volume(cli, name, &batch->volumes[0], err);
}

/* ---- telling ----------------------------------------------------------- */

static void backup_report(void *context, const char *volume, uint64_t done,
			  uint64_t total, uint64_t stored)
{
	struct cli *cli = context;
	struct backup *backup = cli->settings;

	(void)stored;
	if (backup->reporting != volume) {
		backup->reporting = volume;
		progress_start(&backup->progress, cli->json, "backup of %s", volume);
	}
	progress_report(&backup->progress, done, total);
}

static json_t *timings_json(const struct laps *laps)
{
	json_t *object = json_object();

	for (size_t i = 0; i < laps->count; i++)
		json_object_set_new(object, laps->items[i].name,
				    json_real((double)laps->items[i].ns / 1e6));
	return object;
}

static int result_json(const struct config_volume *volume,
		       const struct backup_result *result, struct error *err)
{
	const struct backup_times *times = &result->times;

	return cli_print_json(json_pack("{s:s, s:s, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:I}",
		"message_type", "summary", "volume", volume->name,
		"point", cli_point_json(&result->point), "rescan", (int)result->rescan,
		"unchanged_bytes", (json_int_t)result->unchanged_bytes,
		"yields", (json_int_t)result->yields,
		"spot_mismatches", (json_int_t)result->spot_mismatches,
		"prepare_ns", (json_int_t)times->prepare_ns,
		"boundary_ns", (json_int_t)times->boundary_ns,
		"read_ns", (json_int_t)times->read_ns,
		"commit_ns", (json_int_t)times->commit_ns,
		"total_ns", (json_int_t)times->total_ns,
		"timings", timings_json(&result->laps),
		"cpu", json_pack("{s:f, s:f, s:f}", "read", (double)result->read_cpu_ns / 1e6,
				 "compress", (double)result->pack_cpu_ns / 1e6,
				 "write", (double)result->write_cpu_ns / 1e6),
		"requests", (json_int_t)result->requests), true, err);
}

static void result_print(const struct config_volume *volume,
			 const struct backup_result *result)
{
	const struct point *point = &result->point;

	printf("%s: %s point %" PRIu64 " at %s (%s)%s%s\n", volume->name,
	       point_kind_name(point->kind), point->number, text_time(point->time_ns),
	       point_consistency_name(point->consistency), *point->reason ? ": " : "",
	       point->reason);
	if (result->unchanged_bytes)
		printf("  unchanged %s: as in the last point, left out\n",
		       text_bytes(result->unchanged_bytes));
	if (result->yields)
		printf("  gave way %" PRIu64 " times: the volume's own I/O was above latency_target\n",
		       result->yields);
	printf("  %s %s, read %s, stored %s, in %s (boundary %s, reading %s, commit %s)\n",
	       result->kind == POINT_FULL || result->rescan ? "volume" : "marked", text_bytes(point->marked_bytes),
	       text_bytes(point->read_bytes), text_bytes(point->stored_bytes),
	       text_duration(result->times.total_ns), text_duration(result->times.boundary_ns),
	       text_duration(result->times.read_ns), text_duration(result->times.commit_ns));
}

/* ---- running ----------------------------------------------------------- */

static int batch_run(struct cli *cli, struct host *host, const struct batch *batch,
		     struct error *err)
{
	struct backup *backup = cli->settings;
	struct backup_options options = {
		.type = backup->type,
		.image_digest = backup->image_digest,
		.report = backup_report,
		.context = cli,
	};
	struct backup_result results[VOLUME_GROUP_MAX];
	struct error print = ERROR_INIT;
	int ret;

	memset(results, 0, sizeof(results));
	ret = protect_backup(host, batch->volumes, batch->count, &options, results, err);
	progress_end(&backup->progress);
	for (size_t i = 0; i < batch->count; i++) {
		if (results[i].committed && cli->json)
			result_json(batch->volumes[i], &results[i], &print);
		else if (results[i].committed)
			result_print(batch->volumes[i], &results[i]);
		point_fini(&results[i].point);
	}
	return ret;
}

static int dry_disk(struct cli *cli, const struct config_volume *disk, struct error *err)
{
	struct disk_layout layout;
	uint64_t bytes = 0;
	int ret = protect_disk_layout(&cli->config, disk, &layout, err);

	if (ret)
		return ret;
	for (size_t i = 0; i < layout.range_count; i++)
		bytes += layout.ranges[i].bytes;
	if (cli->json) {
		ret = cli_print_json(json_pack("{s:s, s:s, s:I, s:I}", "message_type", "dry_run",
					       "volume", disk->name, "ranges",
					       (json_int_t)layout.range_count, "will_read_bytes",
					       (json_int_t)bytes), true, err);
	} else {
		printf("%s: would read %s of this disk:\n", disk->name, text_bytes(bytes));
		show_disk(&layout);
	}
	disk_layout_fini(&layout);
	return ret;
}

static int dry_volume(struct cli *cli, struct tracker *tracker,
		      const struct config_volume *volume, struct error *err)
{
	struct backup *backup = cli->settings;
	struct volume_status status;
	const char *kind, *why, *also = "";
	uint64_t bytes;
	bool rescan, trusted;
	int ret;

	if (volume->disk)
		return dry_disk(cli, volume, err);
	ret = protect_status(&cli->config, volume, tracker, &status, err);
	if (ret)
		return ret;
	if (!status.device_found)
		return error_set(err, -ENODEV, "%s", status.problem);
	trusted = status.trust == TRUST_TRACKED;
	rescan = backup->type != BACKUP_FULL && !trusted &&
		 volume->fingerprints && status.fingerprints.current;
	why = backup->type == BACKUP_FULL ? "a full was asked for" :
	      !trusted ? status.reason :
	      backup->type == BACKUP_DIFFERENTIAL && !status.state.full_point ?
	      "no full is known that a differential could go back to" : "";
	kind = *why && !rescan ? "full" :
	       backup->type == BACKUP_SYNTHETIC ? "synthetic" :
	       backup->type == BACKUP_DIFFERENTIAL && !rescan ? "differential" : "incremental";
	if (*kind == 'd')
		also = ", and what was stored since the last full";
	if (*why && !rescan && backup->type == BACKUP_INCREMENTAL)
		return error_set(err, -ESTALE, "volume %s cannot be backed up incrementally: %s",
				 volume->name, why);
	bytes = *why ? status.device.bytes : status.marks.dirty_blocks * status.slot.block_bytes;
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:s, s:s, s:b, s:s, s:I}", "message_type",
			"dry_run", "volume", volume->name, "kind", kind,
			"rescan", (int)rescan, "reason", why,
			"will_read_bytes", (json_int_t)bytes), true, err);
	printf("%s: would make a%s %s point%s, reading %s%s%s%s\n", volume->name,
	       *kind == 'i' ? "n" : "", kind, rescan ? " by comparing" : "",
	       text_bytes(bytes), also, *why ? ": " : "", why);
	return 0;
}

static int batch_dry(struct cli *cli, const struct batch *batch, struct error *err)
{
	struct tracker *tracker = NULL;
	int ret = tracker_open(false, &tracker, err);

	if (ret == -ENOENT)
		ret = 0;
	for (size_t i = 0; !ret && i < batch->count; i++)
		ret = dry_volume(cli, tracker, batch->volumes[i], err);
	tracker_close(tracker);
	return ret;
}

static int batch_do(struct cli *cli, struct host *host, const struct batch *batch,
		    struct error *err)
{
	return ((struct backup *)cli->settings)->dry_run ? batch_dry(cli, batch, err)
							 : batch_run(cli, host, batch, err);
}

/*
 * Every group once, every other volume by itself; then the disks, which tell what volumes
 * lie on them, and so by what id. One failing does not stop the rest.
 */
static int backup_all(struct cli *cli, struct host *host, struct error *err)
{
	size_t runs = 0, failed = 0, count = cli->config.volume_count;

	for (size_t turn = 0; turn < 2 * count; turn++) {
		size_t i = turn % count;
		const struct config_volume *volume = &cli->config.volumes[i];
		struct batch batch = { { volume }, 1 };
		bool first = volume->disk == (turn >= count);
		int ret = 0;

		for (size_t j = 0; *volume->group && j < i; j++)
			first &= strcmp(cli->config.volumes[j].group, volume->group) != 0;
		if (!first)
			continue;
		if (*volume->group)
			ret = batch_group(cli, volume->group, &batch, err);
		if (!ret)
			ret = batch_do(cli, host, &batch, err);
		runs++;
		failed += ret != 0;
		if (ret && err->exit == EXIT_INTERRUPTED)
			return ret;
		if (ret)
			log_warning("%s", err->message);
	}
	if (!runs)
		return error_set_exit(err, EXIT_USAGE, -ENOENT, "no volume is configured");
	if (failed)
		return error_set_exit(err, failed < runs ? EXIT_PARTIAL : err->exit, err->code,
				      "%zu of %zu backups failed; the last: %.500s", failed, runs,
				      err->message);
	return 0;
}

static int backup_run(struct cli *cli, struct error *err)
{
	struct backup *backup = cli->settings;
	struct host host;
	struct batch batch;
	int ret = cli_need_root("backup", err);

	if (!ret && backup->all == (cli->argument_count > 0))
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL,
				     "name volumes or groups, or give --all");
	for (int i = 0; !ret && i < cli->argument_count; i++)
		ret = batch_named(cli, cli->arguments[i], &batch, err);
	if (!ret)
		ret = host_open(&cli->config,
				HOST_WRITER | (backup->dry_run ? HOST_LOOK : 0), &host, err);
	if (ret)
		return ret;
	if (backup->all)
		ret = backup_all(cli, &host, err);
	for (int i = 0; !ret && i < cli->argument_count; i++) {
		ret = batch_named(cli, cli->arguments[i], &batch, err);
		if (!ret)
			ret = batch_do(cli, &host, &batch, err);
	}
	host_close(&host);
	return ret;
}

static const struct cli_option backup_options[] = {
	CLI_TAKE("type", 't', "TYPE", "auto (default), full, incremental, synthetic or differential", take_type),
	CLI_FLAG("all", 0, "every configured volume and group",
		 struct backup, all),
	CLI_FLAG("image-digest", 0, "also hash the whole snapshot (reads all of it)",
		 struct backup, image_digest),
	CLI_FLAG("dry-run", 'n', "say what would be done; change nothing",
		 struct backup, dry_run),
	{ .name = NULL },
};

const struct cli_verb verb_backup = {
	.name = "backup",
	.arguments = "VOLUME|GROUP|DISK...",
	.summary = "Make a recovery point of volumes, groups or disks",
	.options = backup_options,
	.settings_size = sizeof(struct backup),
	.maximum = -1,
	.run = backup_run,
};
