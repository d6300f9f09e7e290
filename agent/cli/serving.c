/* What the verbs that serve a point tell the server. */
#include "agent/cli/cli.h"

#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_serving_add(struct cli_serving *serving, struct error *err, const char *format, ...)
{
	va_list args;
	int ret;

	if (serving->count == CLI_SERVING_MAX)
		return error_set_exit(err, EXIT_USAGE, -E2BIG, "too many options");
	va_start(args, format);
	ret = vasprintf(&serving->settings[serving->count], format, args);
	va_end(args);
	if (ret < 0) {
		serving->settings[serving->count] = NULL;
		return error_set(err, -ENOMEM, "out of memory");
	}
	serving->count++;
	return 0;
}

static int serving_add_key(struct cli_serving *serving, const struct cli_origin *origin,
			   struct error *err)
{
	uint8_t key[CRYPTO_KEY_SIZE];
	char hex[2 * CRYPTO_KEY_SIZE + 1];
	int ret = recovery_private_get(origin->recovery, key, err);

	if (!ret) {
		hex_encode(key, sizeof(key), hex);
		ret = cli_serving_add(serving, err, "key=%s", hex);
	}
	crypto_wipe(key, sizeof(key));
	crypto_wipe(hex, sizeof(hex));
	return ret;
}

int cli_serving_init(struct cli_serving *serving, struct cli *cli,
		     const struct cli_origin *origin, struct error *err)
{
	char volume[UUID_TEXT_SIZE];
	int ret;

	memset(serving, 0, sizeof(*serving));
	if (origin->point.disk_layout)
		log_warning("%s is a whole disk, of which only what no volume has is in its "
			    "points: the rest reads as zeros", origin->point.volume_name);
	uuid_format(&origin->point.volume, volume);
	ret = cli_serving_add(serving, err, "config=%s", cli->config_path);
	if (!ret && cli->config_given)
		ret = cli_serving_add(serving, err, "config-given=1");
	for (size_t i = 0; !ret && i < cli->override_count; i++)
		ret = cli_serving_add(serving, err, "option=%s", cli->overrides[i]);
	if (!ret)
		ret = cli_serving_add(serving, err, "log-level=%d", (int)log_get_level());
	if (!ret)
		ret = cli_serving_add(serving, err, "log-format=%d", (int)log_get_format());
	if (!ret)
		ret = cli_serving_add(serving, err, "store=%s", origin->store->name);
	if (!ret)
		ret = cli_serving_add(serving, err, "volume=%s", volume);
	if (!ret)
		ret = cli_serving_add(serving, err, "point=%" PRIu64, origin->point.number);
	return ret ? ret : serving_add_key(serving, origin, err);
}

void cli_serving_fini(struct cli_serving *serving)
{
	while (serving->count) {
		char *setting = serving->settings[--serving->count];

		crypto_wipe(setting, strlen(setting));
		free(setting);
		serving->settings[serving->count] = NULL;
	}
}

int cli_run_folder(struct error *err)
{
	int ret = file_make_folders(CLI_RUN_FOLDER, 0700);

	return ret ? error_set(err, ret, "making " CLI_RUN_FOLDER ": %s; say where with --socket",
			       error_text(ret)) : 0;
}
