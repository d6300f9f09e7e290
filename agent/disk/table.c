/*
 * The partition table, as it is on the disk and, where the kernel has partitions, as the
 * kernel has it: both must say the same, or what is written today lies elsewhere after
 * the next boot.
 */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/le.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512u

/* UEFI specification, "GPT Header"; what libblkid does not tell. */
struct gpt_header {
	uint8_t magic[8];
	uint8_t other[32];
	struct le64 first_usable, last_usable;	/* in logical blocks */
	uint8_t guid[16];
	struct le64 entries_at;
	struct le32 entry_count;
};
_Static_assert(sizeof(struct gpt_header) == 84, "gpt_header layout");

static void probe_free(blkid_probe *probe)
{
	blkid_free_probe(*probe);
}

/* The first copy, or the last, whichever is there; both say the same of this. */
static int gpt_read(const struct capture *capture, struct gpt_header *header,
		    struct error *err)
{
	uint32_t block = capture->disk->logical_block_bytes;
	uint64_t places[] = { block, capture->disk->bytes - block };

	for (size_t i = 0; i < 2; i++) {
		int ret = file_pread_all(capture->fd, header, sizeof(*header), places[i]);

		if (ret)
			return error_set(err, ret, "cannot read the partition table of %s: %s",
					 capture->disk->path, error_text(ret));
		if (!memcmp(header->magic, "EFI PART", sizeof(header->magic)))
			return 0;
	}
	return error_set(err, -EBADMSG, "the partition table of %s is damaged; sfdisk --verify "
			 "tells more", capture->disk->path);
}

static int take_gpt(const struct capture *capture, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	struct gpt_header header;
	uint64_t blocks = layout->bytes / layout->logical_block_bytes, first, last;
	int ret = gpt_read(capture, &header, err);

	if (ret)
		return ret;
	first = get_le64(header.first_usable);
	last = get_le64(header.last_usable);
	if (!first || first > last || last >= blocks)
		return error_set(err, -EBADMSG, "the partition table of %s is of a disk of another "
				 "size; repair it first (sfdisk --relocate gpt-bak-std)",
				 capture->disk->path);
	layout->usable_offset = first * layout->logical_block_bytes;
	layout->usable_bytes = (last - first + 1) * layout->logical_block_bytes;
	layout->table_entries = get_le32(header.entry_count);
	return 0;
}

static int partition_compare(const void *a, const void *b)
{
	const struct disk_partition *one = a, *two = b;

	if (one->offset != two->offset)
		return one->offset < two->offset ? -1 : 1;
	return (int)two->extended - (int)one->extended;
}

static void take_partition(blkid_partition from, bool dos, struct disk_partition *to)
{
	const char *type = blkid_partition_get_type_string(from);
	const char *uuid = blkid_partition_get_uuid(from);
	const char *name = blkid_partition_get_name(from);

	to->number = (uint32_t)blkid_partition_get_partno(from);
	to->offset = (uint64_t)blkid_partition_get_start(from) * SECTOR_BYTES;
	to->bytes = (uint64_t)blkid_partition_get_size(from) * SECTOR_BYTES;
	to->flags = blkid_partition_get_flags(from);
	to->extended = dos && blkid_partition_is_extended(from);
	to->logical = dos && blkid_partition_is_logical(from);
	if (dos)
		snprintf(to->type, sizeof(to->type), "0x%x", blkid_partition_get_type(from));
	else if (type)
		text_take(to->type, sizeof(to->type), type);
	if (uuid)
		text_take(to->uuid, sizeof(to->uuid), uuid);
	if (name)
		text_take(to->name, sizeof(to->name), name);
}

static int take_partitions(struct capture *capture, blkid_partlist list,
			   blkid_parttable table, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	int count = blkid_partlist_numof_partitions(list);

	if (count > DISK_PARTITIONS_MAX)
		return error_set(err, -E2BIG, "%s has more than %d partitions",
				 capture->disk->path, DISK_PARTITIONS_MAX);
	layout->partitions = calloc(count > 0 ? (size_t)count : 1, sizeof(*layout->partitions));
	if (!layout->partitions)
		return error_set(err, -ENOMEM, "reading a partition table: out of memory");
	for (int i = 0; i < count; i++) {
		blkid_partition partition = blkid_partlist_get_partition(list, i);

		/* Slices within a partition (BSD's) are that partition's own. */
		if (partition && blkid_partition_get_table(partition) == table)
			take_partition(partition, layout->table == DISK_TABLE_DOS,
				       &layout->partitions[layout->partition_count++]);
	}
	qsort(layout->partitions, layout->partition_count, sizeof(*layout->partitions),
	      partition_compare);
	return 0;
}

/* ---- the kernel's own ----------------------------------------------------------- */

static int kernel_partition(uint32_t device, void *context)
{
	struct capture *capture = context;
	char number[32], start[32], size[32];

	if (device_attribute(device, "partition", number, sizeof(number)) ||
	    device_attribute(device, "start", start, sizeof(start)) ||
	    device_attribute(device, "size", size, sizeof(size)))
		return -ENODEV;
	for (size_t i = 0; i < capture->layout->partition_count; i++) {
		const struct disk_partition *partition = &capture->layout->partitions[i];

		if (partition->number != strtoul(number, NULL, 10))
			continue;
		capture->partition_devices[i] = device;
		/* Of an extended one the kernel shows only as much as boot loaders need. */
		if (partition->offset == strtoull(start, NULL, 10) * SECTOR_BYTES &&
		    (partition->extended ||
		     partition->bytes == strtoull(size, NULL, 10) * SECTOR_BYTES))
			return 0;
	}
	return -ESTALE;
}

static int match_kernel(struct capture *capture, struct error *err)
{
	bool any = false, all = true;
	int ret = device_kin(capture->disk->device, "partitions", kernel_partition, capture);

	for (size_t i = 0; i < capture->layout->partition_count; i++) {
		any |= capture->partition_devices[i] != 0;
		all &= capture->partition_devices[i] != 0;
	}
	/* A loop device, say, of which partitions were never asked for, has none. */
	if (ret == -ESTALE || (!ret && any && !all))
		return error_set(err, -ESTALE, "the partition table on %s is not the one that the "
				 "kernel goes by; run partprobe %s, or reboot", capture->disk->path,
				 capture->disk->path);
	return ret ? error_set(err, ret, "cannot tell the partitions of %s: %s",
			       capture->disk->path, error_text(ret)) : 0;
}

/* ---- all of it -------------------------------------------------------------------- */

static int take_table(struct capture *capture, blkid_partlist list, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	blkid_parttable table = blkid_partlist_get_table(list);
	const char *type = table ? blkid_parttable_get_type(table) : NULL;
	const char *id = table ? blkid_parttable_get_id(table) : NULL;
	int ret;

	if (!type)
		return 0;
	if (!strcmp(type, "gpt"))
		layout->table = DISK_TABLE_GPT;
	else if (!strcmp(type, "dos"))
		layout->table = DISK_TABLE_DOS;
	else
		return error_set(err, -EOPNOTSUPP, "%s has a partition table of kind \"%s\"; gpt "
				 "and dos are known", capture->disk->path, type);
	if (id)
		snprintf(layout->table_uuid, sizeof(layout->table_uuid), "%s%.40s",
			 layout->table == DISK_TABLE_DOS ? "0x" : "", id);
	ret = layout->table == DISK_TABLE_GPT ? take_gpt(capture, err) : 0;
	if (!ret)
		ret = take_partitions(capture, list, table, err);
	return ret ? ret : match_kernel(capture, err);
}

int capture_table(struct capture *capture, struct error *err)
{
	CLEANUP(probe_free) blkid_probe probe = blkid_new_probe();
	blkid_partlist list;

	if (!probe || blkid_probe_set_device(probe, capture->fd, 0, 0))
		return error_set(err, -ENOMEM, "reading the partition table of %s failed",
				 capture->disk->path);
	blkid_probe_enable_partitions(probe, 1);
	blkid_probe_set_partitions_flags(probe, BLKID_PARTS_ENTRY_DETAILS);
	/* A file system's boot sector may look like a table; libblkid knows better. */
	errno = 0;
	list = blkid_probe_get_partitions(probe);
	if (!list && errno)
		return error_set(err, -errno, "reading the partition table of %s: %s",
				 capture->disk->path, error_text(errno));
	return list ? take_table(capture, list, err) : 0;
}
