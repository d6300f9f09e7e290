#include "agent/pipeline/segment.h"

#include <errno.h>
#include <string.h>

int segment_place(struct segment_cursor *cursor, uint32_t bytes,
		  uint32_t *segment, uint64_t *offset)
{
	if (!cursor->offset)
		cursor->offset = SEGMENT_HEADER_BYTES;
	/* A segment holds one piece at least, however low the limit. */
	if (cursor->offset > SEGMENT_HEADER_BYTES &&
	    cursor->offset + bytes > cursor->limit_bytes) {
		if (cursor->segment == SEGMENT_NUMBER_MAX)
			return -EOVERFLOW;
		cursor->segment++;
		cursor->offset = SEGMENT_HEADER_BYTES;
	}
	*segment = cursor->segment;
	*offset = cursor->offset;
	cursor->offset += bytes;
	return 0;
}

void segment_header_put(const struct uuid *volume, uint64_t point,
			uint32_t segment, struct segment_header *header)
{
	memset(header, 0, sizeof(*header));
	memcpy(header->magic, SEGMENT_MAGIC, sizeof(header->magic));
	header->version = le16(SEGMENT_VERSION);
	header->segment = le32(segment);
	memcpy(header->volume, volume->b, sizeof(header->volume));
	header->point = le64(point);
}

int segment_check(const uint8_t *data, size_t length, const struct uuid *volume,
		  uint64_t point, uint32_t segment, struct error *err)
{
	struct segment_header header, expected;
	const char *why = NULL;

	segment_header_put(volume, point, segment, &expected);
	if (length < sizeof(header)) {
		why = "it is shorter than a segment's header";
	} else {
		memcpy(&header, data, sizeof(header));
		if (memcmp(header.magic, expected.magic, sizeof(header.magic)))
			why = "it is no segment";
		else if (get_le16(header.version) != SEGMENT_VERSION)
			why = "its version is unknown: it is damaged, or a newer clawback wrote it";
		else if (memcmp(&header, &expected, sizeof(header)))
			why = "it is another segment's, or damaged";
	}
	if (!why)
		return 0;
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
			      "segment %u of point %llu: %s", segment,
			      (unsigned long long)point, why);
}
