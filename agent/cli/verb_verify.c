/* verify: is everything there, whole, and ours? */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct verify {
	bool data;
	uint32_t sample_ppm;		/* 0: all */
	bool seed_given;
	uint64_t seed, max_time_ns, max_age_ns;
	struct progress progress;
	uint64_t problems;
};

static struct verify *of(struct cli *cli)
{
	return cli->settings;
}

/* ---- a part ------------------------------------------------------------------ */

static int take_data(struct cli *cli, const char *value, struct error *err)
{
	char *end = NULL;
	double percent = value ? strtod(value, &end) : 100;

	if (value && (*value < '0' || *value > '9' || (*end && strcmp(end, "%")) ||
		      !(percent >= 0.0001 && percent <= 100)))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--data: give a part like 5%%, from "
				      "0.0001%% to 100%%");
	of(cli)->data = true;
	of(cli)->sample_ppm = percent < 100 ? (uint32_t)(percent * 10000) : 0;
	return 0;
}

static int take_seed(struct cli *cli, const char *value, struct error *err)
{
	char *end;

	errno = 0;
	of(cli)->seed = strtoull(value, &end, 10);
	of(cli)->seed_given = true;
	return errno || *end || *value < '0' || *value > '9' ?
	       error_set_exit(err, EXIT_USAGE, -EINVAL, "--seed: give a number") : 0;
}

static int take_duration(const char *option, const char *value, uint64_t *to, struct error *err)
{
	if (config_parse_duration(value, to) || !*to)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--%s: give a duration like 2h",
				      option);
	return 0;
}

static int take_max_time(struct cli *cli, const char *value, struct error *err)
{
	return take_duration("max-time", value, &of(cli)->max_time_ns, err);
}

static int take_max_age(struct cli *cli, const char *value, struct error *err)
{
	return take_duration("max-age", value, &of(cli)->max_age_ns, err);
}

static uint64_t since_ns(const struct verify *verify)
{
	uint64_t now = (uint64_t)time(NULL) * 1000000000u;

	return verify->max_age_ns && verify->max_age_ns < now ? now - verify->max_age_ns : 0;
}

/* Where a check with a limit of time left off, for the next one. */
static void mark_path(const struct cli *cli, const struct repo_volume *volume,
		      char path[static PATH_MAX])
{
	char id[UUID_TEXT_SIZE];

	uuid_format(&volume->id, id);
	snprintf(path, PATH_MAX, "%.*s/verified-%s%s%s", PATH_MAX - 128, cli->config.agent.state,
		 id, cli->store ? "-" : "", cli->store ? cli->store : "");
}

/* 0, from the newest on, when there is none or it is damaged. */
static uint64_t mark_load(const struct cli *cli, const struct repo_volume *volume)
{
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX], *end = NULL;
	uint64_t number;

	mark_path(cli, volume, path);
	if (file_read(path, 32, &text, NULL))
		return 0;
	number = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\n' ? number : 0;
}

static void mark_save(const struct cli *cli, const struct repo_volume *volume,
		      const struct verify_result *result)
{
	char path[PATH_MAX], text[32];
	int ret;

	mark_path(cli, volume, path);
	snprintf(text, sizeof(text), "%" PRIu64 "\n", result->reached);
	ret = result->out_of_time && result->reached
		? file_replace(path, text, strlen(text), 0600) : file_remove(path);
	if (ret)
		log_warning("the next check begins with the newest point again: %s: %s", path,
			    error_text(ret));
}

/* ---- telling ------------------------------------------------------------------ */

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

static json_t *summary_json(const struct verify *verify, const struct repo_volume *volume,
			    const struct verify_result *result)
{
	json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:I, s:I}",
		"message_type", "summary", "volume", volume->name,
		"points", (json_int_t)result->points, "objects", (json_int_t)result->objects,
		"bytes", (json_int_t)result->bytes, "frames", (json_int_t)result->frames,
		"problems", (json_int_t)result->problems, "data", (int)verify->data,
		"out_of_time", (int)result->out_of_time,
		"all_points", (json_int_t)result->all_points,
		"passed_over", (json_int_t)result->passed_over);

	if (!object || !verify->sample_ppm)
		return object;
	json_object_set_new(object, "sample_percent",
			    json_real((double)verify->sample_ppm / 10000));
	json_object_set_new(object, "seed", json_integer((json_int_t)verify->seed));
	json_object_set_new(object, "all_frames", json_integer((json_int_t)result->all_frames));
	json_object_set_new(object, "all_frame_bytes",
			    json_integer((json_int_t)result->all_frame_bytes));
	json_object_set_new(object, "frame_bytes",
			    json_integer((json_int_t)result->frame_bytes));
	return object;
}

static void summary_print(const struct verify *verify, const struct repo_volume *volume,
			  const struct verify_result *result)
{
	printf("%s: %" PRIu64 " points, %" PRIu64 " objects, %s", volume->name, result->points,
	       result->objects, text_bytes(result->bytes));
	if (verify->sample_ppm)
		printf(", %" PRIu64 " of %" PRIu64 " frames decrypted (%s of %s; --seed %" PRIu64
		       " takes the same)", result->frames, result->all_frames,
		       text_bytes(result->frame_bytes), text_bytes(result->all_frame_bytes),
		       verify->seed);
	else if (verify->data)
		printf(", %" PRIu64 " frames decrypted", result->frames);
	if (result->passed_over)
		printf(", of %" PRIu64 " older points the heads only", result->passed_over);
	if (result->out_of_time)
		printf("; the time was up at point %" PRIu64 ", after %" PRIu64 " of %" PRIu64
		       " points", result->reached, result->points, result->all_points);
	printf(": %s\n", result->problems ? "DAMAGED" : "no problem found");
}

static int verify_volume(struct cli *cli, struct host *host, const struct key_ring *ring,
			 const struct repo_volume *volume, uint64_t number, struct error *err)
{
	struct verify *verify = of(cli);
	struct verify_options options = {
		.data = verify->data,
		.sample_ppm = verify->sample_ppm, .seed = verify->seed,
		.max_time_ns = verify->max_time_ns, .since_ns = since_ns(verify),
		.from = verify->max_time_ns && !number ? mark_load(cli, volume) : 0,
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
	if (verify->max_time_ns && !number)
		mark_save(cli, volume, &result);
	if (cli->json)
		return cli_print_json(summary_json(verify, volume, &result), true, err);
	summary_print(verify, volume, &result);
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
	int ret = 0;

	/* Within what JSON has for whole numbers. */
	if (!verify->seed_given)
		ret = crypto_random(&verify->seed, sizeof(verify->seed), err);
	verify->seed &= INT64_MAX;
	if (!ret)
		ret = cli_key_load(&cli->key, verify->data, &recovery, err);
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
	CLI_TAKE("data", 0, "[=PERCENT]", "decrypt and check every frame, or a sample (needs a recovery key)",
		 take_data),
	CLI_TAKE("seed", 0, "N", "the same sample as another time", take_seed),
	CLI_TAKE("max-time", 0, "DURATION", "begin nothing after that; the next one goes on there",
		 take_max_time),
	CLI_TAKE("max-age", 0, "DURATION", "of older points only the heads", take_max_age),
	CLI_KEY,
	CLI_STORE,
	{ .name = NULL },
};

const struct cli_verb verb_verify = {
	.name = "verify",
	.arguments = "[VOLUME[@POINT]...]",
	.summary = "Check objects and chains; with --data every byte, or a sample",
	.options = verify_options,
	.settings_size = sizeof(struct verify),
	.maximum = -1,
	.run = verify_run,
};
