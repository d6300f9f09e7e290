/* export: a recovery point as an image file of another kind. */
#include "agent/cli/cli.h"

#include "agent/serve/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STOP_PATIENCE_NS (60 * UINT64_C(1000000000))

struct export {
	const char *to, *format;
	bool force;
};

static struct export *of(struct cli *cli)
{
	return cli->settings;
}

static int take_to(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->to = value;
	return 0;
}

static int take_format(struct cli *cli, const char *value, struct error *err)
{
	static const char *const formats[] = { "raw", "qcow2", "vmdk", "vhdx", "vpc", "vdi" };

	of(cli)->format = value;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (!strcmp(value, formats[i]))
			return 0;
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no format; there are raw, qcow2, "
			      "vmdk, vhdx, vpc and vdi", value);
}

static int export_say(struct cli *cli, const struct cli_origin *origin,
		      const struct server_event *last, struct error *err)
{
	const struct export *export = of(cli);
	const struct point *point = &origin->point;
	struct stat st;
	uint64_t bytes = stat(export->to, &st) ? 0 : (uint64_t)st.st_blocks * 512;

	if (cli->json)
		return cli_print_json(json_pack(
			"{s:s, s:s, s:I, s:o, s:s, s:s, s:I, s:I, s:I}", "message_type", "summary",
			"volume", point->volume_name, "point", (json_int_t)point->number,
			"time", cli_time_json(point->time_ns), "to", export->to,
			"format", export->format, "volume_bytes", (json_int_t)point->volume_bytes,
			"stored_bytes", (json_int_t)bytes,
			"fetched_bytes", (json_int_t)last->fetched_bytes), true, err);
	printf("exported %s@%" PRIu64 " (%s) to %s (%s): %s, %s fetched\n", point->volume_name,
	       point->number, text_time(point->time_ns), export->to, export->format,
	       text_bytes(bytes), text_bytes(last->fetched_bytes));
	return 0;
}

/* Served at a socket beside the image, which goes again. */
static int export_serve(struct cli *cli, struct cli_origin *origin, struct error *err)
{
	const struct export *export = of(cli);
	char path[PATH_MAX];
	struct server_options options = { .socket = path, .read_only = true };
	struct server_event last = { .kind = 0 };
	struct error stopping = ERROR_INIT;
	struct cli_serving serving;
	struct server *server = NULL;
	int ret = cli_serving_init(&serving, cli, origin, err);

	if (!ret)
		ret = cli_run_folder(err);
	snprintf(path, sizeof(path), CLI_RUN_FOLDER "/export-%d.sock", (int)getpid());
	options.settings = (const char *const *)serving.settings;
	if (!ret)
		ret = server_start(&options, &server, err);
	cli_serving_fini(&serving);
	recovery_private_free(origin->recovery);
	origin->recovery = NULL;
	if (!ret)
		ret = server_export(server, export->to, export->format, export->force, err);
	if (server_stop(server, STOP_PATIENCE_NS, &last, &stopping) && !ret) {
		*err = stopping;
		ret = stopping.code;
	}
	return ret ? ret : export_say(cli, origin, &last, err);
}

static int export_run(struct cli *cli, struct error *err)
{
	struct export *export = of(cli);
	struct cli_origin origin = { .recovery = NULL };
	int ret = 0;

	if (!export->to)
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "say where to: --to FILE");
	if (!export->format)
		export->format = "qcow2";
	if (!ret)
		cli_split_point(cli->arguments[0], &origin.which);
	if (!ret)
		ret = cli_origin_open(cli, false, &origin, err);
	if (!ret)
		ret = export_serve(cli, &origin, err);
	cli_origin_close(&origin);
	return ret;
}

static const struct cli_option export_options[] = {
	CLI_TAKE("to", 0, "FILE", "the image to be made", take_to),
	CLI_TAKE("format", 0, "FORMAT", "qcow2 (default), raw, vmdk, vhdx, vpc or vdi", take_format),
	CLI_FLAG("force", 0, "replace an existing file",
		 struct export, force),
	CLI_TAKE("store", 0, "NAME", "from this store; default the first that has all of it", cli_take_store),
	CLI_KEY,
	{ .name = NULL },
};

const struct cli_verb verb_export = {
	.name = "export",
	.arguments = "VOLUME[@POINT]",
	.summary = "Write a recovery point to an image file: qcow2, vmdk, …",
	.options = export_options,
	.settings_size = sizeof(struct export),
	.minimum = 1,
	.maximum = 1,
	.run = export_run,
};
