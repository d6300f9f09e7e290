/*
 * A segment that is walked without its map: its header, then frame by frame. Nothing
 * is authentic here, so nothing may lead out of the segment or stand still.
 */
#include "agent/pipeline/segment.h"
#include "tests/fuzz/fuzz.h"

static const struct uuid volume = { { 1, 2, 3 } };

static void check_header(const uint8_t *segment, size_t length)
{
	struct segment_header header;
	struct error err = ERROR_INIT;
	int ret = segment_check(segment, length, &volume, 7, 1, &err);

	if (ret) {
		fuzz_refused(ret, &err);
		return;
	}
	segment_header_put(&volume, 7, 1, &header);
	FUZZ_CHECK(!memcmp(segment, &header, sizeof(header)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	uint8_t *segment = fuzz_copy(data, length);
	uint64_t offset = SEGMENT_HEADER_BYTES;

	check_header(segment, length);
	while (offset < length) {
		struct error err = ERROR_INIT;
		struct map_frame where;
		int ret = frame_peek(segment + offset, length - offset, 7, offset, &where,
				     &err);

		if (ret) {
			fuzz_refused(ret, &err);
			break;
		}
		FUZZ_CHECK(where.offset == offset && where.point == 7);
		FUZZ_CHECK(where.length > FRAME_HEADER_BYTES &&
			   where.length <= FRAME_STORED_MAX);
		FUZZ_CHECK(where.blocks && where.blocks <= MAP_FRAME_BLOCKS_MAX);
		offset += where.length;
	}
	free(segment);
	return 0;
}
