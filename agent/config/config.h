/*
 * The configuration file (INI, clawback.conf(5)) as one checked structure.
 *
 * Every section, key and value is known or refused with its line; defaults are
 * filled in. Overrides ("SECTION.KEY=VALUE" from the command line) go through the
 * same checks. Does no I/O but reading the file.
 */
#ifndef CLAWBACK_CONFIG_CONFIG_H
#define CLAWBACK_CONFIG_CONFIG_H

#include "agent/base/error.h"
#include "agent/policy/policy.h"
#include "agent/volume/volume.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_PATH "/etc/clawback/clawback.conf"
#define CONFIG_STATE "/var/lib/clawback"
#define CONFIG_RECIPIENTS_MAX 16

struct config_volume {
	char name[VOLUME_NAME_MAX + 1];
	char device[PATH_MAX];
	char group[VOLUME_NAME_MAX + 1];	/* "" for none */
	enum snapshot_provider provider;
	struct cow_options cow;
	uint32_t granularity_bytes;		/* 0: chosen by size */
	bool fingerprints;			/* keep them; default yes */
	bool skip_unchanged;			/* marked blocks that are as they were; default yes */
	uint32_t spot_checks;			/* unmarked blocks compared a run, default 32 */
	struct policy keep;			/* empty: the repository's */
};

struct config {
	struct {
		char url[PATH_MAX];		/* "" when not configured */
		char fingerprint[65];		/* "" when not pinned here */
		char recipients[CONFIG_RECIPIENTS_MAX][PATH_MAX]; /* public PEMs, for init */
		size_t recipient_count;
		char endpoint[512], region[64];
		bool path_style;
		char credentials_file[PATH_MAX], credentials_profile[64];
		char ca_file[PATH_MAX];
		uint32_t connections, retries, timeout_seconds, part_bytes;
		uint64_t bandwidth_bytes;
		struct policy keep;		/* empty: none */
	} repository;
	struct {
		char state[PATH_MAX];
		uint32_t workers, queue_depth;
		int compression;		/* zstd level, default 1 */
		uint64_t segment_bytes, read_bytes_per_second;
		uint64_t bitmap_limit_bytes;	/* per volume, default 64 MiB */
	} agent;
	struct config_volume *volumes;		/* in the file's order */
	size_t volume_count;
};

/*
 * Reads `path`. With `required` false a missing file gives the defaults.
 * Overrides are applied after it. EXIT_USAGE on anything wrong.
 */
int config_load(const char *path, bool required, const char *const *overrides,
		size_t override_count, struct config *config, struct error *err);
void config_fini(struct config *config);

/* By name; NULL when there is none. */
const struct config_volume *config_volume(const struct config *config,
					  const char *name);

/* "4096", "64K", "256 MiB", "1G": powers of 1024; -EINVAL, -ERANGE. */
int config_parse_bytes(const char *text, uint64_t *bytes);

#endif
