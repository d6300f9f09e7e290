/*
 * Which bytes of a disk its points hold: what each partition needs of its own, and what
 * lies between partitions, where boot loaders and tables of tables are.
 */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)
/* Of what lies between partitions: what is larger is free space, and only its ends may be
 * of use (the table of a logical partition lies just before it). */
#define GAP_WHOLE_MAX (16 * MIB)
#define GAP_END (8 * MIB)
#define PIECE ((size_t)MIB)

static int range_add(struct capture *capture, uint64_t offset, uint64_t bytes,
		     enum disk_what what, uint32_t partition, struct error *err)
{
	struct disk_layout *layout = capture->layout;

	if (!bytes)
		return 0;
	if (layout->range_count == DISK_RANGES_MAX)
		return error_set(err, -E2BIG, "%s has more than %d parts to keep",
				 capture->disk->path, DISK_RANGES_MAX);
	layout->ranges[layout->range_count++] = (struct disk_range){
		.offset = offset, .bytes = bytes, .what = what, .partition = partition,
	};
	return 0;
}

/* ---- gaps ------------------------------------------------------------------------ */

/* 1 yes, 0 no. */
static int all_zero(const struct capture *capture, uint64_t offset, uint64_t bytes,
		    struct error *err)
{
	CLEANUP_FREE char *buffer = malloc(PIECE);
	int ret = buffer ? 0 : -ENOMEM;

	for (uint64_t at = 0; !ret && at < bytes; at += PIECE) {
		size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;

		ret = file_pread_all(capture->fd, buffer, n, offset + at);
		if (!ret && (buffer[0] || memcmp(buffer, buffer + 1, n - 1)))
			return 0;
	}
	return ret ? error_set(err, ret, "cannot read %s: %s", capture->disk->path,
			       error_text(ret)) : 1;
}

static int piece_add(struct capture *capture, uint64_t offset, uint64_t bytes,
		     enum disk_what what, struct error *err)
{
	int zero = what == DISK_GAP ? all_zero(capture, offset, bytes, err) : 0;

	return zero < 0 ? zero : zero ? 0 : range_add(capture, offset, bytes, what, 0, err);
}

static int gap_add(struct capture *capture, uint64_t offset, uint64_t end, struct error *err)
{
	enum disk_what what = offset ? DISK_GAP : DISK_TABLE_START;
	uint64_t bytes = end - offset;
	int ret;

	if (end <= offset)
		return 0;
	if (bytes <= GAP_WHOLE_MAX)
		return piece_add(capture, offset, bytes, what, err);
	ret = piece_add(capture, offset, GAP_END, what, err);
	return ret ? ret : piece_add(capture, end - GAP_END, GAP_END, DISK_GAP, err);
}

/* ---- what partitions need --------------------------------------------------------- */

/* Up to where the data begins that is elsewhere in the layout. */
static uint64_t header_bytes(const struct disk_layout *layout, const struct disk_place *place)
{
	for (size_t i = 0; i < layout->crypt_count; i++)
		if (!memcmp(&layout->crypts[i].place, place, sizeof(*place)))
			return layout->crypts[i].header_bytes;
	for (size_t g = 0; g < layout->group_count; g++)
		for (size_t i = 0; i < layout->groups[g].pv_count; i++)
			if (!memcmp(&layout->groups[g].pvs[i].place, place, sizeof(*place)))
				return layout->groups[g].pvs[i].data_offset;
	return MIB;	/* a PV of no group */
}

static int content_add(struct capture *capture, const struct disk_content *content,
		       const struct disk_place *place, uint64_t offset, uint64_t bytes,
		       uint32_t number, struct error *err)
{
	uint64_t header;

	if (content->kept == DISK_KEPT_HERE)
		return range_add(capture, offset, bytes, DISK_PARTITION, number, err);
	if (content->kept != DISK_KEPT_HEADER)
		return 0;
	header = header_bytes(capture->layout, place);
	return range_add(capture, offset, header < bytes ? header : bytes,
			 content->kind == DISK_PV ? DISK_LVM_HEADER : DISK_LUKS_HEADER, number,
			 err);
}

static int partitions_add(struct capture *capture, uint64_t *at, struct error *err)
{
	const struct disk_layout *layout = capture->layout;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < layout->partition_count; i++) {
		const struct disk_partition *partition = &layout->partitions[i];
		struct disk_place place = { DISK_ON_PARTITION, i, 0 };

		ret = gap_add(capture, *at, partition->offset, err);
		/* Its first sector leads to all logical ones, also to one far behind it: what
		 * lies between is a gap of its own. */
		if (partition->extended) {
			*at = partition->offset;
			continue;
		}
		if (!ret)
			ret = content_add(capture, &partition->content, &place, partition->offset,
					  partition->bytes, partition->number, err);
		if (partition->offset + partition->bytes > *at)
			*at = partition->offset + partition->bytes;
	}
	return ret;
}

int capture_ranges(struct capture *capture, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	struct disk_place whole = { .on = DISK_ON_DISK };
	uint64_t at = 0, end = layout->bytes;
	int ret;

	layout->ranges = calloc(DISK_RANGES_MAX, sizeof(*layout->ranges));
	if (!layout->ranges)
		return error_set(err, -ENOMEM, "out of memory");
	if (layout->table == DISK_TABLE_NONE)
		return content_add(capture, &layout->content, &whole, 0, layout->bytes, 0, err);
	if (layout->table == DISK_TABLE_GPT)
		end = layout->usable_offset + layout->usable_bytes;
	ret = partitions_add(capture, &at, err);
	if (!ret)
		ret = gap_add(capture, at, end, err);
	if (!ret && at < layout->bytes)
		ret = range_add(capture, end > at ? end : at,
				layout->bytes - (end > at ? end : at), DISK_TABLE_END, 0, err);
	return ret;
}
