/* The folder below /run/clawback/mounts of what is mounted at a folder: see mounted.c. */
#include "agent/serve/serve_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOUNTS_FOLDER "/run/clawback/mounts"

void place_of(const char *folder, char place[static 64])
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	char hex[17];

	digest_of(folder, strlen(folder), digest);
	hex_encode(digest, 8, hex);
	snprintf(place, 64, MOUNTS_FOLDER "/%s", hex);
}

void place_path(const char *place, const char *name, char path[static 96])
{
	snprintf(path, 96, "%.63s/%s", place, name);
}

int place_write(const char *place, const char *name, const char *text, struct error *err)
{
	char path[96];
	int ret;

	place_path(place, name, path);
	ret = file_replace(path, text, strlen(text), 0600);
	return ret ? error_set(err, ret, "writing %s: %s", path, error_text(ret)) : 0;
}

/* -EBUSY when another has it. */
int place_lock(const char *place, int *fd, struct error *err)
{
	char path[96];

	place_path(place, "lock", path);
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0)
		return error_set(err, -errno, "opening %s: %s", path, error_text(errno));
	if (!flock(*fd, LOCK_EX | LOCK_NB))
		return 0;
	close(STEAL_FD(*fd));
	return -EBUSY;
}

dev_t place_device(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_dev;
}

/* What is mounted on a folder, 0: nothing. */
dev_t place_mounted(const char *folder)
{
	char parent[PATH_MAX + 4];
	dev_t device = place_device(folder);

	snprintf(parent, sizeof(parent), "%s/..", folder);
	return device == place_device(parent) ? 0 : device;
}

/* The kernel's number of a disk, of which there is no other in a boot. */
int place_disk_sequence(dev_t device, char **text)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/diskseq", major(device), minor(device));
	return file_read(path, 64, text, NULL);
}

/* A loop device over a file whose FUSE has died tells nothing else. */
bool place_is_ours(const char *place, dev_t device)
{
	CLEANUP_FREE char *noted = NULL, *found = NULL;
	char path[96];

	place_path(place, "diskseq", path);
	return device && !file_read(path, 64, &noted, NULL) && !place_disk_sequence(device, &found) &&
	       !strcmp(noted, found);
}

/* Removes it all, what is mounted in it first. */
void place_remove(const char *place)
{
	static const char *const names[] = {
		"nbd/volume", "nbd.pid", "socket", "overlay", "overlay.present", "folder", "diskseq",
		"log",
	};
	char path[96];

	place_path(place, "nbd", path);
	while (!umount2(path, MNT_DETACH))
		;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		place_path(place, names[i], path);
		unlink(path);
	}
	place_path(place, "nbd", path);
	rmdir(path);
	/* The lock last: whoever comes meanwhile waits for nothing. */
	place_path(place, "lock", path);
	unlink(path);
	rmdir(place);
}

/* What a dead one left; its lock is ours. */
int place_sweep(const char *place, const char *folder, struct error *err)
{
	if (place_is_ours(place, place_mounted(folder)) && umount2(folder, UMOUNT_NOFOLLOW) < 0 &&
	    umount2(folder, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		return error_set(err, -errno, "unmounting %s, which a dead clawback mount left: %s",
				 folder, error_text(errno));
	return 0;
}
