/* What a client of the plugin asks of its disk: the point, or the overlay over it. */
#include "agent/nbd/nbd_private.h"

#include <errno.h>

/* To the client, what a disk would say. */
static int refuse(int ret)
{
	nbdkit_set_error(ret == -ENOSPC || ret == -EINVAL || ret == -ENOMEM ? -ret : EIO);
	return -1;
}

void *plugin_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

int64_t plugin_get_size(void *handle)
{
	(void)handle;
	return (int64_t)point_reader_bytes(served.reader);
}

int plugin_can_write(void *handle)
{
	(void)handle;
	return served.overlay != NULL;
}

int plugin_yes(void *handle)
{
	(void)handle;
	return 1;
}

int plugin_no(void *handle)
{
	(void)handle;
	return 0;
}

int plugin_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
		      uint32_t *maximum)
{
	(void)handle;
	*minimum = 1;
	*preferred = BLOCK_BYTES;
	*maximum = UINT32_MAX;
	return 0;
}

int plugin_pread(void *handle, void *buffer, uint32_t count, uint64_t offset,
		 uint32_t flags)
{
	struct error err = ERROR_INIT;
	int ret = served.overlay ? overlay_read(served.overlay, offset, buffer, count, &err) :
				   point_reader_read(served.reader, offset, buffer, count, &err);

	(void)handle;
	(void)flags;
	return ret ? refuse(ret) : 0;
}

static int finish(int ret, uint32_t flags)
{
	struct error err = ERROR_INIT;

	if (!ret && flags & NBDKIT_FLAG_FUA)
		ret = overlay_flush(served.overlay, &err);
	if (ret)
		nbdkit_debug("error %d", ret);
	return ret ? refuse(ret) : 0;
}

int plugin_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset,
		  uint32_t flags)
{
	struct error err = ERROR_INIT;
	int ret = overlay_write(served.overlay, offset, buffer, count, &err);

	(void)handle;
	return finish(ret, flags);
}

int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct error err = ERROR_INIT;
	int ret = overlay_zero(served.overlay, offset, count, &err);

	(void)handle;
	return finish(ret, flags);
}

/* Only whole blocks: the rest would have to be read first, for nothing. */
int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	uint64_t first = (offset + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
	uint64_t end = (offset + count) / BLOCK_BYTES * BLOCK_BYTES;

	(void)handle;
	if (offset + count == point_reader_bytes(served.reader))
		end = offset + count;
	return first < end ? plugin_zero(handle, (uint32_t)(end - first), first, flags) :
			     finish(0, flags);
}

int plugin_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return served.overlay ? finish(0, NBDKIT_FLAG_FUA) : 0;
}

int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
		   struct nbdkit_extents *extents)
{
	uint64_t end = offset + count;

	(void)handle;
	while (offset < end) {
		uint64_t length = end - offset;
		bool hole = served.overlay ?
			overlay_hole(served.overlay, offset, &length) :
			point_reader_hole(served.reader, offset, &length);

		if (nbdkit_add_extent(extents, offset, length, hole ?
				      NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0))
			return -1;
		offset += length;
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
	}
	return 0;
}
