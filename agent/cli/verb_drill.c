/* drill: restores a point to a scratch place, tries it out, and takes it away again. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct drill {
	const char *point, *folder, *device, *command;
	uint64_t timeout_ns;
	bool dry_run;
	struct progress progress;
};

static struct drill *of(struct cli *cli)
{
	return cli->settings;
}

/* ---- options --------------------------------------------------------------- */

static int take_point(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->point = value;
	return 0;
}

static int take_folder(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->folder = value;
	return 0;
}

static int take_device(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->device = value;
	return 0;
}

static int take_command(struct cli *cli, const char *value, struct error *err)
{
	if (*value != '/' && strcmp(value, "none"))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--command: give the absolute path "
				      "of a program, and its arguments, or none");
	of(cli)->command = value;
	return 0;
}

static int take_timeout(struct cli *cli, const char *value, struct error *err)
{
	if (config_parse_duration(value, &of(cli)->timeout_ns) || !of(cli)->timeout_ns)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--timeout: give a duration like "
				      "10min");
	return 0;
}

/* What the configuration has for what was not given; a volume need not be in it. */
static void settle(struct cli *cli, const char *name)
{
	const struct config_volume *volume = config_volume(&cli->config, name);
	const struct config_drill *from = volume ? &volume->drill : &cli->config.agent.drill;
	struct drill *drill = of(cli);

	if (!drill->point)
		drill->point = from->random ? "random" : "latest";
	if (!drill->folder && !drill->device && *from->folder)
		drill->folder = from->folder;
	if (!drill->command && *from->command)
		drill->command = from->command;
	if (drill->command && !strcmp(drill->command, "none"))
		drill->command = NULL;
	if (!drill->timeout_ns)
		drill->timeout_ns = from->timeout_ns;
	if (!cli->key.path && *from->key) {
		cli->key.path = from->key;
		if (*from->passphrase_file && cli->key.passphrase.source == PASSPHRASE_PROMPT) {
			cli->key.passphrase.source = PASSPHRASE_FILE;
			cli->key.passphrase.path = from->passphrase_file;
		}
	}
}

/* ---- telling ---------------------------------------------------------------- */

static int open_key(void *context, struct recovery_private **recovery, struct error *err)
{
	return cli_key_load(&((struct cli *)context)->key, true, recovery, err);
}

static void chosen(void *context, const struct point *point, uint64_t needed_bytes)
{
	struct cli *cli = context;
	struct drill *drill = of(cli);
	struct error ignored = ERROR_INIT;

	if (!drill->dry_run) {
		progress_start(&drill->progress, cli->json, "drill of %s@%" PRIu64,
			       point->volume_name, point->number);
		return;
	}
	if (cli->json)
		cli_print_json(json_pack("{s:s, s:s, s:I, s:o, s:I, s:s, s:s}",
			"message_type", "dry_run", "volume", point->volume_name,
			"point", (json_int_t)point->number, "time", cli_time_json(point->time_ns),
			"needed_bytes", (json_int_t)needed_bytes,
			"to", drill->folder ? drill->folder : drill->device,
			"command", drill->command ? drill->command : ""), true, &ignored);
	else
		printf("would restore %s@%" PRIu64 " (%s), %s of data, %s %s, and %s%s\n",
		       point->volume_name, point->number, text_time(point->time_ns),
		       text_bytes(needed_bytes), drill->folder ? "in" : "over",
		       drill->folder ? drill->folder : drill->device,
		       drill->command ? "run " : "run nothing", drill->command ? drill->command : "");
}

static void report(void *context, uint64_t done, uint64_t total)
{
	progress_report(&of(context)->progress, done, total);
}

static void step_ended(void *context, enum drill_step step, uint64_t took_ns)
{
	struct cli *cli = context;

	if (step == DRILL_RESTORE)
		progress_end(&of(cli)->progress);
	if (!cli->json)
		log_detail("drill: %s took %s", drill_step_name(step), text_duration(took_ns));
}

static int print(struct cli *cli, const char *volume, const struct drill_record *record,
		 struct error *err)
{
	json_t *object;

	if (cli->json) {
		object = cli_drill_json(record);
		if (object) {
			json_object_set_new(object, "message_type", json_string("summary"));
			json_object_set_new(object, "volume", json_string(volume));
		}
		return cli_print_json(object, true, err);
	}
	printf("drill of %s@%" PRIu64 " (%s): %s", volume, record->point,
	       text_time(record->point_time_ns), record->passed ? "passed" : "FAILED");
	if (record->passed)
		printf(", recovered in %s", text_duration(record->rto_ns));
	else
		printf(" at %s after %s", drill_step_name(record->failed),
		       text_duration(record->duration_ns));
	printf("; %s of data%s%s\n", text_bytes(record->data_bytes),
	       *record->file_system ? ", " : "", record->file_system);
	cli_drill_steps(record);
	return 0;
}

static int drill_run_verb(struct cli *cli, struct error *err)
{
	struct drill *drill = of(cli);
	struct protect_drill_options options = {
		.key = open_key, .chosen = chosen, .report = report, .step = step_ended,
		.context = cli,
	};
	struct error printing = ERROR_INIT;
	struct drill_record record;
	const char *which;
	int ret = cli_need_root("drill", err);

	cli_split_point(cli->arguments[0], &which);
	if (!ret && which && drill->point)
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "give the point as VOLUME@POINT or "
				     "with --point, not both");
	if (!ret && drill->folder && drill->device)
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "give --folder or --device, not both");
	if (!ret)
		ret = cli_store(cli, &options.store, err);
	if (ret)
		return ret;
	if (which)
		drill->point = which;
	settle(cli, cli->arguments[0]);
	options.volume = cli->arguments[0];
	options.point = drill->point;
	options.folder = drill->folder;
	options.device = drill->device;
	options.command = drill->command;
	options.timeout_ns = drill->timeout_ns;
	options.dry_run = drill->dry_run;
	ret = protect_drill(&cli->config, &options, &record, err);
	progress_end(&drill->progress);
	if (drill->dry_run || !record.point || (ret && err->exit == EXIT_INTERRUPTED))
		return ret;
	if (print(cli, cli->arguments[0], &record, &printing) && !ret) {
		*err = printing;
		return err->code;
	}
	return ret ? error_prefix(err, "the drill failed: %s", drill_step_name(record.failed)) : 0;
}

static const struct cli_option drill_verb_options[] = {
	CLI_TAKE("point", 0, "POINT", "which, as behind @; or random: the newest more often",
		 take_point),
	CLI_TAKE("folder", 0, "DIR", "where the copy goes, a file; removed afterwards", take_folder),
	CLI_TAKE("device", 0, "DEVICE", "instead: over this device, where it stays", take_device),
	CLI_TAKE("command", 0, "COMMAND", "what is run on the mounted copy; none: nothing",
		 take_command),
	CLI_TAKE("timeout", 0, "DURATION", "how long that may take; default 10min", take_timeout),
	CLI_TAKE("store", 0, "NAME", "from this store; default repository, the first one",
		 cli_take_store),
	CLI_KEY,
	CLI_FLAG("dry-run", 'n', "say what would be restored, and whether there is room",
		 struct drill, dry_run),
	{ .name = NULL },
};

const struct cli_verb verb_drill = {
	.name = "drill",
	.arguments = "VOLUME[@POINT]",
	.summary = "Restore a point to a scratch place, try it out, say how long that took",
	.options = drill_verb_options,
	.settings_size = sizeof(struct drill),
	.minimum = 1,
	.maximum = 1,
	.run = drill_run_verb,
};
