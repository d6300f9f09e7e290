/* recover: a lost machine's disks, made anew on others. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"
#include "agent/recover/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORD "recover"

struct recover {
	const char *at, *disks, *luks_passphrase_file, *luks_key_file;
	bool erase, grow, verify, yes, dry_run;
	struct progress progress;
	bool in_step;
	uint64_t done_bytes;
};

static struct recover *of(struct cli *cli)
{
	return cli->settings;
}

static int take_at(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->at = value;
	return 0;
}

static int take_disks(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->disks = value;
	return 0;
}

static int take_luks_passphrase_file(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->luks_passphrase_file = value;
	return 0;
}

static int take_luks_key_file(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->luks_key_file = value;
	return 0;
}

/* What the options do not say, [recover] does. */
static void settle(struct cli *cli)
{
	struct recover *recover = of(cli);

	if (!recover->at)
		recover->at = cli->config.recover.at;
	if (!recover->disks)
		recover->disks = cli->config.recover.disks;
	if (!recover->luks_passphrase_file)
		recover->luks_passphrase_file = cli->config.recover.luks_passphrase_file;
	if (!recover->luks_key_file)
		recover->luks_key_file = cli->config.recover.luks_key_file;
	if (!cli->key.path && *cli->config.recover.recovery_key)
		cli->key.path = cli->config.recover.recovery_key;
	if (cli->key.passphrase.source == PASSPHRASE_PROMPT &&
	    *cli->config.recover.passphrase_file) {
		cli->key.passphrase.source = PASSPHRASE_FILE;
		cli->key.passphrase.path = cli->config.recover.passphrase_file;
	}
	recover->erase |= cli->config.recover.erase;
	recover->grow |= cli->config.recover.grow;
	recover->verify |= cli->config.recover.verify;
	recover->yes |= cli->config.recover.unattended;
}

/* ---- what will be ------------------------------------------------------------------ */

static int row_json(void *context, const struct recover_row *row)
{
	json_t *object = json_pack("{s:I, s:s, s:I, s:I, s:s}", "depth", (json_int_t)row->depth,
				   "what", row->what, "bytes", (json_int_t)row->bytes, "new_bytes",
				   (json_int_t)row->new_bytes, "action", row->action);

	if (object && row->disk)
		json_object_set_new(object, "target", json_pack("{s:s, s:s, s:s}", "path",
				    row->disk->target, "model", row->disk->target_model, "holds",
				    row->disk->holds));
	if (object && row->volume)
		json_object_set_new(object, "point", json_pack("{s:s, s:I, s:o}", "volume",
				    row->volume->point.volume_name, "number",
				    (json_int_t)row->volume->point.number, "time",
				    cli_time_json(row->volume->point.time_ns)));
	return json_array_append_new(context, object);
}

static int row_print(void *context, const struct recover_row *row)
{
	(void)context;
	printf("%s%-*s %10s", row->depth ? "  " : "", row->depth ? 30 : 32, row->what,
	       row->bytes ? text_bytes(row->bytes) : "");
	printf(" %s %10s  %s\n", row->bytes != row->new_bytes ? "->" : "  ",
	       row->new_bytes ? text_bytes(row->new_bytes) : "", row->action);
	if (row->disk && *row->disk->target_model)
		printf("  %s is a %s\n", row->disk->target, row->disk->target_model);
	if (row->disk && *row->disk->holds)
		printf("  %s holds %s, which will be LOST\n", row->disk->target, row->disk->holds);
	return 0;
}

static json_t *notes_json(const struct recovery *recovery)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < recovery->note_count; i++)
		json_array_append_new(list, cli_message_json(recovery->notes[i]));
	return list;
}

static int plan_print(struct cli *cli, const struct recovery *recovery, struct error *err)
{
	json_t *rows;

	if (!cli->json) {
		recovery_rows(recovery, row_print, NULL);
		for (size_t i = 0; i < recovery->note_count; i++)
			printf("note: %s\n", recovery->notes[i]);
		fflush(stdout);
		return 0;
	}
	rows = json_array();
	if (!rows || recovery_rows(recovery, row_json, rows)) {
		json_decref(rows);
		return error_set(err, -ENOMEM, "out of memory");
	}
	return cli_print_json(json_pack("{s:s, s:b, s:o, s:o}", "message_type", "plan", "dry_run",
			      of(cli)->dry_run, "rows", rows, "notes", notes_json(recovery)), true,
			      err);
}

/* A word that nobody types by chance. */
static int confirm(struct cli *cli, struct error *err)
{
	char line[64] = "";

	if (of(cli)->yes)
		return 0;
	fprintf(stderr, "Type \"%s\" to write to these devices: ", WORD);
	fflush(stderr);
	if (!fgets(line, sizeof(line), stdin) || strcmp(line, WORD "\n"))
		return error_set_exit(err, EXIT_USAGE, -ECANCELED, "not confirmed: nothing was "
				      "written; --yes, or unattended = yes in [recover], asks nothing");
	return 0;
}

/* ---- doing it ------------------------------------------------------------------------ */

static void on_step(void *context, const char *text)
{
	struct cli *cli = context;
	struct recover *recover = of(cli);

	if (recover->in_step)
		progress_end(&recover->progress);
	recover->in_step = true;
	log_note("%s", text);
	progress_start(&recover->progress, cli->json, "%s", text);
}

static void on_report(void *context, uint64_t done, uint64_t total)
{
	progress_report(&of(context)->progress, done, total);
}

static int summary_print(struct cli *cli, const struct recovery *recovery, struct error *err)
{
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "message_type",
				"summary", "disks", (json_int_t)recovery->disk_count, "volumes",
				(json_int_t)recovery->volume_count, "fetched_bytes",
				(json_int_t)recovery->fetched_bytes, "written_bytes",
				(json_int_t)recovery->written_bytes, "notes", notes_json(recovery)),
				true, err);
	for (size_t i = 0; i < recovery->note_count; i++)
		printf("note: %s\n", recovery->notes[i]);
	printf("recovered %zu disk%s with %zu volume%s: %s fetched, %s written; the machine can be "
	       "booted from %s\n", recovery->disk_count, recovery->disk_count == 1 ? "" : "s",
	       recovery->volume_count, recovery->volume_count == 1 ? "" : "s",
	       text_bytes(recovery->fetched_bytes), text_bytes(recovery->written_bytes),
	       recovery->disks[0].target);
	return 0;
}

static int recover_disks(struct cli *cli, struct recovery *recovery,
			 struct recover_options *options, struct error *err)
{
	struct recover *recover = of(cli);
	struct recovery_private *key = NULL;
	int ret = recovery_plan(recovery, options, err);

	if (!ret)
		ret = plan_print(cli, recovery, err);
	if (ret || recover->dry_run)
		return ret;
	/* Before a word that cannot be taken back is asked for. */
	ret = cli_key_load(&cli->key, true, &key, err);
	if (!ret) {
		options->ring.recovery = key;
		ret = recovery_unlock(recovery, options, err);
	}
	if (!ret)
		ret = confirm(cli, err);
	if (!ret) {
		ret = recovery_run(recovery, options, err);
		if (recover->in_step)
			progress_end(&recover->progress);
	}
	recovery_private_free(key);
	return ret ? ret : summary_print(cli, recovery, err);
}

static bool has_terminal(void)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int recover_run(struct cli *cli, struct error *err)
{
	struct recover *recover = of(cli);
	struct recover_options options = { .step = on_step, .report = on_report, .context = cli };
	static struct recovery recovery;	/* too large for a stack */
	struct host host;
	int ret = cli_need_root(cli->verb->name, err);

	if (ret)
		return ret;
	settle(cli);
	options.at = recover->at;
	options.disks = recover->disks;
	options.erase = recover->erase;
	options.grow = recover->grow;
	options.verify = recover->verify;
	options.dry_run = recover->dry_run;
	options.luks_passphrase_file = recover->luks_passphrase_file;
	options.luks_key_file = recover->luks_key_file;
	options.ask = has_terminal();
	ret = cli_host_open(cli, HOST_LOOK, &host, err);
	if (ret)
		return ret;
	ret = recovery_load(&recovery, host.repo, &options, err);
	if (!ret)
		ret = recover_disks(cli, &recovery, &options, err);
	recovery_fini(&recovery);
	host_close(&host);
	return ret;
}

static const struct cli_option recover_options[] = {
	CLI_TAKE("at", 0, "TIME", "as of then, for all that belongs to the machine; default latest", take_at),
	CLI_TAKE("disks", 0, "NAME:DEVICE…", "onto which device each disk goes", take_disks),
	CLI_FLAG("erase", 0, "what these devices hold may be lost", struct recover, erase),
	CLI_FLAG("grow", 0, "the last partition takes what a larger device has more",
		 struct recover, grow),
	CLI_FLAG("verify", 0, "read every volume back and compare", struct recover, verify),
	CLI_FLAG("yes", 0, "ask for no confirmation", struct recover, yes),
	CLI_FLAG("dry-run", 'n', "say what would be done; write nothing", struct recover, dry_run),
	CLI_TAKE("luks-passphrase-file", 0, "FILE", "first line opens the LUKS; mode 0600",
		 take_luks_passphrase_file),
	CLI_TAKE("luks-key-file", 0, "FILE", "all of it opens the LUKS; mode 0600",
		 take_luks_key_file),
	CLI_STORE,
	CLI_KEY,
	{ .name = NULL },
};

const struct cli_verb verb_recover = {
	.name = "recover",
	.arguments = "",
	.summary = "Rebuild a lost machine on empty disks",
	.options = recover_options,
	.settings_size = sizeof(struct recover),
	.run = recover_run,
};
