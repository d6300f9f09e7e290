/*
 * What can be looked at afterwards without changing anything: that each place holds what
 * it held, by its identifier, and that file systems are whole. A volume's point is of a
 * later or earlier moment than the disk's, so that another identifier is a note only.
 */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <fcntl.h>
#include <string.h>

/* A checker of a type of file system: its words before the device; which code means that a
 * journal waits for the next mount. */
struct checker { const char *type, *words[4]; int journal; };

static const struct checker checkers[] = {
	{ "ext2", { "e2fsck", "-f", "-n", NULL }, 0 },
	{ "ext3", { "e2fsck", "-f", "-n", NULL }, 0 },
	{ "ext4", { "e2fsck", "-f", "-n", NULL }, 0 },
	{ "xfs", { "xfs_repair", "-n", NULL, NULL }, 2 },
	{ "vfat", { "fsck.vfat", "-n", NULL, NULL }, 0 },
};

/* e2fsck -n does not replay a journal, and complains of what lies in it only. */
static bool ext_journal_waits(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t byte;

	/* s_feature_incompat of the superblock, EXT3_FEATURE_INCOMPAT_RECOVER */
	return fd >= 0 && !file_pread_all(fd, &byte, 1, 1024 + 96) && (byte & 4);
}

static void check_file_system(struct recovery *recovery, const char *path, const char *type)
{
	const char *command[6] = { NULL };
	char output[COMMAND_OUTPUT_ROOM];
	struct error err = ERROR_INIT;
	size_t n = 0;
	int code;

	for (size_t i = 0; i < sizeof(checkers) / sizeof(checkers[0]); i++) {
		const struct checker *checker = &checkers[i];

		if (strcmp(checker->type, type))
			continue;
		for (; checker->words[n]; n++)
			command[n] = checker->words[n];
		command[n] = path;
		if (!command_there(command[0])) {
			recovery_note(recovery, "%s (%s) was not checked: there is no %s", path, type,
				      command[0]);
			return;
		}
		if (!strncmp(type, "ext", 3) && ext_journal_waits(path)) {
			recovery_note(recovery, "%s (%s) was not checked: its journal is replayed "
				      "when it is mounted", path, type);
			return;
		}
		code = command_code(command, NULL, output, &err);
		if (code < 0)
			recovery_note(recovery, "%s (%s): %s", path, type, err.message);
		else if (code && code == checker->journal)
			recovery_note(recovery, "%s (%s) was not checked: its journal is replayed "
				      "when it is mounted", path, type);
		else if (code)
			recovery_note(recovery, "%s (%s) is as it was when the point was taken, in "
				      "which %s found something, exit code %d: %s", path, type,
				      command[0], code, command_words(output));
		return;
	}
}

static void check_content(struct recovery *recovery, size_t disk, struct disk_place place,
			  const struct disk_content *content)
{
	struct device_signature found;
	struct error err = ERROR_INIT;
	char path[PATH_MAX];

	if (content->kind == DISK_EMPTY ||
	    (content->kept == DISK_KEPT_NOT && content->kind != DISK_SWAP))
		return;
	if (recover_path(recovery, disk, &place, path, &err) || device_probe(path, &found, &err)) {
		recovery_note(recovery, "%s", err.message);
		return;
	}
	if (strcmp(found.uuid, content->uuid))
		recovery_note(recovery, "%s has the UUID %s; in the disk's point it was %s, which "
			      "/etc/fstab or the boot loader may name", path,
			      *found.uuid ? found.uuid : "none",
			      *content->uuid ? content->uuid : "none");
	if (content->kind == DISK_FILE_SYSTEM)
		check_file_system(recovery, path, found.type);
}

void check_all(struct recovery *recovery)
{
	for (size_t d = 0; d < recovery->disk_count; d++) {
		const struct disk_layout *layout = &recovery->disks[d].layout;

		if (layout->table == DISK_TABLE_NONE)
			check_content(recovery, d, (struct disk_place){ DISK_ON_DISK, 0, 0 },
				      &layout->content);
		for (uint32_t i = 0; i < layout->partition_count; i++)
			if (!layout->partitions[i].extended)
				check_content(recovery, d,
					      (struct disk_place){ DISK_ON_PARTITION, i, 0 },
					      &layout->partitions[i].content);
	}
	for (size_t i = 0; i < recovery->crypt_count; i++)
		check_content(recovery, recovery->crypts[i].disk,
			      (struct disk_place){ DISK_ON_CRYPT, recovery->crypts[i].index, 0 },
			      &crypt_of(recovery, i)->content);
	for (size_t g = 0; g < recovery->group_count; g++) {
		const struct recover_group *at = &recovery->groups[g];
		const struct disk_group *group = group_of(recovery, g);

		for (uint32_t i = 0; i < group->lv_count; i++)
			check_content(recovery, at->disk,
				      (struct disk_place){ DISK_ON_LV, (uint32_t)at->group, i },
				      &group->lvs[i].content);
	}
}
