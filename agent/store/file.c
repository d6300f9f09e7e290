/*
 * The file:// store: a folder on a local or mounted file system. See
 * file_store.h for the layout and file_draft.c for how writing is made safe.
 */
#include "agent/store/file_store.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const char *file_hint(int code)
{
	switch (code) {
	case -ENOSPC:
	case -EDQUOT:
		return "free space there";
	case -EACCES:
	case -EPERM:
		return "check the owner and the mode of the folder";
	case -EROFS:
		return "the file system is mounted read-only, or clawback-protect.service "
		       "may not write there: ReadWritePaths=, clawback(8)";
	case -ELOOP:
		return "a symbolic link inside the repository is not followed";
	case -ENOTDIR:
	case -EISDIR:
		return "a file or a symbolic link stands where a folder should be, or the reverse";
	}
	return NULL;
}

int file_failed(const struct store *store, const char *what, const char *key, int code,
		struct error *err)
{
	const char *hint = file_hint(code);

	if (code == -EINTR && interrupt_check(err))
		return error_prefix(err, "could not %s %s/%s", what, store->url, key);
	error_set(err, code, "could not %s %s/%s: %s", what, store->url, key,
		  error_text(code));
	if (hint)
		error_hint(err, "%s", hint);
	return code;
}

static int file_put(struct store *store, const char *key, const void *data,
		    size_t length, unsigned flags, struct error *err)
{
	struct file_store *files = (struct file_store *)store;
	CLEANUP(file_draft_end) struct file_draft draft = FILE_DRAFT_INIT;
	int ret = file_draft_start(files, key, &draft);

	atomic_fetch_add(&store->requests, 1);
	if (!ret)
		ret = file_draft_write(files, &draft, data, length);
	if (!ret)
		ret = file_draft_publish(&draft, flags & STORE_IF_ABSENT);
	return ret ? file_failed(store, "write", key, ret, err) : 0;
}

/* A regular file's descriptor and size; anything else is no object: -ENOENT. */
static int file_open_object(struct store *store, const char *key, int *fd,
			    uint64_t *bytes)
{
	struct file_store *files = (struct file_store *)store;
	CLEANUP_CLOSE int folder_fd = -1, object_fd = -1;
	const char *leaf;
	struct stat st;
	int ret = file_folder_open(files, key, false, &folder_fd, &leaf);

	atomic_fetch_add(&store->requests, 1);
	if (ret)
		return ret;
	/* O_NONBLOCK: a FIFO planted there must not hang us. */
	object_fd = openat(folder_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (object_fd < 0 || fstat(object_fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	*fd = STEAL_FD(object_fd);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int file_get(struct store *store, const char *key, uint64_t offset,
		    void *buffer, size_t room, size_t *got, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	uint64_t bytes;
	int ret = file_open_object(store, key, &fd, &bytes);

	if (!ret && offset < bytes) {
		if (room > bytes - offset)
			room = (size_t)(bytes - offset);
		ret = file_pread_all(fd, buffer, room, offset);
		if (!ret)
			*got = room;
	}
	if (ret)
		return file_failed(store, "read", key, ret, err);
	atomic_fetch_add(&store->bytes_received, *got);
	return 0;
}

static int file_get_all(struct store *store, const char *key, size_t limit,
			uint8_t **data, size_t *length, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE uint8_t *buffer = NULL;
	uint64_t bytes = 0;
	int ret = file_open_object(store, key, &fd, &bytes);

	if (!ret && bytes > limit)
		ret = -EFBIG;
	if (!ret) {
		buffer = malloc(bytes + 1);	/* never malloc(0) */
		ret = buffer ? file_pread_all(fd, buffer, (size_t)bytes, 0) : -ENOMEM;
	}
	if (ret)
		return file_failed(store, "read", key, ret, err);
	*data = STEAL(buffer);
	*length = (size_t)bytes;
	atomic_fetch_add(&store->bytes_received, bytes);
	return 0;
}

static int file_size(struct store *store, const char *key, uint64_t *bytes,
		     struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	int ret = file_open_object(store, key, &fd, bytes);

	return ret ? file_failed(store, "look at", key, ret, err) : 0;
}

static int file_delete(struct store *store, const char *key, struct error *err)
{
	struct file_store *files = (struct file_store *)store;
	CLEANUP_CLOSE int folder_fd = -1;
	const char *leaf;
	int ret = file_folder_open(files, key, false, &folder_fd, &leaf);

	atomic_fetch_add(&store->requests, 1);
	if (ret == -ENOENT)
		return 0;
	if (!ret && unlinkat(folder_fd, leaf, 0) < 0) {
		if (errno == ENOENT || errno == EISDIR)
			return 0;
		ret = -errno;
	}
	if (!ret && fsync(folder_fd) < 0)
		ret = -errno;
	return ret ? file_failed(store, "delete", key, ret, err) : 0;
}

static void file_close(struct store *store)
{
	struct file_store *files = (struct file_store *)store;

	close(files->root_fd);
	file_folders_free(files);
	pthread_mutex_destroy(&files->lock);
	free(files);
}

static const struct store_ops file_ops = {
	.put = file_put,
	.get = file_get,
	.get_all = file_get_all,
	.size = file_size,
	.delete = file_delete,
	.list = file_list,
	.upload_start = file_upload_start,
	.upload_write = file_upload_write,
	.upload_finish = file_upload_finish,
	.upload_abort = file_upload_abort,
	.clean = file_clean,
	.close = file_close,
};

/* An absolute path without a ".." part: what is opened is what is written. */
static bool file_path_valid(const char *path)
{
	if (path[0] != '/')
		return false;
	for (const char *at = path; (at = strstr(at, "/..")); at += 3)
		if (at[3] == '/' || at[3] == '\0')
			return false;
	return true;
}

int file_store_open(const char *url, bool create, struct store **store,
		    struct error *err)
{
	const char *path = url + strlen("file://");
	CLEANUP_FREE struct file_store *files = NULL;
	CLEANUP_FREE char *copy = NULL;
	CLEANUP_CLOSE int fd = -1;
	int ret;

	if (!file_path_valid(path))
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "refused %s: after file:// there must be an absolute "
				      "path without \"..\"", url);
	ret = file_folder_open_root(path, create, &fd);
	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_NO_REPOSITORY, ret,
				      "could not open %s: there is no such folder; check "
				      "that its file system is mounted", url);
	if (ret)
		return error_set(err, ret, "could not %s the folder %s: %s",
				 create ? "make or open" : "open", url, error_text(ret));
	files = calloc(1, sizeof(*files));
	copy = strdup(url);
	if (!files || !copy)
		return error_set(err, -ENOMEM, "could not open %s: out of memory", url);
	for (size_t end = strlen(copy); end > strlen("file:///") && copy[end - 1] == '/';)
		copy[--end] = '\0';
	pthread_mutex_init(&files->lock, NULL);
	files->root_fd = STEAL_FD(fd);
	files->base.ops = &file_ops;
	files->base.url = STEAL(copy);
	*store = &STEAL(files)->base;
	return 0;
}
