/*
 * The initramfs, by Debian's initramfs-tools. What goes into it is decided by the hook
 * that is installed with clawback (scripts/packaging/initramfs-hook), from the rules
 * that are there; here it is only made anew, and seen that it was.
 */
#include "agent/adopt/adopt_private.h"

#include "agent/base/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TOOLS "/usr/share/initramfs-tools/hook-functions"
#define HOOK "/usr/share/initramfs-tools/hooks/clawback"
#define UPDATE "/usr/sbin/update-initramfs"

/* The running kernel's, which stands for the one that the machine boots with. */
static int initramfs_stat(struct stat *st, struct error *err)
{
	struct utsname name;
	char path[PATH_MAX];

	uname(&name);
	snprintf(path, sizeof(path), "/boot/initrd.img-%s", name.release);
	if (stat(path, st) < 0)
		return error_set(err, -errno, "the root file system is adopted from the initramfs, and "
				 "the running kernel's, %s, cannot be read: %s", path,
				 error_text(errno));
	return 0;
}

int initramfs_check(struct error *err)
{
	struct stat st;

	if (access(TOOLS, F_OK) < 0 || access(UPDATE, X_OK) < 0)
		return error_set(err, -ENOTSUP, "the root file system is adopted from the initramfs, and "
				 "clawback knows only the one of initramfs-tools, which is not "
				 "installed; clawback(8) says what to do for dracut");
	if (access(HOOK, X_OK) < 0)
		return error_set(err, -ENOENT, "the root file system is adopted from the initramfs, but "
				 HOOK " is missing; `make install` puts it there");
	return initramfs_stat(&st, err);
}

/* It has more than one way to do nothing and call that success. */
int initramfs_update(struct error *err)
{
	static const char *const command[] = { UPDATE, "-u", "-k", "all", NULL };
	struct stat before, after;
	int ret = initramfs_stat(&before, err);

	if (!ret)
		ret = command_run(command, "what it said is above; is there room in /boot?", err);
	if (!ret)
		ret = initramfs_stat(&after, err);
	if (!ret && before.st_ino == after.st_ino &&
	    before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
	    before.st_mtim.tv_nsec == after.st_mtim.tv_nsec)
		ret = error_set(err, -EIO, "update-initramfs made no new initramfs; is /boot read-only, or "
				"does /etc/initramfs-tools/update-initramfs.conf forbid it?");
	return ret;
}
