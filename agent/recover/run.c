/*
 * The order of things: on each disk, first what is there goes, then come the bytes of the
 * disk's point and the table; on these LUKS and LVM; then swap and the volumes. Labels of PVs come
 * back by pvcreate only: a system that activates what it finds must not find any before.
 */
#include "agent/recover/recover_private.h"

#include "agent/base/interrupt.h"
#include "agent/restore/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define EDGE_BYTES (1ull << 20)
#define PV_LABEL_BYTES 2048	/* LVM looks for it in the first four sectors */

__attribute__((format(printf, 2, 3)))
static void step(const struct recover_options *options, const char *format, ...)
{
	char text[PATH_MAX + 128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (options->step)
		options->step(options->context, text);
}

static int restore_onto(struct recovery *recovery, const struct recover_options *options,
			const struct point *point, const char *path, bool data_only,
			struct error *err)
{
	struct restore_target_options to = { .bytes = point->volume_bytes, .data_only = data_only };
	struct restore_options how = {
		.verify = options->verify && !data_only,
		.report = options->report, .context = options->context,
	};
	struct error closing = ERROR_INIT;
	struct restore_target *target;
	struct restore_result result;
	int ret = restore_target_open(path, &to, &target, err);

	if (ret)
		return ret;
	ret = restore_run(recovery->repo, point, &options->ring, target, &how, &result, err);
	if (restore_target_close(target, &closing) && !ret) {
		*err = closing;
		ret = closing.code;
	}
	if (ret)
		return error_prefix(err, "%s@%" PRIu64, point->volume_name, point->number);
	recovery->fetched_bytes += result.fetched_bytes;
	recovery->written_bytes += result.written_bytes;
	return 0;
}

/* ---- disks ------------------------------------------------------------------------- */

/* Tables, also a second copy at the end, and what lies on the whole device. */
static int disk_clear(const struct recover_disk *disk, struct error *err)
{
	uint64_t edge = disk->target_bytes < EDGE_BYTES ? disk->target_bytes : EDGE_BYTES;
	int ret = device_zero(disk->target, 0, edge, err);

	if (!ret)
		ret = device_zero(disk->target, disk->target_bytes - edge, edge, err);
	return ret ? ret : device_reread(disk->target, err);
}

/* What begins where something begins that no point fills: old signatures there. */
static int partitions_clear(const struct recover_disk *disk, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < disk->layout.partition_count; i++) {
		const struct disk_partition *partition = &disk->layout.partitions[i];
		uint64_t edge = partition->bytes < EDGE_BYTES ? partition->bytes : EDGE_BYTES;

		if (partition->content.kept != DISK_KEPT_NOT || partition->extended)
			continue;
		ret = device_zero(disk->target, partition->offset, edge, err);
		if (!ret)
			ret = device_zero(disk->target, partition->offset + partition->bytes - edge,
					  edge, err);
	}
	return ret;
}

static int labels_clear(const struct recover_disk *disk, struct error *err)
{
	const struct disk_layout *layout = &disk->layout;
	int ret = 0;

	for (size_t g = 0; !ret && g < layout->group_count; g++)
		for (size_t i = 0; !ret && i < layout->groups[g].pv_count; i++) {
			const struct disk_place *place = &layout->groups[g].pvs[i].place;

			if (place->on == DISK_ON_PARTITION)
				ret = device_zero(disk->target,
						  layout->partitions[place->index].offset,
						  PV_LABEL_BYTES, err);
			else if (place->on == DISK_ON_DISK)
				ret = device_zero(disk->target, 0, PV_LABEL_BYTES, err);
		}
	return ret;
}

static int disk_check(const struct recover_disk *disk, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < disk->layout.partition_count; i++) {
		const struct disk_partition *partition = &disk->layout.partitions[i];
		uint64_t bytes, wanted = disk->grown == i + 1 ? disk->grown_bytes : partition->bytes;
		char path[PATH_MAX];

		if (partition->extended)
			continue;
		ret = device_partition(disk->target, partition->number, path);
		if (ret)
			return error_set(err, ret, "partition %u of %s did not appear",
					 partition->number, disk->target);
		ret = device_bytes(path, &bytes, err);
		if (!ret && bytes != wanted)
			ret = error_set(err, -EIO, "partition %s has %" PRIu64 " bytes, not %" PRIu64,
					path, bytes, wanted);
	}
	return ret;
}

static int disk_run(struct recovery *recovery, struct recover_disk *disk,
		    const struct recover_options *options, struct error *err)
{
	int ret = interrupt_check(err);

	step(options, "disk %s: table and boot parts onto %s", disk->name, disk->target);
	if (!ret)
		ret = disk_clear(disk, err);
	if (!ret)
		ret = restore_onto(recovery, options, &disk->point, disk->target, true, err);
	if (!ret)
		ret = partitions_clear(disk, err);
	if (!ret)
		ret = labels_clear(disk, err);
	if (!ret)
		ret = table_write(disk, err);
	if (!ret)
		ret = device_reread(disk->target, err);
	if (!ret)
		ret = disk_check(disk, err);
	return ret ? error_prefix(err, "disk %s onto %s", disk->name, disk->target) : 0;
}

/* ---- swap, volumes ----------------------------------------------------------------------- */

/* A device that has just been made is looked at by others for a moment. */
static int command_retried(const char *const command[], struct error *err)
{
	struct timespec pause = { 0, 500000000 };
	int ret = command_ok(command, NULL, err);

	for (int try = 0; ret == -EIO && try < 10; try++) {
		nanosleep(&pause, NULL);
		*err = (struct error)ERROR_INIT;
		ret = command_ok(command, NULL, err);
	}
	return ret;
}

static int swap_make(struct recovery *recovery, size_t disk, const struct disk_place *place,
		     const struct disk_content *content, struct error *err)
{
	const char *command[10] = { "mkswap" };
	char path[PATH_MAX];
	int ret, n = 1;

	if (content->kind != DISK_SWAP || content->kept != DISK_KEPT_NOT)
		return 0;
	ret = recover_path(recovery, disk, place, path, err);
	if (ret)
		return ret;
	if (*content->uuid) {
		command[n++] = "--uuid";
		command[n++] = content->uuid;
	}
	if (*content->label) {
		command[n++] = "--label";
		command[n++] = content->label;
	}
	command[n++] = path;
	return command_retried(command, err);
}

static int swaps_make(struct recovery *recovery, struct error *err)
{
	int ret = 0;

	for (size_t d = 0; !ret && d < recovery->disk_count; d++) {
		const struct disk_layout *layout = &recovery->disks[d].layout;

		for (uint32_t i = 0; !ret && i < layout->partition_count; i++)
			ret = swap_make(recovery, d, &(struct disk_place){ DISK_ON_PARTITION, i, 0 },
					&layout->partitions[i].content, err);
	}
	for (size_t i = 0; !ret && i < recovery->crypt_count; i++)
		ret = swap_make(recovery, recovery->crypts[i].disk,
				&(struct disk_place){ DISK_ON_CRYPT, recovery->crypts[i].index, 0 },
				&crypt_of(recovery, i)->content, err);
	for (size_t g = 0; !ret && g < recovery->group_count; g++) {
		const struct disk_group *group = group_of(recovery, g);

		for (uint32_t i = 0; !ret && i < group->lv_count; i++)
			ret = swap_make(recovery, recovery->groups[g].disk,
					&(struct disk_place){ DISK_ON_LV,
						(uint32_t)recovery->groups[g].group, i },
					&group->lvs[i].content, err);
	}
	return ret;
}

static int volume_run(struct recovery *recovery, const struct recover_volume *volume,
		      const struct recover_options *options, struct error *err)
{
	char path[PATH_MAX];
	int ret = interrupt_check(err);

	if (!ret)
		ret = recover_path(recovery, volume->disk, &volume->place, path, err);
	if (ret)
		return ret;
	step(options, "volume %s onto %s", volume->point.volume_name, path);
	return restore_onto(recovery, options, &volume->point, path, false, err);
}

int recovery_run(struct recovery *recovery, const struct recover_options *options,
		 struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < recovery->disk_count; i++)
		ret = disk_run(recovery, &recovery->disks[i], options, err);
	if (!ret)
		ret = crypts_open(recovery, options, err);
	if (!ret)
		ret = groups_restore(recovery, options, err);
	if (!ret)
		ret = swaps_make(recovery, err);
	for (size_t i = 0; !ret && i < recovery->volume_count; i++)
		ret = volume_run(recovery, &recovery->volumes[i], options, err);
	if (!ret) {
		step(options, "checks");
		check_all(recovery);
		boot_entries(recovery);
	}
	groups_deactivate(recovery);
	crypts_close(recovery);
	if (!ret)
		return 0;
	return error_hint(err, "what is on the devices is no whole machine; once the cause is "
			  "mended, begin again with --erase");
}
