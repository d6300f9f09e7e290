/*
 * Whether a layout is one: the same for what was just made and for what was read back.
 * Who makes a disk anew by it hands its words to other programs and its numbers to a
 * partition table, so words are bounded in what they are made of, and numbers in what
 * they point to.
 */
#include "agent/disk/disk_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECTOR_BYTES 512u
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static int bad(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int bad(struct error *err, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s", text);
}

/* ---- words ------------------------------------------------------------------ */

static bool name_good(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

/* What may be an argument of a program, or a part of a file's name. */
static bool consists_of(const char *text, const char *others)
{
	char good[128];

	snprintf(good, sizeof(good), LETTERS "%s", others);
	return *text != '-' && strspn(text, good) == strlen(text);
}

static bool word_good(const char *text)
{
	return consists_of(text, "._:+-");
}

static bool file_name_good(const char *text, const char *others)
{
	return *text && strcmp(text, ".") && strcmp(text, "..") && consists_of(text, others);
}

static int check_content(const struct disk_content *content, const char *what, size_t i,
			 struct error *err)
{
	bool of_volume = content->kept == DISK_KEPT_VOLUME;

	if (!word_good(content->type) || !word_good(content->uuid) ||
	    !name_good(content->label) || !name_good(content->mount))
		return bad(err, "what %s %zu holds has a name that is none", what, i);
	if (of_volume != (*content->volume != '\0') ||
	    (of_volume && !file_name_good(content->volume, "._-")) ||
	    (content->has_volume_id && !of_volume))
		return bad(err, "%s %zu and its volume do not fit", what, i);
	return 0;
}

/* ---- the table ---------------------------------------------------------------- */

static bool within(uint64_t offset, uint64_t bytes, uint64_t room)
{
	return bytes && offset <= room && bytes <= room - offset;
}

static int check_table(const struct disk_layout *layout, struct error *err)
{
	uint32_t logical = layout->logical_block_bytes, physical = layout->physical_block_bytes;

	if (!name_good(layout->host) || !name_good(layout->kernel) ||
	    !name_good(layout->device) || !name_good(layout->model) ||
	    !name_good(layout->serial) || !word_good(layout->table_uuid))
		return bad(err, "a name of the disk is none");
	if (!layout->bytes || layout->bytes > 1ull << 62 || layout->bytes % SECTOR_BYTES ||
	    logical < SECTOR_BYTES || logical > 1u << 20 || (logical & (logical - 1)) ||
	    physical < SECTOR_BYTES || physical > 1u << 30)
		return bad(err, "its size makes no sense");
	if (layout->table == DISK_TABLE_GPT
	    ? !within(layout->usable_offset, layout->usable_bytes, layout->bytes) ||
	      !layout->table_entries
	    : layout->usable_offset || layout->usable_bytes || layout->table_entries)
		return bad(err, "there is no room for partitions, or no table");
	if (layout->table == DISK_TABLE_NONE && layout->partition_count)
		return bad(err, "there are partitions without a table");
	if (layout->table != DISK_TABLE_NONE &&
	    (layout->content.kind != DISK_EMPTY || layout->content.kept != DISK_KEPT_NOT))
		return bad(err, "there is something in the place of the table");
	return 0;
}

static int check_partition(const struct disk_layout *layout, size_t i, struct error *err)
{
	const struct disk_partition *partition = &layout->partitions[i];

	if (!within(partition->offset, partition->bytes, layout->bytes) ||
	    partition->offset % SECTOR_BYTES || partition->bytes % SECTOR_BYTES)
		return bad(err, "partition %" PRIu32 " does not lie on the disk",
			   partition->number);
	if (!partition->number || !*partition->type || !word_good(partition->type) ||
	    !word_good(partition->uuid) || !name_good(partition->name))
		return bad(err, "partition %zu has a number or name that is none", i);
	if (layout->table != DISK_TABLE_DOS && (partition->extended || partition->logical))
		return bad(err, "partition %" PRIu32 " is of another table's kind",
			   partition->number);
	if (partition->extended && (partition->logical ||
				    partition->content.kept != DISK_KEPT_NOT))
		return bad(err, "partition %" PRIu32 " is an extended one and holds something",
			   partition->number);
	for (size_t j = 0; j < i; j++)
		if (layout->partitions[j].number == partition->number)
			return bad(err, "there are two partitions %" PRIu32, partition->number);
	return check_content(&partition->content, "partition", partition->number, err);
}

/* They come by offset, an extended one before the logical ones in it. */
static int check_partitions(const struct disk_layout *layout, struct error *err)
{
	const struct disk_partition *extended = NULL;
	uint64_t taken = 0;
	int ret = 0;

	for (size_t i = 0; !ret && i < layout->partition_count; i++) {
		const struct disk_partition *partition = &layout->partitions[i];
		uint64_t end = partition->offset + partition->bytes;

		ret = check_partition(layout, i, err);
		if (ret)
			break;
		if (partition->logical &&
		    (!extended || !within(partition->offset - extended->offset,
					  partition->bytes, extended->bytes)))
			return bad(err, "partition %" PRIu32 " is in no extended one",
				   partition->number);
		if (!partition->logical && extended) {
			taken = extended->offset + extended->bytes;
			extended = NULL;
		}
		if (partition->offset < taken)
			return bad(err, "partition %" PRIu32 " overlaps another one, or comes "
				   "out of turn", partition->number);
		if (partition->extended)
			extended = partition;
		taken = partition->extended ? partition->offset : end;
	}
	return ret;
}

/* ---- LUKS and LVM -------------------------------------------------------------- */

static bool place_good(const struct disk_layout *layout, const struct disk_place *place)
{
	switch (place->on) {
	case DISK_ON_DISK:
		return layout->table == DISK_TABLE_NONE && !place->index && !place->lv;
	case DISK_ON_PARTITION:
		return place->index < layout->partition_count && !place->lv;
	case DISK_ON_CRYPT:
		return place->index < layout->crypt_count && !place->lv;
	case DISK_ON_LV:
		return place->index < layout->group_count &&
		       place->lv < layout->groups[place->index].lv_count;
	default:
		return !place->index && !place->lv;
	}
}

static int check_crypts(const struct disk_layout *layout, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < layout->crypt_count; i++) {
		const struct disk_crypt *crypt = &layout->crypts[i];

		if (!file_name_good(crypt->name, "._:+=@#-") ||
		    !place_good(layout, &crypt->place) ||
		    crypt->place.on == DISK_ON_ELSEWHERE ||
		    crypt->header_bytes > 1u << 30 || crypt->bytes > 1ull << 62)
			return bad(err, "crypt %zu has a name, place or size that is none", i);
		ret = check_content(&crypt->content, "crypt", i, err);
	}
	return ret;
}

static int check_group(const struct disk_layout *layout, const struct disk_group *group,
		       size_t i, struct error *err)
{
	int ret = 0;

	if (!file_name_good(group->name, "._+-") || !word_good(group->uuid) ||
	    !group->extent_bytes || !group->metadata || !*group->metadata ||
	    strlen(group->metadata) > DISK_METADATA_BYTES_MAX)
		return bad(err, "group %zu has a name, extents or metadata that are none", i);
	for (size_t j = 0; j < group->pv_count; j++) {
		const struct disk_pv *pv = &group->pvs[j];

		if (!*pv->uuid || !word_good(pv->uuid) || !place_good(layout, &pv->place) ||
		    pv->bytes > 1ull << 62 || pv->data_offset > 1u << 30)
			return bad(err, "group %zu has a PV with a name, place or size that is "
				   "none", i);
	}
	for (size_t j = 0; !ret && j < group->lv_count; j++) {
		const struct disk_lv *lv = &group->lvs[j];

		if (!file_name_good(lv->name, "._+-") || !word_good(lv->uuid) ||
		    !word_good(lv->type) || !lv->bytes || lv->bytes > 1ull << 62)
			return bad(err, "group %zu has an LV with a name or size that is none", i);
		ret = check_content(&lv->content, "LV", j, err);
	}
	return ret;
}

/*
 * Who makes them anew begins at the disk: nothing may lie on itself. Each round takes
 * those of which all that lies beneath was taken before.
 */
struct standing {
	bool crypts[DISK_CRYPTS_MAX], groups[DISK_GROUPS_MAX];
};

static bool stands(const struct standing *standing, const struct disk_place *place)
{
	return place->on == DISK_ON_CRYPT ? standing->crypts[place->index] :
	       place->on == DISK_ON_LV ? standing->groups[place->index] : true;
}

static bool group_stands(const struct standing *standing, const struct disk_group *group)
{
	for (size_t i = 0; i < group->pv_count; i++)
		if (!stands(standing, &group->pvs[i].place))
			return false;
	return true;
}

static int check_standing(const struct disk_layout *layout, struct error *err)
{
	struct standing standing = { .crypts = { false } };
	size_t left = layout->crypt_count + layout->group_count, before;

	do {
		before = left;
		for (size_t i = 0; i < layout->crypt_count; i++)
			if (!standing.crypts[i] && stands(&standing, &layout->crypts[i].place)) {
				standing.crypts[i] = true;
				left--;
			}
		for (size_t i = 0; i < layout->group_count; i++)
			if (!standing.groups[i] && group_stands(&standing, &layout->groups[i])) {
				standing.groups[i] = true;
				left--;
			}
	} while (left && left != before);
	return left ? bad(err, "a crypt or group lies on itself") : 0;
}

/* ---- ranges --------------------------------------------------------------------- */

static int check_ranges(const struct disk_layout *layout, struct error *err)
{
	uint64_t taken = 0;

	for (size_t i = 0; i < layout->range_count; i++) {
		const struct disk_range *range = &layout->ranges[i];

		if (!within(range->offset, range->bytes, layout->bytes) ||
		    range->offset % SECTOR_BYTES || range->bytes % SECTOR_BYTES)
			return bad(err, "range %zu does not lie on the disk", i);
		if (range->offset < taken)
			return bad(err, "range %zu overlaps another one, or comes out of turn", i);
		if (range->partition && !disk_partition_numbered(layout, range->partition))
			return bad(err, "range %zu is of a partition that is not there", i);
		taken = range->offset + range->bytes;
	}
	return 0;
}

int disk_layout_check(const struct disk_layout *layout, struct error *err)
{
	int ret;

	if (layout->partition_count > DISK_PARTITIONS_MAX ||
	    layout->crypt_count > DISK_CRYPTS_MAX || layout->group_count > DISK_GROUPS_MAX ||
	    layout->range_count > DISK_RANGES_MAX)
		return bad(err, "it has too many parts");
	for (size_t i = 0; i < layout->group_count; i++)
		if (layout->groups[i].pv_count > DISK_PVS_MAX ||
		    layout->groups[i].lv_count > DISK_LVS_MAX)
			return bad(err, "group %zu has too many parts", i);
	ret = check_table(layout, err);
	if (!ret)
		ret = check_content(&layout->content, "disk", 0, err);
	if (!ret)
		ret = check_partitions(layout, err);
	if (!ret)
		ret = check_crypts(layout, err);
	for (size_t i = 0; !ret && i < layout->group_count; i++)
		ret = check_group(layout, &layout->groups[i], i, err);
	if (!ret)
		ret = check_standing(layout, err);
	return ret ? ret : check_ranges(layout, err);
}
