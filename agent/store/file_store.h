/*
 * Inside of the file:// store. An object is a regular file of the key's name below
 * the store's folder; an unfinished one has a ".tmp-" name in the folder where it
 * will be published. Nothing below the store's folder is reached through a
 * symbolic link, so whoever can write there cannot point a root agent elsewhere.
 */
#ifndef CLAWBACK_STORE_FILE_STORE_H
#define CLAWBACK_STORE_FILE_STORE_H

#include "agent/store/store_ops.h"

#include <pthread.h>

#define FILE_FOLDERS_KNOWN_MAX 4096

struct file_store {
	struct store base;
	int root_fd;
	/*
	 * Folders whose own entry is known to be on disk, so that a put does not
	 * fsync the whole path each time; beyond the maximum it does.
	 */
	pthread_mutex_t lock;		/* guards the two below */
	char **folders_known;
	size_t folders_known_count;
};

/* The store's own folder; with `create` made durably, as mkdir -p does. */
int file_folder_open_root(const char *path, bool create, int *fd);

/*
 * The folder that holds `key`, and where in `key` its last part starts. With
 * `create` missing folders are made and their parents fsynced; without it -ENOENT.
 */
int file_folder_open(struct file_store *files, const char *key, bool create,
		     int *folder_fd, const char **leaf);
void file_folders_free(struct file_store *files);

/* Fills `err`: "could not WHAT file:///…/KEY: why; hint". */
int file_failed(const struct store *store, const char *what, const char *key, int code,
		struct error *err);

/* A file being written under its temporary name. */
struct file_draft {
	int folder_fd;
	int fd;
	const char *leaf;	/* in the caller's key */
	char name[32];
};

#define FILE_DRAFT_INIT { -1, -1, NULL, "" }

int file_draft_start(struct file_store *files, const char *key,
		     struct file_draft *draft);
/* Paced by the store's bandwidth limit; -EINTR when interrupted. */
int file_draft_write(struct file_store *files, struct file_draft *draft,
		     const void *data, size_t length);
/* fsync, publish under the key's name (-EEXIST with `absent`), fsync the folder. */
int file_draft_publish(struct file_draft *draft, bool absent);
/* Closes; removes the temporary file if it was not published. */
void file_draft_end(struct file_draft *draft);

int file_upload_start(struct store *store, const char *key,
		      struct store_upload **upload, struct error *err);
int file_upload_write(struct store_upload *upload, const void *data, size_t length,
		      struct error *err);
int file_upload_finish(struct store_upload *upload, struct error *err);
void file_upload_abort(struct store_upload *upload);

int file_list(struct store *store, const char *prefix, store_list_fn visit,
	      void *context, struct error *err);
int file_clean(struct store *store, const char *prefix, uint64_t age_seconds,
	       struct error *err);

#endif
