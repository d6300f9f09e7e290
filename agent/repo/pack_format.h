/*
 * Layout of a pack (docs/format.md "Pack"): what is still needed of pruned points, copied
 * byte for byte from their objects.
 *
 *   +-------------+ 0
 *   | pack_header | 32 bytes
 *   +-------------+ 32
 *   | contents    | one item behind the other, in the index's order
 *   +-------------+
 *   | index       | 32 bytes an item
 *   +-------------+ bytes
 *
 * An item is a point's head or bytes of one of its segments. A point's head comes before
 * them, so whoever has a pack needs no other object to open its frames. Records name
 * packs with the digest of the whole and of the index.
 */
#ifndef CLAWBACK_REPO_PACK_FORMAT_H
#define CLAWBACK_REPO_PACK_FORMAT_H

#include "agent/base/le.h"
#include "agent/repo/repo.h"

#define PACK_MAGIC "CLAWPCK1"
#define PACK_VERSION 1
#define PACK_ITEMS_MAX (1u << 20)
#define PACK_BYTES_MAX (UINT64_C(1) << 40)	/* believed */

struct pack_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;		/* 0 */
	uint8_t volume[16];
};
_Static_assert(sizeof(struct pack_header) == 32, "pack_header layout");

struct pack_entry {
	struct le64 point;
	struct le32 segment;		/* of a head: 0 */
	struct le32 kind;
	struct le64 offset;		/* in the segment; of a head: 0 */
	struct le64 length;
};
_Static_assert(sizeof(struct pack_entry) == 32, "pack_entry layout");

enum pack_kind { PACK_HEAD = 0, PACK_FRAMES = 1 };

/* An entry, and where in the pack its bytes lie. */
struct pack_item {
	uint64_t point, offset, length, at;
	uint32_t segment;
	enum pack_kind kind;
};

/* By point, the head first, then by segment and offset; no two overlap. */
struct pack_index {
	struct pack_item *items;
	size_t count;
};

/* Whether a record can say this of a pack. */
bool pack_sane(const struct retention_pack *pack);
static inline uint64_t pack_index_bytes(const struct retention_pack *pack)
{
	return pack->items * sizeof(struct pack_entry);
}

void pack_key(const struct uuid *volume, const struct retention_pack *pack,
	      char key[static STORE_KEY_MAX]);

/* `index`, written behind each other. */
void pack_index_encode(const struct pack_item *items, size_t count, struct pack_entry *entries);
/*
 * And back, with every item's place: -EBADMSG unless it is in order and agrees with what
 * `pack` says; -ENOMEM. `data` has pack_index_bytes(pack).
 */
int pack_index_decode(const struct retention_pack *pack, const uint8_t *data,
		      struct pack_index *index);
void pack_index_fini(struct pack_index *index);

/* The head of a point, or the item that holds byte `offset` of its segment; or NULL. */
const struct pack_item *pack_index_head(const struct pack_index *index, uint64_t point);
const struct pack_item *pack_index_frames(const struct pack_index *index, uint64_t point,
					  uint32_t segment, uint64_t offset);

/* The first item of that segment that begins behind `offset`; or NULL. */
const struct pack_item *pack_index_next(const struct pack_index *index, uint64_t point,
					uint32_t segment, uint64_t offset);

/* ---- a record's packs -------------------------------------------------- */

/* Their indexes, each read when it is first asked for. Any thread. */
struct packs;

/* `retention` is borrowed. NULL: no memory. */
struct packs *packs_new(struct repo *repo, const struct uuid *volume,
			const struct retention *retention);
void packs_free(struct packs *packs);

/* Index of retention->packs[i]; lives as long as `packs`. */
int packs_index(struct packs *packs, size_t i, const struct pack_index **index,
		struct error *err);

/* `item` NULL if no pack holds it. */
struct pack_place {
	size_t pack;
	const struct pack_item *item;
};
int packs_find_head(struct packs *packs, uint64_t point, struct pack_place *place,
		    struct error *err);
int packs_find_frames(struct packs *packs, uint64_t point, uint32_t segment,
		      uint64_t offset, struct pack_place *place, struct error *err);

/* Where the next item of that segment begins behind `offset`, in any pack; UINT64_MAX when
 * there is none. */
int packs_find_next(struct packs *packs, uint64_t point, uint32_t segment, uint64_t offset,
		    uint64_t *next, struct error *err);

/* A point whose head is in a pack; -ENOENT when none has it. */
int packs_point(struct packs *packs, uint64_t number, struct point *point,
		struct error *err);

/* Reads `length` bytes from `at` on of pack `i`: all, or an error. */
int packs_read(struct packs *packs, size_t i, uint64_t at, void *buffer, size_t length,
	       struct error *err);

#endif
