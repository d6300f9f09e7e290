/* keep: pins a recovery point. */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

struct keep { bool off, dry_run; };

static int keep_print(struct cli *cli, const struct point *point, struct error *err)
{
	const struct keep *keep = cli->settings;

	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:I, s:b, s:b}", "volume", point->volume_name,
			"number", (json_int_t)point->number, "pinned", (int)!keep->off, "dry_run",
			(int)keep->dry_run), false, err);
	printf("%s@%" PRIu64 " (%s) %s %s\n", point->volume_name, point->number,
	       text_time(point->time_ns), keep->dry_run ? "would be" : "is",
	       keep->off ? "left to the policy" : "kept, whatever a policy says");
	return 0;
}

static int keep_point(struct cli *cli, struct host *host, const struct repo_volume *volume,
		      const struct point *point, struct error *err)
{
	const struct keep *keep = cli->settings;
	CLEANUP_FREE uint64_t *numbers = NULL;
	struct retention retention;
	size_t count;
	int ret = retention_load(host->repo, &volume->id, &retention, err);

	if (ret)
		return ret;
	if (!keep->dry_run &&
	    extent_list_contains(&retention.pinned, point->number) == keep->off) {
		ret = point_numbers(host->repo, &volume->id, &numbers, &count, err);
		if (!ret)
			ret = repo_pin(host->repo, &volume->id, &retention, point->number,
				       !keep->off, count ? numbers[count - 1] : 0, host->signer,
				       err);
	}
	retention_fini(&retention);
	return ret ? ret : keep_print(cli, point, err);
}

static int keep_run(struct cli *cli, struct error *err)
{
	const struct keep *keep = cli->settings;
	struct repo_volume volume;
	struct point point;
	struct host host;
	const char *which;
	int ret;

	cli_split_point(cli->arguments[0], &which);
	if (!which)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "say which point to keep: "
				      "VOLUME@POINT");
	ret = cli_host_open(cli, keep->dry_run ? HOST_LOOK : HOST_WRITER, &host, err);
	if (ret)
		return ret;
	ret = repo_volume_find(host.repo, cli->arguments[0], &volume, err);
	if (!ret)
		ret = point_find(host.repo, &volume.id, which, &point, err);
	if (!ret) {
		ret = keep_point(cli, &host, &volume, &point, err);
		point_fini(&point);
	}
	host_close(&host);
	return ret;
}

static const struct cli_option keep_options[] = {
	CLI_FLAG("off", 0, "leave it to the policy again", struct keep, off),
	CLI_FLAG("dry-run", 'n', "change nothing", struct keep, dry_run),
	CLI_STORE,
	{ .name = NULL },
};

const struct cli_verb verb_keep = {
	.name = "keep",
	.arguments = "VOLUME@POINT",
	.summary = "Keep a recovery point, whatever a policy says",
	.options = keep_options,
	.settings_size = sizeof(struct keep),
	.minimum = 1,
	.maximum = 1,
	.run = keep_run,
};
