/*
 * Writing a file of the file:// store so that it appears whole or not at all: a
 * temporary name, fsync, a rename or link that does not replace, fsync of the
 * folder. And store_upload on top of it.
 */
#include "agent/store/file_store.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"
#include "agent/store/retry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define WRITE_SLICE_BYTES (1u << 20)

int file_draft_start(struct file_store *files, const char *key,
		     struct file_draft *draft)
{
	int ret = file_folder_open(files, key, true, &draft->folder_fd, &draft->leaf);

	if (ret)
		return ret;
	snprintf(draft->name, sizeof(draft->name), STORE_TEMPORARY_PREFIX "%016llx",
		 (unsigned long long)retry_random());
	draft->fd = openat(draft->folder_fd, draft->name,
			   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (draft->fd < 0) {
		ret = -errno;
		draft->name[0] = '\0';	/* not ours to remove */
	}
	return ret;
}

int file_draft_write(struct file_store *files, struct file_draft *draft,
		     const void *data, size_t length)
{
	const uint8_t *at = data;

	while (length) {
		size_t slice = length < WRITE_SLICE_BYTES ? length : WRITE_SLICE_BYTES;
		int ret;

		slice = bandwidth_take(&files->base.bandwidth, slice);
		if (interrupt_requested())
			return -EINTR;
		ret = FAULT("store.write") ?: file_write_all(draft->fd, at, slice);
		if (ret)
			return ret;
		atomic_fetch_add(&files->base.bytes_sent, slice);
		at += slice;
		length -= slice;
	}
	return 0;
}

/* Not every file system can rename without replacing; those can link. */
static int draft_rename_absent(struct file_draft *draft)
{
	if (renameat2(draft->folder_fd, draft->name, draft->folder_fd, draft->leaf,
		      RENAME_NOREPLACE) == 0) {
		draft->name[0] = '\0';
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* The temporary name stays, for file_draft_end to remove. */
	if (linkat(draft->folder_fd, draft->name, draft->folder_fd, draft->leaf, 0) < 0)
		return -errno;
	return 0;
}

int file_draft_publish(struct file_draft *draft, bool absent)
{
	int ret = FAULT("store.sync");

	if (ret)
		return ret;
	if (fsync(draft->fd) < 0)
		return -errno;
	/* Network file systems report a full disk only here. */
	if (close(STEAL_FD(draft->fd)) < 0)
		return -errno;
	ret = FAULT("store.rename");
	if (ret)
		return ret;
	if (absent) {
		ret = draft_rename_absent(draft);
	} else if (renameat(draft->folder_fd, draft->name, draft->folder_fd,
			    draft->leaf) < 0) {
		ret = -errno;
	} else {
		draft->name[0] = '\0';
	}
	if (!ret)
		ret = FAULT("store.sync-folder");
	if (!ret && fsync(draft->folder_fd) < 0)
		ret = -errno;
	return ret;
}

void file_draft_end(struct file_draft *draft)
{
	if (draft->fd >= 0)
		close(draft->fd);
	if (draft->name[0])
		unlinkat(draft->folder_fd, draft->name, 0);
	if (draft->folder_fd >= 0)
		close(draft->folder_fd);
}

struct file_upload {
	struct store_upload base;
	struct file_draft draft;
	bool failed;	/* only abort may follow */
	char key[];	/* draft.leaf points into it */
};

int file_upload_start(struct store *store, const char *key,
		      struct store_upload **upload, struct error *err)
{
	struct file_upload *ours = calloc(1, sizeof(*ours) + strlen(key) + 1);
	int ret;

	if (!ours)
		return file_failed(store, "write", key, -ENOMEM, err);
	ours->base.store = store;
	ours->draft = (struct file_draft)FILE_DRAFT_INIT;
	memcpy(ours->key, key, strlen(key) + 1);
	ret = file_draft_start((struct file_store *)store, ours->key, &ours->draft);
	if (ret) {
		file_upload_abort(&ours->base);
		return file_failed(store, "write", key, ret, err);
	}
	atomic_fetch_add(&store->requests, 1);
	*upload = &ours->base;
	return 0;
}

int file_upload_write(struct store_upload *upload, const void *data, size_t length,
		      struct error *err)
{
	struct file_upload *ours = (struct file_upload *)upload;
	int ret = ours->failed ? -EIO :
		  file_draft_write((struct file_store *)upload->store, &ours->draft,
				   data, length);

	if (!ret)
		return 0;
	ours->failed = true;
	return file_failed(upload->store, "write", ours->key, ret, err);
}

int file_upload_finish(struct store_upload *upload, struct error *err)
{
	struct file_upload *ours = (struct file_upload *)upload;
	int ret = ours->failed ? -EIO : file_draft_publish(&ours->draft, false);

	if (ret)
		file_failed(upload->store, "write", ours->key, ret, err);
	file_upload_abort(upload);	/* nothing to remove once published */
	return ret;
}

void file_upload_abort(struct store_upload *upload)
{
	struct file_upload *ours = (struct file_upload *)upload;

	file_draft_end(&ours->draft);
	free(ours);
}
