/* replicate: copies what was committed to the first store to the further ones. */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct replicate {
	bool dry_run;
	const struct config_store *to;
	struct progress progress;
	char volume[REPO_NAME_MAX + 1];		/* of the progress */
};

static struct replicate *of(struct cli *cli)
{
	return cli->settings;
}

static void volume_report(void *context, const char *volume, uint64_t done, uint64_t total)
{
	struct replicate *replicate = of(context);
	struct cli *cli = context;

	if (strcmp(replicate->volume, volume)) {
		snprintf(replicate->volume, sizeof(replicate->volume), "%s", volume);
		progress_start(&replicate->progress, cli->json, "%s to %s", volume,
			       replicate->to->name);
	}
	progress_points(&replicate->progress, done, total);
}

static void volume_json(struct cli *cli, const char *volume,
			const struct replicate_result *result, const struct replica_place *place,
			const struct error *err)
{
	const struct replicate *replicate = of(cli);
	struct error ignored = ERROR_INIT;
	json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:I, s:b}", "message_type",
		replicate->dry_run ? "dry_run" : "summary", "volume", volume, "store",
		replicate->to->name, "points", (json_int_t)result->points,
		"objects", (json_int_t)result->objects, "bytes", (json_int_t)result->bytes,
		"anew", (int)result->anew, "through", (json_int_t)place->through,
		"failed", err != NULL);

	if (object && err)
		json_object_set_new(object, "error", cli_message_json(err->message));
	cli_print_json(object, true, &ignored);
}

static void volume_done(void *context, const char *volume, const struct replicate_result *result,
			const struct replica_place *place, const struct error *err)
{
	struct cli *cli = context;
	struct replicate *replicate = of(cli);

	if (*replicate->volume)
		progress_end(&replicate->progress);
	*replicate->volume = '\0';
	if (cli->json) {
		volume_json(cli, volume, result, place, err);
		return;
	}
	printf("%s to %s: %s%" PRIu64 " points, %" PRIu64 " objects, %s%s", volume,
	       replicate->to->name, replicate->dry_run ? "would copy " : "copied ",
	       result->points, result->objects, text_bytes(result->bytes),
	       result->anew ? ", all that is in the first store" : "");
	if (place->through && !replicate->dry_run)
		printf("; it has them up to point %" PRIu64 " of %s", place->through,
		       text_time(place->time_ns));
	printf("%s\n", err ? ", and FAILED" : "");
}

static int replicate_to(struct cli *cli, struct host *host, const struct config_store *store,
			const struct repo_volume *volumes, size_t count, struct error *err)
{
	struct protect_replicate_options options = {
		.dry_run = of(cli)->dry_run,
		.done = volume_done, .report = volume_report, .context = cli,
	};

	of(cli)->to = store;
	return protect_replicate(host, store, volumes, count, &options, err);
}

/* A store that fails does not keep the others; that the user wants an end does. */
static int replicate_all(struct cli *cli, struct host *host, const struct repo_volume *volumes,
			 size_t count, struct error *err)
{
	size_t stores = cli->config.store_count, failed = 0;
	struct error failure = ERROR_INIT;

	for (size_t i = 0; i < stores; i++) {
		struct error one = ERROR_INIT;

		if (!replicate_to(cli, host, &cli->config.stores[i], volumes, count, &one))
			continue;
		failure = one;
		if (one.exit == EXIT_INTERRUPTED)
			break;
		failed++;
		if (stores > 1)
			log_warning("%s", one.message);
	}
	if (!failure.code)
		return 0;
	*err = failure;
	if (stores == 1 || failure.exit == EXIT_INTERRUPTED)
		return err->code;
	return error_set_exit(err, failed < stores ? EXIT_PARTIAL : failure.exit, failure.code,
			      "%zu of %zu stores failed; the last: %.500s", failed, stores,
			      failure.message);
}

static int volumes_named(struct cli *cli, struct host *host, struct repo_volume **volumes,
			 size_t *count, struct error *err)
{
	int ret = 0;

	if (!cli->argument_count)
		return repo_volumes(host->repo, volumes, count, err);
	*count = (size_t)cli->argument_count;
	*volumes = calloc(*count, sizeof(**volumes));
	if (!*volumes)
		return error_set(err, -ENOMEM, "replicating: out of memory");
	for (size_t i = 0; !ret && i < *count; i++)
		ret = repo_volume_find(host->repo, cli->arguments[i], &(*volumes)[i], err);
	return ret;
}

static int replicate_run(struct cli *cli, struct error *err)
{
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	const struct config_store *store;
	struct host host;
	size_t count = 0;
	int ret = cli_store(cli, &store, err);

	if (ret)
		return ret;
	if (!cli->config.store_count || (cli->store && store == &cli->config.repository))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "there is no further store to "
				      "replicate to; add a section [store NAME] to %s, or name it "
				      "with --store", cli->config_path);
	ret = host_open(&cli->config, of(cli)->dry_run ? HOST_LOOK : 0, &host, err);
	if (ret)
		return ret;
	ret = volumes_named(cli, &host, &volumes, &count, err);
	if (!ret)
		ret = cli->store ? replicate_to(cli, &host, store, volumes, count, err)
				 : replicate_all(cli, &host, volumes, count, err);
	host_close(&host);
	return ret;
}

static const struct cli_option replicate_options[] = {
	CLI_TAKE("store", 0, "NAME", "to this store only", cli_take_store),
	CLI_FLAG("dry-run", 'n', "say what would be copied; change nothing",
		 struct replicate, dry_run),
	{ .name = NULL },
};

const struct cli_verb verb_replicate = {
	.name = "replicate",
	.arguments = "[VOLUME...]",
	.summary = "Copy new recovery points to further stores",
	.options = replicate_options,
	.settings_size = sizeof(struct replicate),
	.maximum = -1,
	.run = replicate_run,
};
