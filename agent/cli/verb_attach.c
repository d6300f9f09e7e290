/* attach and detach: begin and end tracking. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>

static int take_all(struct cli *cli, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	*(bool *)cli->settings = true;
	return 0;
}

static json_t *attach_json(const struct config_volume *volume,
			   const struct attach_result *result)
{
	return json_pack("{s:s, s:s, s:I, s:I, s:b}", "name", volume->name, "device",
			 result->device.path, "volume_bytes", (json_int_t)result->device.bytes,
			 "granularity_bytes", (json_int_t)result->granularity_bytes,
			 "was_attached", (int)result->was_attached);
}

static int attach_one(struct cli *cli, const struct config_volume *volume, json_t *list,
		      struct error *err)
{
	struct attach_result result;
	int ret = protect_attach(&cli->config, volume, &result, err);

	if (ret)
		return ret;
	if (cli->json)
		json_array_append_new(list, attach_json(volume, &result));
	else
		printf("%s: %s (%s), %s, one bit per %s\n", volume->name,
		       result.was_attached ? "was tracked already" : "tracked from now on",
		       result.device.path, text_bytes(result.device.bytes),
		       text_bytes(result.granularity_bytes));
	return 0;
}

static int detach_one(struct cli *cli, const struct config_volume *volume, json_t *list,
		      struct error *err)
{
	bool all = *(bool *)cli->settings;
	int ret = protect_detach(&cli->config, volume, err);

	/* One that is not attached must not keep --all from the rest. */
	if (ret == -ENOENT && all) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	if (ret)
		return ret;
	if (cli->json)
		json_array_append_new(list, json_pack("{s:s}", "name", volume->name));
	else
		printf("%s: no longer tracked; the next backup will read the whole volume\n",
		       volume->name);
	return 0;
}

typedef int (*one_fn)(struct cli *, const struct config_volume *, json_t *, struct error *);

static int each_volume(struct cli *cli, one_fn one, struct error *err)
{
	bool all = *(bool *)cli->settings;
	json_t *list = json_array();
	const struct config_volume *volume;
	int ret = cli_need_root(cli->verb->name, err);

	if (!ret && all == (cli->argument_count > 0))
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "name the volumes, or give --all");
	for (size_t i = 0; !ret && all && i < cli->config.volume_count; i++)
		ret = one(cli, &cli->config.volumes[i], list, err);
	for (int i = 0; !ret && i < cli->argument_count; i++) {
		ret = cli_volume(cli, cli->arguments[i], &volume, err);
		if (!ret)
			ret = one(cli, volume, list, err);
	}
	if (!ret && cli->json)
		return cli_print_json(json_pack("{s:o}", "volumes", list), false, err);
	json_decref(list);
	return ret;
}

static int attach_run(struct cli *cli, struct error *err)
{
	return each_volume(cli, attach_one, err);
}

static int detach_run(struct cli *cli, struct error *err)
{
	return each_volume(cli, detach_one, err);
}

static const struct cli_option all_options[] = {
	{ "all", 0, NULL, "every configured volume", take_all },
	{ NULL, 0, NULL, NULL, NULL },
};

const struct cli_verb verb_attach = {
	.name = "attach",
	.arguments = "VOLUME...",
	.summary = "Start tracking writes to volumes",
	.options = all_options,
	.settings_size = sizeof(bool),
	.maximum = -1,
	.run = attach_run,
};

const struct cli_verb verb_detach = {
	.name = "detach",
	.arguments = "VOLUME...",
	.summary = "Stop tracking; what was marked is forgotten",
	.options = all_options,
	.settings_size = sizeof(bool),
	.maximum = -1,
	.run = detach_run,
};
