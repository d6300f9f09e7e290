/*
 * Layout of a retention record (docs/format.md "Retention"), and what this room
 * shares about records.
 *
 *   +------------------+ 0
 *   | retention_header | 64 bytes
 *   +------------------+ 64
 *   | record, JSON     | record_length
 *   +------------------+
 *   | signature        | 64 bytes, over header and record
 *   +------------------+ the record's hash covers all of it
 */
#ifndef CLAWBACK_REPO_RETENTION_FORMAT_H
#define CLAWBACK_REPO_RETENTION_FORMAT_H

#include "agent/base/le.h"
#include "agent/repo/repo.h"

#define RETENTION_MAGIC "CLAWRET1"
#define RETENTION_VERSION 2		/* written; 1, without packs, is read */
#define RETENTION_SIGN_LABEL "clawback retention v1"
#define RETENTION_RECORD_MAX (64u << 20)
#define RETENTION_SEGMENTS_MAX 1000000u	/* of a point: six digits in a name */
#define RETENTION_PACKS_MAX 1000000u	/* of a prune: likewise */

struct retention_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;		/* 0 */
	struct le32 record_length;
	uint8_t zero[44];
};
_Static_assert(sizeof(struct retention_header) == 64, "retention_header layout");

/* The ids that a record has to name. */
struct retention_place {
	struct uuid repository, volume;
};

/* To JSON text (caller frees; NULL: no memory) and back: all is checked, `retention`
 * is initialised on success only. */
char *retention_text(const struct retention *retention, const struct retention_place *place);
int retention_parse(const char *text, size_t length, const struct retention_place *place,
		    struct retention *retention, struct error *err);

void retention_key(const struct uuid *volume, uint64_t sequence,
		   char key[static STORE_KEY_MAX]);
/* The number in such a key of a listing of one volume; false for any other key. */
bool retention_key_sequence(const char *key, uint64_t *sequence);

/* The map that stands in for that of point `number`, or NULL. */
const struct retention_map *retention_map_find(const struct retention *retention,
					       uint64_t number);
const struct retention_serving *retention_serving_find(const struct retention *retention,
						       uint64_t number);
/* The pack with the sequence and number of `wanted`, or NULL. */
const struct retention_pack *retention_pack_find(const struct retention *retention,
						 const struct retention_pack *wanted);
void retention_map_key(const struct uuid *volume, const struct retention_map *map,
		       char key[static STORE_KEY_MAX]);

/*
 * needs.c: whether the record, and the points that it leaves visible, need a point's
 * object; its own map, should that be an object; one of its segments, where its run
 * stored it; a rebased map, or a pack, of which only what is in the name counts.
 */
#define REPO_RUN_NAMED 8		/* bytes of a run's id in names */
bool retention_needs_point(const struct retention *retention, uint64_t number);
bool retention_needs_map(const struct retention *retention, uint64_t number);
bool retention_needs_segment(const struct retention *retention, uint64_t number,
			     uint32_t segment);
bool retention_needs_rebased(const struct retention *retention,
			     const struct retention_map *rebased);
bool retention_needs_pack(const struct retention *retention,
			  const struct retention_pack *named);

/*
 * The point as far as its map goes: with the one that stands in for its own, if
 * there is such. `as` borrows all that it points to. `offset` is where in `key` the
 * sealed map begins.
 */
void retention_apply(const struct retention *retention, const struct point *point,
		     struct point *as, char key[static STORE_KEY_MAX], uint64_t *offset);

/* Reads, checks and opens the map that retention_apply said where to find. */
int point_map_fetch(struct repo *repo, const struct point *as, const char *key,
		    uint64_t offset, const struct key_ring *ring, struct map *map,
		    struct error *err);

/*
 * A point's map with those of its parents below it, as rebased where they are: the
 * whole volume's; or with `to_visible` only so far that what it is a delta onto is
 * visible. `parent` is that point, with its hash; 0 when the map is full.
 */
int point_merged_map(struct repo *repo, const struct retention *retention,
		     const struct point *point, const struct key_ring *ring,
		     bool to_visible, struct map *map, uint64_t *parent,
		     uint8_t parent_hash[static CRYPTO_DIGEST_SIZE], struct error *err);

/* Signs `next` and creates it behind next->sequence - 1; fills hash and signer. */
int retention_commit(struct repo *repo, const struct uuid *volume, struct retention *next,
		     const struct signing_private *signer, struct error *err);

/* Says of a number that it was used before, and what to do: -EEXIST, EXIT_LOCKED. */
int point_number_used(uint64_t number, struct error *err);

/* Reads one record, not necessarily the newest. -ENOENT. */
int retention_read(struct repo *repo, const struct uuid *volume, uint64_t sequence,
		   struct retention *retention, struct error *err);

#endif
