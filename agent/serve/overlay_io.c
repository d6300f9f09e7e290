/*
 * A volume of which each block is either in the target or still in the point. A block
 * becomes present, once and for ever, when it is written or filled in; that happens under
 * the lock of its neighbourhood, so that what comes from the point never lands on what
 * was written. Blocks that are present are read and written without locks, as on a disk.
 */
#include "agent/serve/serve_private.h"

#include <errno.h>
#include <inttypes.h>

/* ---- reading ------------------------------------------------------------------------ */

static int overlay_inside(const struct overlay *overlay, uint64_t offset, uint64_t length,
			  struct error *err)
{
	if (offset <= overlay->volume_bytes && length <= overlay->volume_bytes - offset)
		return 0;
	return error_set(err, -EINVAL, "%" PRIu64 " bytes at %" PRIu64 ": the volume has %" PRIu64,
			 length, offset, overlay->volume_bytes);
}

/* Bytes from `offset` on, at most `length`, that are all in the target, or all not. */
static uint64_t overlay_run(const struct overlay *overlay, uint64_t offset, uint64_t length,
			    bool *present)
{
	uint64_t block = offset / BLOCK_BYTES, run;

	*present = present_test(&overlay->present, block);
	run = present_run(&overlay->present, block,
			  (offset % BLOCK_BYTES + length + BLOCK_BYTES - 1) / BLOCK_BYTES);
	run = run * BLOCK_BYTES - offset % BLOCK_BYTES;
	return run < length ? run : length;
}

int overlay_read(struct overlay *overlay, uint64_t offset, void *buffer, size_t length,
		 struct error *err)
{
	uint8_t *out = buffer;
	int ret = overlay_inside(overlay, offset, length, err);

	while (!ret && length) {
		bool present;
		size_t run = overlay_run(overlay, offset, length, &present);

		ret = present ? target_read(overlay->target, offset, out, run, err) :
				point_reader_read(overlay->reader, offset, out, run, err);
		offset += run;
		out += run;
		length -= run;
	}
	return ret;
}

bool overlay_hole(struct overlay *overlay, uint64_t offset, uint64_t *length)
{
	bool present;

	*length = overlay_run(overlay, offset, *length, &present);
	return !present && point_reader_hole(overlay->reader, offset, length);
}

/* ---- locks --------------------------------------------------------------------------- */

static uint64_t locks_of(uint64_t block, uint64_t count)
{
	uint64_t first = block / OVERLAY_LOCK_BLOCKS;
	uint64_t last = (block + count - 1) / OVERLAY_LOCK_BLOCKS, mask = 0;

	if (last - first >= OVERLAY_LOCKS)
		return UINT64_MAX;
	for (uint64_t i = first; i <= last; i++)
		mask |= UINT64_C(1) << (i % OVERLAY_LOCKS);
	return mask;
}

static void overlay_lock(struct overlay *overlay, uint64_t mask)
{
	for (unsigned i = 0; i < OVERLAY_LOCKS; i++)
		if (mask >> i & 1)
			pthread_mutex_lock(&overlay->locks[i]);
}

static void overlay_unlock(struct overlay *overlay, uint64_t mask)
{
	for (unsigned i = 0; i < OVERLAY_LOCKS; i++)
		if (mask >> i & 1)
			pthread_mutex_unlock(&overlay->locks[i]);
}

/* ---- writing -------------------------------------------------------------------------- */

int overlay_broken(const struct overlay *overlay, struct error *err)
{
	return error_set(err, -EIO, "%s could not be made durable before: nothing more is written "
			 "to it", overlay->target_path);
}

static int overlay_put(struct overlay *overlay, uint64_t offset, const uint8_t *data,
		       uint64_t length, struct error *err)
{
	uint64_t written = 0;

	return target_put(overlay->target, offset, data, length, NULL, &written, err);
}

/* A block of which a part is written; the rest is the point's. */
struct edge {
	bool used;
	uint64_t block;
	uint8_t bytes[BLOCK_BYTES];
};

static size_t block_bytes(const struct overlay *overlay, uint64_t block)
{
	uint64_t left = overlay->volume_bytes - block * BLOCK_BYTES;

	return left < BLOCK_BYTES ? left : BLOCK_BYTES;
}

/* Before any lock, as it may take long. */
static int edge_read(struct overlay *overlay, uint64_t block, struct edge *edge,
		     struct error *err)
{
	if (present_test(&overlay->present, block))
		return 0;
	edge->used = true;
	edge->block = block;
	return point_reader_read(overlay->reader, block * BLOCK_BYTES, edge->bytes,
				 block_bytes(overlay, block), err);
}

/* Under the lock: what of the block is not going to be written anyway is put in first. */
static int edge_put(struct overlay *overlay, const struct edge *edge, struct error *err)
{
	if (!edge->used || present_test(&overlay->present, edge->block))
		return 0;
	return overlay_put(overlay, edge->block * BLOCK_BYTES, edge->bytes,
			   block_bytes(overlay, edge->block), err);
}

static int overlay_write_absent(struct overlay *overlay, uint64_t offset, const uint8_t *data,
				uint64_t length, struct error *err)
{
	uint64_t first = offset / BLOCK_BYTES, end = offset + length;
	uint64_t last = (end - 1) / BLOCK_BYTES, mask = locks_of(first, last - first + 1);
	struct edge head = { .used = false }, tail = { .used = false };
	int ret = 0;

	if (offset % BLOCK_BYTES || end < first * BLOCK_BYTES + block_bytes(overlay, first))
		ret = edge_read(overlay, first, &head, err);
	if (!ret && last != first && end < last * BLOCK_BYTES + block_bytes(overlay, last))
		ret = edge_read(overlay, last, &tail, err);
	if (ret)
		return ret;
	overlay_lock(overlay, mask);
	ret = edge_put(overlay, &head, err);
	if (!ret)
		ret = edge_put(overlay, &tail, err);
	if (!ret)
		ret = overlay_put(overlay, offset, data, length, err);
	if (!ret)
		present_set(&overlay->present, first, last - first + 1);
	overlay_unlock(overlay, mask);
	return ret;
}

static int overlay_change(struct overlay *overlay, uint64_t offset, const uint8_t *data,
			  uint64_t length, struct error *err)
{
	int ret = overlay_inside(overlay, offset, length, err);
	bool present;

	if (ret || !length)
		return ret;
	if (atomic_load(&overlay->broken))
		return overlay_broken(overlay, err);
	if (overlay_run(overlay, offset, length, &present) == length && present)
		return overlay_put(overlay, offset, data, length, err);
	return overlay_write_absent(overlay, offset, data, length, err);
}

int overlay_write(struct overlay *overlay, uint64_t offset, const void *data, size_t length,
		  struct error *err)
{
	return overlay_change(overlay, offset, data, length, err);
}

int overlay_zero(struct overlay *overlay, uint64_t offset, uint64_t length, struct error *err)
{
	return overlay_change(overlay, offset, NULL, length, err);
}

int overlay_fill(struct overlay *overlay, uint64_t block, uint64_t count, const uint8_t *data,
		 struct error *err)
{
	uint64_t mask = locks_of(block, count), end = block + count;
	int ret = 0;

	if (atomic_load(&overlay->broken))
		return overlay_broken(overlay, err);
	overlay_lock(overlay, mask);
	for (uint64_t at = block, run; !ret && at < end; at += run) {
		uint64_t offset = at * BLOCK_BYTES, length;

		run = present_run(&overlay->present, at, end - at);
		if (present_test(&overlay->present, at))
			continue;
		length = run * BLOCK_BYTES;
		if (length > overlay->volume_bytes - offset)
			length = overlay->volume_bytes - offset;
		ret = overlay_put(overlay, offset, data ? data + (at - block) * BLOCK_BYTES : NULL,
				  length, err);
		if (!ret)
			present_set(&overlay->present, at, run);
	}
	overlay_unlock(overlay, mask);
	return ret;
}
