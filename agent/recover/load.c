/* What the repository has at a time: points of disks, and of the volumes on them. */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static const char *at_of(const struct recover_options *options)
{
	return options->at && *options->at ? options->at : "latest";
}

void recovery_note(struct recovery *recovery, const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	if (text && recovery->note_count < RECOVER_NOTES_MAX)
		recovery->notes[recovery->note_count++] = text;
	else
		free(text);
}

/* ---- volumes -------------------------------------------------------------------- */

static bool volume_known(const struct recovery *recovery, const struct uuid *id)
{
	for (size_t i = 0; i < recovery->volume_count; i++)
		if (uuid_equal(&recovery->volumes[i].point.volume, id))
			return true;
	return false;
}

static int volume_load(struct recovery *recovery, const struct recover_options *options,
		       const struct disk_content *content, struct recover_volume *volume,
		       struct error *err)
{
	char id[UUID_TEXT_SIZE];
	struct repo_volume found;
	int ret;

	if (content->has_volume_id)
		uuid_format(&content->volume_id, id);
	ret = repo_volume_find(recovery->repo, content->has_volume_id ? id : content->volume,
			       &found, err);
	if (!ret && volume_known(recovery, &found.id))
		return 1;
	if (!ret)
		ret = point_find(recovery->repo, &found.id, at_of(options), &volume->point, err);
	if (!ret && volume->point.volume_bytes > volume->room_bytes) {
		ret = error_set(err, -ENOSPC, "it has %" PRIu64 " bytes in point %" PRIu64 ", and "
				"had %" PRIu64 " when the disk's point was taken; choose a time at "
				"which both fit: at", volume->point.volume_bytes,
				volume->point.number, volume->room_bytes);
		point_fini(&volume->point);
	}
	return ret ? error_prefix(err, "volume %s of disk %s", content->volume,
				  recovery->disks[volume->disk].name) : 0;
}

/* What a place holds, if that is in the points of a volume. */
static int content_load(struct recovery *recovery, const struct recover_options *options,
			const struct disk_content *content, struct disk_place place,
			uint64_t room_bytes, struct error *err)
{
	struct recover_volume *grown, volume = {
		.disk = recovery->disk_count - 1, .place = place, .room_bytes = room_bytes,
	};
	int ret;

	if (content->kept != DISK_KEPT_VOLUME)
		return 0;
	ret = volume_load(recovery, options, content, &volume, err);
	if (ret)
		return ret < 0 ? ret : 0;
	grown = reallocarray(recovery->volumes, recovery->volume_count + 1, sizeof(*grown));
	if (!grown) {
		point_fini(&volume.point);
		return error_set(err, -ENOMEM, "reading the layout: out of memory");
	}
	recovery->volumes = grown;
	recovery->volumes[recovery->volume_count++] = volume;
	return 0;
}

/* All of it comes with volumes beneath, or it was left out with what it lies on. */
static bool group_covered(const struct disk_layout *layout, const struct disk_group *group)
{
	bool here = false;

	for (size_t i = 0; i < group->pv_count; i++) {
		if (group->pvs[i].place.on == DISK_ON_ELSEWHERE)
			continue;
		if (!place_covered(layout, &group->pvs[i].place))
			return false;
		here = true;
	}
	return here;
}

static void covered_note(struct recovery *recovery, const struct disk_content *content)
{
	if (content->kept == DISK_KEPT_VOLUME)
		recovery_note(recovery, "volume %s lay on what is another volume, or was left out, as "
			      "a whole: it comes as the points of that have it", content->volume);
}

static int group_load(struct recovery *recovery, const struct recover_options *options,
		      uint32_t index, struct error *err)
{
	size_t disk = recovery->disk_count - 1;
	const struct disk_group *group = &recovery->disks[disk].layout.groups[index];
	struct recover_group *grown;
	int ret = 0;

	if (group_covered(&recovery->disks[disk].layout, group)) {
		for (size_t i = 0; i < group->lv_count; i++)
			covered_note(recovery, &group->lvs[i].content);
		return 0;
	}
	for (size_t i = 0; i < recovery->group_count; i++)
		if (!strcmp(group_of(recovery, i)->uuid, group->uuid))
			return 0;
	grown = reallocarray(recovery->groups, recovery->group_count + 1, sizeof(*grown));
	if (!grown)
		return error_set(err, -ENOMEM, "reading the layout: out of memory");
	recovery->groups = grown;
	recovery->groups[recovery->group_count++] = (struct recover_group){ disk, index };
	for (uint32_t i = 0; !ret && i < group->lv_count; i++)
		ret = content_load(recovery, options, &group->lvs[i].content,
				   (struct disk_place){ DISK_ON_LV, index, i },
				   group->lvs[i].bytes, err);
	return ret;
}

static int volumes_load(struct recovery *recovery, const struct recover_options *options,
			struct error *err)
{
	const struct disk_layout *layout = &recovery->disks[recovery->disk_count - 1].layout;
	int ret = content_load(recovery, options, &layout->content,
			       (struct disk_place){ DISK_ON_DISK, 0, 0 }, layout->bytes, err);

	for (uint32_t i = 0; !ret && i < layout->partition_count; i++)
		ret = content_load(recovery, options, &layout->partitions[i].content,
				   (struct disk_place){ DISK_ON_PARTITION, i, 0 },
				   layout->partitions[i].bytes, err);
	for (uint32_t i = 0; !ret && i < layout->crypt_count; i++) {
		struct disk_place place = { DISK_ON_CRYPT, i, 0 };

		if (place_covered(layout, &place))
			covered_note(recovery, &layout->crypts[i].content);
		else
			ret = content_load(recovery, options, &layout->crypts[i].content, place,
					   layout->crypts[i].bytes, err);
	}
	if (!ret)
		ret = crypts_load(recovery, err);
	for (uint32_t i = 0; !ret && i < layout->group_count; i++)
		ret = group_load(recovery, options, i, err);
	return ret;
}

/* ---- disks ------------------------------------------------------------------------ */

/* 1: it is a volume, or had no point at that time. */
static int disk_load(struct recovery *recovery, const struct recover_options *options,
		     const struct repo_volume *volume, struct error *err)
{
	struct recover_disk *disk = &recovery->disks[recovery->disk_count];
	struct point point;
	int ret = point_find(recovery->repo, &volume->id, at_of(options), &point, err);

	if (ret == -ENOENT)
		return 1;
	if (ret)
		return ret;
	if (!point.disk_layout) {
		point_fini(&point);
		return 1;
	}
	if (recovery->disk_count == RECOVER_DISKS_MAX) {
		point_fini(&point);
		return error_set(err, -E2BIG, "the repository has more than %d disks",
				 RECOVER_DISKS_MAX);
	}
	snprintf(disk->name, sizeof(disk->name), "%s", point.volume_name);
	ret = disk_layout_decode(point.disk_layout, strlen(point.disk_layout), &disk->layout, err);
	if (ret) {
		if (ret == -EBADMSG)
			err->exit = EXIT_UNTRUSTWORTHY;
		point_fini(&point);
		return error_prefix(err, "the layout of disk %s", volume->name);
	}
	disk->point = point;
	recovery->disk_count++;
	if (disk->layout.bytes != disk->point.volume_bytes)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "the layout of disk %s has "
				      "another size than its point", volume->name);
	return volumes_load(recovery, options, err);
}

/* Of several disks' points only those that are named, if any are. */
static bool disk_wanted(const struct recover_options *options, const char *name)
{
	size_t length = strlen(name);
	const char *at = options->disks;

	if (!at || !*at)
		return true;
	for (; (at = strstr(at, name)); at++)
		if (at[length] == ':' && (at == options->disks || at[-1] == ' '))
			return true;
	return false;
}

int recovery_load(struct recovery *recovery, struct repo *repo,
		  const struct recover_options *options, struct error *err)
{
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	size_t count;
	int ret;

	memset(recovery, 0, sizeof(*recovery));
	recovery->repo = repo;
	ret = repo_volumes(repo, &volumes, &count, err);
	for (size_t i = 0; ret >= 0 && i < count; i++)
		if (disk_wanted(options, volumes[i].name))
			ret = disk_load(recovery, options, &volumes[i], err);
	if (ret < 0)
		return ret;
	*err = (struct error)ERROR_INIT;
	if (!recovery->disk_count)
		return error_set(err, -ENOENT, "the repository has no point of a disk%s%s; a machine "
				 "is recovered from the points of its [disk NAME] sections, single "
				 "volumes with clawback restore",
				 options->at && *options->at ? " at " : "",
				 options->at ? options->at : "");
	return 0;
}

void recovery_fini(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->disk_count; i++) {
		point_fini(&recovery->disks[i].point);
		disk_layout_fini(&recovery->disks[i].layout);
	}
	for (size_t i = 0; i < recovery->volume_count; i++)
		point_fini(&recovery->volumes[i].point);
	for (size_t i = 0; i < recovery->note_count; i++)
		free(recovery->notes[i]);
	recovery_lock(recovery);
	free(recovery->volumes);
	free(recovery->crypts);
	free(recovery->groups);
	memset(recovery, 0, sizeof(*recovery));
}
