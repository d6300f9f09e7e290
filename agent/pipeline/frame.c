#include "agent/pipeline/frame.h"

#include <string.h>

static uint32_t varint_put(uint8_t *out, uint64_t value)
{
	uint32_t used = 0;

	while (value >= 0x80) {
		out[used++] = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	out[used++] = (uint8_t)value;
	return used;
}

void frame_extent_put(uint8_t *out, uint32_t *used, uint64_t *end,
		      uint64_t first, uint32_t count)
{
	*used += varint_put(out + *used, first - *end);
	*used += varint_put(out + *used, count);
	*end = first + count;
}

void frame_aad_put(const struct frame_header *header, const struct uuid *volume,
		   uint64_t point, struct frame_aad *aad)
{
	aad->header = *header;
	memcpy(aad->volume, volume->b, sizeof(aad->volume));
	aad->point = le64(point);
	aad->segment = header->segment;
	aad->number = header->number;
}

int frame_seal(struct sealer *sealer, const struct uuid *volume, uint64_t point,
	       const struct frame_facts *facts, uint8_t *frame)
{
	uint32_t inner = facts->extents_bytes + facts->payload_bytes;
	struct frame_header header = {
		.magic = FRAME_MAGIC,
		.version = le16(FRAME_VERSION),
		.flags = le16(facts->flags),
		.segment = le32(facts->segment),
		.number = le32(facts->number),
		.blocks = le32(facts->blocks),
		.extent_count = le32(facts->extent_count),
		.extents_bytes = le32(facts->extents_bytes),
		.payload_bytes = le32(facts->payload_bytes),
		.plain_bytes = le32(facts->blocks * BLOCK_BYTES),
		.sealed_bytes = le32(inner + CRYPTO_TAG_SIZE),
	};
	struct frame_aad aad;

	memcpy(frame, &header, sizeof(header));
	frame_aad_put(&header, volume, point, &aad);
	return seal(sealer, SEAL_FRAME, facts->number, &aad, sizeof(aad),
		    frame + sizeof(header), inner, frame + sizeof(header));
}
