/* Options: the common ones and the verb's, through getopt_long; and --help. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int take_config(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	cli->config_path = value;
	cli->config_given = true;
	return 0;
}

static int take_override(struct cli *cli, const char *value, struct error *err)
{
	if (cli->override_count == CLI_OVERRIDES_MAX)
		return error_set_exit(err, EXIT_USAGE, -E2BIG, "too many options");
	cli->overrides[cli->override_count++] = value;
	return 0;
}

static int take_made(struct cli *cli, int slot, const char *key, const char *value,
		     struct error *err)
{
	free(cli->owned[slot]);
	if (asprintf(&cli->owned[slot], "%s=%s", key, value) < 0) {
		cli->owned[slot] = NULL;
		return error_set(err, -ENOMEM, "out of memory");
	}
	return take_override(cli, cli->owned[slot], err);
}

static int take_state(struct cli *cli, const char *value, struct error *err)
{
	if (cli->owned[0])
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--state is given twice");
	return take_made(cli, 0, "agent.state", value, err);
}

static int take_repository(struct cli *cli, const char *value, struct error *err)
{
	if (cli->owned[1])
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--repository is given twice");
	return take_made(cli, 1, "repository.url", value, err);
}

static int take_json(struct cli *cli, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	cli->json = true;
	return 0;
}

static int take_quiet(struct cli *cli, const char *value, struct error *err)
{
	(void)cli;
	(void)value;
	(void)err;
	log_set_level(LOG_WARNINGS);
	return 0;
}

static int take_verbose(struct cli *cli, const char *value, struct error *err)
{
	(void)cli;
	(void)value;
	(void)err;
	log_set_level(LOG_DETAILS);
	return 0;
}

static int take_log_format(struct cli *cli, const char *value, struct error *err)
{
	enum log_format format;

	if (log_format_parse(value, &format))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "give auto, text or json");
	cli->log_format_given = true;
	log_set_format(format);
	return 0;
}

static const struct cli_option common_options[] = {
	CLI_TAKE("config", 0, "FILE", "configuration (default " CONFIG_PATH ")", take_config),
	CLI_TAKE("state", 0, "DIR", "state folder (default " CONFIG_STATE ")", take_state),
	CLI_TAKE("repository", 'r', "URL", "file:///PATH or s3://BUCKET[/PREFIX]", take_repository),
	CLI_TAKE("option", 'o', "SECTION.KEY=VALUE", "as in the configuration; may be repeated", take_override),
	CLI_TAKE("json", 0, NULL, "machine-readable output", take_json),
	CLI_TAKE("log-format", 0, "FORMAT", "auto, text or json: of what is said on stderr", take_log_format),
	CLI_TAKE("quiet", 'q', NULL, "warnings and errors only", take_quiet),
	CLI_TAKE("verbose", 'v', NULL, "say more", take_verbose),
	{ .name = NULL },
};

/* ---- parsing ----------------------------------------------------------- */

struct option_set {
	const struct cli_option *options[CLI_OPTIONS_MAX];
	struct option names[CLI_OPTIONS_MAX + 2];
	char letters[3 * CLI_OPTIONS_MAX + 4];
	size_t count;
};

static void option_set_add(struct option_set *set, const struct cli_option *options)
{
	for (; options && options->name && set->count < CLI_OPTIONS_MAX; options++) {
		size_t used = strlen(set->letters);

		set->options[set->count] = options;
		set->names[set->count].name = options->name;
		set->names[set->count].has_arg = !options->argument ? no_argument :
			*options->argument == '[' ? optional_argument : required_argument;
		set->names[set->count].val = 256 + (int)set->count;
		set->count++;
		if (!options->letter)
			continue;
		set->letters[used] = options->letter;
		if (options->argument && *options->argument != '[')
			set->letters[used + 1] = ':';
	}
}

static const struct cli_option *option_found(const struct option_set *set, int found)
{
	if (found >= 256)
		return set->options[found - 256];
	for (size_t i = 0; i < set->count; i++)
		if (set->options[i]->letter == found)
			return set->options[i];
	return NULL;
}

static int bad_option(const struct cli *cli, char **argv, int found, struct error *err)
{
	/* Inside "-abc" getopt has not moved on: its word is the one before. */
	bool letter = optopt > 0 && optopt < 256 && optopt != 'h';
	char short_option[] = { '-', (char)optopt, '\0' };

	return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: option %s %s; see clawback %s "
			      "--help", cli->verb->name, letter ? short_option : argv[optind - 1],
			      found == ':' ? "needs a value" :
			      optopt && !letter ? "takes no value" : "is unknown",
			      cli->verb->name);
}

static int option_take(struct cli *cli, const struct cli_option *option, struct error *err)
{
	if (option->take)
		return option->take(cli, option->argument ? optarg : NULL, err);
	*(bool *)((char *)cli->settings + option->flag) = true;
	return 0;
}

int cli_parse(struct cli *cli, int argc, char **argv, bool *help, struct error *err)
{
	struct option_set set;
	int found;

	memset(&set, 0, sizeof(set));
	strcpy(set.letters, ":h");
	option_set_add(&set, cli->verb->options);
	option_set_add(&set, common_options);
	set.names[set.count].name = "help";
	set.names[set.count].val = 'h';
	while ((found = getopt_long(argc, argv, set.letters, set.names, NULL)) != -1) {
		const struct cli_option *option = option_found(&set, found);
		int ret;

		if (found == 'h' && (!option || option->letter != 'h')) {
			*help = true;
			return 0;
		}
		if (!option)
			return bad_option(cli, argv, found, err);
		ret = option_take(cli, option, err);
		if (ret)
			return error_prefix(err, "%s --%s", cli->verb->name, option->name);
	}
	cli->arguments = argv + optind;
	cli->argument_count = argc - optind;
	if (cli->argument_count < cli->verb->minimum ||
	    (cli->verb->maximum >= 0 && cli->argument_count > cli->verb->maximum))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "usage: clawback %s [options]%s%s; "
				      "see clawback %s --help", cli->verb->name,
				      *cli->verb->arguments ? " " : "", cli->verb->arguments,
				      cli->verb->name);
	return 0;
}

/* ---- help -------------------------------------------------------------- */

static void help_options(const struct cli_option *options)
{
	for (; options && options->name; options++) {
		char left[80];

		snprintf(left, sizeof(left), "%s%c%s--%s%s%s",
			 options->letter ? "-" : " ", options->letter ? options->letter : ' ',
			 options->letter ? ", " : "  ", options->name,
			 options->argument && *options->argument != '[' ? " " : "",
			 options->argument ? options->argument : "");
		printf("  %-34s %s\n", left, options->help);
	}
}

void cli_help_verb(const struct cli_verb *verb)
{
	printf("usage: clawback %s [options]%s%s\n\n%s.\n\n", verb->name,
	       *verb->arguments ? " " : "", verb->arguments, verb->summary);
	if (verb->options && verb->options->name) {
		printf("options:\n");
		help_options(verb->options);
		printf("\n");
	}
	printf("common options:\n");
	help_options(common_options);
	printf("  %-34s %s\n", "-h, --help", "this");
}

void cli_help(void)
{
	printf("usage: clawback VERB [options] [VOLUME[@POINT]]\n\n"
	       "Block-level backup: tracks writes with eBPF, freezes a point in time with\n"
	       "device-mapper, stores what changed, encrypted, in object storage.\n\nverbs:\n");
	for (size_t i = 0; cli_verbs[i]; i++)
		printf("  %-9s %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
	printf("\nPOINT is latest, a number, or a UTC time (2026-11-23T20:15:00Z).\n"
	       "clawback VERB --help says more; clawback(8), clawback.conf(5) say all.\n\n"
	       "exit codes: 0 done, 1 failed, 2 usage or configuration, 3 done in part,\n"
	       "10 no repository, 11 locked, 12 wrong key or passphrase, 13 untrustworthy\n"
	       "data found, 130 interrupted\n");
}
