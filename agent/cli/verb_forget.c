/* forget: applies a retention policy, or forgets points by name. */
#include "agent/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct forget {
	struct policy policy;
	bool dry_run;
};

static struct forget *of(struct cli *cli)
{
	return cli->settings;
}

/* One function an option, as that is how options are taken. */
#define TAKE_RULE(rule)								\
	static int take_##rule(struct cli *cli, const char *value, struct error *err) \
	{									\
		return policy_set(&of(cli)->policy, #rule, value, err);		\
	}
TAKE_RULE(last)
TAKE_RULE(secondly)
TAKE_RULE(minutely)
TAKE_RULE(hourly)
TAKE_RULE(daily)
TAKE_RULE(weekly)
TAKE_RULE(monthly)
TAKE_RULE(yearly)
TAKE_RULE(within)

static int take_policy(struct cli *cli, const char *value, struct error *err)
{
	return policy_parse(&of(cli)->policy, value, err);
}

/* The command line's policy, else what is configured. */
static const struct policy *policy_of(struct cli *cli, const struct repo_volume *volume)
{
	const struct policy *policy = &of(cli)->policy;

	return policy_empty(policy)
		? protect_policy(&cli->config, config_store(&cli->config, cli->store), volume->name)
		: policy;
}

/* ---- choosing ---------------------------------------------------------- */

static int choose_by_policy(struct cli *cli, struct history *history, struct error *err)
{
	const struct policy *policy = policy_of(cli, &history->volume);

	if (policy_empty(policy))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "no policy says what to keep of %s, "
				      "so nothing would be kept but the newest point; give "
				      "--keep-… or --policy, or set keep in its section of the "
				      "configuration or in [repository]", history->volume.name);
	return history_apply(history, policy, err);
}

/* What was named and cannot be forgotten is an error; a policy only passes it over. */
static int named_check(const struct point *point, const struct history *history,
		       struct error *err)
{
	if (point->number == history->points[history->count - 1].number)
		return error_set(err, -EINVAL, "point %" PRIu64 " is the newest of %s, on which the "
				 "next backup stands: it cannot be forgotten", point->number,
				 history->volume.name);
	if (extent_list_contains(&history->retention.pinned, point->number))
		return error_set(err, -EINVAL, "point %" PRIu64 " of %s is pinned; clawback keep "
				 "--off first", point->number, history->volume.name);
	return 0;
}

/* All stay but the one that was named. */
static int choose_by_name(struct cli *cli, struct host *host, const char *which,
			  struct history *history, struct error *err)
{
	struct policy all = { .count = { [POLICY_LAST] = UINT32_MAX } };
	struct point point;
	int ret;

	if (!policy_empty(&of(cli)->policy))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "forget either points by name or "
				      "by a policy");
	if (policy_apply(&all, history->points, history->count))
		return error_set(err, -ENOMEM, "forgetting a point: out of memory");
	ret = point_find(host->repo, &history->volume.id, which, &point, err);
	if (ret)
		return ret;
	for (size_t i = 0; i < history->count; i++)
		if (history->points[i].number == point.number)
			history->points[i].reasons &= ~(1u << POLICY_LAST);
	ret = named_check(&point, history, err);
	point_fini(&point);
	return ret;
}

/* ---- saying and doing -------------------------------------------------- */

static json_t *point_json(const struct policy_point *point)
{
	char reasons[POLICY_REASONS_TEXT];

	policy_reasons(point->reasons, reasons);
	return json_pack("{s:I, s:o, s:b, s:s}", "number", (json_int_t)point->number, "time",
			 cli_time_json(point->time_ns), "keep", point->reasons != 0, "reasons",
			 reasons);
}

static int history_print(struct cli *cli, const struct history *history, size_t forgotten,
			 struct error *err)
{
	bool dry = of(cli)->dry_run;
	json_t *list = cli->json ? json_array() : NULL;

	if (!cli->json)
		printf("%8s  %-20s  %-6s  %s\n", "POINT", "TIME", "", "REASONS");
	for (size_t i = 0; i < history->count; i++) {
		const struct policy_point *point = &history->points[i];
		char reasons[POLICY_REASONS_TEXT];

		if (cli->json) {
			json_array_append_new(list, point_json(point));
			continue;
		}
		policy_reasons(point->reasons, reasons);
		printf("%8" PRIu64 "  %-20s  %-6s  %s\n", point->number,
		       text_time(point->time_ns), point->reasons ? "keep" : "forget", reasons);
	}
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:s, s:o, s:I, s:I, s:o}", "message_type",
			dry ? "dry_run" : "summary", "volume", history->volume.name, "volume_id",
			cli_uuid_json(&history->volume.id), "kept",
			(json_int_t)(history->count - forgotten), "forgotten",
			(json_int_t)forgotten, "points", list), true, err);
	printf("%s: %zu points %s, %zu %s\n", history->volume.name, history->count - forgotten,
	       dry ? "would be kept" : "kept", forgotten,
	       dry ? "would be forgotten" : "forgotten; clawback prune frees their space");
	return 0;
}

static int forget_named(struct cli *cli, struct host *host, char *text, struct error *err)
{
	bool dry = of(cli)->dry_run;
	struct repo_volume volume;
	struct history history;
	size_t forgotten = 0;
	const char *which;
	int ret;

	cli_split_point(text, &which);
	ret = repo_volume_find(host->repo, text, &volume, err);
	/* Not for what may be bad usage. */
	if (!ret)
		ret = history_load(host, &volume, !which && !dry &&
				   !policy_empty(policy_of(cli, &volume)), &history, err);
	if (ret)
		return ret;
	ret = which ? choose_by_name(cli, host, which, &history, err)
		    : choose_by_policy(cli, &history, err);
	if (!ret)
		ret = history_forget(host, &history, dry, &forgotten, err);
	if (!ret)
		ret = history_print(cli, &history, forgotten, err);
	history_fini(&history);
	return ret;
}

static int forget_run(struct cli *cli, struct error *err)
{
	struct host host;
	int ret = cli_host_open(cli, of(cli)->dry_run ? HOST_LOOK : HOST_WRITER, &host, err);

	if (ret)
		return ret;
	for (int i = 0; !ret && i < cli->argument_count; i++)
		ret = forget_named(cli, &host, cli->arguments[i], err);
	host_close(&host);
	return ret;
}

static const struct cli_option forget_options[] = {
	CLI_TAKE("keep-last", 0, "N", "the N newest points", take_last),
	CLI_TAKE("keep-secondly", 0, "N", "the newest of each of the last N seconds that have one", take_secondly),
	CLI_TAKE("keep-minutely", 0, "N", "… minutes", take_minutely),
	CLI_TAKE("keep-hourly", 0, "N", "… hours", take_hourly),
	CLI_TAKE("keep-daily", 0, "N", "… days (UTC)", take_daily),
	CLI_TAKE("keep-weekly", 0, "N", "… weeks (from Monday)", take_weekly),
	CLI_TAKE("keep-monthly", 0, "N", "… months", take_monthly),
	CLI_TAKE("keep-yearly", 0, "N", "… years", take_yearly),
	CLI_TAKE("keep-within", 0, "DURATION", "all that are so much older than the newest: 36h, 7d", take_within),
	CLI_TAKE("policy", 0, "POLICY", "gfs, hanoi, or rules like \"daily=7 weekly=5\"", take_policy),
	CLI_FLAG("dry-run", 'n', "say what would be forgotten, and why; change nothing",
		 struct forget, dry_run),
	CLI_STORE,
	{ .name = NULL },
};

const struct cli_verb verb_forget = {
	.name = "forget",
	.arguments = "VOLUME[@POINT]...",
	.summary = "Forget recovery points that no rule keeps",
	.options = forget_options,
	.settings_size = sizeof(struct forget),
	.minimum = 1,
	.maximum = -1,
	.run = forget_run,
};
