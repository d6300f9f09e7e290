/* prune: frees the space of forgotten points. */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct prune {
	bool dry_run, grace_given, ignore_stores;
	uint64_t grace_ns;
	struct progress progress;
};

static struct prune *of(struct cli *cli)
{
	return cli->settings;
}

static int take_grace(struct cli *cli, const char *value, struct error *err)
{
	of(cli)->grace_given = true;
	return policy_duration(value, &of(cli)->grace_ns) ?
	       error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%.40s\" is no duration like 90m, 12h or "
			      "0s", value) : 0;
}

static void prune_report(void *context, uint64_t done, uint64_t total)
{
	progress_points(&of(context)->progress, done, total);
}

/* `store`: for which points are held back. */
static int print_json(struct cli *cli, const struct repo_volume *volume,
		      const struct prune_result *result, const struct config_store *store,
		      struct error *err)
{
	return cli_print_json(json_pack(
		"{s:s, s:s, s:o, s:I, s:I, s:I, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I}", "message_type",
		of(cli)->dry_run ? "dry_run" : "summary", "volume", volume->name, "volume_id",
		cli_uuid_json(&volume->id), "points", (json_int_t)result->points,
		"serving_points", (json_int_t)result->serving,
		"held_points", (json_int_t)result->held,
		"held_for", result->held ? store->name : NULL,
		"rebased_maps", (json_int_t)result->maps,
		"packs", (json_int_t)result->packs,
		"repacked_bytes", (json_int_t)result->repacked_bytes,
		"deleted_objects", (json_int_t)result->deleted_objects,
		"deleted_bytes", (json_int_t)result->deleted_bytes,
		"waiting_objects", (json_int_t)result->waiting_objects,
		"waiting_bytes", (json_int_t)result->waiting_bytes,
		"wait_seconds", (double)result->wait_ns / 1e9,
		"before_bytes", (json_int_t)result->before_bytes,
		"after_bytes", (json_int_t)result->after_bytes,
		"live_bytes", (json_int_t)result->live_bytes), true, err);
}

static int prune_print(struct cli *cli, const struct repo_volume *volume,
		       const struct prune_result *result, const struct config_store *store,
		       struct error *err)
{
	bool dry = of(cli)->dry_run;

	if (cli->json)
		return print_json(cli, volume, result, store, err);
	printf("%s: ", volume->name);
	if (result->points)
		printf("%s%" PRIu64 " forgotten points pruned (data of %" PRIu64 " is still in use), "
		       "%" PRIu64 " maps rebased; ", dry ? "would have " : "", result->points,
		       result->serving, result->maps);
	if (result->packs)
		printf("%s repacked; ", text_bytes(result->repacked_bytes));
	printf("%s %" PRIu64 " objects, %s", dry ? "would delete" : "deleted",
	       result->deleted_objects, text_bytes(result->deleted_bytes));
	if (result->waiting_objects)
		printf("; %" PRIu64 " more, %s, can be deleted by a prune in %s",
		       result->waiting_objects, text_bytes(result->waiting_bytes),
		       text_duration(result->wait_ns));
	printf("; of %s %s %s, %s of that needed", text_bytes(result->before_bytes),
	       text_bytes(result->after_bytes),
	       dry || result->waiting_objects ? "will be left" : "are left",
	       text_bytes(result->live_bytes));
	if (result->held)
		printf("; %" PRIu64 " forgotten points stay: store %s has not got them, or what stands "
		       "on them, yet", result->held, store->name);
	printf("\n");
	return 0;
}

static int prune_volume(struct cli *cli, struct host *host, const struct repo_volume *volume,
			struct error *err)
{
	struct prune *prune = of(cli);
	struct prune_options options = {
		.host_map_key = host->map_key,
		.signer = host->signer,
		.grace_ns = prune->grace_given ? prune->grace_ns : PROTECT_GRACE_NS,
		.dry_run = prune->dry_run,
		.report = prune_report,
		.context = cli,
	};
	const struct config_store *store = NULL;
	struct prune_result result;
	int ret;

	/* Further stores are copied from the first one. */
	if (config_store(&cli->config, cli->store) == &cli->config.repository &&
	    !prune->ignore_stores)
		options.hold_from = protect_hold(&cli->config, &volume->id, &store);
	progress_start(&prune->progress, cli->json, "prune of %s", volume->name);
	ret = repo_prune(host->repo, &volume->id, &options, &result, err);
	progress_end(&prune->progress);
	return ret ? error_prefix(err, "volume %s", volume->name)
		   : prune_print(cli, volume, &result, store, err);
}

/* One that fails does not keep the others; that the user wants an end does. */
static int prune_all(struct cli *cli, struct host *host, struct error *err)
{
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	size_t count, failed = 0;
	int ret = repo_volumes(host->repo, &volumes, &count, err);

	if (ret)
		return ret;
	for (size_t i = 0; i < count; i++) {
		ret = prune_volume(cli, host, &volumes[i], err);
		if (ret && err->exit == EXIT_INTERRUPTED)
			return ret;
		if (ret)
			log_warning("%s", err->message);
		failed += ret != 0;
	}
	if (!failed)
		return 0;
	return error_set_exit(err, failed < count ? EXIT_PARTIAL : err->exit, err->code,
			      "%zu of %zu prunes failed; the last: %.500s", failed, count,
			      err->message);
}

static int prune_run(struct cli *cli, struct error *err)
{
	struct repo_volume volume;
	struct host host;
	int ret = cli_host_open(cli, HOST_WRITER | (of(cli)->dry_run ? HOST_LOOK : 0), &host,
			    err);

	if (ret)
		return ret;
	if (!cli->argument_count)
		ret = prune_all(cli, &host, err);
	for (int i = 0; !ret && i < cli->argument_count; i++) {
		ret = repo_volume_find(host.repo, cli->arguments[i], &volume, err);
		if (!ret)
			ret = prune_volume(cli, &host, &volume, err);
	}
	host_close(&host);
	return ret;
}

static const struct cli_option prune_options[] = {
	CLI_TAKE("grace", 0, "DURATION", "how long what restores may still read stays (default 1h)", take_grace),
	CLI_FLAG("dry-run", 'n', "say what would be deleted; change nothing",
		 struct prune, dry_run),
	CLI_FLAG("ignore-stores", 0, "also what a further store has not got yet",
		 struct prune, ignore_stores),
	CLI_STORE,
	{ .name = NULL },
};

const struct cli_verb verb_prune = {
	.name = "prune",
	.arguments = "[VOLUME...]",
	.summary = "Free the space of forgotten recovery points",
	.options = prune_options,
	.settings_size = sizeof(struct prune),
	.maximum = -1,
	.run = prune_run,
};
