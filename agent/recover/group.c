/*
 * LVM's volume groups: PVs with their old UUIDs, and the metadata that was kept as text.
 * LVM's own tools do it, by whom the metadata was written.
 */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

const struct disk_group *group_of(const struct recovery *recovery, size_t index)
{
	const struct recover_group *group = &recovery->groups[index];

	return &recovery->disks[group->disk].layout.groups[group->group];
}

bool group_pv_found(const struct recovery *recovery, const struct disk_group *group, size_t pv,
		    struct pv_place *found)
{
	for (size_t d = 0; d < recovery->disk_count; d++) {
		const struct disk_layout *layout = &recovery->disks[d].layout;

		for (size_t g = 0; g < layout->group_count; g++) {
			const struct disk_group *same = &layout->groups[g];

			if (strcmp(same->uuid, group->uuid))
				continue;
			for (size_t i = 0; i < same->pv_count; i++)
				if (!strcmp(same->pvs[i].uuid, group->pvs[pv].uuid) &&
				    same->pvs[i].place.on != DISK_ON_ELSEWHERE) {
					*found = (struct pv_place){ d, same->pvs[i].place,
								    same->pvs[i].bytes };
					return true;
				}
		}
	}
	return false;
}

/* ---- what a killed run left --------------------------------------------------------- */

static void deactivate(const struct disk_group *group)
{
	char select[DISK_WORD_ROOM + 16], output[COMMAND_OUTPUT_ROOM];
	const char *command[] = { "vgchange", "-an", "--select", select, NULL };
	struct error ignored = ERROR_INIT;

	snprintf(select, sizeof(select), "vg_uuid=%s", group->uuid);
	command_code(command, NULL, output, &ignored);
}

/* Whether a device holds logical volumes, and that group's are there. */
static bool held_by_group(const char *path, const struct disk_group *group)
{
	char output[COMMAND_OUTPUT_ROOM], wanted[DISK_WORD_ROOM];
	const char *command[] = { "lsblk", "-nro", "NAME,TYPE", path, NULL };
	const char *dms[] = { "dmsetup", "info", "-c", "--noheadings", "-o", "uuid", NULL };
	struct error ignored = ERROR_INIT;
	size_t length = 0;

	if (command_code(command, NULL, output, &ignored) || !strstr(output, " lvm"))
		return false;
	for (const char *at = group->uuid; *at; at++)
		if (*at != '-')
			wanted[length++] = *at;
	wanted[length] = '\0';
	return !command_code(dms, NULL, output, &ignored) && strstr(output, wanted);
}

void groups_release(struct recovery *recovery, const char *target)
{
	for (size_t i = 0; i < recovery->group_count; i++)
		if (held_by_group(target, group_of(recovery, i)))
			deactivate(group_of(recovery, i));
}

void groups_deactivate(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->group_count; i++)
		deactivate(group_of(recovery, i));
	if (recovery->group_count)
		device_settle();
}

/* ---- making them ------------------------------------------------------------------------ */

static int pv_create(const struct recovery *recovery, const struct disk_group *group, size_t pv,
		     const char *file, struct error *err)
{
	char path[PATH_MAX];
	const char *command[] = { "pvcreate", "--yes", "-ff", "--uuid", group->pvs[pv].uuid,
				  "--restorefile", file, path, NULL };
	struct pv_place found;
	int ret;

	if (!group_pv_found(recovery, group, pv, &found))
		return error_set(err, -ENODEV, "volume group %s: a PV is missing", group->name);
	ret = recover_path(recovery, found.disk, &found.place, path, err);
	return ret ? ret : command_ok(command, NULL, err);
}

static int pv_resize(struct recovery *recovery, const struct disk_group *group, size_t pv,
		     struct error *err)
{
	char path[PATH_MAX];
	const char *command[] = { "pvresize", path, NULL };
	struct pv_place found;
	uint64_t bytes;
	int ret;

	if (!group_pv_found(recovery, group, pv, &found))
		return 0;
	ret = recover_path(recovery, found.disk, &found.place, path, err);
	if (!ret)
		ret = device_bytes(path, &bytes, err);
	return ret || bytes <= found.bytes ? ret : command_ok(command, NULL, err);
}

static int group_restore(struct recovery *recovery, const struct disk_group *group, bool grow,
			 struct error *err)
{
	char file[] = "/tmp/clawback-group.XXXXXX";
	CLEANUP_CLOSE int fd = mkostemp(file, O_CLOEXEC);
	const char *restore[] = { "vgcfgrestore", "--file", file, group->name, NULL };
	const char *activate[] = { "vgchange", "-ay", group->name, NULL };
	int ret = fd < 0 ? -errno : file_write_all(fd, group->metadata, strlen(group->metadata));

	if (ret)
		error_set(err, ret, "writing LVM's metadata to %s: %s", file, error_text(ret));
	for (size_t i = 0; !ret && i < group->pv_count; i++)
		ret = pv_create(recovery, group, i, file, err);
	if (!ret)
		ret = command_ok(restore, NULL, err);
	if (fd >= 0)
		unlink(file);
	for (size_t i = 0; !ret && grow && i < group->pv_count; i++)
		ret = pv_resize(recovery, group, i, err);
	if (!ret)
		ret = command_ok(activate, NULL, err);
	device_settle();
	return ret ? error_prefix(err, "making volume group %s anew", group->name) : 0;
}

int groups_restore(struct recovery *recovery, const struct recover_options *options,
		   struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < recovery->group_count; i++) {
		char text[DISK_NAME_ROOM + 32];

		snprintf(text, sizeof(text), "volume group %s", group_of(recovery, i)->name);
		if (options->step)
			options->step(options->context, text);
		ret = group_restore(recovery, group_of(recovery, i), options->grow, err);
	}
	return ret;
}
