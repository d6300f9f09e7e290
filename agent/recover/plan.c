/* Whether all that is to be made can be made where it is to go. */
#include "agent/recover/recover_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GROW_ALIGNMENT (1ull << 20)

/* Where partitions may end on a device of `bytes`. */
static uint64_t usable_end(const struct disk_layout *layout, uint64_t bytes)
{
	uint64_t block = layout->logical_block_bytes, entries = layout->table_entries;
	uint64_t copy;

	if (layout->table != DISK_TABLE_GPT)
		return bytes;
	copy = ((entries ? entries : 128) * 128 + block - 1) / block * block + block;
	return bytes > copy ? bytes - copy : 0;
}

static size_t last_partition(const struct disk_layout *layout)
{
	size_t last = 0;

	for (size_t i = 1; i < layout->partition_count; i++)
		if (layout->partitions[i].offset + layout->partitions[i].bytes >
		    layout->partitions[last].offset + layout->partitions[last].bytes)
			last = i;
	return last;
}

static void plan_growth(struct recovery *recovery, struct recover_disk *disk, uint64_t end)
{
	const struct disk_partition *last;
	size_t index = last_partition(&disk->layout);
	uint64_t bytes, most;

	if (!disk->layout.partition_count || disk->target_bytes <= disk->layout.bytes)
		return;
	last = &disk->layout.partitions[index];
	if (last->extended || last->logical) {
		recovery_note(recovery, "disk %s: its last partition is inside an extended one, "
			      "and does not grow", disk->name);
		return;
	}
	bytes = (end - last->offset) / GROW_ALIGNMENT * GROW_ALIGNMENT;
	/* A dos table counts sectors in 32 bits: of a start, and of a length. */
	most = (uint64_t)UINT32_MAX * disk->layout.logical_block_bytes;
	if (disk->layout.table == DISK_TABLE_DOS && bytes > most)
		bytes = most / GROW_ALIGNMENT * GROW_ALIGNMENT;
	if (bytes <= last->bytes)
		return;
	disk->grown = index + 1;
	disk->grown_bytes = bytes;
	if (last->content.kind == DISK_FILE_SYSTEM)
		recovery_note(recovery, "disk %s: partition %u grows, the %s on it does not by "
			      "itself: resize2fs, xfs_growfs", disk->name, last->number,
			      last->content.type);
}

int recover_disk_fit(struct recovery *recovery, struct recover_disk *disk, bool grow,
		     struct error *err)
{
	const struct disk_layout *layout = &disk->layout;
	uint64_t end = usable_end(layout, disk->target_bytes), lost = layout->bytes;

	disk->resized = disk->target_bytes != layout->bytes;
	for (size_t i = 0; i < layout->partition_count; i++) {
		const struct disk_partition *partition = &layout->partitions[i];

		if (partition->offset + partition->bytes > end)
			return error_set(err, -ENOSPC, "disk %s onto %s: that has %" PRIu64 " bytes, "
					 "the lost one had %" PRIu64 ", and partition %u ends at %"
					 PRIu64 "; choose a larger one", disk->name, disk->target,
					 disk->target_bytes, lost, partition->number,
					 partition->offset + partition->bytes);
	}
	if (layout->table == DISK_TABLE_NONE && disk->target_bytes < layout->bytes)
		return error_set(err, -ENOSPC, "disk %s onto %s: that has %" PRIu64 " bytes, the "
				 "lost one, which has no partitions, %" PRIu64 "; choose a larger "
				 "one", disk->name, disk->target, disk->target_bytes,
				 layout->bytes);
	if (grow)
		plan_growth(recovery, disk, end);
	return 0;
}

/* ---- contents ------------------------------------------------------------------------ */

static int plan_content(struct recovery *recovery, const struct disk_content *content,
			const char *where, struct error *err)
{
	if (content->kind == DISK_OTHER && content->kept != DISK_KEPT_HERE &&
	    content->kept != DISK_KEPT_VOLUME)
		return error_set(err, -EOPNOTSUPP, "%s holds %s, which is in no point and cannot be "
				 "made anew by this; restore the volumes by hand", where,
				 content->type);
	if (content->kept == DISK_KEPT_NOT && content->kind == DISK_FILE_SYSTEM)
		recovery_note(recovery, "%s held %s%s%s, which is in no point: it will be empty; if "
			      "/etc/fstab names it, the machine may wait for it at its start", where,
			      content->type, *content->mount ? ", mounted on " : "", content->mount);
	return 0;
}

static int plan_group(struct recovery *recovery, size_t index, struct error *err)
{
	const struct disk_group *group = group_of(recovery, index);
	size_t disk = recovery->groups[index].disk;
	char where[DISK_NAME_ROOM * 2 + 32];
	struct pv_place found;
	int ret = 0;

	for (size_t i = 0; !ret && i < group->pv_count; i++)
		if (!group_pv_found(recovery, group, i, &found))
			ret = error_set(err, -EOPNOTSUPP, "volume group %s lies on a disk, too, of "
					"which there is no point: the PV %s is missing; protect all "
					"disks of a group, or restore its volumes by hand",
					group->name, group->pvs[i].uuid);
		else if (place_covered(&recovery->disks[found.disk].layout, &found.place))
			ret = error_set(err, -EOPNOTSUPP, "volume group %s lies partly on what is a "
					"volume as a whole, or was left out: the PV %s is not made "
					"anew; restore its volumes by hand", group->name,
					group->pvs[i].uuid);
	for (size_t i = 0; !ret && i < group->lv_count; i++) {
		const struct disk_lv *lv = &group->lvs[i];

		snprintf(where, sizeof(where), "logical volume %s/%s", group->name, lv->name);
		if (strcmp(lv->type, "linear") && strcmp(lv->type, "striped"))
			ret = error_set(err, -EOPNOTSUPP, "%s is of LVM's type %s, which cannot be "
					"made anew from metadata alone; make it by hand, then "
					"restore its volumes", where, lv->type);
		else
			ret = plan_content(recovery, &lv->content, where, err);
	}
	if (!ret && !group->metadata)
		ret = error_set(err, -EOPNOTSUPP, "the layout of disk %s has no metadata of volume "
				"group %s", recovery->disks[disk].name, group->name);
	return ret;
}

static int plan_contents(struct recovery *recovery, const struct recover_disk *disk,
			 struct error *err)
{
	const struct disk_layout *layout = &disk->layout;
	char where[DISK_NAME_ROOM * 2 + 32];
	int ret = 0;

	for (size_t i = 0; !ret && i < layout->partition_count; i++) {
		snprintf(where, sizeof(where), "partition %u of disk %s",
			 layout->partitions[i].number, disk->name);
		ret = plan_content(recovery, &layout->partitions[i].content, where, err);
	}
	for (size_t i = 0; !ret && i < layout->range_count; i++)
		if (layout->ranges[i].how == DISK_LIVE)
			recovery_note(recovery, "disk %s: %s at %" PRIu64 " was read while it was "
				      "written to; it may be of no one instant", disk->name,
				      disk_what_name(layout->ranges[i].what),
				      layout->ranges[i].offset);
	return ret;
}

static int plan_crypts(struct recovery *recovery, struct error *err)
{
	char where[DISK_NAME_ROOM + 32];
	int ret = 0;

	if (recovery->crypt_count && !command_there("cryptsetup"))
		return error_set(err, -ENOENT, "the machine had LUKS, and there is no cryptsetup here "
				 "to open it with: install cryptsetup-bin");
	for (size_t i = 0; !ret && i < recovery->crypt_count; i++) {
		snprintf(where, sizeof(where), "the LUKS %s", crypt_of(recovery, i)->name);
		ret = plan_content(recovery, &crypt_of(recovery, i)->content, where, err);
	}
	return ret;
}

int recovery_plan(struct recovery *recovery, const struct recover_options *options,
		  struct error *err)
{
	int ret = choose_targets(recovery, options, err);

	for (size_t i = 0; !ret && i < recovery->disk_count; i++) {
		struct recover_disk *disk = &recovery->disks[i];

		if (!*disk->target)
			ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "disk %s has no device to go "
					     "onto", disk->name);
		if (!ret)
			ret = recover_disk_fit(recovery, disk, options->grow, err);
		if (!ret)
			ret = plan_contents(recovery, disk, err);
	}
	if (!ret)
		ret = plan_crypts(recovery, err);
	for (size_t i = 0; !ret && i < recovery->group_count; i++)
		ret = plan_group(recovery, i, err);
	return ret;
}
