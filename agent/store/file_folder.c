/* Finding and making the folders of a file:// store, one part at a time. */
#include "agent/store/file_store.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/*
 * mkdir and fsync of the parent. Also when the folder is there already: its
 * maker may have died, or be about to, between the two steps.
 */
static int folder_make(int parent_fd, const char *name)
{
	if (mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	return fsync(parent_fd) < 0 ? -errno : 0;
}

/* Opens part `name` of *fd and puts it in its place. */
static int folder_enter(int *fd, const char *name, int flags)
{
	int next = openat(*fd, name, FOLDER_FLAGS | flags);

	if (next < 0)
		return -errno;
	close(*fd);
	*fd = next;
	return 0;
}

int file_folder_open_root(const char *path, bool create, int *fd)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_CLOSE int at = -1;
	char *state = NULL;

	if (!copy)
		return -ENOMEM;
	at = open(create ? "/" : path, FOLDER_FLAGS);
	if (at < 0)
		return -errno;
	if (!create) {
		*fd = STEAL_FD(at);
		return 0;
	}
	/* The administrator's own path may lead through symbolic links. */
	for (char *part = strtok_r(copy, "/", &state); part;
	     part = strtok_r(NULL, "/", &state)) {
		int ret = folder_enter(&at, part, 0);

		if (ret == -ENOENT) {
			ret = folder_make(at, part);
			if (!ret)
				ret = folder_enter(&at, part, 0);
		}
		if (ret)
			return ret;
	}
	*fd = STEAL_FD(at);
	return 0;
}

static bool folder_known(struct file_store *files, const char *path)
{
	bool known = false;

	pthread_mutex_lock(&files->lock);
	for (size_t i = 0; i < files->folders_known_count && !known; i++)
		known = strcmp(files->folders_known[i], path) == 0;
	pthread_mutex_unlock(&files->lock);
	return known;
}

/* Only an optimisation: without memory the folder is fsynced again next time. */
static void folder_remember(struct file_store *files, const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	char **bigger;

	pthread_mutex_lock(&files->lock);
	if (copy && files->folders_known_count < FILE_FOLDERS_KNOWN_MAX) {
		bigger = reallocarray(files->folders_known,
				      files->folders_known_count + 1, sizeof(*bigger));
		if (bigger) {
			files->folders_known = bigger;
			bigger[files->folders_known_count++] = STEAL(copy);
		}
	}
	pthread_mutex_unlock(&files->lock);
}

void file_folders_free(struct file_store *files)
{
	for (size_t i = 0; i < files->folders_known_count; i++)
		free(files->folders_known[i]);
	free(files->folders_known);
}

/* Enters `name`; `path` is the same from the store's folder on. */
static int folder_descend(struct file_store *files, int *fd, const char *path,
			  const char *name, bool create)
{
	int ret;

	if (create && !folder_known(files, path)) {
		ret = folder_make(*fd, name);
		if (ret)
			return ret;
		folder_remember(files, path);
	}
	ret = folder_enter(fd, name, O_NOFOLLOW);
	if (ret == -ENOENT && create) {	/* removed behind our back */
		ret = folder_make(*fd, name);
		if (!ret)
			ret = folder_enter(fd, name, O_NOFOLLOW);
	}
	return ret;
}

int file_folder_open(struct file_store *files, const char *key, bool create,
		     int *folder_fd, const char **leaf)
{
	CLEANUP_FREE char *path = strdup(key);
	CLEANUP_CLOSE int fd = -1;
	char *part = path, *slash;

	*folder_fd = -1;
	if (!path)
		return -ENOMEM;
	fd = fcntl(files->root_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while ((slash = strchr(part, '/'))) {
		int ret;

		*slash = '\0';
		ret = folder_descend(files, &fd, path, part, create);
		if (ret)
			return ret;
		*slash = '/';
		part = slash + 1;
	}
	*leaf = key + (part - path);
	*folder_fd = STEAL_FD(fd);
	return 0;
}
