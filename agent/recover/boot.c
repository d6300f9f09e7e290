/*
 * The firmware's side of booting. By BIOS there is none: boot code, core image and all that
 * they point to are where they were. By UEFI the machine's own memory names the loader in
 * the EFI system partition, and that is another machine's now; so it is told. It is a note,
 * not a failure, when that cannot be done: most firmware has a menu to choose a file.
 */
#include "agent/recover/recover_private.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define ESP_TYPE "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
#define FALLBACK "EFI/BOOT/BOOTX64.EFI"

/* The loader of a system's own folder below EFI; shim first, which Secure Boot wants. */
static bool loader_in(const char *mounted, const char *folder, char loader[static 256])
{
	static const char *const names[] = { "shimx64.efi", "grubx64.efi", "systemd-bootx64.efi",
					     "shimaa64.efi", "grubaa64.efi" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/EFI/%.100s/%s", mounted, folder, names[i]);
		if (access(path, F_OK))
			continue;
		snprintf(loader, 256, "\\EFI\\%.100s\\%s", folder, names[i]);
		return true;
	}
	return false;
}

static bool find_loader(const char *mounted, char loader[static 256], char name[static 128])
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/EFI", mounted);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !strcasecmp(entry->d_name, "BOOT"))
			continue;
		found = loader_in(mounted, entry->d_name, loader);
		snprintf(name, 128, "%.100s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* Whether an entry is there already: the same loader on the same partition. */
static bool entry_there(const char *partuuid, const char *loader)
{
	const char *command[] = { "efibootmgr", "--verbose", NULL };
	char output[COMMAND_OUTPUT_ROOM], *line, *rest;
	struct error ignored = ERROR_INIT;

	if (command_code(command, NULL, output, &ignored))
		return false;
	for (line = strtok_r(output, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		if (strcasestr(line, partuuid) && strcasestr(line, loader))
			return true;
	return false;
}

static void boot_entry(struct recovery *recovery, const struct recover_disk *disk,
		       const struct disk_partition *esp, const char *mounted)
{
	char loader[256], name[128], number[16], output[COMMAND_OUTPUT_ROOM];
	const char *command[] = { "efibootmgr", "--quiet", "--create", "--disk", disk->target,
				  "--part", number, "--label", name, "--loader", loader, NULL };
	struct error err = ERROR_INIT;

	snprintf(number, sizeof(number), "%u", esp->number);
	if (!find_loader(mounted, loader, name)) {
		recovery_note(recovery, "the EFI system partition of %s has no loader that is known; "
			      "the firmware must find " FALLBACK " there", disk->target);
		return;
	}
	if (access("/sys/firmware/efi", F_OK)) {
		recovery_note(recovery, "the machine booted by UEFI, and this system was started by "
			      "BIOS: choose UEFI in the firmware, and there the file %s", loader);
		return;
	}
	if (entry_there(esp->uuid, loader))
		return;
	if (command_code(command, NULL, output, &err))
		recovery_note(recovery, "the firmware could not be told to boot %s of %s; choose that "
			      "file in its menu", loader, disk->target);
}

static void boot_disk(struct recovery *recovery, const struct recover_disk *disk,
		      const struct disk_partition *esp)
{
	char folder[] = "/tmp/clawback-esp.XXXXXX", path[PATH_MAX];

	if (device_partition(disk->target, esp->number, path) || !mkdtemp(folder)) {
		recovery_note(recovery, "the EFI system partition of %s cannot be looked at",
			      disk->target);
		return;
	}
	if (mount(path, folder, "vfat", MS_RDONLY | MS_NOEXEC | MS_NODEV | MS_NOSUID, NULL) < 0) {
		recovery_note(recovery, "mounting the EFI system partition %s: %s", path,
			      error_text(errno));
	} else {
		boot_entry(recovery, disk, esp, folder);
		umount2(folder, MNT_DETACH);
	}
	rmdir(folder);
}

void boot_entries(struct recovery *recovery)
{
	for (size_t d = 0; d < recovery->disk_count; d++) {
		const struct disk_layout *layout = &recovery->disks[d].layout;

		if (layout->firmware != DISK_FIRMWARE_UEFI) {
			if (layout->boot_code && !access("/sys/firmware/efi", F_OK))
				recovery_note(recovery, "the machine booted by BIOS, and this system "
					      "was started by UEFI: choose BIOS, or legacy, in the "
					      "firmware");
			continue;
		}
		for (size_t i = 0; i < layout->partition_count; i++)
			if (!strcasecmp(layout->partitions[i].type, ESP_TYPE) &&
			    layout->partitions[i].content.kept != DISK_KEPT_NOT)
				boot_disk(recovery, &recovery->disks[d], &layout->partitions[i]);
	}
}
