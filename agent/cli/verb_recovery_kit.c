/* recovery-kit: the page for a bad day. */
#include "agent/cli/cli.h"
#include "agent/kit/kit.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recovery_kit {
	const char *to;
	bool pdf, force, dry_run;
};

static struct recovery_kit *of(struct cli *cli)
{
	return cli->settings;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);

	return length > tail && !strcmp(text + length - tail, end);
}

static int take_to(struct cli *cli, const char *value, struct error *err)
{
	of(cli)->to = value;
	of(cli)->pdf = ends_with(value, ".pdf");
	return of(cli)->pdf || ends_with(value, ".txt") ? 0 :
	       error_set_exit(err, EXIT_USAGE, -EINVAL, "the kit is written as FILE.pdf or "
			      "FILE.txt, not as \"%.100s\"", value);
}

static json_t *store_json(const struct config_store *store)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "name", store->name, "url", store->url,
			 "endpoint", store->endpoint, "region", store->region, "path_style",
			 (int)store->path_style, "ca_file", store->ca_file);
}

static json_t *volume_json(const struct kit_volume *volume)
{
	json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:I}", "name", volume->name, "restore",
				   volume->which, "device", volume->device, "group",
				   volume->group, "point", (json_int_t)volume->point);

	if (!object)
		return NULL;
	if (volume->has_id)
		json_object_set_new(object, "volume_id", cli_uuid_json(&volume->id));
	json_object_set_new(object, "point_time", cli_time_json(volume->time_ns));
	json_object_set_new(object, "volume_bytes", json_integer((json_int_t)volume->bytes));
	return object;
}

static json_t *kit_json(const struct kit *kit, const char *fragment)
{
	const struct config *config = kit->config;
	json_t *stores = json_array(), *volumes = json_array(), *recipients = json_array();
	json_t *object;

	json_array_append_new(stores, store_json(&config->repository));
	for (size_t i = 0; i < config->store_count; i++)
		json_array_append_new(stores, store_json(&config->stores[i]));
	for (size_t i = 0; i < kit->volume_count; i++)
		json_array_append_new(volumes, volume_json(&kit->volumes[i]));
	for (size_t i = 0; i < kit->recipient_count; i++)
		json_array_append_new(recipients, json_string(kit->recipients[i]));
	object = json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:s}", "version",
			   CLAWBACK_VERSION, "host", kit->host, "time",
			   cli_time_json(kit->made_ns), "repository_id",
			   kit->has_id ? cli_uuid_json(&kit->id) : json_null(), "fingerprint",
			   kit->fingerprint, "recipients", recipients, "stores", stores,
			   "volumes", volumes, "configuration", fragment);
	if (!object)
		return NULL;
	json_object_set_new(object, "store", *kit->store ? json_string(kit->store) : json_null());
	if (*kit->problem)
		json_object_set_new(object, "problem", cli_message_json(kit->problem));
	return object;
}

/* For its owner alone: what it says is no secret, and nobody else's business. */
static int kit_write(const struct recovery_kit *settings, const void *data, size_t length,
		     struct error *err)
{
	int ret = settings->force ? file_replace(settings->to, data, length, 0600) :
				    file_create(settings->to, data, length, 0600);

	if (!ret)
		return 0;
	error_set(err, ret, "writing the recovery kit to %s: %s", settings->to, error_text(ret));
	return ret == -EEXIST ? error_hint(err, "give --force to replace it") : ret;
}

static int kit_output(struct cli *cli, const struct kit *kit, struct error *err)
{
	CLEANUP_FREE char *text = kit_text(kit), *fragment = kit_fragment(kit);
	CLEANUP_FREE uint8_t *pdf = NULL;
	size_t length = 0;
	int ret = text && fragment ? 0 : error_set(err, -ENOMEM, "out of memory");

	if (!ret && of(cli)->pdf)
		ret = kit_pdf(kit, &pdf, &length, err);
	if (!ret && of(cli)->to && !of(cli)->dry_run)
		ret = pdf ? kit_write(of(cli), pdf, length, err) :
			    kit_write(of(cli), text, strlen(text), err);
	if (ret)
		return ret;
	if (cli->json)
		return cli_print_json(kit_json(kit, fragment), false, err);
	if (!of(cli)->to)
		fputs(text, stdout);
	else
		printf("%s %s\n", of(cli)->dry_run ? "would write the recovery kit to" :
		       "wrote the recovery kit to", of(cli)->to);
	return 0;
}

static int recovery_kit_run(struct cli *cli, struct error *err)
{
	struct kit kit;
	int ret = kit_gather(&cli->config, &kit, err);

	if (ret)
		return ret;
	ret = kit_output(cli, &kit, err);
	if (!ret && !*kit.store)
		ret = error_set_exit(err, EXIT_PARTIAL, -EIO, "the recovery kit has only what "
				     "this host knows, since no store answered: %s", kit.problem);
	else if (!ret && *kit.problem)
		log_warning("the kit is as store %s has it, since the first one did not answer: %s",
			    kit.store, kit.problem);
	kit_fini(&kit);
	return ret;
}

static const struct cli_option recovery_kit_options[] = {
	CLI_TAKE("to", 0, "FILE.pdf|FILE.txt", "write it there, mode 0600; default standard output", take_to),
	CLI_FLAG("force", 0, "replace that file", struct recovery_kit, force),
	CLI_FLAG("dry-run", 'n', "write no file", struct recovery_kit, dry_run),
	{ .name = NULL },
};

const struct cli_verb verb_recovery_kit = {
	.name = "recovery-kit",
	.arguments = "",
	.summary = "Print all that a restore on a bare machine needs, but for secrets",
	.options = recovery_kit_options,
	.settings_size = sizeof(struct recovery_kit),
	.maximum = 0,
	.run = recovery_kit_run,
};
