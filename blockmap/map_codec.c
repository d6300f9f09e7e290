/*
 * A map's bytes in and out; map_format.h has the layout. The decoder believes
 * nothing: each value passes the same checks as in the append functions, and the
 * choice of mode is compared with the one the encoder would have made.
 */
#include "blockmap/map.h"
#include "blockmap/map_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VARINT_BYTES_MAX 10

/* What reader and writer expect of the next frame. */
struct frame_guess {
	uint64_t point, segment, number, offset;
};

/* What they expect of the next entry; `frame` is -1 before any was seen. */
struct entry_guess {
	uint64_t end;
	uint64_t frame, position;
};

#define FRAME_GUESS_INIT { 0, 0, 0, 0 }
#define ENTRY_GUESS_INIT { 0, UINT64_MAX, 0 }

/* Signed differences, modulo 2^64, with small ones of either sign made small. */
static uint64_t zigzag(uint64_t difference)
{
	return difference << 1 ^ (0 - (difference >> 63));
}

static uint64_t unzigzag(uint64_t value)
{
	return value >> 1 ^ (0 - (value & 1));
}

static enum map_frame_mode frame_mode(const struct frame_guess *guess,
				      const struct map_frame *frame)
{
	if (frame->point != guess->point || frame->segment != guess->segment)
		return MAP_FRAME_ELSEWHERE;
	if (frame->number != guess->number || frame->offset != guess->offset)
		return MAP_FRAME_APART;
	return MAP_FRAME_FOLLOWS;
}

static void frame_guess_next(struct frame_guess *guess,
			     const struct map_frame *frame)
{
	guess->point = frame->point;
	guess->segment = frame->segment;
	guess->number = (uint64_t)frame->number + 1;
	guess->offset = frame->offset + frame->length;
}

static enum map_entry_mode entry_mode(const struct entry_guess *guess,
				      const struct map_entry *entry)
{
	if (entry->frame == MAP_FRAME_HOLE)
		return MAP_ENTRY_HOLE;
	if (entry->frame == guess->frame && entry->position == guess->position)
		return MAP_ENTRY_CONTINUES;
	if (entry->frame == guess->frame + 1 && entry->position == 0)
		return MAP_ENTRY_NEXT_FRAME;
	return MAP_ENTRY_ELSEWHERE;
}

static void entry_guess_next(struct entry_guess *guess,
			     const struct map_entry *entry)
{
	guess->end = entry->block + entry->count;
	if (entry->frame == MAP_FRAME_HOLE)
		return;
	guess->frame = entry->frame;
	guess->position = entry->position + entry->count;
}

/* ---- writing ------------------------------------------------------------ */

struct map_writer {
	uint8_t *bytes;		/* NULL: only counts */
	size_t length;
};

static void put_varint(struct map_writer *writer, uint64_t value)
{
	do {
		uint8_t byte = value & 0x7f;

		value >>= 7;
		if (value)
			byte |= 0x80;
		if (writer->bytes)
			writer->bytes[writer->length] = byte;
		writer->length++;
	} while (value);
}

static void put_frame(struct map_writer *writer, const struct frame_guess *guess,
		      const struct map_frame *frame)
{
	enum map_frame_mode mode = frame_mode(guess, frame);
	uint64_t lacking = MAP_FRAME_BLOCKS_MAX - frame->blocks;

	put_varint(writer, lacking << MAP_MODE_BITS | mode);
	if (mode == MAP_FRAME_APART) {
		put_varint(writer, zigzag(frame->number - guess->number));
		put_varint(writer, zigzag(frame->offset - guess->offset));
	}
	if (mode == MAP_FRAME_ELSEWHERE) {
		put_varint(writer, zigzag(frame->point - guess->point));
		put_varint(writer, frame->segment);
		put_varint(writer, frame->number);
		put_varint(writer, frame->offset);
	}
	put_varint(writer, frame->length);
}

static void put_entry(struct map_writer *writer, const struct entry_guess *guess,
		      const struct map_entry *entry)
{
	enum map_entry_mode mode = entry_mode(guess, entry);

	put_varint(writer, entry->block - guess->end);
	put_varint(writer, (entry->count - 1) << MAP_MODE_BITS | mode);
	if (mode == MAP_ENTRY_ELSEWHERE) {
		put_varint(writer, zigzag(entry->frame - guess->frame));
		put_varint(writer, entry->position);
	}
}

static void put_frames(struct map_writer *writer, const struct map *map)
{
	struct frame_guess guess = FRAME_GUESS_INIT;

	for (size_t i = 0; i < map->frame_count; i++) {
		put_frame(writer, &guess, &map->frames[i]);
		frame_guess_next(&guess, &map->frames[i]);
	}
}

static void put_entries(struct map_writer *writer, const struct map *map)
{
	struct entry_guess guess = ENTRY_GUESS_INIT;

	for (size_t i = 0; i < map->entry_count; i++) {
		put_entry(writer, &guess, &map->entries[i]);
		entry_guess_next(&guess, &map->entries[i]);
	}
}

int map_encode(const struct map *map, uint8_t **data, size_t *length)
{
	struct map_writer frames = { NULL, 0 }, entries = { NULL, 0 };
	struct map_header header;
	uint8_t *bytes;
	int ret = map_check(map);

	/* A map that could not be read back must not become anybody's backup. */
	if (ret)
		return ret;
	put_frames(&frames, map);
	put_entries(&entries, map);
	bytes = malloc(sizeof(header) + frames.length + entries.length);
	if (!bytes)
		return -ENOMEM;
	memset(&header, 0, sizeof(header));
	memcpy(header.magic, MAP_MAGIC, sizeof(header.magic));
	header.version = le32(MAP_VERSION);
	header.kind = (uint8_t)map->kind;
	header.volume_blocks = le64(map->volume_blocks);
	header.frame_count = le64(map->frame_count);
	header.entry_count = le64(map->entry_count);
	header.frame_bytes = le64(frames.length);
	header.entry_bytes = le64(entries.length);
	memcpy(bytes, &header, sizeof(header));

	*data = bytes;
	*length = sizeof(header) + frames.length + entries.length;
	frames = (struct map_writer){ bytes + sizeof(header), 0 };
	put_frames(&frames, map);
	entries = (struct map_writer){ frames.bytes + frames.length, 0 };
	put_entries(&entries, map);
	return 0;
}

/* ---- reading ------------------------------------------------------------ */

struct map_reader {
	const uint8_t *at;
	size_t left;
	bool bad;		/* sticky: one look at the end of a record suffices */
};

/* Refuses what is cut off, longer than needed, or more than `limit`. */
static uint64_t get_varint(struct map_reader *reader, uint64_t limit)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < VARINT_BYTES_MAX && reader->left; i++) {
		uint8_t byte = *reader->at++;

		reader->left--;
		if (i == VARINT_BYTES_MAX - 1 && byte > 1)
			break;
		value |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte & 0x80)
			continue;
		if ((i && !byte) || value > limit)
			break;
		return value;
	}
	reader->bad = true;
	return 0;
}

static bool get_frame(struct map_reader *reader, const struct frame_guess *guess,
		      struct map_frame *frame)
{
	uint64_t tag = get_varint(reader, UINT64_MAX);
	uint64_t mode = tag & MAP_MODE_MASK, lacking = tag >> MAP_MODE_BITS;
	uint64_t number = guess->number;

	if (lacking >= MAP_FRAME_BLOCKS_MAX)
		return false;
	*frame = (struct map_frame){
		.point = guess->point,
		.segment = (uint32_t)guess->segment,
		.offset = guess->offset,
		.blocks = MAP_FRAME_BLOCKS_MAX - (uint32_t)lacking,
	};
	if (mode == MAP_FRAME_APART) {
		number += unzigzag(get_varint(reader, UINT64_MAX));
		frame->offset += unzigzag(get_varint(reader, UINT64_MAX));
	}
	if (mode == MAP_FRAME_ELSEWHERE) {
		frame->point += unzigzag(get_varint(reader, UINT64_MAX));
		frame->segment = (uint32_t)get_varint(reader, UINT32_MAX);
		number = get_varint(reader, UINT32_MAX);
		frame->offset = get_varint(reader, UINT64_MAX);
	}
	frame->length = (uint32_t)get_varint(reader, UINT32_MAX);
	if (reader->bad || number > UINT32_MAX)
		return false;
	frame->number = (uint32_t)number;
	return mode == (uint64_t)frame_mode(guess, frame);
}

static bool get_entry(struct map_reader *reader, const struct entry_guess *guess,
		      const struct map *map, struct map_entry *entry)
{
	uint64_t gap = get_varint(reader, map->volume_blocks - guess->end);
	uint64_t tag = get_varint(reader, UINT64_MAX);
	uint64_t mode = tag & MAP_MODE_MASK;
	uint64_t frame = guess->frame, position = guess->position;

	if (mode == MAP_ENTRY_NEXT_FRAME) {
		frame++;
		position = 0;
	} else if (mode == MAP_ENTRY_ELSEWHERE) {
		frame += unzigzag(get_varint(reader, UINT64_MAX));
		position = get_varint(reader, UINT32_MAX);
	} else if (mode == MAP_ENTRY_HOLE) {
		frame = MAP_FRAME_HOLE;
		position = 0;
	}
	if (reader->bad || frame > MAP_FRAME_HOLE)
		return false;
	*entry = (struct map_entry){
		.block = guess->end + gap,
		.count = (tag >> MAP_MODE_BITS) + 1,
		.frame = (uint32_t)frame,
		.position = (uint32_t)position,
	};
	return mode == (uint64_t)entry_mode(guess, entry);
}

/* Room for exactly what the header announces, so that appending allocates nothing. */
static int decode_reserve(struct map *map, uint64_t frame_count,
			  uint64_t entry_count)
{
	if (frame_count) {
		map->frames = calloc(frame_count, sizeof(*map->frames));
		if (!map->frames)
			return -ENOMEM;
		map->frame_room = frame_count;
	}
	if (entry_count) {
		map->entries = calloc(entry_count, sizeof(*map->entries));
		if (!map->entries)
			return -ENOMEM;
		map->entry_room = entry_count;
	}
	return 0;
}

static int decode_frames(struct map_reader *reader, uint64_t count,
			 struct map *map)
{
	struct frame_guess guess = FRAME_GUESS_INIT;

	for (uint64_t i = 0; i < count; i++) {
		struct map_frame frame;

		if (!get_frame(reader, &guess, &frame) ||
		    map_append_frame(map, &frame))
			return -EBADMSG;
		frame_guess_next(&guess, &frame);
	}
	return reader->left ? -EBADMSG : 0;
}

static int decode_entries(struct map_reader *reader, uint64_t count,
			  struct map *map)
{
	struct entry_guess guess = ENTRY_GUESS_INIT;

	for (uint64_t i = 0; i < count; i++) {
		struct map_entry entry;

		if (!get_entry(reader, &guess, map, &entry) ||
		    map_append_entry(map, &entry))
			return -EBADMSG;
		/* Merged or dropped: the encoder would not have written it. */
		if (map->entry_count != i + 1)
			return -EBADMSG;
		entry_guess_next(&guess, &entry);
	}
	return reader->left ? -EBADMSG : 0;
}

/* Lengths and counts against the bytes there are, before anything is allocated. */
static int decode_header(const uint8_t *data, size_t length,
			 struct map_header *header)
{
	uint64_t rest, frame_bytes, entry_bytes;

	if (length < sizeof(*header))
		return -EBADMSG;
	rest = length - sizeof(*header);
	memcpy(header, data, sizeof(*header));
	if (memcmp(header->magic, MAP_MAGIC, sizeof(header->magic)) != 0 ||
	    get_le32(header->version) < MAP_VERSION)
		return -EBADMSG;
	if (get_le32(header->version) > MAP_VERSION || header->flags)
		return -EPROTONOSUPPORT;
	if ((header->kind != MAP_FULL && header->kind != MAP_DELTA) ||
	    header->reserved[0] || header->reserved[1] ||
	    get_le64(header->volume_blocks) > MAP_VOLUME_BLOCKS_MAX)
		return -EBADMSG;
	frame_bytes = get_le64(header->frame_bytes);
	entry_bytes = get_le64(header->entry_bytes);
	if (frame_bytes > rest || entry_bytes != rest - frame_bytes ||
	    get_le64(header->frame_count) > frame_bytes / MAP_FRAME_BYTES_MIN ||
	    get_le64(header->entry_count) > entry_bytes / MAP_ENTRY_BYTES_MIN)
		return -EBADMSG;
	return 0;
}

int map_decode(const uint8_t *data, size_t length, struct map *map)
{
	struct map_reader frames = { .bad = false }, entries = { .bad = false };
	struct map_header header;
	struct map result;
	int ret = decode_header(data, length, &header);

	if (ret)
		return ret;
	frames.at = data + sizeof(header);
	frames.left = get_le64(header.frame_bytes);
	entries.at = frames.at + frames.left;
	entries.left = get_le64(header.entry_bytes);

	map_init(&result, (enum map_kind)header.kind,
		 get_le64(header.volume_blocks));
	ret = decode_reserve(&result, get_le64(header.frame_count),
			     get_le64(header.entry_count));
	if (!ret)
		ret = decode_frames(&frames, get_le64(header.frame_count), &result);
	if (!ret)
		ret = decode_entries(&entries, get_le64(header.entry_count),
				     &result);
	if (ret) {
		map_fini(&result);
		return ret;
	}
	*map = result;
	return 0;
}
