/* restore to the volume's own device: in place, after a safety point. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

struct rewind_view {
	struct cli *cli;
	const struct config_volume *volume;
	const struct point *point;
	struct progress progress;
	enum { NOTHING, BACKUP, REWIND } shown;
};

int cli_rewind_volume(const struct cli *cli, const char *name, const char *to,
		      const struct config_volume **volume, struct error *err)
{
	*volume = config_volume(&cli->config, name);
	/* What a disk's points do not hold is in other points, and must not become zeros. */
	if (*volume && (*volume)->disk && !to)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s is a disk; its volumes are "
				      "rewound one by one, and a disk is restored with --to", name);
	if (*volume && (*volume)->disk)
		*volume = NULL;
	if (to) {
		if (*volume && !protect_is_own(&cli->config, *volume, to))
			*volume = NULL;
		return 0;
	}
	if (!*volume && config_group(&cli->config, name))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s is a group; its volumes are "
				      "rewound one by one: restore --in-place VOLUME@TIME, with "
				      "the same time for each", name);
	if (!*volume && cli_volume(cli, name, volume, err))
		return error_hint(err, "--to says where a volume goes that is not");
	return 0;
}

/* ---- on the way ----------------------------------------------------------- */

static void show_backup(void *context, const char *volume, uint64_t done, uint64_t total,
			uint64_t stored)
{
	struct rewind_view *view = context;

	(void)stored;
	if (view->shown != BACKUP)
		progress_start(&view->progress, view->cli->json, "safety point of %s", volume);
	view->shown = BACKUP;
	progress_report(&view->progress, done, total);
}

static void show_rewind(void *context, uint64_t done, uint64_t total)
{
	struct rewind_view *view = context;

	if (view->shown != REWIND)
		progress_start(&view->progress, view->cli->json, "rewind of %s to point %" PRIu64,
			       view->volume->name, view->point->number);
	view->shown = REWIND;
	progress_report(&view->progress, done, total);
}

static void show_decided(void *context, const struct rewind_result *result)
{
	struct rewind_view *view = context;
	const char *name = view->volume->name;

	if (view->shown == BACKUP)
		progress_end(&view->progress);
	if (result->safety_point)
		log_note("volume %s: what is there now is point %" PRIu64 ", kept until clawback "
			 "keep --off %s@%" PRIu64, name, result->safety_point, name,
			 result->safety_point);
	if (result->from)
		log_note("volume %s: it holds point %" PRIu64 " but for %s that were marked since, "
			 "so only what can differ is looked at", name, result->from,
			 text_bytes(result->marked_bytes));
	else
		log_note("volume %s: all of it is compared: %s", name, result->reason);
}

/* ---- the end --------------------------------------------------------------- */

static json_t *number_or_null(uint64_t number)
{
	return number ? json_integer((json_int_t)number) : json_null();
}

static int print_json(const struct rewind_view *view, const struct rewind_result *result,
		      bool dry, struct error *err)
{
	const struct restore_result *restore = &result->restore;
	uint64_t most = restore->data_bytes + restore->hole_bytes;

	return cli_print_json(json_pack(
		"{s:s, s:s, s:I, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:s, s:o, s:I, s:o}",
		"message_type", dry ? "dry_run" : "summary",
		"volume", view->volume->name, "point", (json_int_t)view->point->number,
		"time", cli_time_json(view->point->time_ns), "to", result->device,
		"volume_bytes", (json_int_t)restore->volume_bytes,
		"data_bytes", (json_int_t)restore->data_bytes,
		"hole_bytes", (json_int_t)restore->hole_bytes,
		"written_bytes", (json_int_t)(dry ? most : restore->written_bytes),
		"fetched_bytes", (json_int_t)restore->fetched_bytes,
		"frames", (json_int_t)restore->frames,
		"verified", (int)restore->verified,
		"method", result->from ? "marks" : "comparison", "reason", result->reason,
		"from", number_or_null(result->from),
		"marked_bytes", (json_int_t)result->marked_bytes,
		"safety_point", number_or_null(result->safety_point)), true, err);
}

static void print_text(const struct rewind_view *view, const struct rewind_result *result,
		       const struct rewind_options *options)
{
	const struct restore_result *restore = &result->restore;
	uint64_t most = restore->data_bytes + restore->hole_bytes;
	bool whole = !result->from || view->point->has_image_sha256;

	printf("%s %s on %s to point %" PRIu64 " (%s): ", options->dry_run ? "would rewind" :
	       "rewound", view->volume->name, result->device, view->point->number,
	       text_time(view->point->time_ns));
	if (options->dry_run) {
		printf("at most %s written, %s fetched in %" PRIu64 " frames%s\n", text_bytes(most),
		       text_bytes(restore->fetched_bytes), restore->frames,
		       options->no_safety_point ? "" : ", after a safety point");
		return;
	}
	printf("%s of %s compared, %s written, %s fetched in %" PRIu64 " frames%s\n",
	       text_bytes(most), text_bytes(restore->volume_bytes),
	       text_bytes(restore->written_bytes), text_bytes(restore->fetched_bytes),
	       restore->frames, !restore->verified ? "" : whole ? ", all read back and verified" :
	       ", what could differ read back and verified");
}

int cli_rewind(struct cli *cli, const struct config_volume *volume,
	       const struct rewind_source *source, const struct rewind_options *wanted,
	       struct error *err)
{
	struct rewind_view view = { .cli = cli, .volume = volume, .point = source->point };
	struct rewind_options options = *wanted;
	struct rewind_result result;
	int ret;

	options.backup_report = show_backup;
	options.decided = show_decided;
	options.restore.report = show_rewind;
	options.restore.context = &view;
	ret = protect_rewind(&cli->config, volume, source, &options, &result, err);
	if (view.shown != NOTHING)
		progress_end(&view.progress);
	if (ret)
		return ret;
	if (cli->json)
		return print_json(&view, &result, options.dry_run, err);
	print_text(&view, &result, &options);
	return 0;
}
