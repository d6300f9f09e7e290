/* What several verbs need. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_need_root(const char *verb, struct error *err)
{
	if (geteuid() == 0)
		return 0;
	return error_set(err, -EPERM, "%s needs root: it works on block devices and loads "
			 "an eBPF program", verb);
}

int cli_volume(const struct cli *cli, const char *name,
	       const struct config_volume **volume, struct error *err)
{
	*volume = config_volume(&cli->config, name);
	if (*volume)
		return 0;
	error_set_exit(err, EXIT_USAGE, -ENOENT, "no volume \"%s\" is configured in %s", name,
		       cli->config_path);
	if (!cli->config.volume_count)
		return error_hint(err, "none is; add a section [volume %s]", name);
	error_hint(err, "there are");
	for (size_t i = 0; i < cli->config.volume_count; i++) {
		size_t used = strlen(err->message);

		snprintf(err->message + used, sizeof(err->message) - used, "%s %s",
			 i ? "," : "", cli->config.volumes[i].name);
	}
	return err->code;
}

int cli_take_store(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	cli->store = value;
	return 0;
}

int cli_store(const struct cli *cli, const struct config_store **store, struct error *err)
{
	*store = config_store(&cli->config, cli->store);
	if (*store)
		return 0;
	error_set_exit(err, EXIT_USAGE, -ENOENT, "no store \"%.100s\" is configured in %s; there "
		       "are " CONFIG_STORE_FIRST, cli->store, cli->config_path);
	for (size_t i = 0; i < cli->config.store_count; i++) {
		size_t used = strlen(err->message);

		snprintf(err->message + used, sizeof(err->message) - used, ", %s",
			 cli->config.stores[i].name);
	}
	return err->code;
}

int cli_host_open(struct cli *cli, unsigned use, struct host *host, struct error *err)
{
	const struct config_store *store;
	int ret = cli_store(cli, &store, err);

	return ret ? ret : host_open_at(&cli->config, store, use, host, err);
}

void cli_split_point(char *text, const char **point)
{
	char *at = strrchr(text, '@');

	*point = NULL;
	if (!at)
		return;
	*at = '\0';
	*point = at + 1;
}

int cli_take_passphrase_fd(struct passphrase_options *options, const char *value,
			   struct error *err)
{
	char *end;
	long fd = strtol(value, &end, 10);

	if (!*value || *end || fd < 0 || fd > 1 << 20)
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "\"%s\" is no file descriptor", value);
	options->source = PASSPHRASE_FD;
	options->fd = (int)fd;
	return 0;
}

int cli_take_key(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	cli->key.path = value;
	return 0;
}

int cli_take_key_passphrase_file(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	cli->key.passphrase.source = PASSPHRASE_FILE;
	cli->key.passphrase.path = value;
	return 0;
}

int cli_take_key_passphrase_fd(struct cli *cli, const char *value, struct error *err)
{
	return cli_take_passphrase_fd(&cli->key.passphrase, value, err);
}

int cli_key_load(const struct cli_key *key, bool required,
		 struct recovery_private **recovery, struct error *err)
{
	struct passphrase_options options = key->passphrase;
	struct passphrase passphrase;
	int ret;

	*recovery = NULL;
	if (!key->path && !required)
		return 0;
	if (!key->path)
		return error_set_exit(err, EXIT_WRONG_KEY, -ENOKEY, "the data is sealed to a "
				      "recovery key; give its private half with --recovery-key");
	/* Nobody is asked for what a key does not need. */
	if (options.source == PASSPHRASE_PROMPT) {
		ret = recovery_private_load(key->path, NULL, recovery, err);
		if (ret != -ENOKEY)
			return ret;
		*err = (struct error)ERROR_INIT;
	}
	options.what = "recovery key";
	ret = passphrase_read(&options, &passphrase, err);
	if (ret)
		return ret;
	ret = recovery_private_load(key->path, &passphrase, recovery, err);
	passphrase_wipe(&passphrase);
	return ret;
}
