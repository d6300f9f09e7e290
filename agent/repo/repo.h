/*
 * A repository of recovery points on a store (docs/format.md "Repository",
 * "Point"). Objects are immutable; the point object is the commit.
 *
 *   clawback.json                       format version, id, recipients, signers
 *   volumes/VOLUME-ID.json              a volume's name, so that names can be found
 *   VOLUME-ID/points/NNNNNNNNNN         manifest, signature, small map and frames
 *   VOLUME-ID/maps/NNNNNNNNNN-RUN       a large map
 *   VOLUME-ID/segments/NNNNNNNNNN-RUN-SSSSSS   frames
 *   VOLUME-ID/retention/NNNNNNNNNN      which points were forgotten; the newest counts
 *   VOLUME-ID/packs/NNNNNNNNNN-RUN-PPPPPP   what is still needed of pruned points
 *   VOLUME-ID/drills/NNNNNNNNNN     what came of a drill: a point that was restored and tried
 *
 * Everything read back is authenticated before it is parsed: points by their
 * signature, maps and frames by their seal. What does not hold is reported with
 * EXIT_UNTRUSTWORTHY.
 *
 * Threads: a struct repo may be used by several threads at once.
 */
#ifndef CLAWBACK_REPO_REPO_H
#define CLAWBACK_REPO_REPO_H

#include "agent/base/error.h"
#include "agent/base/uuid.h"
#include "agent/crypto/crypto.h"
#include "agent/pipeline/pipeline.h"
#include "agent/store/store.h"
#include "blockmap/map.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPO_RECIPIENTS_MAX 16
#define REPO_SIGNERS_MAX 16
#define REPO_NAME_MAX 64
#define POINT_DEPTH_MAX 32	/* delta maps between a point and its base */
#define POINT_CLOCK_STEPS_MAX 32

struct repo;

struct repo_facts {
	uint32_t version;
	struct uuid id;
	uint64_t created_ns;
	struct recovery_public recipients[REPO_RECIPIENTS_MAX];
	size_t recipient_count;
	struct signing_public signers[REPO_SIGNERS_MAX];
	size_t signer_count;
	/* SHA-256 of clawback.json: who pins it cannot be given another set of
	 * keys by whoever controls the store. */
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];
};

/* Makes a repository; -EEXIST when one is there. `facts` gives id (made here when
 * all zero), recipients and signers; fingerprint is filled. */
int repo_init(struct store *store, struct repo_facts *facts, struct error *err);

/* EXIT_NO_REPOSITORY when there is none; EXIT_UNTRUSTWORTHY when `fingerprint`
 * (may be NULL) is not the one found. The store stays the caller's. */
int repo_open(struct store *store, const char *fingerprint, struct repo **repo,
	      struct error *err);
void repo_close(struct repo *repo);
const struct repo_facts *repo_facts(const struct repo *repo);
struct store *repo_store(const struct repo *repo);

/* ---- volumes ----------------------------------------------------------- */

struct repo_volume {
	struct uuid id;
	char name[REPO_NAME_MAX + 1];
};

/* Registers a volume's name, once: what is registered already stays as it is. */
int repo_volume_add(struct repo *repo, const struct repo_volume *volume,
		    struct error *err);
/* All volumes, sorted by name; caller frees *volumes. */
int repo_volumes(struct repo *repo, struct repo_volume **volumes, size_t *count,
		 struct error *err);
/* By name or by id text; -ENOENT names those there are. */
int repo_volume_find(struct repo *repo, const char *name,
		     struct repo_volume *volume, struct error *err);

/* ---- points ------------------------------------------------------------ */

enum point_kind {
	POINT_FULL, POINT_INCREMENTAL, POINT_DIFFERENTIAL, POINT_SYNTHETIC,
};
enum point_consistency {
	CONSISTENCY_CRASH,		/* as after a power cut */
	CONSISTENCY_FROZEN,		/* the kernel froze the file system */
	CONSISTENCY_APPLICATION,	/* a hook quiesced the application */
	CONSISTENCY_UNMOUNTED,		/* nothing could write */
};
const char *point_kind_name(enum point_kind kind);
const char *point_consistency_name(enum point_consistency consistency);

struct point_wrap {
	struct recovery_public recipient;
	uint8_t wrap[CRYPTO_WRAP_SIZE];
};

struct point {
	/* identity */
	struct uuid repository, volume, run;
	char volume_name[REPO_NAME_MAX + 1];
	uint64_t number;		/* from 1 */
	enum point_kind kind;
	uint64_t parent;		/* number, 0 for none */
	uint8_t parent_hash[CRYPTO_DIGEST_SIZE];
	uint64_t base;			/* point whose map is full: walk parents to it */
	uint32_t depth;			/* parents walked to get there, 0 … DEPTH_MAX */
	uint64_t full;			/* of a differential: the full, perhaps synthetic, since
					 * which it stores all that changed; else 0 */

	/* the moment */
	uint64_t time_ns;		/* of the switch, CLOCK_REALTIME */
	uint64_t committed_ns;
	enum point_consistency consistency;
	char reason[256];		/* why this kind, for people */
	/* The last points up to this one whose time is before that of the point before
	 * them, as the clock was set back; rising. Between them times rise. */
	uint64_t clock_steps[POINT_CLOCK_STEPS_MAX];
	size_t clock_step_count;

	/* the volume */
	uint64_t volume_bytes;
	char host[65], device[256], dm_name[128], dm_uuid[130], dm_targets[128];
	uint32_t logical_block_bytes;
	char *disk_layout;		/* owned; of a whole disk: how it is laid out, as JSON
					 * (agent/disk, disk_layout_decode); else NULL */

	/* the work */
	uint64_t marked_bytes, read_bytes, data_bytes, zero_bytes, stored_bytes;

	/* the contents */
	enum map_kind map_kind;
	bool map_inline, frames_inline;
	uint64_t map_bytes;
	uint8_t map_sha256[CRYPTO_DIGEST_SIZE];
	struct pipeline_segment *segments; /* owned */
	size_t segment_count;
	bool has_image_sha256;		/* of the whole volume as the snapshot showed it */
	uint8_t image_sha256[CRYPTO_DIGEST_SIZE];

	/* the keys */
	struct point_wrap wraps[REPO_RECIPIENTS_MAX];
	size_t wrap_count;
	struct signing_public signer;

	/* filled when committed or loaded */
	uint8_t hash[CRYPTO_DIGEST_SIZE]; /* of header, manifest and signature */
	uint64_t head_bytes;		/* their length: map and frames follow */
	uint64_t object_bytes;
};

void point_fini(struct point *point);

/* Fills clock_steps of a point that will follow `before` (number and time are set). */
void point_clock_steps(struct point *point, const struct point *before);

/* Names of a point's objects. */
void point_key(const struct uuid *volume, uint64_t number,
	       char key[static STORE_KEY_MAX]);
void point_map_key(const struct point *point, char key[static STORE_KEY_MAX]);
/* What pipeline_job.segment_prefix wants; segment S is this + "%06u". */
void point_segment_prefix(const struct point *point,
			  char key[static STORE_KEY_MAX]);

/*
 * Makes the keys of a new point: a random data key, and its map key derived from
 * the host's (volume, number and run must be set).
 */
int point_keys_new(const struct point *point,
		   const uint8_t host_map_key[static CRYPTO_KEY_SIZE],
		   struct point_keys *keys, struct error *err);

/*
 * Commits: seals and stores the map if large, wraps the keys, then creates the
 * point object, conditionally. Everything else that the point refers to must be
 * stored already. -EEXIST with EXIT_LOCKED when the number is taken. Fills hash,
 * head_bytes, object_bytes, wraps, signer, map_*, committed_ns.
 */
int point_commit(struct repo *repo, struct point *point, const struct map *map,
		 const uint8_t *inline_frames, size_t inline_length,
		 const struct point_keys *keys,
		 const struct signing_private *signer, struct error *err);

/*
 * Whether `number` is free, for a writer that cannot see the point before it: -EEXIST
 * with EXIT_LOCKED when it was used, though nothing may be there any more. One listing,
 * and a read if anything was ever forgotten.
 */
int point_number_check(struct repo *repo, const struct uuid *volume, uint64_t number,
		       struct error *err);

/* Loads and authenticates one point, forgotten or not; -ENOENT when it does not exist. */
int point_load(struct repo *repo, const struct uuid *volume, uint64_t number,
	       struct point *point, struct error *err);

/* Numbers of all points of a volume that were not forgotten, rising; two listings.
 * Caller frees. */
int point_numbers(struct repo *repo, const struct uuid *volume,
		  uint64_t **numbers, size_t *count, struct error *err);

/*
 * Loads many, several at once, and calls `each` with one after the other, in the order of
 * `numbers`; what it is given is gone afterwards. A result of its other than 0 ends it.
 */
typedef int (*points_each_fn)(void *context, const struct point *point, struct error *err);
int points_load(struct repo *repo, const struct uuid *volume, const uint64_t *numbers,
		size_t count, points_each_fn each, void *context, struct error *err);

/* What a list shows of a point. */
struct point_facts {
	uint64_t number, time_ns, marked_bytes, stored_bytes;
	enum point_kind kind;
	enum point_consistency consistency;
};

/*
 * Facts of many points, in the order of `numbers`, which rise; caller frees *facts. With
 * `path` (may be NULL) they are kept in that file, and only the points that came since are
 * read, and the last one of those before, to see that it is still the same history; and
 * `keep` says whether it may be written.
 */
int point_facts_load(struct repo *repo, const struct uuid *volume, const uint64_t *numbers,
		     size_t count, const char *path, bool keep, struct point_facts **facts,
		     struct error *err);

/* 2026-11-23T20:15:00Z, also with a fraction: when that second, or that instant, begins
 * and the last of it. */
bool point_time_parse(const char *text, uint64_t *first_ns, uint64_t *last_ns);

/*
 * "latest" (or NULL), a number, or an RFC 3339 UTC time: of the points whose time is not
 * later, the one that was made last, also where the clock was set back in between. A
 * time takes one read more than the logarithm of the number of points, for each such step. -ENOENT with a message that names what there is.
 */
int point_find(struct repo *repo, const struct uuid *volume, const char *text,
	       struct point *point, struct error *err);

/* ---- opening points ---------------------------------------------------- */

/* What a caller can open with: a recovery key opens all, the host's map key maps. */
struct key_ring {
	const struct recovery_private *recovery;	/* or NULL */
	const uint8_t *host_map_key;			/* or NULL */
};

/* Both keys of a point; needs the recovery key (EXIT_WRONG_KEY else). */
int point_open_keys(const struct point *point, const struct key_ring *ring,
		    struct point_keys *keys, struct error *err);

/* The point's own map, as it was committed. */
int point_own_map(struct repo *repo, const struct point *point,
		  const struct key_ring *ring, struct map *map,
		  struct error *err);

/* The whole volume's map at this point: its base's map with the deltas on top,
 * the parents' hashes checked on the way; rebased maps where points between them were
 * pruned. */
int point_full_map(struct repo *repo, const struct point *point,
		   const struct key_ring *ring, struct map *map,
		   struct error *err);

/* Whether all objects are there, and long enough, that a restore of the point reads:
 * EXIT_UNTRUSTWORTHY else. One look an object; none is read but heads and maps. */
int point_complete(struct repo *repo, const struct point *point, const struct key_ring *ring,
		   struct error *err);

/*
 * Reads stored frames: bytes [offset, offset + length) of a segment of `point` where the
 * point's run stored it, be it an object or inline. All of it, or an error;
 * EXIT_UNTRUSTWORTHY when the object is missing or shorter than the manifest says. What
 * a prune moved is found with places_read.
 */
int point_read_segment(struct repo *repo, const struct point *point,
		       uint32_t segment, uint64_t offset, void *buffer,
		       size_t length, struct error *err);

/* ---- where frames lie -------------------------------------------------- */

/*
 * Where the frames lie that maps refer to, by the newest retention record when it was
 * opened: as the point's run stored them, or in packs, into which prunes move what is
 * still needed of pruned points. Whoever reads frames opens this before the map that
 * names them. Any thread.
 */
struct places;

int places_open(struct repo *repo, const struct uuid *volume, struct places **places,
		struct error *err);
void places_close(struct places *places);	/* NULL is fine */

/* point_full_map, by that record. */
int places_full_map(struct places *places, const struct point *point,
		    const struct key_ring *ring, struct map *map, struct error *err);
/* A point that wrote frames, visible or not. -ENOENT. */
int places_point(struct places *places, uint64_t number, struct point *point,
		 struct error *err);
/*
 * As point_read_segment. Of a segment that was moved only frames are there that were
 * needed: what lay between two of them reads as zero.
 */
int places_read(struct places *places, const struct point *point, uint32_t segment,
		uint64_t offset, void *buffer, size_t length, struct error *err);

/* ---- frames of a map --------------------------------------------------- */

/*
 * Which entries point into which frame, for whoever reads frames back in the
 * order in which they are stored: entries of frame F are
 * map->entries[items[first[F]]] … [items[first[F + 1] - 1]], in rising block order.
 */
struct frame_index {
	uint32_t *first;	/* frame_count + 1 */
	uint32_t *items;
};

/* -ENOMEM, -EOVERFLOW beyond 2^32 entries; `index` is uninitialised then. */
int frame_index_init(struct frame_index *index, const struct map *map);
void frame_index_fini(struct frame_index *index);

/*
 * Whether a frame's own list of blocks (frame_decode's `extents`) agrees with
 * what the map says of it: -EBADMSG when a block would land elsewhere than where
 * it was read. Both are sealed, so this finds our own mistakes, not forgeries.
 */
int frame_index_check(const struct frame_index *index, const struct map *map,
		      uint32_t frame, const struct extent_list *extents);

/* ---- retention --------------------------------------------------------- */

/* A map that stands in for the one with which its point was committed. */
struct retention_map {
	uint64_t number;
	struct uuid run;		/* of the prune that made it */
	uint64_t sequence;		/* of the record that this prune committed */
	uint64_t parent;		/* 0: the map is full */
	uint8_t parent_hash[CRYPTO_DIGEST_SIZE];
	uint64_t bytes;
	uint8_t sha256[CRYPTO_DIGEST_SIZE];
	struct point_wrap *wraps;	/* owned */
	size_t wrap_count;
};

/* A pruned point of which some segments hold frames of visible points, where its run
 * stored them. */
struct retention_serving {
	uint64_t number;
	struct extent_list segments;
};

/*
 * An object that holds, moved there by a prune, what is still needed of pruned points:
 * their heads and frames. Of a point that is in no `serving`, or of a segment that is
 * not in it, all that is needed is in packs.
 */
struct retention_pack {
	uint64_t sequence;		/* of the record that this prune committed */
	uint32_t number;		/* among this prune's packs */
	struct uuid run;		/* of the prune */
	uint64_t first, last;		/* the points it holds something of lie in between */
	uint64_t bytes;
	uint64_t items;			/* of its index, which is its end */
	uint8_t sha256[CRYPTO_DIGEST_SIZE], index_sha256[CRYPTO_DIGEST_SIZE];
};

/*
 * A volume's newest retention record, complete in itself (docs/format.md
 * "Retention"). Point numbers are kept as extents. A point is visible unless it is
 * *forgotten* (all that belongs to it is still needed) or *pruned* (nothing of it is
 * needed but what `serving` lists).
 */
struct retention {
	uint64_t sequence;		/* 0: nothing was ever forgotten */
	uint32_t version;		/* 1: nothing was ever moved into packs */
	uint8_t hash[CRYPTO_DIGEST_SIZE], previous[CRYPTO_DIGEST_SIZE];
	uint64_t created_ns;
	uint64_t marked_ns;		/* when points were last pruned; 0: never */
	uint64_t through;		/* the newest point when this was written */
	struct extent_list forgotten, pruned, pinned;
	struct retention_serving *serving;	/* owned; by number */
	size_t serving_count;
	struct retention_map *maps;		/* owned; by number */
	size_t map_count;
	struct retention_pack *packs;		/* owned; by sequence and number */
	size_t pack_count;
	/* Bytes in `serving` segments and packs that nothing needs, left by the last prune. */
	uint64_t dead_bytes;
	struct signing_public signer;
};

/* The newest record, or one that is all zero; one listing, and a read if there is any. */
int retention_load(struct repo *repo, const struct uuid *volume,
		   struct retention *retention, struct error *err);
void retention_fini(struct retention *retention);
bool retention_hides(const struct retention *retention, uint64_t number);

/*
 * Forgets `numbers` (visible points; not the newest, `newest`, nor a pinned one:
 * -EINVAL), or pins a point or unpins it: commits the record that follows `retention`,
 * which becomes it. -EEXIST with EXIT_LOCKED when another one was quicker.
 */
int repo_forget(struct repo *repo, const struct uuid *volume,
		struct retention *retention, const struct extent_list *numbers,
		uint64_t newest, const struct signing_private *signer, struct error *err);
int repo_pin(struct repo *repo, const struct uuid *volume, struct retention *retention,
	     uint64_t number, bool pinned, uint64_t newest,
	     const struct signing_private *signer, struct error *err);

/* ---- prune ------------------------------------------------------------- */

struct prune_options {
	const uint8_t *host_map_key;
	const struct signing_private *signer;
	/* So long nothing is deleted that could be in use when it was pruned. 0: no
	 * restore, verify or backup is under way. */
	uint64_t grace_ns;
	uint64_t now_ns;		/* ns since 1970; 0: now */
	uint64_t pack_bytes;		/* a pack ends beyond; 0: 256 MiB */
	/* Forgotten points from this number on stay: another store has not got them, or what
	 * stands on them, yet. 0: none. */
	uint64_t hold_from;
	bool dry_run;			/* look only */
	void (*report)(void *context, uint64_t done_points, uint64_t total_points);
	void *context;
};

/* With dry_run: what would be. */
struct prune_result {
	uint64_t points;		/* pruned: nothing of them is needed any more, but … */
	uint64_t serving;		/* … of these points some segments */
	uint64_t held;			/* forgotten, but see hold_from */
	uint64_t maps;			/* rebased maps written */
	uint64_t repacked_bytes, packs;	/* moved out of objects that were mostly dead */
	/* All objects of the volume: before, and when what waits is deleted, too; and how
	 * much of the latter is needed. */
	uint64_t before_bytes, after_bytes, live_bytes;
	uint64_t deleted_objects, deleted_bytes;
	/* Not needed any more, but not deleted before the grace period ends. */
	uint64_t waiting_objects, waiting_bytes;
	uint64_t wait_ns;
};

/*
 * Makes visible points independent of forgotten ones, moves what is needed out of
 * objects that are mostly dead, and deletes what nothing needs: new objects first, then the record that says so, then, when that is older than the
 * grace period, deletions. Killed anywhere, the next one goes on. Also deletes what
 * runs that did not commit left behind, when another has committed their number.
 * -EEXIST with EXIT_LOCKED when another forget or prune was quicker.
 */
int repo_prune(struct repo *repo, const struct uuid *volume,
	       const struct prune_options *options, struct prune_result *result,
	       struct error *err);

/* ---- replicas ---------------------------------------------------------- */

/*
 * The repository of `source` in another store: made there by copying clawback.json if
 * `create` and nothing is there (EXIT_NO_REPOSITORY else). EXIT_UNTRUSTWORTHY when the
 * store holds another one.
 */
int replica_open(struct repo *source, struct store *store, bool create,
		 struct repo **replica, struct error *err);

/*
 * How far a volume is in a replica. All zero: not known, which is found out by listing.
 * A hint: what is there decides.
 */
struct replica_place {
	bool filled;		/* what there was when it began is there */
	uint64_t through;	/* the newest point there; 0: none */
	uint64_t time_ns;	/* its time */
};

struct replicate_options {
	uint64_t newest;	/* in the source, if known: then nothing is listed. 0: not known */
	const struct signing_private *signer;	/* or NULL: see below */
	bool dry_run;
	/* After each point that is there now; `place` has moved on. */
	void (*copied)(void *context, const struct replica_place *place);
	void (*report)(void *context, uint64_t done_points, uint64_t total_points);
	void *context;
	size_t piece_bytes;	/* of a large object, held in memory; 0: 4 MiB */
};

/* With dry_run: what would be. */
struct replicate_result {
	uint64_t points, objects, bytes;
	bool anew;		/* the volume was not there before */
};

/*
 * Copies what `target` has not got of a volume, in the order of points: first all that a
 * point needs, then its object, conditionally. All is compared with its signature and
 * digests on the way: damage ends the pass (EXIT_UNTRUSTWORTHY) and is not copied. Killed
 * anywhere, the next pass goes on. An empty target becomes what the source is now, with
 * its retention record; from then on each has a history of its own. Points that were
 * pruned in the source before the target had them are passed over, for which the target
 * gets a record that says so: -ESTALE without a signer, and when the target gave up what
 * those that follow stand on. With dry_run `target` may be
 * NULL, for one that is yet to be made.
 *
 * Requests, when place and newest are known: the target's newest head, and a point: one
 * read of the source and one write, and for each object that it has besides one read,
 * one write (more of what is larger than a piece) and, for the first point of a pass, one
 * look at the target.
 */
int repo_replicate(struct repo *source, struct repo *target, const struct repo_volume *volume,
		   struct replica_place *place, const struct replicate_options *options,
		   struct replicate_result *result, struct error *err);

/* ---- drills ------------------------------------------------------------ */

/* The steps of a drill (agent/drill/drill.h), in their order. */
enum drill_step {
	DRILL_PREPARE,		/* the place, the key, the point: all before bytes move */
	DRILL_RESTORE,
	DRILL_ATTACH,
	DRILL_REPLAY,		/* the kernel's, of the file system's journal */
	DRILL_CHECK,		/* fsck, which changes nothing */
	DRILL_MOUNT,
	DRILL_COMMAND,
	DRILL_CLEANUP,
	DRILL_STEPS
};
const char *drill_step_name(enum drill_step step);

/* What came of a drill. */
struct drill_record {
	uint64_t sequence;		/* in the repository; 0: not recorded there */
	struct uuid run;
	uint64_t point, point_time_ns;	/* 0: none was chosen */
	uint64_t started_ns;		/* ns since 1970 */
	uint64_t duration_ns;		/* with the clean-up */
	uint64_t rto_ns;		/* until the command had succeeded; 0 unless it passed */
	uint64_t steps_ns[DRILL_STEPS];	/* 0: not done */
	uint64_t data_bytes, fetched_bytes;
	bool passed;
	enum drill_step failed;		/* unless it passed */
	uint64_t exit;			/* what clawback ended with, enum exit_code */
	char message[256];		/* why it failed, its beginning; or "" */
	char host[65], file_system[32];	/* "": none was found */
	char command[64];		/* the program's name, "" for none; no argument */
};

/* As JSON, and back: all is checked. NULL, -ENOMEM; -EBADMSG. */
json_t *drill_record_json(const struct drill_record *record);
int drill_record_take(const json_t *object, struct drill_record *record);

#define REPO_DRILLS_KEPT 100	/* of a volume; older ones are deleted when one comes */

/* Signs it, and creates it behind the newest; fills `sequence`. Old ones that cannot be
 * deleted stay. */
int repo_drill_add(struct repo *repo, const struct uuid *volume, struct drill_record *record,
		   const struct signing_private *signer, struct error *err);

/* At most `most` of the newest, newest first; caller frees *records. What is damaged or
 * forged among them is left out, and counted. */
int repo_drills(struct repo *repo, const struct uuid *volume, size_t most,
		struct drill_record **records, size_t *count, size_t *untrustworthy,
		struct error *err);

/* ---- verify ------------------------------------------------------------ */

struct verify_options {
	bool data;		/* decrypt and check every frame; needs a recovery key */
	struct key_ring ring;
	/*
	 * With `data`: only so many millionths of the frames, chosen at random by `seed`, and
	 * only these are read; of packs as many, whole. 0: all.
	 */
	uint32_t sample_ppm;
	uint64_t seed;
	/* Nothing new is begun after so long, 0: no limit. Then the points are taken from the
	 * newest to the oldest, or from the one below `from`, and then from the newest on. */
	uint64_t max_time_ns, from;
	uint64_t since_ns;	/* of points before, only heads; 0: of none */
	void (*report)(void *context, uint64_t done_bytes, uint64_t total_bytes);
	/* One line per thing found wrong, as it is found. */
	void (*problem)(void *context, const char *text);
	void *context;
};

struct verify_result {
	uint64_t points, objects, bytes, frames, problems;
	uint64_t all_points;		/* that were to be checked */
	uint64_t passed_over;		/* of `points`: before since_ns */
	/* Of a sample: what it was drawn from, and what was drawn, in segments. */
	uint64_t all_frames, all_frame_bytes, frame_bytes;
	bool out_of_time;		/* max_time_ns ended it; `from` for the next one: */
	uint64_t reached;
};

/* Whether a frame, or a pack, is in the sample: the same for the same seed. */
bool verify_sampled(uint64_t seed, uint32_t ppm, uint64_t number, uint32_t segment,
		    uint64_t offset);

/*
 * Checks every point of a volume (or only `number`, when not 0, and what it needs):
 * signatures, parent hashes, an unbroken number sequence, presence, size and
 * SHA-256 of every object; maps when the ring can open them; with `data` each
 * frame. Returns 0 when all is well, -EBADMSG with EXIT_UNTRUSTWORTHY when
 * problems were reported, another error when it could not finish.
 */
int repo_verify(struct repo *repo, const struct uuid *volume, uint64_t number,
		const struct verify_options *options,
		struct verify_result *result, struct error *err);

#endif
