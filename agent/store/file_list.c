/*
 * Walking a file:// store: listing its objects in byte order of their keys, and
 * finding the temporary files that dead writers left. Files that cannot be ours
 * (other names, other types) are passed over. One folder's names are in memory
 * at a time for each level.
 */
#include "agent/store/file_store.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct walk {
	struct store *store;
	struct error *err;
	/* Listing: */
	store_list_fn visit;
	void *context;
	/* Cleaning (visit is NULL): */
	time_t older_than;
	int removed;
	/* Where the walk is, without a slash at the end. */
	char path[STORE_KEY_MAX + 1];
};

/* Names in a folder; a folder's has a slash at its end, which sorts it right. */
struct names {
	char **name;
	size_t count, room;
};

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

static int names_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_append(struct names *names, const char *name, bool folder)
{
	char *copy;

	if (names->count == names->room) {
		size_t room = names->room ? names->room * 2 : 64;
		char **bigger = reallocarray(names->name, room, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		names->name = bigger;
		names->room = room;
	}
	if (asprintf(&copy, "%s%s", name, folder ? "/" : "") < 0)
		return -ENOMEM;
	names->name[names->count++] = copy;
	return 0;
}

static bool name_temporary(const char *name)
{
	return strncmp(name, STORE_TEMPORARY_PREFIX, strlen(STORE_TEMPORARY_PREFIX)) == 0;
}

static int names_consider(struct names *names, int fd, const struct dirent *entry,
			  bool temporary)
{
	bool ours = store_part_valid(entry->d_name, strlen(entry->d_name)) ||
		    (temporary && name_temporary(entry->d_name));
	unsigned char type = entry->d_type;
	struct stat st;

	if (!ours)
		return 0;
	if (type == DT_UNKNOWN) {
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return errno == ENOENT ? 0 : -errno;
		type = IFTODT(st.st_mode);
	}
	/* Passing it over would make what is behind it look deleted. */
	if (type == DT_LNK)
		return -ELOOP;
	if (type != DT_REG && type != DT_DIR)
		return 0;
	return names_append(names, entry->d_name, type == DT_DIR);
}

static int names_read(struct names *names, int folder_fd, bool temporary)
{
	/* Not a dup: that would share its position with other threads' walks. */
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret = 0;
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);

	if (!folder) {
		ret = -errno;
		if (fd >= 0)
			close(fd);
		return ret;
	}
	while (!ret) {
		struct dirent *entry;

		errno = 0;
		entry = readdir(folder);
		if (!entry) {
			ret = -errno;
			break;
		}
		ret = names_consider(names, fd, entry, temporary);
	}
	closedir(folder);
	if (!ret && names->count)
		qsort(names->name, names->count, sizeof(*names->name), names_compare);
	return ret;
}

static int walk_failed(struct walk *walk, int code)
{
	return file_failed(walk->store, walk->visit ? "list" : "clean", walk->path, code,
			   walk->err);
}

/* walk->path is the file's key. Gone meanwhile is fine. */
static int walk_file(struct walk *walk, int folder_fd, const char *name)
{
	struct stat st;

	if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : walk_failed(walk, -errno);
	if (walk->visit)
		return walk->visit(walk->context, walk->path, (uint64_t)st.st_size);
	/* A live writer's file has a young mtime: it is being written. */
	if (!name_temporary(name) || st.st_mtime > walk->older_than)
		return 0;
	if (unlinkat(folder_fd, name, 0) < 0)
		return errno == ENOENT ? 0 : walk_failed(walk, -errno);
	walk->removed++;
	return 0;
}

static int walk_folder(struct walk *walk, int folder_fd);

static int walk_name(struct walk *walk, int folder_fd, char *name)
{
	size_t length = strlen(name), used = strlen(walk->path), added;
	int ret;

	if (interrupt_requested())
		return walk_failed(walk, -EINTR);
	added = (size_t)snprintf(walk->path + used, sizeof(walk->path) - used, "%s%s",
				 used ? "/" : "", name);
	if (used + added >= sizeof(walk->path)) {	/* too deep to be ours */
		walk->path[used] = '\0';
		return 0;
	}
	if (name[length - 1] == '/') {
		CLEANUP_CLOSE int fd = -1;

		name[length - 1] = walk->path[used + added - 1] = '\0';
		fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			ret = errno == ENOENT ? 0 : walk_failed(walk, -errno);
		else
			ret = walk_folder(walk, fd);
	} else {
		ret = walk_file(walk, folder_fd, name);
	}
	walk->path[used] = '\0';
	return ret;
}

static int walk_folder(struct walk *walk, int folder_fd)
{
	CLEANUP(names_free) struct names names = { NULL, 0, 0 };
	int ret = names_read(&names, folder_fd, !walk->visit);

	if (ret)
		return walk_failed(walk, ret);
	for (size_t i = 0; i < names.count && !ret; i++)
		ret = walk_name(walk, folder_fd, names.name[i]);
	return ret;
}

/* From the folder that `prefix` names ("a/b/"), which may be missing. */
static int walk_from(struct walk *walk, const char *prefix)
{
	struct file_store *files = (struct file_store *)walk->store;
	CLEANUP_CLOSE int fd = -1;
	char key[STORE_KEY_MAX + 2];
	const char *leaf;
	int ret;

	/* "a/b/" asks for the folder that would hold "a/b/x". */
	snprintf(key, sizeof(key), "%sx", prefix);
	atomic_fetch_add(&walk->store->requests, 1);
	ret = file_folder_open(files, key, false, &fd, &leaf);
	if (ret == -ENOENT)
		return 0;
	if (*prefix)
		snprintf(walk->path, sizeof(walk->path), "%.*s", (int)strlen(prefix) - 1, prefix);
	return ret ? walk_failed(walk, ret) : walk_folder(walk, fd);
}

int file_list(struct store *store, const char *prefix, store_list_fn visit,
	      void *context, struct error *err)
{
	struct walk walk = { .store = store, .err = err, .visit = visit, .context = context };

	return walk_from(&walk, prefix);
}

int file_clean(struct store *store, const char *prefix, uint64_t age_seconds,
	       struct error *err)
{
	struct walk walk = { .store = store, .err = err };
	time_t now = time(NULL);
	int ret;

	walk.older_than = age_seconds < (uint64_t)now ? now - (time_t)age_seconds : 0;
	ret = walk_from(&walk, prefix);
	return ret ? ret : walk.removed;
}
