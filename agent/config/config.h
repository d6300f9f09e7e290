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
#include "agent/base/log.h"
#include "agent/policy/policy.h"
#include "agent/volume/volume.h"

#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_PATH "/etc/clawback/clawback.conf"
#define CONFIG_STATE "/var/lib/clawback"
#define CONFIG_RECIPIENTS_MAX 16

#define CONFIG_CALENDAR_MAX 127		/* bytes of a calendar expression */
#define CONFIG_BLACKOUTS_MAX 8

/* From one minute of the local day to another, which may be the lesser: the next day's. */
struct config_times {
	int from, to;
	unsigned days;				/* on which it begins: bit 0 is Sunday */
};

/*
 * What the daemon keeps to, for one unit: a volume by itself, or a group. What a
 * unit's section leaves out is as [agent] has it.
 */
struct config_schedule {
	uint64_t rpo_ns;			/* 0: the daemon leaves it alone; the default */
	uint64_t idle_point_ns;			/* 0: none while nothing is written; default 1 day */
	/* As systemd.time(7); "" never, the default. Not checked here but for their characters. */
	char full[CONFIG_CALENDAR_MAX + 1];
	char synthetic[CONFIG_CALENDAR_MAX + 1];
	char differential[CONFIG_CALENDAR_MAX + 1];
	uint64_t jitter_ns;			/* these, and first runs, up to so much later; default 0 */
	uint64_t run_timeout_ns;		/* 0: a run may take as long as it likes; the default */
	struct config_times blackouts[CONFIG_BLACKOUTS_MAX]; /* in which no run begins */
	unsigned blackout_count;
	int window_from, window_to;		/* minutes of the local day, to may be the
						 * lesser; equal: always, the default */
};

#define CONFIG_HOOK_MAX 1023		/* bytes of a hook's command line */
#define CONFIG_HOOK_WORDS 32		/* the program and its arguments */

/* A program that holds the application still while a point is taken. */
struct config_hook {
	char command[CONFIG_HOOK_MAX + 1];	/* "" none; else an absolute path and
						 * arguments, split at blanks, no shell */
	uint64_t timeout_ns;			/* to be ready, and to end; default 30 s */
	bool optional;				/* a point without it is better than none;
						 * default no */
};

/* How recovery points are tried out (agent/drill/drill.h). */
struct config_drill {
	char calendar[CONFIG_CALENDAR_MAX + 1];	/* as in config_schedule; "" never, the default */
	char command[CONFIG_HOOK_MAX + 1];	/* as a hook's; "" none */
	char folder[PATH_MAX];			/* for the copy; "" not given */
	char key[PATH_MAX], passphrase_file[PATH_MAX]; /* of a recovery key; "" not given */
	uint64_t timeout_ns;			/* of the command; default 10 min */
	bool random, point_given;		/* any point; default the latest */
};

#define CONFIG_WEBHOOK_ROOM 2048	/* of a URL with its NUL */

#define CONFIG_MAIL_ADDRESS_ROOM 255	/* of one, with its NUL */
#define CONFIG_MAIL_TO_MAX 8
#define CONFIG_MAIL_TO_ROOM 1024
#define CONFIG_LISTEN_ROOM 64		/* of an address and a port with its NUL */

enum config_notify_format { NOTIFY_GENERIC, NOTIFY_SLACK, NOTIFY_TEAMS, NOTIFY_PAGERDUTY };
enum { NOTIFY_ON_FAILURE = 1, NOTIFY_ON_WARNING = 2, NOTIFY_ON_RECOVERY = 4,
       NOTIFY_ON_SUCCESS = 8 };

/* Whom the daemon tells of what; "" for what was not given. */
struct config_notify {
	char command[PATH_MAX];
	char webhook[CONFIG_WEBHOOK_ROOM];	/* https; a secret. Or: */
	char webhook_file[PATH_MAX];		/* which holds it */
	char routing_key_file[PATH_MAX];	/* given if, and only if, NOTIFY_PAGERDUTY */
	char ca_file[PATH_MAX];
	char mail_to[CONFIG_MAIL_TO_ROOM];	/* config_mail_next; with it all up to smtp */
	char mail_from[CONFIG_MAIL_ADDRESS_ROOM];
	char smtp[320];				/* smtps://HOST[:PORT], or smtp:// with STARTTLS */
	bool smtp_plain;			/* or without, if HOST is this one */
	char smtp_user[256];			/* with a smtp_password_file, or "" */
	char smtp_password_file[PATH_MAX];
	enum config_notify_format format;
	unsigned on;				/* NOTIFY_ON_…; never NOTIFY_ON_RECOVERY alone */
	uint64_t interval_ns;			/* 0: no limit; default 15 min */
};

#define CONFIG_STORES_MAX 8		/* besides the repository's */
#define CONFIG_STORE_FIRST "repository"

/* Where objects lie, and what is kept there: [repository], or a [store NAME]. */
#define CONFIG_PRICE_UNIT 1000000000u

struct config_store {
	char name[VOLUME_NAME_MAX + 1];
	char url[PATH_MAX];			/* "" when not configured */
	char endpoint[512], region[64];
	bool path_style;
	char credentials_file[PATH_MAX], credentials_profile[64];
	char ca_file[PATH_MAX];
	uint32_t connections, retries, timeout_seconds, part_bytes;
	uint64_t bandwidth_bytes;
	uint64_t lag_warning_ns;		/* of a further store: told when a point is missing
						 * there for longer; 0: never; default 1 h */
	struct policy keep;			/* empty: none */
	char retention[CONFIG_CALENDAR_MAX + 1]; /* when the daemon sees to it; as a schedule's full */
	bool priced;				/* one of these was given, in CONFIG_PRICE_UNIT */
	uint64_t price_get;			/* of 1,000 reads */
	uint64_t price_egress;			/* of 10^9 bytes fetched */
};

struct config_group {
	char name[VOLUME_NAME_MAX + 1];
	struct config_schedule schedule;
	struct config_hook hook;
};

#define CONFIG_LEAVE_OUT_MAX 511

/* A volume, or a whole disk ([disk NAME]), of which only what volumes have not is kept. */
struct config_volume {
	char name[VOLUME_NAME_MAX + 1];
	bool disk;				/* then it is in no group, and has no hook */
	char leave_out[CONFIG_LEAVE_OUT_MAX + 1]; /* a disk's: what need not be kept */
	char device[PATH_MAX];
	char group[VOLUME_NAME_MAX + 1];	/* "" for none */
	enum snapshot_provider provider;
	struct cow_options cow;
	uint32_t granularity_bytes;		/* 0: chosen by size */
	bool fingerprints;			/* keep them; default yes */
	bool skip_unchanged;			/* marked blocks that are as they were; default yes */
	uint32_t spot_checks;			/* unmarked blocks compared a run, default 32 */
	struct config_schedule schedule;	/* rpo_ns 0 in a group: that has its own */
	struct config_hook hook;		/* none in a group: that has its own */
	struct config_drill drill;
	struct policy keep;			/* empty: the repository's */
};

/* How far a run holds back, for the sake of what else the machine does. */
struct config_limits {
	uint32_t nice;				/* 0 to 19, default 5 */
	int io_class;				/* enum io_class; default best-effort */
	uint32_t io_priority;			/* of best-effort, 0 to 7, default 7 */
	uint64_t memory_bytes;			/* of a run; 0, the default: as the others say */
	uint64_t snapshot_max_ns;		/* of an incremental; 0, the default: any time */
	uint64_t latency_target_ns;		/* of the volume's own I/O; 0, the default: any */
};

struct config {
	struct config_store repository;		/* where points are committed; name "repository" */
	struct {
		char fingerprint[65];		/* "" when not pinned here */
		char recipients[CONFIG_RECIPIENTS_MAX][PATH_MAX]; /* public PEMs, for init */
		size_t recipient_count;
	} identity;				/* of the repository, on all stores */
	struct {
		char state[PATH_MAX];
		uint32_t workers, queue_depth;
		int compression;		/* zstd level, default 1 */
		bool compression_auto;		/* the daemon picks one for each run; else that */
		uint64_t segment_bytes, read_bytes_per_second;
		uint64_t bitmap_limit_bytes;	/* per volume, default 64 MiB */
		char metrics[PATH_MAX];		/* "" for none; ends in .prom */
		char metrics_listen[CONFIG_LISTEN_ROOM]; /* "" for none; config_parse_listen */
		bool metrics_public;		/* it may be another than a loopback address */
		enum log_format log_format;	/* of who was told no other; default auto */
		uint64_t stop_timeout_ns;	/* for a run to end by itself, default 60 s */
		struct config_limits limits;
		uint32_t runs;			/* of the daemon, beside one another; default 2 */
		struct config_schedule schedule; /* of units that say nothing else */
		struct config_drill drill;	/* of volumes that say nothing else */
	} agent;
	struct config_notify notify;
	struct {				/* clawback recover; options go before it */
		char at[64];			/* "" latest */
		char recovery_key[PATH_MAX], passphrase_file[PATH_MAX];
		char luks_passphrase_file[PATH_MAX], luks_key_file[PATH_MAX];
		char disks[1024];		/* "NAME:/dev/…" and more, with blanks between */
		bool erase, grow, verify, unattended;
	} recover;
	struct config_volume *volumes;		/* and disks, in the file's order */
	size_t volume_count;
	struct config_group *groups;		/* one for each that a volume is in */
	size_t group_count;
	struct config_store *stores;		/* further ones, in the file's order */
	size_t store_count;
};

/*
 * Reads `path`. With `required` false a missing file gives the defaults.
 * Overrides are applied after it. EXIT_USAGE on anything wrong.
 */
int config_load(const char *path, bool required, const char *const *overrides,
		size_t override_count, struct config *config, struct error *err);
void config_fini(struct config *config);

/* By name, of a volume or a disk; NULL when there is none. */
const struct config_volume *config_volume(const struct config *config,
					  const char *name);

const struct config_group *config_group(const struct config *config,
					const char *name);

/* The repository's by that name or NULL, or a further one; NULL when there is none. */
const struct config_store *config_store(const struct config *config, const char *name);

/* Whether it is a URL that a webhook may have; also for what webhook_file holds. */
bool config_webhook_good(const char *url);

/* The next address of a mail_to, and *list moved behind it; false at the end. */
bool config_mail_next(const char **list, char address[static CONFIG_MAIL_ADDRESS_ROOM]);

/* Where to listen: an address in numbers and a port. */
struct config_listen {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t length;
	bool loopback;
};

/* "127.0.0.1:9746", "[::1]:9746"; ports from 1 on; -EINVAL. */
int config_parse_listen(const char *text, struct config_listen *listen);

/* "4096", "64K", "256 MiB", "1G": powers of 1024; -EINVAL, -ERANGE. */
int config_parse_bytes(const char *text, uint64_t *bytes);

/*
 * "90", "90s", "5ms", "1min 30s", "36h", "1d", "2w": a sum of numbers and units, seconds by
 * default, as in systemd.time(7), which knows more of them; -EINVAL, -ERANGE.
 */
int config_parse_duration(const char *text, uint64_t *ns);

#endif
