/* init: a repository, and this host's keys for it. */
#include "agent/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int take_recipient(struct cli *cli, const char *value, struct error *err)
{
	char **next = cli->settings;
	size_t i = 0;
	char *path;

	while (i < CONFIG_RECIPIENTS_MAX && next[i])
		i++;
	if (i == CONFIG_RECIPIENTS_MAX)
		return error_set_exit(err, EXIT_USAGE, -E2BIG, "too many recipients");
	path = realpath(value, NULL);
	if (!path)
		return error_set_exit(err, EXIT_USAGE, -errno, "%s: %s", value, error_text(errno));
	next[i] = path;
	return 0;
}

static int init_print(const struct cli *cli, const struct repo_facts *facts,
		      struct error *err)
{
	char id[UUID_TEXT_SIZE];
	json_t *recipients;

	uuid_format(&facts->id, id);
	if (!cli->json) {
		printf("repository:  %s\nid:          %s\nfingerprint: %s\n"
		       "Keep the fingerprint with the recovery key: it proves, at a restore, that\n"
		       "the store shows this repository and not a forged one.\n",
		       cli->config.repository.url, id, facts->fingerprint);
		return 0;
	}
	recipients = json_array();
	for (size_t i = 0; recipients && i < facts->recipient_count; i++) {
		char text[CRYPTO_FINGERPRINT_TEXT];

		key_fingerprint(facts->recipients[i].key, text);
		json_array_append_new(recipients, json_string(text));
	}
	return cli_print_json(json_pack("{s:s, s:s, s:s, s:o}", "repository",
					cli->config.repository.url, "id", id, "fingerprint",
					facts->fingerprint, "recipients", recipients), false, err);
}

static int init_run(struct cli *cli, struct error *err)
{
	char **given = cli->settings;
	struct repo_facts facts;
	int ret;

	/* On the command line they replace those of the configuration. */
	if (given[0])
		cli->config.identity.recipient_count = 0;
	for (size_t i = 0; i < CONFIG_RECIPIENTS_MAX && given[i]; i++) {
		size_t at = cli->config.identity.recipient_count++;

		snprintf(cli->config.identity.recipients[at], PATH_MAX, "%s", given[i]);
		free(given[i]);
	}
	ret = host_init(&cli->config, &facts, err);
	return ret ? ret : init_print(cli, &facts, err);
}

static const struct cli_option init_options[] = {
	CLI_TAKE("recipient", 0, "FILE", "recovery public key; may be repeated", take_recipient),
	{ .name = NULL },
};

const struct cli_verb verb_init = {
	.name = "init",
	.arguments = "",
	.summary = "Make a repository and this host's keys for it",
	.options = init_options,
	.settings_size = CONFIG_RECIPIENTS_MAX * sizeof(char *),
	.maximum = 0,
	.run = init_run,
};
