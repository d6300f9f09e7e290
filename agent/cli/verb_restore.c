/* restore: a recovery point onto a device or into a file; rewind.c: the volume itself. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"
#include "agent/restore/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct restore {
	const char *to;
	bool force, in_place, no_safety_point, verify, dry_run;
	const struct config_volume *own;	/* it goes to this one's own device */
	struct progress progress;
	struct store *store;			/* restored from */
	const struct config_store *prices;	/* its section */
};

static struct restore *of(struct cli *cli)
{
	return cli->settings;
}

static int take_to(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->to = value;
	return 0;
}

static void restore_report(void *context, uint64_t done, uint64_t total)
{
	progress_report(&of(context)->progress, done, total);
}

/* With what was asked of the store until now: opening the point, which a restore does, too. */
static void restore_estimate(const struct restore *restore, const struct restore_result *plan,
			     struct estimate *estimate)
{
	struct store_counts counts;

	store_counts(restore->store, &counts);
	estimate_make(restore->prices, plan->fetched_bytes + counts.bytes_received,
		      plan->requests + counts.requests, estimate);
}

static void restore_planned(void *context, const struct restore_result *plan)
{
	struct restore *restore = of(context);
	struct estimate estimate;

	restore_estimate(restore, plan, &estimate);
	progress_plan(&restore->progress, plan->data_bytes, &estimate);
}

static int restore_print(struct cli *cli, const struct point *point,
			 const struct restore_result *result, bool dry, struct error *err)
{
	const char *to = of(cli)->to;
	struct estimate estimate;

	restore_estimate(of(cli), result, &estimate);
	if (!dry)	/* all of it was done by now */
		estimate_make(of(cli)->prices, estimate.fetched_bytes - result->fetched_bytes,
			      estimate.requests - result->requests, &estimate);
	if (cli->json)
		return cli_print_json(json_pack(
			"{s:s, s:s, s:I, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:b}",
			"message_type", dry ? "dry_run" : "summary",
			"volume", point->volume_name, "point", (json_int_t)point->number,
			"time", cli_time_json(point->time_ns), "to", to,
			"volume_bytes", (json_int_t)result->volume_bytes,
			"data_bytes", (json_int_t)result->data_bytes,
			"hole_bytes", (json_int_t)result->hole_bytes,
			"written_bytes", (json_int_t)result->written_bytes,
			"fetched_bytes", (json_int_t)result->fetched_bytes,
			"frames", (json_int_t)result->frames,
			"resumed_bytes", (json_int_t)result->resumed_bytes,
			"requests", (json_int_t)estimate.requests,
			"price", estimate_price_json(&estimate),
			"verified", (int)result->verified), true, err);
	printf("%s %s@%" PRIu64 " (%s) to %s: %s of data, %s of zeros, %s fetched in %" PRIu64
	       " frames", dry ? "would restore" : "restored", point->volume_name, point->number,
	       text_time(point->time_ns), to, text_bytes(result->data_bytes),
	       text_bytes(result->hole_bytes), text_bytes(result->fetched_bytes),
	       result->frames);
	if (!dry)
		printf(", %s written%s", text_bytes(result->written_bytes),
		       result->verified ? ", read back and verified" : "");
	else
		printf("; all in all %s", text_estimate(&estimate));
	printf("\n");
	return 0;
}

/*
 * A disk's points hold what its volumes have not. Whoever wants a boot sector back, on the
 * disk that it came from, would lose all the rest.
 */
static int check_whole_disk(const struct cli *cli, const struct point *point, struct error *err)
{
	const struct restore *restore = cli->settings;
	struct stat st;

	if (!point->disk_layout || restore->force || restore->dry_run ||
	    stat(restore->to, &st) < 0 || !S_ISBLK(st.st_mode))
		return 0;
	return error_set_exit(err, EXIT_USAGE, -EEXIST, "%s is a whole disk, of which only what no "
			      "volume has is in its points: all else on %s would become zeros; "
			      "give --force if that is meant, or restore to a file and copy from "
			      "there", point->volume_name, restore->to);
}

static int restore_to(struct cli *cli, struct host *host, const struct point *point,
		      const struct key_ring *ring, struct error *err)
{
	struct restore *restore = of(cli);
	char journal[PATH_MAX];
	struct restore_target_options to = {
		.bytes = point->volume_bytes,
		.force = restore->force,
		.in_place = restore->in_place,
		.journal = journal,
		.point = point,
	};
	struct restore_options options = {
		.verify = restore->verify,
		.journal = journal,
		.planned = restore_planned,
		.report = restore_report,
		.context = cli,
	};
	struct error closing = ERROR_INIT;
	struct restore_target *target = NULL;
	struct restore_result result;
	int ret;

	cli_restore_journal(cli, restore->to, journal);
	memset(&result, 0, sizeof(result));
	if (check_whole_disk(cli, point, err))
		return err->code;
	if (restore->dry_run) {
		ret = restore_plan(host->repo, point, ring, NULL, &result, err);
		return ret ? ret : restore_print(cli, point, &result, true, err);
	}
	ret = restore_target_open(restore->to, &to, &target, err);
	if (ret)
		return ret;
	progress_start(&restore->progress, cli->json, "restore of %s@%" PRIu64,
		       point->volume_name, point->number);
	ret = restore_run(host->repo, point, ring, target, &options, &result, err);
	progress_end(&restore->progress);
	if (restore_target_close(target, &closing) && !ret) {
		*err = closing;
		ret = closing.code;
	}
	return ret ? ret : restore_print(cli, point, &result, false, err);
}

static int restore_own(struct cli *cli, struct host *host, const struct point *point,
		       const struct key_ring *ring, struct error *err)
{
	const struct restore *restore = of(cli);
	const struct rewind_source source = { host->repo, point, ring };
	const struct rewind_options options = {
		.no_safety_point = restore->no_safety_point,
		.dry_run = restore->dry_run,
		.restore = { .verify = restore->verify },
	};

	return cli_rewind(cli, restore->own, &source, &options, err);
}

/* Where it goes to. */
static int restore_where(struct cli *cli, struct error *err)
{
	struct restore *restore = of(cli);

	if (!restore->to && !restore->in_place)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "say where to restore to: "
				      "--to DEVICE|FILE, or --in-place for the volume itself");
	if (restore->in_place &&
	    cli_rewind_volume(cli, cli->arguments[0], restore->to, &restore->own, err))
		return err->code;
	if (restore->no_safety_point && !restore->own)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--no-safety-point goes with "
				      "--in-place and the volume's own device");
	return 0;
}

static int restore_run_verb(struct cli *cli, struct error *err)
{
	struct cli_origin origin = { .recovery = NULL };
	struct key_ring ring;
	int ret;

	cli_split_point(cli->arguments[0], &origin.which);
	ret = restore_where(cli, err);
	if (!ret)
		ret = cli_origin_open(cli, of(cli)->dry_run, &origin, err);
	if (!ret) {
		of(cli)->store = origin.host.store;
		of(cli)->prices = origin.store;
		ring = (struct key_ring){ .recovery = origin.recovery };
		ret = (of(cli)->own ? restore_own : restore_to)(cli, &origin.host, &origin.point,
								&ring, err);
		if (ret && err->exit == EXIT_UNTRUSTWORTHY && cli->config.store_count)
			error_hint(err, "another store may have it whole: --store NAME, with "
				   "--in-place or --force for what is there by now");
	}
	cli_origin_close(&origin);
	return ret;
}

static const struct cli_option restore_options[] = {
	CLI_TAKE("to", 0, "DEVICE|FILE", "where to; neither mounted nor too small", take_to),
	CLI_FLAG("force", 0, "replace an existing, non-empty file",
		 struct restore, force),
	CLI_FLAG("in-place", 0, "write only what differs; without --to: the volume itself",
		 struct restore, in_place),
	CLI_FLAG("no-safety-point", 0, "the volume itself: make no point of it before",
		 struct restore, no_safety_point),
	CLI_FLAG("verify", 0, "read everything back and compare",
		 struct restore, verify),
	CLI_FLAG("dry-run", 'n', "say what would be fetched; write nothing",
		 struct restore, dry_run),
	CLI_TAKE("store", 0, "NAME", "from this store; default the first that has all of it", cli_take_store),
	CLI_KEY,
	{ .name = NULL },
};

const struct cli_verb verb_restore = {
	.name = "restore",
	.arguments = "VOLUME[@POINT]",
	.summary = "Restore a recovery point to a device or a file",
	.options = restore_options,
	.settings_size = sizeof(struct restore),
	.minimum = 1,
	.maximum = 1,
	.run = restore_run_verb,
};
