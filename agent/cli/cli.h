/*
 * The command line: one table of verbs, one table of options a verb, from which
 * parsing and --help are made. stdout is data, stderr is talk. Only main.c exits.
 */
#ifndef CLAWBACK_CLI_CLI_H
#define CLAWBACK_CLI_CLI_H

#include "agent/adopt/adopt.h"
#include "agent/base/error.h"
#include "agent/config/config.h"
#include "agent/crypto/crypto.h"
#include "agent/policy/policy.h"
#include "agent/protect/protect.h"
#include "agent/repo/repo.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define CLI_OPTIONS_MAX 32
#define CLI_OVERRIDES_MAX 64

/* A recovery key's private half, and where its passphrase comes from. */
struct cli_key {
	const char *path;		/* NULL: not given */
	struct passphrase_options passphrase;
};

/* What every verb is given. */
struct cli {
	const struct cli_verb *verb;
	const char *config_path;
	bool config_given;
	const char *overrides[CLI_OVERRIDES_MAX];
	size_t override_count;
	char *owned[2];			/* overrides made from --state, --repository */
	bool json;
	bool log_format_given;
	const char *store;		/* --store: "repository" or a further one; NULL: not given */
	struct cli_key key;		/* of the verbs with CLI_KEY */
	struct config config;		/* loaded before run() */
	char **arguments;		/* after options */
	int argument_count;
	void *settings;			/* the verb's own, zeroed */
};

/* An option of a verb. `argument` NULL: a flag, a bool of the settings (CLI_FLAG). */
struct cli_option {
	const char *name;		/* "to", without dashes */
	char letter;			/* 0 for none */
	const char *argument;		/* "DEVICE|FILE"; "[=SECONDS]": may be left out, and
					 * the value is NULL then; of those without a letter */
	const char *help;
	/* Stores it in cli->settings; EXIT_USAGE for a bad value. NULL: `flag`. */
	int (*take)(struct cli *cli, const char *value, struct error *err);
	size_t flag;			/* where in the settings */
};
#define CLI_TAKE(name, letter, argument, help, take) { name, letter, argument, help, take, 0 }
#define CLI_FLAG(name, letter, help, settings, member) \
	{ name, letter, NULL, help, NULL, offsetof(settings, member) }

struct cli_verb {
	const char *name;
	const char *arguments;		/* "VOLUME[@POINT]…" for --help */
	const char *summary;		/* one line */
	const struct cli_option *options; /* ends with name NULL; may be NULL */
	size_t settings_size;
	int minimum, maximum;		/* number of arguments; maximum -1: any */
	bool no_config;			/* does without the configuration */
	int (*run)(struct cli *cli, struct error *err);
};

extern const struct cli_verb *const cli_verbs[];	/* ends with NULL */

/* The verbs, one file each. */
extern const struct cli_verb verb_doctor, verb_keygen, verb_init, verb_attach,
	verb_detach, verb_handover, verb_status, verb_backup, verb_points, verb_show, verb_restore,
	verb_verify, verb_forget, verb_keep, verb_prune, verb_adopt, verb_release, verb_protect,
	verb_replicate, verb_drill, verb_recovery_kit, verb_serve, verb_mount, verb_umount,
	verb_export, verb_recover;

/* Fills `cli` from the words behind the verb. *help is set when --help was asked. */
int cli_parse(struct cli *cli, int argc, char **argv, bool *help, struct error *err);
void cli_help_verb(const struct cli_verb *verb);
void cli_help(void);

/* ---- shared by verbs --------------------------------------------------- */

/* Fails unless root, saying what for. */
int cli_need_root(const char *verb, struct error *err);

/* A configured volume, or EXIT_USAGE naming those there are. */
int cli_volume(const struct cli *cli, const char *name,
	       const struct config_volume **volume, struct error *err);

/* --store, for the verbs that read or change points. */
int cli_take_store(struct cli *cli, const char *value, struct error *err);
#define CLI_STORE CLI_TAKE("store", 0, "NAME", \
	"in this store; default repository, the first one", cli_take_store)
/* The store that --store names, or the first; EXIT_USAGE naming those there are. */
int cli_store(const struct cli *cli, const struct config_store **store, struct error *err);
/* host_open there. */
int cli_host_open(struct cli *cli, unsigned use, struct host *host, struct error *err);

/* "VOLUME@POINT" cut at the last '@'; *point NULL when there is none. The text is
 * changed in place. */
void cli_split_point(char *text, const char **point);

/* The recovery key options, for the verbs that open data: into cli->key. */
#define CLI_KEY \
	CLI_TAKE("recovery-key", 0, "FILE", "private half of a recovery key", cli_take_key), \
	CLI_TAKE("passphrase-file", 0, "FILE", "first line is its passphrase; mode 0600", \
		 cli_take_key_passphrase_file), \
	CLI_TAKE("passphrase-fd", 0, "N", "read its passphrase from descriptor N", \
		 cli_take_key_passphrase_fd)
int cli_take_key(struct cli *cli, const char *value, struct error *err);
int cli_take_key_passphrase_file(struct cli *cli, const char *value, struct error *err);
int cli_take_key_passphrase_fd(struct cli *cli, const char *value, struct error *err);
int cli_take_passphrase_fd(struct passphrase_options *options, const char *value,
			   struct error *err);
/* EXIT_WRONG_KEY with a hint when none was given and `required`; else NULL. */
int cli_key_load(const struct cli_key *key, bool required,
		 struct recovery_private **recovery, struct error *err);

/*
 * The point `which`, as cli_split_point found it, of the volume that the first argument
 * names, from --store or the first store that has all of it (the first one's error is told
 * when none has); and the key that opens it. Zero before, but for `which`;
 * cli_origin_close on success and on failure.
 */
struct cli_origin {
	const char *which;
	struct host host;
	struct point point;
	const struct config_store *store;	/* NULL: not open */
	struct recovery_private *recovery;
};
/* `look`: nothing is changed here, so no repository is pinned. */
int cli_origin_open(struct cli *cli, bool look, struct cli_origin *origin, struct error *err);
void cli_origin_close(struct cli_origin *origin);

/* What a server is told to serve that point: serving.c. Holds the key. */
#define CLI_SERVING_MAX 96
struct cli_serving {
	char *settings[CLI_SERVING_MAX + 1];	/* ends with NULL */
	size_t count;
};
int cli_serving_init(struct cli_serving *serving, struct cli *cli,
		     const struct cli_origin *origin, struct error *err);
int cli_serving_add(struct cli_serving *serving, struct error *err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void cli_serving_fini(struct cli_serving *serving);
/* Where sockets and mounts are by default, made if need be. */
#define CLI_RUN_FOLDER "/run/clawback"
int cli_run_folder(struct error *err);

/*
 * rewind.c: a restore in place. The volume whose own device it goes to: `to`, or without
 * it what is configured; NULL when it goes elsewhere. EXIT_USAGE when there is none.
 */
int cli_rewind_volume(const struct cli *cli, const char *name, const char *to,
		      const struct config_volume **volume, struct error *err);
int cli_rewind(struct cli *cli, const struct config_volume *volume,
	       const struct rewind_source *source, const struct rewind_options *options,
	       struct error *err);

/* ---- output ------------------------------------------------------------ */

/* Prints one JSON document (indented) or one line (compact); takes the reference. */
int cli_print_json(json_t *object, bool line, struct error *err);
json_t *cli_time_json(uint64_t time_ns);	/* RFC 3339 UTC, or null for 0 */
/* Text of a message, whose bytes may be no UTF-8. */
json_t *cli_message_json(const char *message);
json_t *cli_hex_json(const uint8_t *data, size_t length);
json_t *cli_point_json(const struct point *point);
json_t *cli_uuid_json(const struct uuid *uuid);

/* status_stores.c: how far a volume is in each further store, as far as is remembered. */
json_t *stores_json(const struct config *config, const struct volume_status *status);
/* Those that lack points, in a few words, or "". */
void stores_behind(const struct config *config, const struct volume_status *status, char *text,
		   size_t room);
void stores_print(const struct config *config, const struct volume_status *status);

/* drills.c: what came of a drill; of the drills of a point, by the store's records; of a
 * volume's last, as the state folder has it (null, or nothing, when there was none). */
json_t *cli_drill_json(const struct drill_record *record);
void cli_drill_steps(const struct drill_record *record);
json_t *cli_drills_json(struct repo *repo, const struct point *point);
void cli_drills_print(struct repo *repo, const struct point *point);
json_t *cli_drill_status_json(const struct config *config, const char *volume);
void cli_drill_status_print(const struct config *config, const char *volume);

/* What a restore asks of a store. */
struct estimate {
	uint64_t fetched_bytes, requests;
	bool priced;			/* else `price` says nothing */
	double price;
};
void estimate_make(const struct config_store *store, uint64_t fetched_bytes,
		   uint64_t requests, struct estimate *estimate);
json_t *estimate_price_json(const struct estimate *estimate);	/* or null */
const char *text_estimate(const struct estimate *estimate);	/* static; main thread */
/* Where a restore to this target notes how far it is: struct restore_options. */
void cli_restore_journal(const struct cli *cli, const char *to, char path[static PATH_MAX]);

/* Into a rotating set of static buffers: fit for one printf. Main thread only. */
const char *text_bytes(uint64_t bytes);		/* "1.5 GiB" */
const char *text_time(uint64_t time_ns);	/* "2026-11-23 20:15:00Z" */
const char *text_duration(uint64_t ns);		/* "1.2 s", "3 min 5 s" */

/* Progress of long work: a line on a terminal, plain lines else, or JSON lines. */
struct progress {
	bool json, terminal;
	char what[128];
	uint64_t started_ns, printed_ns;
};
void progress_start(struct progress *progress, bool json, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void progress_report(struct progress *progress, uint64_t done_bytes,
		     uint64_t total_bytes);
/* What is about to be fetched. */
void progress_plan(struct progress *progress, uint64_t total, const struct estimate *estimate);
/* The same of work that is counted in points. */
void progress_points(struct progress *progress, uint64_t done, uint64_t total);
void progress_end(struct progress *progress);

#endif
