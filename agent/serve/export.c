/* A point as an image file, by qemu-img from what is served. */
#include "agent/serve/serve_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static int export_publish(const char *partial, const char *path, bool force, struct error *err)
{
	CLEANUP_CLOSE int fd = open(partial, O_RDWR | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || fsync(fd) < 0 || fchmod(fd, 0600) < 0 ||
	    renameat2(AT_FDCWD, partial, AT_FDCWD, path, force ? 0 : RENAME_NOREPLACE) < 0)
		ret = -errno;
	if (!ret)
		ret = file_sync_parent(path);
	return ret ? error_set(err, ret, "putting the image at %s: %s", path, error_text(ret)) : 0;
}

int server_export(const struct server *server, const char *path, const char *format, bool force,
		  struct error *err)
{
	char partial[PATH_MAX];
	const char *command[] = {
		"qemu-img", "convert", "-f", "raw", "-O", format, "-t", "writeback",
		server_uri(server), partial, NULL,
	};
	struct stat st;
	int ret;

	if (snprintf(partial, sizeof(partial), "%s.partial", path) >= (int)sizeof(partial))
		return error_set(err, -ENAMETOOLONG, "the path %s is too long", path);
	if (!lstat(path, &st) && (!S_ISREG(st.st_mode) || !force))
		return error_set(err, -EEXIST, "%s exists%s", path, S_ISREG(st.st_mode) ?
				 "; give --force to replace it" : " and is no regular file");
	/* Made by us, so that nobody else can read it meanwhile. */
	unlink(partial);
	ret = file_create(partial, "", 0, 0600);
	if (ret)
		return error_set(err, ret, "making %s: %s", partial, error_text(ret));
	ret = helper_run(command, "qemu-utils", err);
	if (!ret)
		ret = export_publish(partial, path, force, err);
	if (ret)
		unlink(partial);
	return ret;
}
