/* keygen: a recovery key pair, to be kept away from the host. */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct keygen {
	const char *out;
	struct passphrase_options passphrase;
};

static int take_out(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	((struct keygen *)cli->settings)->out = value;
	return 0;
}

static int take_passphrase_file(struct cli *cli, const char *value, struct error *err)
{
	struct keygen *keygen = cli->settings;

	(void)err;
	keygen->passphrase.source = PASSPHRASE_FILE;
	keygen->passphrase.path = value;
	return 0;
}

static int take_passphrase_fd(struct cli *cli, const char *value, struct error *err)
{
	return cli_take_passphrase_fd(&((struct keygen *)cli->settings)->passphrase, value, err);
}

static int keygen_print(const struct cli *cli, const char *private_path,
			const char *public_path, const struct recovery_public *public,
			struct error *err)
{
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];

	key_fingerprint(public->key, fingerprint);
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:s, s:s}", "private", private_path,
						"public", public_path, "fingerprint", fingerprint),
				      false, err);
	printf("private half: %s (keep it and its passphrase off this host; without them\n"
	       "              nothing can be restored)\n"
	       "public half:  %s (for clawback init --recipient)\n"
	       "fingerprint:  %s\n", private_path, public_path, fingerprint);
	return 0;
}

static int keygen_run(struct cli *cli, struct error *err)
{
	struct keygen *keygen = cli->settings;
	CLEANUP_FREE char *public_path = NULL;
	struct recovery_public public;
	struct passphrase passphrase;
	int ret;

	if (!keygen->out)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "say where to write the private "
				      "half: --out FILE");
	if (asprintf(&public_path, "%s.pub", keygen->out) < 0) {
		public_path = NULL;
		return error_set(err, -ENOMEM, "out of memory");
	}
	keygen->passphrase.what = "new recovery key";
	keygen->passphrase.confirm = true;
	ret = passphrase_read(&keygen->passphrase, &passphrase, err);
	if (ret)
		return ret;
	ret = recovery_generate(keygen->out, public_path, &passphrase, &public, err);
	passphrase_wipe(&passphrase);
	return ret ? ret : keygen_print(cli, keygen->out, public_path, &public, err);
}

static const struct cli_option keygen_options[] = {
	CLI_TAKE("out", 0, "FILE", "private half; the public half goes to FILE.pub", take_out),
	CLI_TAKE("passphrase-file", 0, "FILE", "first line is the passphrase; mode 0600", take_passphrase_file),
	CLI_TAKE("passphrase-fd", 0, "N", "read the passphrase from descriptor N", take_passphrase_fd),
	{ .name = NULL },
};

const struct cli_verb verb_keygen = {
	.name = "keygen",
	.arguments = "",
	.summary = "Make a recovery key pair",
	.options = keygen_options,
	.settings_size = sizeof(struct keygen),
	.maximum = 0,
	.run = keygen_run,
};
