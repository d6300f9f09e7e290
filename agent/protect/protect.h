/*
 * Protecting volumes: one run from trust to commit, and what is known between
 * runs. Brings together tracker, volumes, pipeline and repository.
 *
 * A run (docs/tracking.md): lock, clean up after the dead, find the device, judge
 * the tracker, boundary, read, drop the snapshot, commit the point, save the
 * state, drop the pending marks. Killed anywhere, no mark is lost and no half
 * point is visible.
 *
 * Threads: one at a time.
 */
#ifndef CLAWBACK_PROTECT_PROTECT_H
#define CLAWBACK_PROTECT_PROTECT_H

#include "agent/base/error.h"
#include "agent/base/laps.h"
#include "agent/config/config.h"
#include "agent/crypto/crypto.h"
#include "agent/disk/disk.h"
#include "agent/repo/repo.h"
#include "agent/restore/restore.h"
#include "agent/store/store.h"
#include "agent/volume/volume.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- the host's side of a repository ----------------------------------- */

/* What a host needs to write points. Opened in steps; close frees what is there. */
struct host {
	const struct config *config;	/* the caller's */
	struct store *store;
	struct repo *repo;
	struct signing_private *signer;	/* NULL when this host has none */
	bool has_map_key;
	uint8_t map_key[CRYPTO_KEY_SIZE];
	uint64_t open_ns;		/* what host_open took, until a run counted it */
};

/* The store only; `create` makes a folder for file://. */
int host_open_store(const struct config *config, const struct config_store *at, bool create,
		    struct host *host, struct error *err);
int store_of_config(const struct config_store *at, bool create, struct store **store,
		    struct error *err);
/*
 * Store, repository and keys. The repository must be the one that was pinned: by
 * the configuration, else by the state folder; a first use pins it there and says
 * so. HOST_WRITER: missing host keys are an error. HOST_LOOK: changes nothing, so
 * pins nothing.
 */
enum host_use { HOST_WRITER = 1, HOST_LOOK = 2 };
int host_open(const struct config *config, unsigned use, struct host *host,
	      struct error *err);
/* The same repository in a further store. */
int host_open_at(const struct config *config, const struct config_store *at, unsigned use,
		 struct host *host, struct error *err);
void host_close(struct host *host);
/* The fingerprint that is pinned, by the configuration or the state folder; "" when none
 * is. */
int host_pin(const struct config *config, char pin[static CRYPTO_FINGERPRINT_TEXT],
	     struct error *err);

/* Makes the host's keys where they are missing, then the repository, and pins it. */
int host_init(const struct config *config, struct repo_facts *facts,
	      struct error *err);

/* ---- further stores ---------------------------------------------------- */

/* What is remembered of a volume in a further store. */
struct replica_volume {
	struct uuid id;
	char name[REPO_NAME_MAX + 1];
	struct replica_place place;
	uint64_t missing;		/* the first point that was not there; 0: none was */
	uint64_t missing_ns;		/* when that was committed */
};

/* <state>/stores/NAME.json; of another url than the configured one it does not count. */
struct replica_state {
	uint64_t success_ns;		/* when a pass last brought it up to date; 0: never */
	uint64_t failures, error_ns;	/* since then; the last one */
	char error[256];		/* its beginning */
	struct replica_volume *volumes;	/* owned: replica_state_fini */
	size_t count;
};

/* All zero when there is none. -EBADMSG when the file is damaged. */
int replica_state_load(const char *state_folder, const struct config_store *store,
		       struct replica_state *state, struct error *err);
int replica_state_save(const char *state_folder, const struct config_store *store,
		       const struct replica_state *state, struct error *err);
void replica_state_fini(struct replica_state *state);
/* NULL when nothing is remembered of it. */
struct replica_volume *replica_state_find(const struct replica_state *state,
					  const struct uuid *volume);

/* How far a store is behind, as far as is known without asking it. */
struct replica_lag {
	uint64_t through, through_ns;	/* the newest point there; 0: none */
	uint64_t points;		/* committed, and not there */
	uint64_t ns;			/* since the first of them was */
};
/* `volume` NULL: nothing is there. `head`: the newest point and when it was taken. */
struct replica_lag replica_lag(const struct replica_volume *volume, uint64_t head,
			       uint64_t head_ns, uint64_t now_ns);

/*
 * The number from which on forgotten points must not be pruned in the first store, and
 * which further store wants that; 0 and NULL: without any. A damaged file holds all.
 */
uint64_t protect_hold(const struct config *config, const struct uuid *volume,
		      const struct config_store **store);

struct protect_replicate_options {
	bool dry_run;
	/* Of each volume, when it is through; with `err` filled when it failed. */
	void (*done)(void *context, const char *volume, const struct replicate_result *result,
		     const struct replica_place *place, const struct error *err);
	void (*report)(void *context, const char *volume, uint64_t done_points,
		       uint64_t total_points);
	void *context;
};

/*
 * One pass to a further store, of these volumes. One at a time a store (EXIT_LOCKED). A
 * store that was never reached is made; one that is gone is not made again. What came of
 * it is in the store's file, also when it failed.
 */
int protect_replicate(struct host *host, const struct config_store *store,
		      const struct repo_volume *volumes, size_t count,
		      const struct protect_replicate_options *options, struct error *err);

/* The volumes of the configuration that have a point; caller frees. */
int protect_replicable(const struct config *config, struct repo_volume **volumes,
		       size_t *count, struct error *err);

/* ---- retention ---------------------------------------------------------- */

#define PROTECT_GRACE_NS UINT64_C(3600000000000)	/* prune's, where nobody says another */

/*
 * What is kept of a volume in a store: a further store's own policy, else the volume's,
 * else the repository's. Perhaps empty.
 */
const struct policy *protect_policy(const struct config *config,
				    const struct config_store *store, const char *volume);

/* Where the state folder remembers a volume's points' facts. */
void protect_facts_path(const struct config *config, const struct uuid *volume,
			char path[static PATH_MAX]);

/* A volume's visible points, rising, and the record that says so. */
struct history {
	struct repo_volume volume;
	struct retention retention;
	struct policy_point *points;		/* owned: history_fini */
	size_t count;				/* at least 1 */
};

/* -ENOENT without a point. `remember`: what is read may be kept in the state folder. */
int history_load(struct host *host, const struct repo_volume *volume, bool remember,
		 struct history *history, struct error *err);
/* Gives each point the reasons that the policy has to keep it. */
int history_apply(struct history *history, const struct policy *policy, struct error *err);
/* Forgets those that have none; never the newest. */
int history_forget(struct host *host, struct history *history, bool dry_run,
		   size_t *forgotten, struct error *err);
void history_fini(struct history *history);

struct retention_result {
	uint64_t forgotten, pruned;		/* points */
	uint64_t deleted_objects, deleted_bytes;
};

/*
 * One round over a store: configured volumes that have a policy lose the points that it
 * does not keep, then all volumes are pruned. Of several failures the last is told, after
 * all was tried.
 */
int protect_retention(const struct config *config, const struct config_store *store,
		      struct retention_result *result, struct error *err);

/* ---- attaching --------------------------------------------------------- */

struct attach_result {
	struct device_facts device;
	uint32_t slot;
	uint32_t granularity_bytes;
	bool was_attached;
	bool handed_over;		/* the last boot's marks were taken over */
	enum volume_trust trust;
	char reason[256];		/* why untrusted */
};

int protect_attach(const struct config *config, const struct config_volume *volume,
		   struct attach_result *result, struct error *err);
/* -ENOENT when it was not attached. The volume becomes untrusted. */
int protect_detach(const struct config *config, const struct config_volume *volume,
		   struct error *err);

/*
 * Before the first mount of a boot: as protect_attach, for a volume that has been
 * attached before (-ENOENT else). Waits for its device to appear until `deadline_ns`
 * of CLOCK_MONOTONIC.
 */
int protect_attach_boot(const struct config *config, const struct config_volume *volume,
			uint64_t deadline_ns, struct attach_result *result,
			struct error *err);

/*
 * Saves what is known of a volume for the next boot and holds its device still until
 * then, or until it is attached again. -EBUSY while it is in use, -ESTALE when it is
 * untrusted, -ENOENT when it is not attached, -ETXTBSY when it carries the root file
 * system, -EOPNOTSUPP when that can never be handed over; then nothing is saved.
 */
int protect_handover(const struct config *config, const struct config_volume *volume,
		     struct error *err);

/*
 * The same for the volume of the root file system, which holds the state folder, both
 * ways while that is read-only: at the very end of a boot, and before it becomes
 * writable in the next (protect_attach then takes it over). -ENOENT for other volumes,
 * and when nothing was handed over.
 */
int protect_handover_root(const struct config *config, const struct config_volume *volume,
			  struct error *err);
int protect_attach_root(const struct config *config, const struct config_volume *volume,
			struct attach_result *result, struct error *err);

uint64_t elapsed_ns(void);		/* CLOCK_MONOTONIC */

/* ---- one run ----------------------------------------------------------- */

/*
 * What is asked for. A volume without a point, or one that can neither be believed nor
 * compared, gets a full whatever that is, unless it is an incremental.
 * Synthetic: as auto, but the point's own map is the whole volume's, by pointers.
 * Differential: all that was stored since the last full (perhaps synthetic) is read
 * anew; not from a volume that is to be compared: that is compared, and no more.
 */
enum backup_type {
	BACKUP_AUTO, BACKUP_FULL, BACKUP_INCREMENTAL, BACKUP_SYNTHETIC, BACKUP_DIFFERENTIAL,
	BACKUP_TYPES
};
const char *backup_type_name(enum backup_type type);

struct backup_options {
	enum backup_type type;
	const char *reason;	/* what for, of a point that has no other reason; NULL: none */
	bool image_digest;	/* hash the whole snapshot too: reads all of it */
	void (*report)(void *context, const char *volume, uint64_t done_bytes,
		       uint64_t total_bytes, uint64_t stored_bytes);
	void *context;
};

struct backup_times { uint64_t prepare_ns, boundary_ns, read_ns, commit_ns, total_ns; };

/* One volume's part of a run. */
struct backup_result {
	struct point point;	/* filled when committed; free with point_fini */
	bool committed;
	enum point_kind kind;
	bool rescan;		/* an incremental for which the whole volume was compared */
	uint64_t will_read_bytes; /* marked, or the whole volume */
	uint64_t unchanged_bytes; /* read, but as the last point has them: not stored */
	uint64_t read_cpu_ns, pack_cpu_ns, write_cpu_ns; /* of its pipeline's threads */
	uint64_t yields;	/* how often the volume's own I/O was above latency_target */
	uint64_t spot_mismatches; /* unmarked blocks that had changed: see below */
	char reason[256];	/* why a full or a rescan, or "" */
	struct backup_times times;
	struct laps laps;	/* of the whole run, "open" before it: docs/benchmark.md */
	uint64_t requests;	/* to the store, by the whole run */
};

/*
 * Backs up `count` volumes (1 … VOLUME_GROUP_MAX) at one instant, or one disk. `results` has
 * `count` items, zeroed by the caller. Points are committed after all volumes
 * were read; when a later commit fails the earlier points stand and the error is
 * EXIT_PARTIAL. -EBADMSG with EXIT_UNTRUSTWORTHY when all points were committed but
 * a spot check found that the tracker had missed something before.
 */
int protect_backup(struct host *host, const struct config_volume *const *volumes,
		   size_t count, const struct backup_options *options,
		   struct backup_result *results, struct error *err);

/* ---- drills ------------------------------------------------------------ */

/* What is remembered of a volume's drills, <state>/drills/NAME.json. */
struct drill_state {
	uint64_t since_ns;		/* when they were first asked for by calendar; 0: never */
	bool has_last, has_passed;
	struct drill_record last;
	struct drill_record passed;	/* the last one that did */
};

/* All zero, and 0, when there is none. -EBADMSG when the file is damaged. */
int drill_state_load(const char *state_folder, const char *volume, struct drill_state *state,
		     struct error *err);
int drill_state_save(const char *state_folder, const char *volume,
		     const struct drill_state *state, struct error *err);

struct protect_drill_options {
	const char *volume;		/* name or id in the repository */
	const char *point;		/* as point_find wants it, or "random"; NULL: latest */
	const struct config_store *store;
	const char *folder, *device;	/* as in struct drill_options */
	const char *command;		/* NULL: none */
	uint64_t timeout_ns;
	bool dry_run;			/* look only; records nothing */
	/* Opens the recovery key, once the point is known to be there; freed as soon as the
	 * point is restored, before any program runs. */
	int (*key)(void *context, struct recovery_private **recovery, struct error *err);
	/* The point is chosen; of the restore; a step ended. NULL is fine. */
	void (*chosen)(void *context, const struct point *point, uint64_t needed_bytes);
	void (*report)(void *context, uint64_t done_bytes, uint64_t total_bytes);
	void (*step)(void *context, enum drill_step step, uint64_t took_ns);
	void *context;
};

/*
 * One drill, and its record: in the state folder, and, signed, in the store, if this
 * machine has a key that writes there; whether it is there `record->sequence` says. A
 * drill that is interrupted, or that could not begin (no such volume, no place for it in
 * the options), leaves none.
 */
int protect_drill(const struct config *config, const struct protect_drill_options *options,
		  struct drill_record *record, struct error *err);

/* ---- whole disks --------------------------------------------------------- */

/*
 * How a [disk] is laid out now, and which of the configuration's volumes lie where:
 * disk_layout_fini. Changes nothing; as disk_capture.
 */
int protect_disk_layout(const struct config *config, const struct config_volume *disk,
			struct disk_layout *layout, struct error *err);

/* ---- rewinding --------------------------------------------------------- */

/* A point of the volume, and what it is opened with. */
struct rewind_source {
	struct repo *repo;
	const struct point *point;
	const struct key_ring *ring;
};

struct rewind_result;

struct rewind_options {
	bool no_safety_point;	/* what is there now is lost */
	bool dry_run;		/* look only, also at a volume in use */
	struct restore_options restore;	/* but for `known`; its context is all callbacks' */
	void (*backup_report)(void *context, const char *volume, uint64_t done_bytes,
			      uint64_t total_bytes, uint64_t stored_bytes);
	/* All but `restore` of the result is known, and nothing was written yet. */
	void (*decided)(void *context, const struct rewind_result *result);
};

struct rewind_result {
	char device[PATH_MAX];
	uint64_t safety_point;	/* its number; 0: none was made */
	uint64_t from;		/* the point that was there, but for marks; 0: not known, … */
	char reason[256];	/* … and why: all of the volume is compared */
	uint64_t marked_bytes;	/* since that point */
	struct restore_result restore;
};

/*
 * The volume's own device goes back to the point. First a backup is made of what is there
 * and kept from all policies. When the newest point and the marks since can be believed,
 * only what can differ is read and fetched; else all is compared. Broken off at any
 * moment, it is to be run again. What it wrote is marked: the next incremental has it.
 */
int protect_rewind(const struct config *config, const struct config_volume *volume,
		   const struct rewind_source *source, const struct rewind_options *options,
		   struct rewind_result *result, struct error *err);

/* Whether what `path` names is the volume's own device, now. */
bool protect_is_own(const struct config *config, const struct config_volume *volume,
		    const char *path);

/* ---- status ------------------------------------------------------------ */

struct volume_status {
	struct device_facts device;
	bool device_found;
	bool attached;
	struct tracker_slot slot;
	struct tracker_marks marks;
	struct tracker_ledger ledger;	/* absolute; meaningful with `base` */
	bool known;			/* there is a state file */
	struct volume_state state;
	enum volume_trust trust;
	char reason[256];		/* why untrusted */
	struct fingerprints_facts fingerprints;
	bool pending;			/* marks of an unfinished run are kept */
	char problem[256];		/* why the device was not found */
};

/* `tracker` NULL: nothing is loaded. */
int protect_status(const struct config *config, const struct config_volume *volume,
		   struct tracker *tracker, struct volume_status *status,
		   struct error *err);

/* ---- the daemon -------------------------------------------------------- */

/*
 * Keeps every unit (a volume in no group, or a group) that has an rpo inside it:
 * protect/schedule.h says when it runs, docs/protect.md why so. A few runs at once,
 * each in a child of its own: a run locks memory, may be interrupted only once and
 * handles libraries that keep what they took, so a process is good for few; and one
 * that crashes must not take the daemon along. Times are ns since 1970.
 */
enum protect_event_type {
	PROTECT_CYCLE_STARTED,	/* asked, why */
	PROTECT_CYCLE_ENDED,	/* parts, duration, age */
	PROTECT_CYCLE_SKIPPED,	/* nothing was written; told once, until something is */
	PROTECT_CYCLE_FAILED,	/* error, duration, due: when it is tried again; perhaps parts */
	PROTECT_RPO_MISSED,	/* age: now, 0 when there is no point; why */
	PROTECT_RPO_RECOVERED,
	PROTECT_RELOADED,	/* without a unit; error: refused, the old one stays */
	PROTECT_STOPPING,	/* without a unit */
	PROTECT_PLANNED,	/* due, asked, why */
	/* Of a further store, without a unit: */
	PROTECT_REPLICATED,	/* points: copied; duration */
	PROTECT_STORE_FAILED,	/* error; due: when it is tried again */
	PROTECT_STORE_LAGS,	/* points: missing there; age: since when; why */
	PROTECT_STORE_RECOVERED, /* has all */
	PROTECT_TUNED,		/* of a unit: level, why */
	/* Of a volume, which `unit` names: */
	PROTECT_DRILL_PASSED,	/* drill, duration */
	PROTECT_DRILL_FAILED,	/* drill, duration, error */
	/* Of a store, the first one too, without a unit: */
	PROTECT_RETAINED,	/* retention; duration */
	PROTECT_RETENTION_FAILED, /* error, duration; due: when it is tried again */
};

/* What became of one volume in a run. */
struct protect_part {
	const char *volume;
	bool committed, rescan;
	enum point_kind kind;
	uint64_t number, time_ns, read_bytes, stored_bytes;
};

struct protect_event {
	enum protect_event_type type;
	uint64_t time_ns;
	const char *unit;		/* NULL: of the daemon as a whole, or of a store */
	bool group;
	enum backup_type asked;		/* by the calendar; else BACKUP_AUTO */
	const char *store;		/* NULL: of none */
	uint64_t points;
	int level;			/* of compression, from its next run on */
	const char *why;		/* or "" */
	uint64_t rpo_ns, age_ns, duration_ns, due_ns;
	const struct error *error;	/* NULL: none */
	const struct protect_part *parts;
	size_t part_count;
	const struct drill_record *drill;
	const struct retention_result *retention;	/* NULL: none */
};

struct protect_options {
	bool once;			/* what is due now, each once; then it returns */
	/* Reads the configuration anew, for SIGHUP. */
	int (*reload)(void *context, struct config *config, struct error *err);
	/* Called at once, in the thread of protect_daemon. */
	void (*tell)(void *context, const struct protect_event *event);
	void *context;
};

/*
 * Goes on until SIGTERM or SIGINT, which it takes over, as it does SIGHUP: 0 then.
 * `config` is replaced by what was reloaded. EXIT_USAGE when no unit has an rpo,
 * EXIT_LOCKED when there is a daemon of this state folder. `once`: as backup --all.
 */
int protect_daemon(struct config *config, const struct protect_options *options,
		   struct error *err);

/*
 * Whether what [notify] names is there and fit for it, as far as this can be told without
 * telling anybody anything: 0, or why not.
 */
int protect_notify_check(const struct config *config, struct error *err);

/* Tells what it would do next, an event a unit, and does nothing. */
int protect_plan(struct config *config, const struct protect_options *options,
		 struct error *err);

/* What the daemon left to know of a unit, <state>/protect.json. */
struct protect_unit {
	char name[VOLUME_NAME_MAX + 1];
	bool group;
	bool running, missed;
	uint64_t rpo_ns;
	uint64_t covered_ns;		/* all writes before are in a point; 0: there is none */
	uint64_t due_ns;		/* 0: not known */
	uint64_t run_ns;		/* the longest of the last runs */
	uint64_t failures;		/* since the last success */
	uint64_t error_ns;		/* 0: none */
	char error[256];		/* the last one's beginning */
};

struct protect_facts {
	bool alive;			/* a daemon holds its lock now */
	struct protect_unit *units;	/* owned: protect_facts_fini */
	size_t count;
};

/* -ENOENT when there never was a daemon; -EBADMSG when the file is damaged. */
int protect_facts_load(const char *state_folder, struct protect_facts *facts,
		       struct error *err);
void protect_facts_fini(struct protect_facts *facts);

/*
 * How old the oldest write that is in no stored point may be, at most: 0 when the
 * tracker is trusted and nothing was written; else the time since all was covered,
 * as the point, or a daemon's later look, has it. UINT64_MAX without a point.
 */
uint64_t protect_age_ns(const struct volume_status *status, const struct protect_unit *unit,
			uint64_t now_ns);

#endif
