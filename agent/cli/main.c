/* clawback: finds the verb, runs it, prints what failed, exits with its code. */
#include "agent/cli/cli.h"

#include "agent/base/interrupt.h"
#include "agent/base/log.h"
#include "agent/base/stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct cli_verb *const cli_verbs[] = {
	&verb_doctor, &verb_keygen, &verb_init, &verb_attach, &verb_detach,
	&verb_handover, &verb_status,
	&verb_backup, &verb_protect, &verb_points, &verb_show, &verb_restore, &verb_serve,
	&verb_mount, &verb_umount, &verb_export, &verb_verify, &verb_drill,
	&verb_forget, &verb_keep, &verb_prune, &verb_replicate, &verb_adopt, &verb_release,
	&verb_recover, &verb_recovery_kit, NULL,
};

static const struct cli_verb *verb_find(const char *name)
{
	for (size_t i = 0; cli_verbs[i]; i++)
		if (!strcmp(cli_verbs[i]->name, name))
			return cli_verbs[i];
	return NULL;
}

static int print_error(const struct error *err, bool json)
{
	json_t *object;
	char *text;

	fflush(stdout);
	if (!json) {
		log_error("%s", err->message);
		return (int)err->exit;
	}
	object = json_pack("{s:s, s:i, s:o}", "message_type", "exit_error", "code",
			   (int)err->exit, "message", cli_message_json(err->message));
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	fprintf(stderr, "%s\n", text ? text : err->message);
	free(text);
	json_decref(object);
	return (int)err->exit;
}

static int run_verb(struct cli *cli, int argc, char **argv, struct error *err)
{
	const struct cli_verb *verb = cli->verb;
	bool help = false;
	int ret;

	cli->settings = calloc(1, verb->settings_size ? verb->settings_size : 1);
	if (!cli->settings)
		return error_set(err, -12, "out of memory");
	ret = cli_parse(cli, argc, argv, &help, err);
	/* Who asked for JSON gets it, also for an option in front of that. */
	for (int i = 1; ret && i < argc; i++)
		cli->json |= !strcmp(argv[i], "--json");
	if (!ret && help) {
		cli_help_verb(verb);
		return 0;
	}
	if (!ret && !verb->no_config)
		ret = config_load(cli->config_path, cli->config_given, cli->overrides,
				  cli->override_count, &cli->config, err);
	if (!ret && !verb->no_config && !cli->log_format_given)
		log_set_format(cli->config.agent.log_format);
	if (!ret) {
		ret = verb->run(cli, err);
		config_fini(&cli->config);
	}
	if (!ret && (fflush(stdout) || ferror(stdout)))
		ret = error_set(err, -5, "writing to standard output failed");
	return ret;
}

int main(int argc, char **argv)
{
	struct error err = ERROR_INIT;
	struct cli cli = { .config_path = CONFIG_PATH };
	const char *name = argc > 1 ? argv[1] : "";
	int ret;

	if (stack_claim()) {
		error_set(&err, -ENOMEM, "starting: out of memory; raise the limit that is set for this process");
		return print_error(&err, false);
	}
	if (crypto_harden_process(&err))
		return print_error(&err, false);
	interrupt_install();
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		cli_help();
		return EXIT_DONE;
	}
	if (!strcmp(name, "--version")) {
		printf("clawback %s\n", CLAWBACK_VERSION);
		return EXIT_DONE;
	}
	cli.verb = verb_find(name);
	if (!cli.verb) {
		error_set_exit(&err, EXIT_USAGE, -22, argc > 1 ? "there is no verb \"%s\"; "
			       "see clawback --help" : "say what to do; see clawback --help",
			       name);
		return print_error(&err, false);
	}
	ret = run_verb(&cli, argc - 1, argv + 1, &err);
	free(cli.settings);
	free(cli.owned[0]);
	free(cli.owned[1]);
	return ret ? print_error(&err, cli.json) : EXIT_DONE;
}
