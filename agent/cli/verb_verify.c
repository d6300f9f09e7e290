/* verify: is everything there, whole, and ours? */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct verify {
	bool data;
	struct cli_key key;
	struct progress progress;
	uint64_t problems;
};

static struct verify *of(struct cli *cli)
{
	return cli->settings;
}

static int take_key(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->key.path = value;
	return 0;
}

static int take_passphrase_file(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->key.passphrase.source = PASSPHRASE_FILE;
	of(cli)->key.passphrase.path = value;
	return 0;
}

static int take_passphrase_fd(struct cli *cli, const char *value, struct error *err)
{
	return cli_take_passphrase_fd(&of(cli)->key.passphrase, value, err);
}

static void verify_report(void *context, uint64_t done, uint64_t total)
{
	progress_report(&of(context)->progress, done, total);
}

static void verify_problem(void *context, const char *text)
{
	struct cli *cli = context;
	struct error ignored = ERROR_INIT;

	progress_end(&of(cli)->progress);
	if (cli->json)
		cli_print_json(json_pack("{s:s, s:s}", "message_type", "problem", "text", text),
			       true, &ignored);
	else
		printf("DAMAGED: %s\n", text);
}

static int verify_volume(struct cli *cli, struct host *host, const struct key_ring *ring,
			 const struct repo_volume *volume, uint64_t number, struct error *err)
{
	struct verify *verify = of(cli);
	struct verify_options options = {
		.data = verify->data,
		.ring = *ring,
		.report = verify_report,
		.problem = verify_problem,
		.context = cli,
	};
	struct verify_result result;
	int ret;

	memset(&result, 0, sizeof(result));
	progress_start(&verify->progress, cli->json, "verify of %s", volume->name);
	ret = repo_verify(host->repo, &volume->id, number, &options, &result, err);
	progress_end(&verify->progress);
	if (ret && !result.problems)
		return ret;
	verify->problems += result.problems;
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b}",
			"message_type", "summary", "volume", volume->name,
			"points", (json_int_t)result.points,
			"objects", (json_int_t)result.objects,
			"bytes", (json_int_t)result.bytes, "frames", (json_int_t)result.frames,
			"problems", (json_int_t)result.problems, "data", (int)verify->data),
			true, err);
	printf("%s: %" PRIu64 " points, %" PRIu64 " objects, %s", volume->name, result.points,
	       result.objects, text_bytes(result.bytes));
	if (verify->data)
		printf(", %" PRIu64 " frames decrypted", result.frames);
	printf(": %s\n", result.problems ? "DAMAGED" : "no problem found");
	return 0;
}

static int verify_named(struct cli *cli, struct host *host, const struct key_ring *ring,
			char *text, struct error *err)
{
	struct repo_volume volume;
	struct point point;
	const char *which;
	uint64_t number = 0;
	int ret;

	cli_split_point(text, &which);
	ret = repo_volume_find(host->repo, text, &volume, err);
	if (!ret && which) {
		ret = point_find(host->repo, &volume.id, which, &point, err);
		if (!ret) {
			number = point.number;
			point_fini(&point);
		}
	}
	return ret ? ret : verify_volume(cli, host, ring, &volume, number, err);
}

static int verify_everything(struct cli *cli, struct host *host,
			     const struct key_ring *ring, struct error *err)
{
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	size_t count;
	int ret = repo_volumes(host->repo, &volumes, &count, err);

	for (size_t i = 0; !ret && i < count; i++)
		ret = verify_volume(cli, host, ring, &volumes[i], 0, err);
	return ret;
}

static int verify_run(struct cli *cli, struct error *err)
{
	struct verify *verify = of(cli);
	struct recovery_private *recovery = NULL;
	struct key_ring ring = { NULL, NULL };
	struct host host;
	int ret = cli_key_load(&verify->key, verify->data, &recovery, err);

	if (ret)
		return ret;
	ret = cli_host_open(cli, 0, &host, err);
	if (ret) {
		recovery_private_free(recovery);
		return ret;
	}
	ring.recovery = recovery;
	ring.host_map_key = host.has_map_key ? host.map_key : NULL;
	if (!cli->argument_count)
		ret = verify_everything(cli, &host, &ring, err);
	for (int i = 0; !ret && i < cli->argument_count; i++)
		ret = verify_named(cli, &host, &ring, cli->arguments[i], err);
	if (!ret && verify->problems)
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%" PRIu64 " problem%s found; "
				     "points that need what is damaged cannot be restored whole",
				     verify->problems, verify->problems == 1 ? "" : "s");
	recovery_private_free(recovery);
	host_close(&host);
	return ret;
}

static const struct cli_option verify_options[] = {
	CLI_FLAG("data", 0, "decrypt and check every frame (needs a recovery key)",
		 struct verify, data),
	CLI_TAKE("recovery-key", 0, "FILE", "private half of a recovery key", take_key),
	CLI_TAKE("passphrase-file", 0, "FILE", "first line is its passphrase; mode 0600", take_passphrase_file),
	CLI_TAKE("passphrase-fd", 0, "N", "read its passphrase from descriptor N", take_passphrase_fd),
	CLI_STORE,
	{ .name = NULL },
};

const struct cli_verb verb_verify = {
	.name = "verify",
	.arguments = "[VOLUME[@POINT]...]",
	.summary = "Check objects and chains; with --data every byte",
	.options = verify_options,
	.settings_size = sizeof(struct verify),
	.maximum = -1,
	.run = verify_run,
};
