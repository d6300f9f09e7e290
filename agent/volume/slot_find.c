/*
 * Where the hand-over slot's blocks lie on the device beneath its file system, by
 * FIEMAP. What is not simply a range of the device is refused: bytes inside an inode,
 * compressed or encrypted ones, such as have no place yet or are shared with another
 * file.
 */
#include "agent/volume/slot.h"

#include "agent/base/cleanup.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECES_MAX 256u

void slot_place_fini(struct slot_place *place)
{
	free(place->pieces);
	place->pieces = NULL;
	place->count = 0;
}

/* Extents must follow each other without a gap, in whole blocks, to the file's end. */
static const char *place_take(const struct fiemap *map, uint64_t length,
			      struct slot_place *place)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
		const struct fiemap_extent *extent = &map->fm_extents[i];

		if (extent->fe_flags & ~(FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_MERGED))
			return "a part of it is no plain range of the device";
		if (extent->fe_logical != at || extent->fe_length % SLOT_BLOCK ||
		    extent->fe_physical % SLOT_BLOCK || !extent->fe_length ||
		    extent->fe_physical > UINT64_MAX - extent->fe_length)
			return "it is not made of whole blocks of 4 KiB";
		place->pieces[i].first = extent->fe_physical / SLOT_BLOCK;
		place->pieces[i].count = extent->fe_length / SLOT_BLOCK;
		at += extent->fe_length;
	}
	place->count = map->fm_mapped_extents;
	return at == length ? NULL : "a part of it has no place on the device";
}

static int place_ask(int fd, uint64_t length, struct slot_place *place, const char **why)
{
	size_t room = sizeof(struct fiemap) + PIECES_MAX * sizeof(struct fiemap_extent);
	CLEANUP_FREE struct fiemap *map = calloc(1, room);

	place->pieces = calloc(PIECES_MAX, sizeof(*place->pieces));
	if (!map || !place->pieces)
		return -ENOMEM;
	map->fm_length = FIEMAP_MAX_OFFSET;
	map->fm_flags = FIEMAP_FLAG_SYNC;
	map->fm_extent_count = PIECES_MAX;
	if (ioctl(fd, FS_IOC_FIEMAP, map) < 0)
		return -errno;
	*why = "it lies in too many pieces";
	if (!map->fm_mapped_extents || map->fm_mapped_extents > PIECES_MAX ||
	    !(map->fm_extents[map->fm_mapped_extents - 1].fe_flags & FIEMAP_EXTENT_LAST))
		return -EOPNOTSUPP;
	*why = place_take(map, length, place);
	return *why ? -EOPNOTSUPP : 0;
}

int slot_find(const char *state_folder, const char *name, struct slot_place *place,
	      struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	const char *why = NULL;
	char path[PATH_MAX];
	struct stat st;
	int ret = volume_path(state_folder, name, SLOT_FILE, path, err);

	memset(place, 0, sizeof(*place));
	if (ret)
		return ret;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "cannot open the hand-over slot %s: %s", path,
				 error_text(errno));
	ret = place_ask(fd, (uint64_t)st.st_size, place, &why);
	if (!ret)
		return 0;
	slot_place_fini(place);
	return error_set(err, ret, "cannot tell where %s lies on its device: %s", path,
			 why ? why : error_text(ret));
}
