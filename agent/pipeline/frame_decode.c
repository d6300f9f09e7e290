/*
 * Reading frames back. The bytes come from a store that others may have written
 * to: the header is only compared with what the (authenticated) map expects, and
 * nothing else is looked at before the seal has been checked.
 */
#include "agent/pipeline/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

struct frame_decoder {
	ZSTD_DCtx *zstd;
	uint8_t inner[FRAME_STORED_MAX];	/* the unsealed frame */
};

struct frame_decoder *frame_decoder_new(void)
{
	struct frame_decoder *decoder = malloc(sizeof(*decoder));

	if (!decoder)
		return NULL;
	decoder->zstd = ZSTD_createDCtx();
	if (!decoder->zstd) {
		free(decoder);
		return NULL;
	}
	return decoder;
}

void frame_decoder_free(struct frame_decoder *decoder)
{
	if (!decoder)
		return;
	ZSTD_freeDCtx(decoder->zstd);
	free(decoder);
}

static int frame_refuse(const struct map_frame *where, const char *why,
			struct error *err)
{
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
			      "frame %u of point %llu (segment %u, byte %llu, %u bytes): %s",
			      where->number, (unsigned long long)where->point,
			      where->segment, (unsigned long long)where->offset,
			      where->length, why);
}

/*
 * Lengths are compared as sums of 64 bits, so nothing wraps around; what is
 * returned is NULL or the reason against this header.
 */
static const char *frame_header_get(const uint8_t *data, size_t length,
				    struct frame_facts *facts)
{
	struct frame_header header;
	static const uint8_t zero[sizeof(header.reserved)];
	uint64_t sealed;

	if (length < sizeof(header))
		return "it is shorter than a frame's header";
	memcpy(&header, data, sizeof(header));
	if (memcmp(header.magic, FRAME_MAGIC, sizeof(header.magic)))
		return "no frame starts here";
	if (get_le16(header.version) != FRAME_VERSION)
		return "its version is unknown: it is damaged, or a newer clawback wrote it";
	facts->flags = get_le16(header.flags);
	facts->segment = get_le32(header.segment);
	facts->number = get_le32(header.number);
	facts->blocks = get_le32(header.blocks);
	facts->extent_count = get_le32(header.extent_count);
	facts->extents_bytes = get_le32(header.extents_bytes);
	facts->payload_bytes = get_le32(header.payload_bytes);
	sealed = (uint64_t)facts->extents_bytes + facts->payload_bytes +
		 CRYPTO_TAG_SIZE;

	if (facts->flags & ~FRAME_FLAGS_KNOWN)
		return "it has unknown flags";
	if (memcmp(header.reserved, zero, sizeof(zero)))
		return "its reserved bytes are not zero";
	if (!facts->blocks || facts->blocks > MAP_FRAME_BLOCKS_MAX ||
	    get_le32(header.plain_bytes) != facts->blocks * BLOCK_BYTES)
		return "its number of blocks is impossible";
	if (!facts->extent_count || facts->extent_count > facts->blocks ||
	    facts->extents_bytes > FRAME_EXTENTS_MAX)
		return "its extent list is impossible";
	if (sealed != get_le32(header.sealed_bytes) ||
	    facts->payload_bytes > facts->blocks * BLOCK_BYTES)
		return "its lengths contradict each other";
	if (!(facts->flags & FRAME_ZSTD) &&
	    facts->payload_bytes != facts->blocks * BLOCK_BYTES)
		return "its length is not that of its blocks";
	return NULL;
}

int frame_peek(const uint8_t *data, size_t length, uint64_t point,
	       uint64_t offset, struct map_frame *where, struct error *err)
{
	struct map_frame found = { .point = point, .offset = offset };
	struct frame_facts facts;
	const char *why = frame_header_get(data, length, &facts);

	if (why)
		return frame_refuse(&found, why, err);
	found.segment = facts.segment;
	found.number = facts.number;
	found.blocks = facts.blocks;
	found.length = frame_stored_bytes(&facts);
	*where = found;
	return 0;
}

/* One number in its shortest form; false at the end or for a longer form. */
static bool varint_get(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	uint64_t result = 0;

	for (unsigned shift = 0; shift < 63 && *at < end; shift += 7) {
		uint8_t byte = *(*at)++;

		result |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		*value = result;
		return byte || !shift;
	}
	return false;
}

/* Checks the list against the header; fills `extents` unless NULL. -EBADMSG. */
static int frame_extents_get(const struct frame_facts *facts,
			     const uint8_t *data, struct extent_list *extents)
{
	const uint8_t *end = data + facts->extents_bytes;
	uint64_t block = 0, blocks = 0, skip, count;

	for (uint32_t i = 0; i < facts->extent_count; i++) {
		if (!varint_get(&data, end, &skip) ||
		    !varint_get(&data, end, &count))
			return -EBADMSG;
		if ((i && !skip) || !count || count > facts->blocks - blocks ||
		    skip > FRAME_BLOCK_LIMIT - block ||
		    count > FRAME_BLOCK_LIMIT - block - skip)
			return -EBADMSG;
		block += skip;
		if (extents) {
			int ret = extent_list_append(extents, block, count);

			if (ret)
				return ret;
		}
		block += count;
		blocks += count;
	}
	return data == end && blocks == facts->blocks ? 0 : -EBADMSG;
}

static int frame_payload_get(struct frame_decoder *decoder,
			     const struct frame_facts *facts,
			     const uint8_t *payload, uint8_t *plain)
{
	size_t bytes = facts->blocks * (size_t)BLOCK_BYTES;
	size_t got;

	if (!(facts->flags & FRAME_ZSTD)) {
		memcpy(plain, payload, bytes);
		return 0;
	}
	got = ZSTD_decompressDCtx(decoder->zstd, plain, bytes, payload,
				  facts->payload_bytes);
	return got == bytes ? 0 : -EBADMSG;
}

static int frame_unseal(struct frame_decoder *decoder, struct sealer *sealer,
			const struct uuid *volume, uint64_t point,
			const struct frame_facts *facts, const uint8_t *stored)
{
	struct frame_header header;
	struct frame_aad aad;

	memcpy(&header, stored, sizeof(header));
	frame_aad_put(&header, volume, point, &aad);
	return unseal(sealer, SEAL_FRAME, facts->number, &aad, sizeof(aad),
		      stored + sizeof(header),
		      frame_stored_bytes(facts) - sizeof(header), decoder->inner);
}

int frame_decode(struct frame_decoder *decoder, struct sealer *sealer,
		 const struct uuid *volume, const struct map_frame *where,
		 const uint8_t *stored, size_t length, uint8_t *plain,
		 struct extent_list *extents, struct error *err)
{
	struct frame_facts facts;
	const char *why = frame_header_get(stored, length, &facts);
	int ret;

	if (why)
		return frame_refuse(where, why, err);
	if (length != where->length || length != frame_stored_bytes(&facts))
		return frame_refuse(where, "its length is not the map's", err);
	if (facts.segment != where->segment || facts.number != where->number ||
	    facts.blocks != where->blocks)
		return frame_refuse(where, "another frame is stored in its place",
				    err);
	ret = frame_unseal(decoder, sealer, volume, where->point, &facts, stored);
	if (ret == -EBADMSG)
		return frame_refuse(where, "it does not authenticate: it was damaged or"
				    " replaced, or the key is not its own", err);
	if (!ret)
		ret = frame_extents_get(&facts, decoder->inner, extents);
	if (!ret)
		ret = frame_payload_get(decoder, &facts,
					decoder->inner + facts.extents_bytes, plain);
	if (ret == -EBADMSG)
		return frame_refuse(where, "its contents are inconsistent", err);
	if (ret)
		return error_set(err, ret, "cannot decode frame %u of point %llu: %s",
				 where->number, (unsigned long long)where->point,
				 error_text(ret));
	return 0;
}
