/* attach, detach and handover: begin, end and hand on tracking. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WAIT_SECONDS 30u
#define WAIT_SECONDS_MAX 3600u

struct attach {
	bool all, boot, root;
	bool waits;			/* --wait was given: */
	unsigned wait_seconds;
	uint64_t deadline_ns;		/* of --boot */
	unsigned done, failed;		/* of several */
};

static int take_wait(struct cli *cli, const char *value, struct error *err)
{
	struct attach *attach = cli->settings;
	char *end;
	long seconds = strtol(value, &end, 10);

	if (!*value || *end || seconds < 0 || seconds > (long)WAIT_SECONDS_MAX)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no number of "
				      "seconds up to %u", value, WAIT_SECONDS_MAX);
	attach->waits = true;
	attach->wait_seconds = (unsigned)seconds;
	return 0;
}

/* ---- attach -------------------------------------------------------------- */

static json_t *attach_json(const struct config_volume *volume,
			   const struct attach_result *result)
{
	return json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:s, s:s}", "name", volume->name,
			 "device", result->device.path, "volume_bytes",
			 (json_int_t)result->device.bytes, "granularity_bytes",
			 (json_int_t)result->granularity_bytes,
			 "was_attached", (int)result->was_attached,
			 "handed_over", (int)result->handed_over, "trust",
			 result->trust == TRUST_TRACKED ? "tracked" : "untrusted",
			 "reason", result->reason);
}

static void attach_print(const struct config_volume *volume,
			 const struct attach_result *result)
{
	printf("%s: %s (%s), %s, one bit per %s\n", volume->name,
	       result->was_attached ? "was tracked already" :
	       result->handed_over ? "tracked on from the last boot" : "tracked from now on",
	       result->device.path, text_bytes(result->device.bytes),
	       text_bytes(result->granularity_bytes));
	if (result->trust != TRUST_TRACKED && *result->reason)
		printf("%s: untrusted: %s\n", volume->name, result->reason);
}

static int attach_one(struct cli *cli, const struct config_volume *volume, json_t *list,
		      struct error *err)
{
	struct attach *attach = cli->settings;
	struct attach_result result;
	int ret = attach->root ? protect_attach_root(&cli->config, volume, &result, err) :
		  attach->boot ? protect_attach_boot(&cli->config, volume, attach->deadline_ns,
						     &result, err)
			       : protect_attach(&cli->config, volume, &result, err);

	/* What was never attached, or handed over, has nothing to lose at a boot. */
	if (ret == -ENOENT && (attach->boot || attach->root)) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	if (ret)
		return ret;
	attach->done++;
	if (cli->json)
		json_array_append_new(list, attach_json(volume, &result));
	else
		attach_print(volume, &result);
	return 0;
}

/* ---- detach, handover ------------------------------------------------------ */

static int detach_one(struct cli *cli, const struct config_volume *volume, json_t *list,
		      struct error *err)
{
	bool all = ((struct attach *)cli->settings)->all;
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

static int handover_one(struct cli *cli, const struct config_volume *volume, json_t *list,
			struct error *err)
{
	struct attach *attach = cli->settings;
	int ret = attach->root ? protect_handover_root(&cli->config, volume, err)
			       : protect_handover(&cli->config, volume, err);

	if (ret == -ENOENT && attach->all) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	/* It would be untrusted anyway; or its time comes later. */
	if (attach->all && (ret == -ESTALE || (!attach->root && (ret == -ETXTBSY ||
								 ret == -EOPNOTSUPP)))) {
		log_note("%s", err->message);
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	if (ret)
		return ret;
	attach->done++;
	if (cli->json)
		json_array_append_new(list, json_pack("{s:s}", "name", volume->name));
	else
		printf("%s: saved for the next boot; read-only until then\n", volume->name);
	return 0;
}

/* ---- each of them ------------------------------------------------------------ */

typedef int (*one_fn)(struct cli *, const struct config_volume *, json_t *, struct error *);

/* At a boot or its end nobody is there to repeat it: one must not keep the rest. */
static int one_of_many(struct cli *cli, one_fn one, const struct config_volume *volume,
		       json_t *list, struct error *err)
{
	struct attach *attach = cli->settings;
	int ret = one(cli, volume, list, err);

	if (!ret || err->exit == EXIT_INTERRUPTED || one == detach_one ||
	    (one == attach_one && !attach->boot && !attach->root))
		return ret;
	log_warning("%s", err->message);
	attach->failed++;
	*err = (struct error)ERROR_INIT;
	return 0;
}

static int each_result(const struct attach *attach, struct error *err)
{
	if (!attach->failed)
		return 0;
	return error_set_exit(err, attach->done ? EXIT_PARTIAL : EXIT_FAILED, -EIO,
			      "%u volumes failed, %u did not", attach->failed, attach->done);
}

static int each_volume(struct cli *cli, one_fn one, struct error *err)
{
	struct attach *attach = cli->settings;
	json_t *list = json_array();
	const struct config_volume *volume;
	int ret = cli_need_root(cli->verb->name, err);

	if (!ret && attach->all == (cli->argument_count > 0))
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "name the volumes, or give --all");
	for (size_t i = 0; !ret && attach->all && i < cli->config.volume_count; i++)
		ret = cli->config.volumes[i].disk ? 0 :
		      one_of_many(cli, one, &cli->config.volumes[i], list, err);
	for (int i = 0; !ret && i < cli->argument_count; i++) {
		ret = cli_volume(cli, cli->arguments[i], &volume, err);
		if (!ret && volume->disk)
			ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "%s is a disk, and disks are "
					     "not tracked; name the volumes on it", volume->name);
		if (!ret)
			ret = one(cli, volume, list, err);
	}
	if (!ret && cli->json)
		ret = cli_print_json(json_pack("{s:O}", "volumes", list), false, err);
	json_decref(list);
	return ret ? ret : each_result(attach, err);
}

static int attach_run(struct cli *cli, struct error *err)
{
	struct attach *attach = cli->settings;
	uint64_t seconds = attach->waits ? attach->wait_seconds : WAIT_SECONDS;

	if (attach->waits && !attach->boot)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--wait goes with --boot");
	if (attach->boot && cli->argument_count)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--boot is for all volumes");
	if (attach->root && (attach->boot || attach->all || cli->argument_count))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--root stands alone");
	attach->all |= attach->boot || attach->root;
	attach->deadline_ns = elapsed_ns() + seconds * 1000000000u;
	return each_volume(cli, attach_one, err);
}

static int detach_run(struct cli *cli, struct error *err)
{
	return each_volume(cli, detach_one, err);
}

static int handover_run(struct cli *cli, struct error *err)
{
	struct attach *attach = cli->settings;

	if (attach->root && (attach->all || cli->argument_count))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--root stands alone");
	attach->all |= attach->root;
	return each_volume(cli, handover_one, err);
}

static const struct cli_option attach_options[] = {
	CLI_FLAG("all", 0, "every configured volume",
		 struct attach, all),
	CLI_FLAG("boot", 0, "every volume attached before; waits for devices",
		 struct attach, boot),
	CLI_FLAG("root", 0, "the root file system's volume, before it is writable",
		 struct attach, root),
	CLI_TAKE("wait", 0, "SECONDS", "so long at most (30)", take_wait),
	{ .name = NULL },
};

static const struct cli_option handover_options[] = {
	CLI_FLAG("all", 0, "every configured volume",
		 struct attach, all),
	CLI_FLAG("root", 0, "the root file system's volume, when it is read-only",
		 struct attach, root),
	{ .name = NULL },
};

static const struct cli_option all_options[] = {
	CLI_FLAG("all", 0, "every configured volume",
		 struct attach, all),
	{ .name = NULL },
};

const struct cli_verb verb_attach = {
	.name = "attach",
	.arguments = "VOLUME...",
	.summary = "Start tracking writes to volumes",
	.options = attach_options,
	.settings_size = sizeof(struct attach),
	.maximum = -1,
	.run = attach_run,
};

const struct cli_verb verb_detach = {
	.name = "detach",
	.arguments = "VOLUME...",
	.summary = "Stop tracking; what was marked is forgotten",
	.options = all_options,
	.settings_size = sizeof(struct attach),
	.maximum = -1,
	.run = detach_run,
};

const struct cli_verb verb_handover = {
	.name = "handover",
	.arguments = "VOLUME...",
	.summary = "Save the marks of unmounted volumes for the next boot",
	.options = handover_options,
	.settings_size = sizeof(struct attach),
	.maximum = -1,
	.run = handover_run,
};
