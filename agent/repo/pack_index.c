/* The index of a pack: entries, and finding in it. Pure. */
#include "agent/repo/pack_format.h"

#include "agent/pipeline/pipeline.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool pack_sane(const struct retention_pack *pack)
{
	return pack->items && pack->items <= PACK_ITEMS_MAX && pack->bytes <= PACK_BYTES_MAX &&
	       pack->bytes > sizeof(struct pack_header) + pack_index_bytes(pack);
}

void pack_key(const struct uuid *volume, const struct retention_pack *pack,
	      char key[static STORE_KEY_MAX])
{
	char id[UUID_TEXT_SIZE], run[2 * sizeof(pack->run.b) + 1];

	uuid_format(volume, id);
	hex_encode(pack->run.b, sizeof(pack->run.b), run);
	snprintf(key, STORE_KEY_MAX, "%s/packs/%010" PRIu64 "-%.16s-%06" PRIu32, id,
		 pack->sequence, run, pack->number);
}

void pack_index_encode(const struct pack_item *items, size_t count, struct pack_entry *entries)
{
	for (size_t i = 0; i < count; i++)
		entries[i] = (struct pack_entry){
			.point = le64(items[i].point), .segment = le32(items[i].segment),
			.kind = le32(items[i].kind), .offset = le64(items[i].offset),
			.length = le64(items[i].length),
		};
}

static void item_get(const uint8_t *data, uint64_t at, struct pack_item *item)
{
	struct pack_entry entry;

	memcpy(&entry, data, sizeof(entry));
	*item = (struct pack_item){
		.point = get_le64(entry.point), .segment = get_le32(entry.segment),
		.kind = (enum pack_kind)get_le32(entry.kind),
		.offset = get_le64(entry.offset), .length = get_le64(entry.length), .at = at,
	};
}

/* Whether an item may follow the one before it (NULL: none). */
static bool item_follows(const struct pack_item *before, const struct pack_item *item)
{
	if (item->kind == PACK_HEAD)
		return !item->segment && !item->offset &&
		       (!before || before->point < item->point);
	if (item->kind != PACK_FRAMES || !before || before->point != item->point ||
	    item->segment >= RETENTION_SEGMENTS_MAX || item->offset < SEGMENT_HEADER_BYTES)
		return false;
	return before->kind == PACK_HEAD || before->segment < item->segment ||
	       (before->segment == item->segment &&
		before->offset + before->length <= item->offset);
}

int pack_index_decode(const struct retention_pack *pack, const uint8_t *data,
		      struct pack_index *index)
{
	uint64_t at = sizeof(struct pack_header), end = pack->bytes - pack_index_bytes(pack);
	struct pack_item *items = calloc(pack->items, sizeof(*items));

	if (!items)
		return -ENOMEM;
	for (uint64_t i = 0; i < pack->items; i++) {
		struct pack_item *item = &items[i];

		item_get(data + i * sizeof(struct pack_entry), at, item);
		if (!item->length || item->length > end - at ||
		    item->offset > PACK_BYTES_MAX || !item_follows(i ? item - 1 : NULL, item))
			goto bad;
		at += item->length;
	}
	if (at != end || items[0].point != pack->first ||
	    items[pack->items - 1].point != pack->last)
		goto bad;
	index->items = items;
	index->count = pack->items;
	return 0;
bad:
	free(items);
	return -EBADMSG;
}

void pack_index_fini(struct pack_index *index)
{
	free(index->items);
	index->items = NULL;
	index->count = 0;
}

/* The last item that does not begin behind what is looked for; or NULL. */
static const struct pack_item *item_before(const struct pack_index *index,
					   const struct pack_item *wanted)
{
	size_t low = 0, high = index->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct pack_item *item = &index->items[middle];
		bool behind = item->point != wanted->point ? item->point > wanted->point :
			      item->kind != wanted->kind ? item->kind > wanted->kind :
			      item->segment != wanted->segment ?
				      item->segment > wanted->segment :
				      item->offset > wanted->offset;

		if (behind)
			high = middle;
		else
			low = middle + 1;
	}
	return low ? &index->items[low - 1] : NULL;
}

const struct pack_item *pack_index_head(const struct pack_index *index, uint64_t point)
{
	const struct pack_item wanted = { .point = point, .kind = PACK_HEAD };
	const struct pack_item *item = item_before(index, &wanted);

	return item && item->point == point && item->kind == PACK_HEAD ? item : NULL;
}

const struct pack_item *pack_index_next(const struct pack_index *index, uint64_t point,
					uint32_t segment, uint64_t offset)
{
	const struct pack_item wanted = {
		.point = point, .segment = segment, .offset = offset, .kind = PACK_FRAMES,
	};
	const struct pack_item *item = item_before(index, &wanted);

	item = item ? item + 1 : index->items;
	return item < index->items + index->count && item->point == point &&
	       item->kind == PACK_FRAMES && item->segment == segment ? item : NULL;
}

const struct pack_item *pack_index_frames(const struct pack_index *index, uint64_t point,
					  uint32_t segment, uint64_t offset)
{
	const struct pack_item wanted = {
		.point = point, .segment = segment, .offset = offset, .kind = PACK_FRAMES,
	};
	const struct pack_item *item = item_before(index, &wanted);

	return item && item->point == point && item->kind == PACK_FRAMES &&
	       item->segment == segment && offset - item->offset < item->length ? item : NULL;
}
