/* adopt and release: device-mapper under a plain partition or disk, and away again. */
#include "agent/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct adopt_settings {
	struct adopt_options options;
	bool event;
};

/* ---- list ---------------------------------------------------------------- */

static const char *entry_state(const struct adopt_entry *entry)
{
	if (!entry->ruled)
		return "released, and a plain one from the next boot on";
	if (entry->device)
		return "adopted";
	return entry->root ? "not there: it waits for the next boot, or its initramfs could not adopt it"
			   : "not there; its device is missing, or waits for the next boot";
}

static int list_one(const struct adopt_entry *entry, void *context)
{
	const struct device_facts *device = entry->device, *beneath = entry->beneath;
	json_t *list = context;
	char node[64] = "";

	if (beneath)
		snprintf(node, sizeof(node), "%u:%u", beneath->device >> 20,
			 beneath->device & 0xfffff);
	if (list)
		return json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:s, s:s, s:I}", "name",
				entry->name, "present", device != NULL, "released", !entry->ruled,
				"device", device ? device->path : "", "beneath", node, "bytes",
				(json_int_t)(device ? device->bytes : 0)));
	if (device)
		printf("%s: %s, %s, over device %s, %s\n", entry->name, device->path,
		       text_bytes(device->bytes), node, entry_state(entry));
	else
		printf("%s: %s\n", entry->name, entry_state(entry));
	return 0;
}

static int list_all(struct cli *cli, struct error *err)
{
	json_t *list = cli->json ? json_array() : NULL;
	int ret = adopt_each(list_one, list, err);

	if (!ret && cli->json)
		return cli_print_json(json_pack("{s:o}", "adopted", list), false, err);
	json_decref(list);
	return ret;
}

/* ---- adopt ----------------------------------------------------------------- */

static void adopt_print(const struct adopt_options *options, const char *path,
			const struct adoption *adoption)
{
	if (options->dry_run)
		printf("%s can be adopted as %s; nothing was done\n", path, adoption->name);
	else if (adoption->root)
		printf("%s: the initramfs was made anew; %s, the root file system's, is adopted from "
		       "the next boot on\n"
		       "Name it by UUID= or LABEL= in /etc/fstab and to the boot loader, never "
		       "%s nor /dev/mapper/%s: these are not there in every boot\n",
		       adoption->name, path, path, adoption->name);
	else if (options->next_boot)
		printf("%s: %s will be adopted when it is met unused, at the next boot at the "
		       "latest\n", adoption->name, path);
	else
		printf("%s: %s is adopted; it is /dev/mapper/%s from now on\n", adoption->name, path,
		       adoption->name);
	if (!options->dry_run)
		printf("Name it in the configuration: device = /dev/mapper/%s\n", adoption->name);
}

static int adopt_one(struct cli *cli, struct error *err)
{
	struct adopt_settings *settings = cli->settings;
	struct adoption adoption;
	char device[16 + ADOPTION_NAME_MAX];
	int ret = adopt(cli->arguments[0], cli->arguments[1], &settings->options, &adoption, err);

	if (ret)
		return ret;
	snprintf(device, sizeof(device), "/dev/mapper/%s", adoption.name);
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b}", "name",
				adoption.name, "device", device, "property", adoption.property,
				"identity", adoption.identity, "root", adoption.root, "next_boot",
				settings->options.next_boot, "dry_run", settings->options.dry_run), false, err);
	adopt_print(&settings->options, cli->arguments[0], &adoption);
	return 0;
}

static int adopt_run(struct cli *cli, struct error *err)
{
	struct adopt_settings *settings = cli->settings;
	int ret = cli_need_root(cli->verb->name, err);

	if (ret)
		return ret;
	if (settings->event) {
		if (cli->argument_count != 3)
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "--event is for udev's rules");
		return adopt_event(cli->arguments[0], cli->arguments[1], cli->arguments[2], err);
	}
	if (!cli->argument_count)
		return list_all(cli, err);
	if (cli->argument_count != 2)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "adopt takes a device and a name, or "
				      "nothing to list what was adopted");
	return adopt_one(cli, err);
}

/* ---- release ----------------------------------------------------------------- */

static int release_run(struct cli *cli, struct error *err)
{
	struct adopt_settings *settings = cli->settings;
	const char *name = cli->arguments[0];
	bool dry_run = settings->options.dry_run, next_boot = false;
	int ret = cli_need_root(cli->verb->name, err);

	if (!ret)
		ret = release(name, dry_run, &next_boot, err);
	if (ret)
		return ret;
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:b, s:b}", "name", name, "next_boot", next_boot,
						"dry_run", dry_run), false, err);
	if (dry_run)
		printf("%s can be released; nothing was done\n", name);
	else if (next_boot)
		printf("%s is released; it holds the root file system, so its device is a plain one "
		       "from the next boot on\n", name);
	else
		printf("%s is released; its device is a plain one again\n", name);
	return 0;
}

static const struct cli_option adopt_options[] = {
	CLI_FLAG("next-boot", 0, "the device is in use: adopt it when it is next met",
		 struct adopt_settings, options.next_boot),
	CLI_FLAG("dry-run", 'n', "check whether it can be done; do nothing",
		 struct adopt_settings, options.dry_run),
	CLI_FLAG("event", 0, "for udev's rules only",
		 struct adopt_settings, event),
	{ .name = NULL },
};

static const struct cli_option release_options[] = {
	CLI_FLAG("dry-run", 'n', "check whether it can be done; do nothing",
		 struct adopt_settings, options.dry_run),
	{ .name = NULL },
};

const struct cli_verb verb_adopt = {
	.name = "adopt",
	.arguments = "[DEVICE NAME]",
	.summary = "Put device-mapper under a plain partition, to protect it live",
	.options = adopt_options,
	.settings_size = sizeof(struct adopt_settings),
	.maximum = 3,
	.no_config = true,
	.run = adopt_run,
};

const struct cli_verb verb_release = {
	.name = "release",
	.arguments = "NAME",
	.summary = "Make an adopted device a plain one again",
	.options = release_options,
	.settings_size = sizeof(struct adopt_settings),
	.minimum = 1,
	.maximum = 1,
	.no_config = true,
	.run = release_run,
};
