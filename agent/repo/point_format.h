/*
 * Layout of a point object and of a sealed map (docs/format.md "Point").
 *
 *   +------------------+ 0
 *   | point_header     | 64 bytes
 *   +------------------+ 64
 *   | manifest, JSON   | manifest_length
 *   +------------------+
 *   | signature        | 64 bytes, over header and manifest
 *   +------------------+ head_bytes: what the next point's parent hash covers
 *   | sealed map       | map_length, 0 when it is an object of its own
 *   | frames           | frames_length: segment 0, 0 when segments are objects
 *   +------------------+
 */
#ifndef CLAWBACK_REPO_POINT_FORMAT_H
#define CLAWBACK_REPO_POINT_FORMAT_H

#include "agent/base/le.h"
#include "agent/repo/repo.h"

#include <jansson.h>

#define POINT_MAGIC "CLAWPNT1"
#define POINT_VERSION 1
#define POINT_SIGN_LABEL "clawback point v1"
#define POINT_MANIFEST_MAX (16u << 20)
#define POINT_MAP_INLINE_MAX (1u << 20)	/* written inline up to here … */
#define POINT_MAP_MAX (2ull << 30)	/* … and believed up to here */
#define POINT_FRAMES_INLINE_MAX (64u << 20)
#define POINT_OBJECT_MAX (128u << 20)	/* of an object that is read as a whole */
#define POINT_HEAD_FIRST_READ (64u << 10)

struct point_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;		/* 0 */
	struct le32 manifest_length;
	struct le32 map_length;
	struct le64 frames_length;
	uint8_t zero[32];
};
_Static_assert(sizeof(struct point_header) == 64, "point_header layout");

#define MAP_SEAL_MAGIC "CLAWMPS1"
#define MAP_SEAL_VERSION 1

/* Before a sealed map; authenticated with it. */
struct map_seal_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;		/* 0 */
	struct le64 plain_length;	/* of the encoded map, before zstd */
	struct le64 packed_length;	/* after zstd; the tag follows */
};
_Static_assert(sizeof(struct map_seal_header) == 32, "map_seal_header layout");

/* Manifest to JSON text (caller frees) and back. `point_manifest_parse` trusts
 * only what it checked: ranges, lengths, known words. */
char *point_manifest_text(const struct point *point);
int point_manifest_parse(const char *text, size_t length, struct point *point,
			 struct error *err);

/* point_load of a head that lies in another object, `key`, than its own. */
int point_head_parse(struct repo *repo, const char *key, const uint8_t *head, size_t length,
		     const struct uuid *volume, uint64_t number, struct point *point,
		     struct error *err);

/* The ten digits, not zero, that follow VOLUME and `folder` and end the key. */
bool key_number(const char *key, const char *folder, uint64_t *number);
/* Whether `key`, of a listing of one volume, is that of a point: nothing else in
 * "points/" and nothing in a folder of it is. */
bool point_key_number(const char *key, uint64_t *number);

/*
 * What stands in place of a pruned point so that its number stays taken: 64 bytes, this
 * magic and zeros. For a reader there is no such point.
 */
#define POINT_STUB_MAGIC "CLAWGONE"
#define POINT_STUB_BYTES 64u

/* Numbers of all point objects there are, forgotten ones too, rising. Caller frees. */
int point_numbers_stored(struct repo *repo, const struct uuid *volume,
			 uint64_t **numbers, size_t *count, struct error *err);

/*
 * As point_load, with the whole object (caller frees): all of it is as the manifest
 * says. -ENOENT for a stub, too.
 */
int point_fetch(struct repo *repo, const struct uuid *volume, uint64_t number,
		uint8_t **object, size_t *length, struct point *point, struct error *err);

/* Context that binds wraps, and the first part of a map's AAD. 40 bytes. */
struct point_context {
	uint8_t volume[16];
	struct le64 number;
	uint8_t run[16];
};
_Static_assert(sizeof(struct point_context) == 40, "point_context layout");
void point_context(const struct point *point, struct point_context *context);

/* Encode, compress and seal; and the way back. Output allocated. */
int map_seal(const struct point *point, const struct map *map,
	     const uint8_t key[static CRYPTO_KEY_SIZE], uint8_t **sealed,
	     size_t *length, struct error *err);
int map_unseal(const struct point *point, const uint8_t *sealed, size_t length,
	       const uint8_t key[static CRYPTO_KEY_SIZE], struct map *map,
	       struct error *err);

/* JSON helpers shared by manifest, repository and volume objects. */
/*
 * The object in `text`: -EBADMSG for what is none, and -ENOMEM, which must not be
 * taken for damage. json_decref it.
 */
int json_read(const char *text, size_t length, json_t **object);
int json_take_text(const json_t *object, const char *key, char *text, size_t room);
int json_take_u64(const json_t *object, const char *key, uint64_t *value);
int json_take_hex(const json_t *object, const char *key, uint8_t *data, size_t length);
json_t *json_hex(const uint8_t *data, size_t length);

#endif
