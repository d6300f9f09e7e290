/* Internal: what the files of one run share. */
#ifndef CLAWBACK_PROTECT_RUN_H
#define CLAWBACK_PROTECT_RUN_H

#include "agent/base/laps.h"
#include "agent/base/priority.h"
#include "agent/pipeline/pipeline.h"
#include "agent/protect/protect.h"

/* One volume on its way through a run. */
struct run_volume {
	const struct config_volume *config;
	struct volume_state state;
	struct device_facts device;
	uint32_t slot;
	uint32_t granularity_bytes;
	bool attached_now;		/* not tracked until this run began */
	int lock_fd;
	struct bitmap pending;		/* marks of a run that did not finish */
	bool has_pending;
	struct uuid pending_run;	/* which run kept them */
	struct handover handover;	/* what the last boot left, until it is taken */
	bool has_handover;
	bool handed_over;		/* and was believed */
	struct slot_place slot_place;	/* root: of the slot that it was in */
	bool slot_spent;		/* … which has to be made anew */
	struct tracker_identity identity; /* just after the boundary */
	uint64_t recursion_misses;
	bool full;
	bool rescan;			/* no full, and compares all blocks */
	enum point_kind kind;
	struct extent_list since;	/* a differential: stored since the full */
	struct fingerprints *fingerprints; /* NULL: none are kept */
	bool compare;			/* … and they are the head's */
	uint64_t spot_mismatches;	/* unmarked blocks that had changed */
	struct point point;
	struct point_keys keys;
	struct extent_list extents;
	struct pipeline_result output;
	bool has_output;
};

/*
 * The hook of a run (protect/run_hook.c): of the group that the volumes are in, or of
 * the one volume; zeroed by the caller. Begin: last before the boundary. Release:
 * just after the switch. Over: the boundary ended with `ret`, which is returned,
 * unless it succeeded and the hook did not and must. End: before the commit, always;
 * the volumes' points are said to be of an application that was held, if it was.
 */
struct run_hook {
	const struct config_hook *config;
	struct hook *hook;	/* NULL when there is none, or it failed to begin */
};

int run_hook_begin(const struct config *config, const struct run_volume *volumes,
		   size_t count, struct run_hook *run, struct error *err);
void run_hook_release(struct run_hook *run);
int run_hook_over(struct run_hook *run, int ret, struct error *err);
void run_hook_end(struct run_hook *run, struct run_volume *volumes, size_t count);

/* A whole run. */
struct run {
	struct host *host;
	const struct backup_options *options;
	struct tracker *tracker;
	struct run_volume volumes[VOLUME_GROUP_MAX];
	struct boundary_volume frozen[VOLUME_GROUP_MAX];
	size_t count;
	struct run_hook hook;
	struct boundary *boundary;	/* NULL when no snapshot stands */
	struct boundary *dropped;	/* it is gone, but for udev's part */
	size_t reading;			/* the volume being read, */
	int reading_fd;			/* its snapshot; -1 when closed */
	struct backup_times times;
	uint64_t snapshot_end_ns;	/* when it has to be gone; 0: at no time */
	struct pipeline_options pipeline;
	struct laps laps;
	struct priority before;		/* what is read and stored stands back behind */
};

/*
 * While the snapshot stands (protect/run_read.c). limit: how long it may, since
 * `since_ns`. read: one volume, into its output; the last one drops the snapshot as
 * soon as it is in memory. explain: why reading failed, where the error does not say;
 * returns its code. drop: does nothing when there is none. settle: at the end, when
 * nothing that matters waits for it any more.
 */
void run_limit_snapshot(struct run *run, uint64_t since_ns);
int run_read(struct run *run, size_t i, struct error *err);
int run_explain(struct run *run, struct error *err);
int run_drop_snapshot(struct run *run, struct error *err);
void run_settle(struct run *run);

/*
 * Of a run (protect/backup.c). pending: takes up what a run left that did not end. options:
 * of its pipelines. result: what came of volume `i`. stand_back: the priority that reading
 * and storing has, until priority_restore. fini: frees it.
 */
int run_pending(struct run *run, struct run_volume *volume, struct error *err);
int run_options(struct run *run, struct error *err);
void run_result(const struct run *run, size_t i, struct backup_result *result);
void run_stand_back(struct run *run);
void run_fini(struct run *run);

/* The same for a whole disk (protect/disk_run.c), to its end. */
int disk_backup(struct host *host, const struct config_volume *disk,
		const struct backup_options *options, struct backup_result *result,
		struct error *err);

/*
 * How the disk is laid out now (protect/disk_layout.c); and the same as text, to be
 * compared: without what differs each time that LVM is asked. Caller frees *text.
 */
int disk_layout_of(const struct config *config, const struct config_volume *disk,
		   const struct device_facts *device, struct disk_layout *layout,
		   struct error *err);
int disk_layout_text(struct disk_layout *layout, char **text, struct error *err);

/* State for a volume that was never seen: new identity, untrusted. */
int state_new(const struct config_volume *volume, struct volume_state *state,
	      struct error *err);

/* Makes it untrusted, unless it is; the first reason stays. */
void state_distrust(struct volume_state *state, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Loads the state, finds the device, sees to it that it is tracked with the right
 * geometry. Whatever speaks against the tracker's answer is saved in the state,
 * durably, before anything that would hide it is changed.
 */
int volume_prepare(const struct config *config, struct tracker *tracker,
		   struct run_volume *volume, struct error *err);

/*
 * Takes what the last boot left out of the state folder, durably, and gives the
 * device free for writing. What is not of use any more (`tracked`: there is a slot)
 * is dropped.
 */
int volume_take_handover(const struct config *config, struct tracker *tracker, bool tracked,
			 struct run_volume *volume, struct error *err);

/*
 * Begins tracking of a volume that has a hand-over: with its marks if it can be
 * believed, else the state is distrusted. The state is not saved.
 */
int volume_attach_handed_over(const struct config *config, struct tracker *tracker,
			      const struct tracker_volume *wanted, struct run_volume *volume,
			      struct error *err);

/*
 * A new slot of the tracker for a volume without one, with what was handed over, or
 * else untrusted; then saves the state, in `state_folder`.
 */
int volume_begin_tracking(const struct config *config, struct tracker *tracker,
			  struct run_volume *volume, const char *state_folder,
			  struct error *err);

/*
 * The root file system's volume (protect/attach_root.c). is_root: of any kind. busy:
 * 0 when it is not; else -ETXTBSY, or -EOPNOTSUPP when it can never be handed over.
 */
bool volume_is_root(const struct config *config, const struct config_volume *volume);
int volume_root_busy(const struct config *config, const struct config_volume *volume,
		     struct error *err);
/* Empties the slot, durably; then takes over what was found before the root file system
 * became writable. `tracked`: there is a slot of the tracker. */
int volume_take_root(const struct config *config, struct tracker *tracker, bool tracked,
		     struct run_volume *volume, struct error *err);
/* Drops all that could be taken over. */
int volume_forget_root(const struct config *config, const char *name, struct error *err);
/* Provides for the end of this boot; that it failed is told, and no more. */
void volume_keep_slot(const struct config *config, const struct run_volume *volume);

uint64_t clock_ns(void);		/* CLOCK_REALTIME */

/*
 * After the boundary: a full or an incremental, and why; what to read; the point's
 * facts and keys.
 */
int volume_decide(struct host *host, struct tracker *tracker,
		  const struct boundary_volume *frozen, enum backup_type type,
		  struct run_volume *volume, struct error *err);

/* Parts of that: the point before (without a number: there is none, or a full does without)
 * as the repository has it; and the point's facts, once it is known what it will be. */
int volume_head(struct host *host, enum backup_type type, struct run_volume *volume,
		struct point *head, struct error *err);
void volume_describe(const struct boundary_volume *frozen, const struct point *head,
		     struct run_volume *volume);

/*
 * The volume's fingerprints (protect/fingerprints.c). Open: says in `compare` whether
 * they are those of `head` (without a number: there is none). Begin: once it is known
 * what the run will be. Seal: before the commit. Advance: after the state was saved.
 * They may fail without failing a run, but for a rescan, which is made of them.
 */
void volume_fingerprints_open(const struct config *config, const struct point *head,
			      struct run_volume *volume);
int volume_fingerprints_begin(struct run_volume *volume, struct error *err);
void volume_fingerprints_seal(struct run_volume *volume);
void volume_fingerprints_advance(struct run_volume *volume);
void volume_fingerprints_close(struct run_volume *volume);

/*
 * Compares some unmarked blocks of the snapshot with their fingerprints. One that
 * differs makes the volume untrusted, durably, and the run a rescan.
 */
int volume_spot_check(const struct config *config, const struct boundary_volume *frozen,
		      struct run_volume *volume, struct error *err);

/*
 * Fewer buffers and workers, where memory_limit wants it, for a run over these volumes,
 * whose sizes are known (protect/memory.c). EXIT_USAGE: it is too little.
 */
int run_memory(const struct config *config, const struct run_volume *volumes, size_t count,
	       struct pipeline_options *options, struct error *err);

/*
 * How many blocks a frame may hold: as configured, or, where that is 0, as the volume's size
 * wants it, so that its map has a few million frames at most.
 */
uint32_t run_frame_blocks(uint32_t configured_bytes, uint64_t volume_bytes);

/*
 * What a differential reads besides the marks: all that lies in frames of points behind
 * the last full, as the map of `head` has it. Not from that full's own map: it may be
 * forgotten, and pruned, by now.
 */
int volume_stored_since(struct host *host, const struct point *head,
			struct run_volume *volume, struct error *err);

/* Commits one volume's point, then saves its state and drops its marks. */
int volume_commit(struct host *host, const struct boundary_volume *frozen,
		  struct run_volume *volume, struct laps *laps, struct error *err);

/*
 * Takes over points that the state knows nothing of: that of the run that died, and
 * any that this host made before it was set back to an earlier image.
 */
int volume_adopt(struct host *host, struct run_volume *volume, struct error *err);

#endif
