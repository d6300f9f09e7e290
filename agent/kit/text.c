/* The page's words, and the fragment of configuration in it. */
#include "agent/kit/kit.h"

#include "agent/base/cleanup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the fragment --------------------------------------------------------------- */

static void fragment_store(FILE *out, const struct config_store *store)
{
	fprintf(out, "url = %s\n", store->url);
	if (*store->endpoint)
		fprintf(out, "endpoint = %s\n", store->endpoint);
	if (*store->region)
		fprintf(out, "region = %s\n", store->region);
	if (store->path_style)
		fprintf(out, "path_style = yes\n");
}

char *kit_fragment(const struct kit *kit)
{
	const struct config *config = kit->config;
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	fprintf(out, "[" CONFIG_STORE_FIRST "]\n");
	fragment_store(out, &config->repository);
	if (*kit->fingerprint)
		fprintf(out, "fingerprint = %s\n", kit->fingerprint);
	for (size_t i = 0; i < config->store_count; i++) {
		fprintf(out, "[store %s]\n", config->stores[i].name);
		fragment_store(out, &config->stores[i]);
	}
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- the page --------------------------------------------------------------------- */

static void page_time(FILE *out, uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	char text[64];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fprintf(out, "%s", text);
}

static void page_bytes(FILE *out, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	for (; value >= 1024 && unit < 6; unit++)
		value /= 1024;
	fprintf(out, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void page_head(FILE *out, const struct kit *kit)
{
	char id[UUID_TEXT_SIZE];

	fprintf(out, "CLAWBACK RECOVERY KIT\n");
	fprintf(out, "Host %s. Made ", kit->host);
	page_time(out, kit->made_ns);
	fprintf(out, " by clawback " CLAWBACK_VERSION ".\n");
	fprintf(out, "Keep it on paper, away from that host. No secret is on it. Make it anew when\n"
		"stores, keys or volumes change: clawback recovery-kit --to kit.pdf\n");
	if (!*kit->store)
		fprintf(out, "NO STORE ANSWERED: this is what the host itself remembers.\n");
	else if (*kit->problem)
		fprintf(out, "The first store did not answer: points are as store %s has them.\n",
			kit->store);
	fprintf(out, "\nREPOSITORY\n");
	if (kit->has_id)
		uuid_format(&kit->id, id);
	fprintf(out, "  id           %s\n", kit->has_id ? id : "not known here");
	fprintf(out, "  fingerprint  %s\n", *kit->fingerprint ? kit->fingerprint : "not known here");
	for (size_t i = 0; i < kit->recipient_count; i++)
		fprintf(out, "  sealed to    %s\n", kit->recipients[i]);
	if (!kit->recipient_count)
		fprintf(out, "  sealed to    not known here\n");
}

static void page_store(FILE *out, const struct config_store *store)
{
	fprintf(out, "  %-11s  %s%s%s%s%s%s\n", store->name, store->url,
		*store->endpoint ? ", endpoint " : "", store->endpoint,
		*store->region ? ", region " : "", store->region,
		store->path_style ? ", path_style" : "");
	if (*store->ca_file)
		fprintf(out, "  - has a CA of its own: bring a copy of %s, and set ca_file\n",
			store->ca_file);
}

static void page_stores(FILE *out, const struct kit *kit)
{
	const struct config *config = kit->config;

	fprintf(out, "\nSTORES\n");
	page_store(out, &config->repository);
	for (size_t i = 0; i < config->store_count; i++)
		page_store(out, &config->stores[i]);
}

static void page_volumes(FILE *out, const struct kit *kit)
{
	fprintf(out, "\nVOLUMES%s\n", kit->volume_count ? "" : ": none");
	for (size_t i = 0; i < kit->volume_count; i++) {
		const struct kit_volume *volume = &kit->volumes[i];

		fprintf(out, "  %-11s  ", volume->which);
		if (volume->point) {
			fprintf(out, "point %" PRIu64 " of ", volume->point);
			page_time(out, volume->time_ns);
			fprintf(out, ", ");
			page_bytes(out, volume->bytes);
		} else {
			fprintf(out, "no recovery point");
		}
		if (*volume->device)
			fprintf(out, ", was %s", volume->device);
		else
			fprintf(out, ", %s, not configured on the host", volume->name);
		fprintf(out, "%s%s\n", *volume->group ? ", group " : "", volume->group);
	}
}

/* ---- commands ------------------------------------------------------------------------ */

/* One word for a shell, in single quotes. */
static void command_quote(FILE *out, const char *text, size_t length)
{
	fputc('\'', out);
	for (size_t i = 0; i < length; i++)
		if (text[i] == '\'')
			fputs("'\\''", out);
		else
			fputc(text[i], out);
	fputc('\'', out);
}

/* Not a here-document: that would not survive being indented. */
static void command_configuration(FILE *out, const char *fragment)
{
	fprintf(out, "    mkdir -p /etc/clawback\n    printf '%%s\\n' >" CONFIG_PATH);
	while (*fragment) {
		size_t length = strcspn(fragment, "\n");

		fprintf(out, " \\\n      ");
		command_quote(out, fragment, length);
		fragment += length + (fragment[length] == '\n');
	}
	fprintf(out, "\n");
}

static bool kit_is_s3(const struct config_store *store)
{
	return !strncmp(store->url, "s3:", 3);
}

static void page_credentials(FILE *out, const struct config *config)
{
	bool s3 = kit_is_s3(&config->repository);

	for (size_t i = 0; i < config->store_count; i++)
		s3 |= kit_is_s3(&config->stores[i]);
	if (s3)
		fprintf(out, "   Give the store's credentials: export AWS_ACCESS_KEY_ID=... and\n"
			"   AWS_SECRET_ACCESS_KEY=...; reading is enough.\n");
	if (!kit_is_s3(&config->repository))
		fprintf(out, "   The first store is a folder: mount it there, or change its url.\n");
}

static void page_recovery(FILE *out, const struct kit *kit, const char *fragment)
{
	fprintf(out, "\nGETTING THE DATA BACK\n"
		"On any machine with Debian 12, as root, in a folder with room, with the private\n"
		"recovery key in it as recovery.pem (mode 0600):\n"
		"1. Install clawback " CLAWBACK_VERSION " or later from its package.\n"
		"    apt-get install -y ./clawback_" CLAWBACK_VERSION
		"_\"$(dpkg --print-architecture)\".deb\n"
		"2. Say where the data is. The QR codes hold the same lines.\n");
	command_configuration(out, fragment);
	page_credentials(out, kit->config);
	fprintf(out, "3. Look at what there is; clawback points VOLUME lists a volume's points.\n"
		"    clawback points\n");
	fprintf(out, "4. Restore. The recovery key's passphrase is asked for.\n");
	for (size_t i = 0; i < kit->volume_count; i++)
		if (kit->volumes[i].point)
			fprintf(out, "    clawback restore %s@latest --to %s.img --recovery-key "
				"recovery.pem\n", kit->volumes[i].which, kit->volumes[i].which);
	fprintf(out, "   To a disk instead of a file: --to /dev/DISK, all of which is overwritten.\n"
		"   An older point: VOLUME@NUMBER, or VOLUME@2026-11-23T20:15:00Z for a time.\n");
	if (kit->config->store_count)
		fprintf(out, "   If the first store is lost: --store NAME with each of these commands.\n");
	fprintf(out, "   Volumes of one group: restore all of them from points of the same time.\n");
}

/* With lines to write on; kit_pdf puts the QR codes beside and below them. */
static void page_by_hand(FILE *out)
{
	static const char *const what[] = {
		"The private recovery key (recovery.pem) is kept",
		"Its passphrase is kept",
		"The store's credentials are kept",
		"clawback's package is kept",
		"Who may decide on a restore, and who can help",
	};

	fprintf(out, "\nNOT ON THIS PAGE: WRITE DOWN WHERE IT IS\n");
	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		fprintf(out, "  %s\n\n  ______________________________________________\n",
			what[i]);
}

char *kit_text(const struct kit *kit)
{
	CLEANUP_FREE char *fragment = kit_fragment(kit);
	char *text = NULL;
	size_t length;
	FILE *out = fragment ? open_memstream(&text, &length) : NULL;

	if (!out)
		return NULL;
	page_head(out, kit);
	page_stores(out, kit);
	page_volumes(out, kit);
	page_recovery(out, kit, fragment);
	page_by_hand(out);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
