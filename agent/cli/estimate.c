/* What a restore will ask of the store, and what that costs where prices are known. */
#include "agent/cli/cli.h"

#include "agent/base/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GIGABYTE 1e9	/* as stores count */

void estimate_make(const struct config_store *store, uint64_t fetched_bytes,
		   uint64_t requests, struct estimate *estimate)
{
	*estimate = (struct estimate){
		.fetched_bytes = fetched_bytes, .requests = requests, .priced = store->priced,
		.price = ((double)requests / 1000 * (double)store->price_get +
			  (double)fetched_bytes / GIGABYTE * (double)store->price_egress) /
			 CONFIG_PRICE_UNIT,
	};
}

json_t *estimate_price_json(const struct estimate *estimate)
{
	return estimate->priced ? json_real(estimate->price) : json_null();
}

const char *text_estimate(const struct estimate *estimate)
{
	static char text[128];
	int n = snprintf(text, sizeof(text), "%s in some %" PRIu64 " requests",
			 text_bytes(estimate->fetched_bytes), estimate->requests);

	if (estimate->priced && n > 0 && (size_t)n < sizeof(text))
		snprintf(text + n, sizeof(text) - (size_t)n, estimate->price < 0.01 ?
			 ", for about %.4f" : ", for about %.2f", estimate->price);
	return text;
}

/* The same for every way to name it; a target that is not there yet is made in a folder
 * that is. */
static void target_name(const char *to, char name[static PATH_MAX])
{
	char folder[PATH_MAX];
	const char *slash = strrchr(to, '/');
	const char *leaf = slash ? slash + 1 : to;

	if (realpath(to, name))
		return;
	snprintf(folder, sizeof(folder), "%.*s", slash == to ? 1 : slash ? (int)(slash - to) : 1,
		 slash ? to : ".");
	if (!realpath(folder, name) || strlen(name) + strlen(leaf) + 2 > PATH_MAX)
		snprintf(name, PATH_MAX, "%s", to);
	else if (strcmp(name, "/"))
		sprintf(name + strlen(name), "/%s", leaf);
	else
		sprintf(name, "/%s", leaf);
}

void cli_restore_journal(const struct cli *cli, const char *to, char path[static PATH_MAX])
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	char name[PATH_MAX], text[2 * 16 + 1];

	target_name(to, name);
	digest_of(name, strlen(name), digest);
	for (int i = 0; i < 16; i++)
		sprintf(text + 2 * i, "%02x", digest[i]);
	snprintf(path, PATH_MAX, "%.*s/restore/%s.journal", PATH_MAX - 64,
		 cli->config.agent.state, text);
}
