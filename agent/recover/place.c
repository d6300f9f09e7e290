/* Where a place of a layout is on the devices of here; and the whole as lines. */
#include "agent/recover/recover_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int recover_path(const struct recovery *recovery, size_t disk, const struct disk_place *place,
	       char path[static PATH_MAX], struct error *err)
{
	const struct recover_disk *of = &recovery->disks[disk];
	const struct disk_group *group;
	char name[128];
	int ret;

	switch (place->on) {
	case DISK_ON_DISK:
		snprintf(path, PATH_MAX, "%s", of->target);
		return 0;
	case DISK_ON_PARTITION:
		ret = device_partition(of->target, of->layout.partitions[place->index].number, path);
		return ret ? error_set(err, ret, "partition %u of %s is not there: %s",
				       of->layout.partitions[place->index].number, of->target,
				       error_text(ret)) : 0;
	case DISK_ON_LV:
		group = &of->layout.groups[place->index];
		snprintf(path, PATH_MAX, "/dev/%s/%s", group->name, group->lvs[place->lv].name);
		if (!access(path, F_OK))
			return 0;
		return error_set(err, -ENOENT, "the logical volume %s is not there", path);
	case DISK_ON_CRYPT:
		crypt_mapping(&of->layout.crypts[place->index], name);
		snprintf(path, PATH_MAX, "/dev/mapper/%s", name);
		if (!access(path, F_OK))
			return 0;
		return error_set(err, -ENOENT, "the opened LUKS %s is not there", path);
	default:
		return error_set(err, -ENODEV, "a place on another disk cannot be reached");
	}
}

/* ---- rows ------------------------------------------------------------------------------ */

struct rows {
	const struct recovery *recovery;
	int (*visit)(void *context, const struct recover_row *row);
	void *context;
};

static bool same_place(const struct disk_place *a, const struct disk_place *b)
{
	return a->on == b->on && (a->on == DISK_ON_DISK || a->index == b->index) &&
	       (a->on != DISK_ON_LV || a->lv == b->lv);
}

static const struct recover_volume *volume_at(const struct recovery *recovery, size_t disk,
					      const struct disk_place *place)
{
	for (size_t i = 0; i < recovery->volume_count; i++)
		if (recovery->volumes[i].disk == disk &&
		    same_place(&recovery->volumes[i].place, place))
			return &recovery->volumes[i];
	return NULL;
}

static void time_text(uint64_t time_ns, char text[static 32])
{
	time_t seconds = (time_t)(time_ns / 1000000000);
	struct tm parts;

	strftime(text, 32, "%Y-%m-%d %H:%M:%SZ", gmtime_r(&seconds, &parts));
}

static void content_action(const struct rows *rows, size_t disk, const struct disk_place *place,
			   const struct disk_content *content, struct recover_row *row)
{
	size_t room = sizeof(row->action);
	char when[32];

	row->volume = volume_at(rows->recovery, disk, place);
	if (row->volume) {
		time_text(row->volume->point.time_ns, when);
		snprintf(row->action, room, "volume %s, point %" PRIu64 " of %s",
			 row->volume->point.volume_name, row->volume->point.number, when);
	} else if (content->kept == DISK_KEPT_VOLUME) {
		snprintf(row->action, room, "volume %s, with another disk's", content->volume);
	} else if (content->kept == DISK_KEPT_HERE) {
		snprintf(row->action, room, "from this disk's point");
	} else if (content->kind == DISK_SWAP) {
		snprintf(row->action, room, "made anew, UUID kept");
	} else if (content->kind == DISK_PV) {
		snprintf(row->action, room, "made anew, UUID kept");
	} else if (content->kind == DISK_LUKS && content->kept == DISK_KEPT_HEADER) {
		snprintf(row->action, room, "its header from this disk's point");
	} else {
		snprintf(row->action, room, "empty");
	}
}

static const char *content_words(const struct disk_content *content)
{
	if (content->kind == DISK_PV)
		return "LVM PV";
	return *content->type ? content->type : "nothing";
}

static int rows_disk(const struct rows *rows, size_t index)
{
	const struct recover_disk *disk = &rows->recovery->disks[index];
	const struct disk_layout *layout = &disk->layout;
	struct recover_row row = {
		.bytes = layout->bytes, .new_bytes = disk->target_bytes, .disk = disk,
	};
	char when[32];
	int ret;

	time_text(disk->point.time_ns, when);
	snprintf(row.what, sizeof(row.what), "disk %s", disk->name);
	snprintf(row.action, sizeof(row.action), "point %" PRIu64 " of %s onto %.120s",
		 disk->point.number, when, disk->target);
	if (layout->table == DISK_TABLE_NONE && layout->content.kept == DISK_KEPT_VOLUME)
		row.volume = volume_at(rows->recovery, index,
				       &(struct disk_place){ DISK_ON_DISK, 0, 0 });
	ret = rows->visit(rows->context, &row);
	for (uint32_t i = 0; !ret && i < layout->partition_count; i++) {
		const struct disk_partition *partition = &layout->partitions[i];

		row = (struct recover_row){
			.depth = 1, .bytes = partition->bytes,
			.new_bytes = disk->grown == i + 1 ? disk->grown_bytes : partition->bytes,
		};
		snprintf(row.what, sizeof(row.what), "%u %s%s%.160s", partition->number,
			 partition->extended ? "extended" : content_words(&partition->content),
			 *partition->content.mount ? " " : "", partition->content.mount);
		content_action(rows, index, &(struct disk_place){ DISK_ON_PARTITION, i, 0 },
			       &partition->content, &row);
		if (partition->extended)
			snprintf(row.action, sizeof(row.action), "from this disk's point");
		ret = rows->visit(rows->context, &row);
	}
	return ret;
}

static int rows_crypts(const struct rows *rows)
{
	const struct recovery *recovery = rows->recovery;
	int ret = 0;

	for (size_t i = 0; !ret && i < recovery->crypt_count; i++) {
		const struct recover_crypt *at = &recovery->crypts[i];
		const struct disk_crypt *crypt = crypt_of(recovery, i);
		struct recover_row row = { .bytes = crypt->bytes, .new_bytes = crypt->bytes,
					   .depth = 1 };

		snprintf(row.what, sizeof(row.what), "in LUKS %.80s %s%s%.100s", crypt->name,
			 content_words(&crypt->content), *crypt->content.mount ? " " : "",
			 crypt->content.mount);
		content_action(rows, at->disk, &(struct disk_place){ DISK_ON_CRYPT, at->index, 0 },
			       &crypt->content, &row);
		ret = rows->visit(rows->context, &row);
	}
	return ret;
}

static int rows_group(const struct rows *rows, size_t index)
{
	const struct recover_group *at = &rows->recovery->groups[index];
	const struct disk_group *group = group_of(rows->recovery, index);
	struct recover_row row = { .depth = 0 };
	int ret;

	snprintf(row.what, sizeof(row.what), "volume group %s", group->name);
	snprintf(row.action, sizeof(row.action), "made anew from its metadata, UUID kept");
	ret = rows->visit(rows->context, &row);
	for (uint32_t i = 0; !ret && i < group->lv_count; i++) {
		const struct disk_lv *lv = &group->lvs[i];

		row = (struct recover_row){ .depth = 1, .bytes = lv->bytes, .new_bytes = lv->bytes };
		snprintf(row.what, sizeof(row.what), "%.100s %s%s%.100s", lv->name,
			 content_words(&lv->content), *lv->content.mount ? " " : "",
			 lv->content.mount);
		content_action(rows, at->disk,
			       &(struct disk_place){ DISK_ON_LV, (uint32_t)at->group, i },
			       &lv->content, &row);
		ret = rows->visit(rows->context, &row);
	}
	return ret;
}

int recovery_rows(const struct recovery *recovery,
		  int (*visit)(void *context, const struct recover_row *row), void *context)
{
	struct rows rows = { recovery, visit, context };
	int ret = 0;

	for (size_t i = 0; !ret && i < recovery->disk_count; i++)
		ret = rows_disk(&rows, i);
	if (!ret)
		ret = rows_crypts(&rows);
	for (size_t i = 0; !ret && i < recovery->group_count; i++)
		ret = rows_group(&rows, i);
	return ret;
}
