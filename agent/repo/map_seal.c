/* A map on its way to the store and back: encoded, compressed, sealed. */
#include "agent/repo/point_format.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#define MAP_LEVEL 3

struct map_aad {
	struct map_seal_header header;
	struct point_context context;
};

static void sealer_cleanup(struct sealer **sealer)
{
	sealer_free(*sealer);
}

int map_seal(const struct point *point, const struct map *map,
	     const uint8_t key[static CRYPTO_KEY_SIZE], uint8_t **sealed,
	     size_t *length, struct error *err)
{
	CLEANUP_FREE uint8_t *plain = NULL;
	CLEANUP_FREE uint8_t *out = NULL;
	CLEANUP(sealer_cleanup) struct sealer *sealer = sealer_new(key);
	struct map_aad aad;
	size_t plain_length, room, packed;
	uint8_t *body;
	int ret = map_encode(map, &plain, &plain_length);

	if (ret)
		return error_set(err, ret, "encoding the map of point %" PRIu64 ": %s",
				 point->number, error_text(ret));
	room = ZSTD_compressBound(plain_length);
	out = malloc(sizeof(aad.header) + room + CRYPTO_TAG_SIZE);
	if (!out || !sealer)
		return error_set(err, -ENOMEM, "sealing the map of point %" PRIu64
				 ": out of memory", point->number);
	body = out + sizeof(aad.header);
	packed = ZSTD_compress(body, room, plain, plain_length, MAP_LEVEL);
	if (ZSTD_isError(packed))
		return error_set(err, -EIO, "compressing the map of point %" PRIu64 ": %s",
				 point->number, ZSTD_getErrorName(packed));
	memset(&aad, 0, sizeof(aad));
	memcpy(aad.header.magic, MAP_SEAL_MAGIC, sizeof(aad.header.magic));
	aad.header.version = le32(MAP_SEAL_VERSION);
	aad.header.plain_length = le64(plain_length);
	aad.header.packed_length = le64(packed);
	point_context(point, &aad.context);
	memcpy(out, &aad.header, sizeof(aad.header));
	ret = seal(sealer, SEAL_MAP, 0, &aad, sizeof(aad), body, packed, body);
	if (ret)
		return error_set(err, ret, "sealing the map of point %" PRIu64, point->number);
	*length = sizeof(aad.header) + packed + CRYPTO_TAG_SIZE;
	*sealed = STEAL(out);
	return 0;
}

static int map_damaged(const struct point *point, const char *how, struct error *err)
{
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
			      "the map of point %" PRIu64 " of %s %s", point->number,
			      point->volume_name, how);
}

int map_unseal(const struct point *point, const uint8_t *sealed, size_t length,
	       const uint8_t key[static CRYPTO_KEY_SIZE], struct map *map,
	       struct error *err)
{
	CLEANUP_FREE uint8_t *packed = NULL;
	CLEANUP_FREE uint8_t *plain = NULL;
	CLEANUP(sealer_cleanup) struct sealer *sealer = sealer_new(key);
	struct map_aad aad;
	uint64_t packed_length, plain_length;
	size_t n;
	int ret;

	if (length < sizeof(aad.header) + CRYPTO_TAG_SIZE)
		return map_damaged(point, "is cut short", err);
	memcpy(&aad.header, sealed, sizeof(aad.header));
	point_context(point, &aad.context);
	if (memcmp(aad.header.magic, MAP_SEAL_MAGIC, sizeof(aad.header.magic)))
		return map_damaged(point, "is damaged: it is no map", err);
	if (get_le32(aad.header.version) != MAP_SEAL_VERSION || get_le32(aad.header.flags))
		return map_damaged(point, "has an unknown version", err);
	packed_length = get_le64(aad.header.packed_length);
	plain_length = get_le64(aad.header.plain_length);
	if (packed_length != length - sizeof(aad.header) - CRYPTO_TAG_SIZE ||
	    plain_length > POINT_MAP_MAX)
		return map_damaged(point, "is damaged: its lengths disagree", err);
	packed = malloc(packed_length + 1);
	if (!packed || !sealer)
		return error_set(err, -ENOMEM, "opening a map: out of memory");
	ret = unseal(sealer, SEAL_MAP, 0, &aad, sizeof(aad), sealed + sizeof(aad.header),
		     length - sizeof(aad.header), packed);
	if (ret == -ENOMEM)
		return error_set(err, ret, "opening a map: out of memory");
	if (ret)
		return map_damaged(point, "is not what was sealed", err);
	/* Authenticated from here on: lengths are the writer's. */
	plain = malloc(plain_length + 1);
	if (!plain)
		return error_set(err, -ENOMEM, "opening a map: out of memory");
	n = ZSTD_decompress(plain, plain_length, packed, packed_length);
	if (ZSTD_isError(n) && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
		return error_set(err, -ENOMEM, "opening a map: out of memory");
	if (ZSTD_isError(n) || n != plain_length)
		return map_damaged(point, "does not decompress", err);
	ret = map_decode(plain, plain_length, map);
	if (ret == -ENOMEM)
		return error_set(err, ret, "opening a map: out of memory");
	return ret ? map_damaged(point, "does not decode", err) : 0;
}
