/* Volume groups, by LVM's own tools: what they say today they will read back. */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/command.h"
#include "agent/base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LVM_HELP "is lvm2 installed?"

int capture_find(const struct capture *capture, uint32_t device, struct disk_place *place)
{
	const struct disk_layout *layout = capture->layout;

	memset(place, 0, sizeof(*place));
	place->on = DISK_ON_ELSEWHERE;
	if (!device)
		return -ENOENT;
	if (device == capture->disk->device) {
		place->on = DISK_ON_DISK;
		return 0;
	}
	for (uint32_t i = 0; i < layout->partition_count; i++)
		if (capture->partition_devices[i] == device) {
			*place = (struct disk_place){ DISK_ON_PARTITION, i, 0 };
			return 0;
		}
	for (uint32_t i = 0; i < layout->crypt_count; i++)
		if (capture->crypt_devices[i] == device) {
			*place = (struct disk_place){ DISK_ON_CRYPT, i, 0 };
			return 0;
		}
	return -ENOENT;
}

/* ---- what LVM says ----------------------------------------------------------- */

struct reports {
	struct report_pv *pvs;
	struct report_lv *lvs;
	size_t pv_count, lv_count;
};

static void reports_fini(struct reports *reports)
{
	free(reports->pvs);
	free(reports->lvs);
}

static int reports_read(struct reports *reports, struct error *err)
{
	static const char *const pvs[] = { "pvs", "--reportformat", "json", "--units", "b",
					   "--nosuffix", "-o", REPORT_PVS, NULL };
	static const char *const lvs[] = { "lvs", "--reportformat", "json", "--units", "b",
					   "--nosuffix", "-o", REPORT_LVS, NULL };
	CLEANUP_FREE char *pv_text = NULL;
	CLEANUP_FREE char *lv_text = NULL;
	size_t length;
	int ret = command_output(pvs, REPORT_BYTES_MAX, LVM_HELP, &pv_text, &length, err);

	if (ret)
		return ret;
	ret = report_pvs(pv_text, length, &reports->pvs, &reports->pv_count);
	if (ret)
		return error_set(err, ret, "pvs says something that is not understood");
	ret = command_output(lvs, REPORT_BYTES_MAX, LVM_HELP, &lv_text, &length, err);
	if (ret)
		return ret;
	ret = report_lvs(lv_text, length, &reports->lvs, &reports->lv_count);
	return ret ? error_set(err, ret, "lvs says something that is not understood") : 0;
}

/* vgcfgbackup writes files only; into a folder that is nobody else's. */
static int metadata_read(const char *name, char **metadata, struct error *err)
{
	char folder[] = "/run/clawback-lvm.XXXXXX", path[sizeof(folder) + 8];
	const char *const command[] = { "vgcfgbackup", "--quiet", "--quiet", "-f", path, name,
					NULL };
	CLEANUP_FREE char *said = NULL;
	size_t length;
	int ret;

	if (!mkdtemp(folder))
		return error_set(err, -errno, "cannot make a folder %s: %s", folder,
				 error_text(errno));
	snprintf(path, sizeof(path), "%s/group", folder);
	ret = command_output(command, 1 << 16, LVM_HELP, &said, &length, err);
	if (!ret) {
		ret = file_read(path, DISK_METADATA_BYTES_MAX, metadata, &length);
		if (ret)
			error_set(err, ret, "the metadata of volume group %s: %s", name,
				  error_text(ret));
	}
	unlink(path);
	rmdir(folder);
	return ret;
}

/* ---- into the layout ------------------------------------------------------------ */

static int take_pvs(const struct capture *capture, const struct reports *reports,
		    struct disk_group *group, struct error *err)
{
	group->pvs = calloc(reports->pv_count + 1, sizeof(*group->pvs));
	if (!group->pvs)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < reports->pv_count; i++) {
		const struct report_pv *from = &reports->pvs[i];
		struct disk_pv *pv = &group->pvs[group->pv_count];

		if (strcmp(from->group_uuid, group->uuid))
			continue;
		if (++group->pv_count > DISK_PVS_MAX)
			return error_set(err, -E2BIG, "volume group %s has more than %d PVs",
					 group->name, DISK_PVS_MAX);
		strcpy(pv->uuid, from->uuid);
		pv->bytes = from->bytes;
		pv->data_offset = from->data_offset;
		capture_find(capture, from->device, &pv->place);
	}
	return 0;
}

static int take_lv(struct capture *capture, const struct report_lv *from, struct disk_lv *lv,
		   struct error *err)
{
	strcpy(lv->name, from->name);
	strcpy(lv->uuid, from->uuid);
	strcpy(lv->type, from->type);
	lv->bytes = from->bytes;
	lv->segments = from->segments;
	/* Pools are for other LVs; and what is not active cannot be looked at. */
	if (!from->device || strstr(from->type, "-pool"))
		return 0;
	if (content_look_at(from->device, &lv->content, err))
		return err->code;
	keep_volume(capture, from->device, &lv->content);
	return 0;
}

/* The LV of which an earlier segment was told, or NULL. What is not linear or striped
 * throughout is called by what it is not. */
static struct disk_lv *lv_taken(struct disk_group *group, const struct report_lv *from)
{
	for (size_t i = 0; i < group->lv_count; i++) {
		struct disk_lv *lv = &group->lvs[i];

		if (strcmp(lv->uuid, from->uuid))
			continue;
		if (strcmp(from->type, "linear") && strcmp(from->type, "striped"))
			strcpy(lv->type, from->type);
		return lv;
	}
	return NULL;
}

static int take_lvs(struct capture *capture, const struct reports *reports,
		    struct disk_group *group, struct error *err)
{
	size_t room = DISK_LVS_MAX < reports->lv_count ? DISK_LVS_MAX : reports->lv_count;
	uint32_t index = (uint32_t)(group - capture->layout->groups);
	int ret = 0;

	group->lvs = calloc(room + 1, sizeof(*group->lvs));
	if (!group->lvs)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; !ret && i < reports->lv_count; i++) {
		const struct report_lv *from = &reports->lvs[i];
		struct disk_place place = { DISK_ON_LV, index, (uint32_t)group->lv_count };

		if (strcmp(from->group, group->name) || lv_taken(group, from))
			continue;
		if (group->lv_count == room)
			return error_set(err, -E2BIG, "volume group %s has more than %d LVs",
					 group->name, DISK_LVS_MAX);
		ret = take_lv(capture, from, &group->lvs[group->lv_count], err);
		if (!ret && group->lvs[group->lv_count].content.kind == DISK_LUKS)
			ret = capture_crypts(capture, from->device, from->bytes, &place, err);
		group->lv_count += !ret;
	}
	return ret;
}

static int take_group(struct capture *capture, const struct reports *reports,
		      const struct report_pv *of, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	struct disk_group *group = &layout->groups[layout->group_count];
	int ret;

	strcpy(group->name, of->group);
	strcpy(group->uuid, of->group_uuid);
	group->extent_bytes = of->extent_bytes;
	layout->group_count++;
	ret = take_pvs(capture, reports, group, err);
	if (!ret)
		ret = take_lvs(capture, reports, group, err);
	return ret ? ret : metadata_read(group->name, &group->metadata, err);
}

static bool group_taken(const struct disk_layout *layout, const char *uuid)
{
	for (size_t i = 0; i < layout->group_count; i++)
		if (!strcmp(layout->groups[i].uuid, uuid))
			return true;
	return false;
}

static int take_groups(struct capture *capture, const struct reports *reports,
		       struct error *err)
{
	struct disk_layout *layout = capture->layout;
	struct disk_place place;
	int ret = 0;

	layout->groups = calloc(DISK_GROUPS_MAX, sizeof(*layout->groups));
	if (!layout->groups)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; !ret && i < reports->pv_count; i++) {
		const struct report_pv *pv = &reports->pvs[i];

		if (!*pv->group || group_taken(layout, pv->group_uuid) ||
		    capture_find(capture, pv->device, &place))
			continue;
		if (layout->group_count == DISK_GROUPS_MAX)
			return error_set(err, -E2BIG, "there are more than %d volume groups",
					 DISK_GROUPS_MAX);
		ret = take_group(capture, reports, pv, err);
	}
	return ret;
}

static bool has_pv(const struct disk_layout *layout)
{
	if (layout->content.kind == DISK_PV)
		return true;
	for (size_t i = 0; i < layout->partition_count; i++)
		if (layout->partitions[i].content.kind == DISK_PV)
			return true;
	for (size_t i = 0; i < layout->crypt_count; i++)
		if (layout->crypts[i].content.kind == DISK_PV)
			return true;
	return false;
}

int capture_groups(struct capture *capture, struct error *err)
{
	CLEANUP(reports_fini) struct reports reports = { .pvs = NULL };
	int ret;

	if (!has_pv(capture->layout))
		return 0;
	ret = reports_read(&reports, err);
	if (!ret)
		ret = take_groups(capture, &reports, err);
	return ret ? error_prefix(err, "LVM") : 0;
}
