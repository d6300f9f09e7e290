/*
 * Writing the hand-over slot beneath its read-only file system, to the device itself:
 * the one thing that clawback ever writes to a volume. So nothing is written before
 * every block of the slot was found where it is said to lie, with its stamp; what was
 * written is read back; and the head, without which the rest is nothing, comes last.
 */
#include "agent/volume/slot.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct slot_writer {
	int fd;				/* of the device */
	const struct slot_place *place;
	uint64_t blocks;
};

typedef int (*piece_fn)(int fd, void *buffer, size_t length, uint64_t offset);

static int piece_write(int fd, void *buffer, size_t length, uint64_t offset)
{
	return file_pwrite_all(fd, buffer, length, offset);
}

/* Blocks [first, first + count) of the slot, piece by piece. */
static int each_piece(const struct slot_writer *writer, piece_fn act, uint8_t *image,
		      uint64_t first, uint64_t count)
{
	uint64_t at = 0;
	int ret = 0;

	for (size_t i = 0; !ret && count && i < writer->place->count; i++) {
		const struct extent *piece = &writer->place->pieces[i];
		uint64_t skip = first > at ? first - at : 0, part;

		at += piece->count;
		if (skip >= piece->count)
			continue;
		part = piece->count - skip < count ? piece->count - skip : count;
		ret = act(writer->fd, image + first * SLOT_BLOCK, part * SLOT_BLOCK,
			  (piece->first + skip) * SLOT_BLOCK);
		first += part;
		count -= part;
	}
	return ret || !count ? ret : -ENODATA;
}

static int slot_flush(int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

static int slot_verify(const struct slot_writer *writer, const uint8_t *wanted,
		       uint8_t *buffer, struct error *err)
{
	int ret = each_piece(writer, file_pread_all, buffer, 0, writer->blocks);

	if (ret)
		return error_set(err, ret, "cannot read the hand-over slot from its device: %s",
				 error_text(ret));
	if (memcmp(buffer, wanted, writer->blocks * SLOT_BLOCK))
		return error_set(err, -EIO, "the hand-over slot is not what it should be where it lies on its device");
	return 0;
}

/* The slot as its file system shows it, which is to be an empty one. */
static int slot_expect(const char *path, uint8_t **image, struct slot_head *head,
		       struct error *err)
{
	CLEANUP_FREE uint8_t *wanted = NULL;
	const char *why = "its length is wrong";
	size_t length;
	int ret = slot_read(path, image, &length);

	if (!ret)
		ret = slot_head_decode(*image, head, &why);
	if (ret == -EBADMSG || (!ret && length != head->blocks * SLOT_BLOCK))
		return error_set(err, -EBADMSG, "the hand-over slot %s is damaged: %s", path, why);
	if (ret)
		return error_set(err, ret, "cannot read the hand-over slot %s: %s", path,
				 error_text(ret));
	wanted = malloc(length);
	if (!wanted)
		return error_set(err, -ENOMEM, "out of memory for the hand-over slot");
	slot_image(head->nonce, head->blocks, NULL, 0, wanted);
	if (memcmp(*image, wanted, length))
		return error_set(err, -EEXIST, "the hand-over slot %s is not empty", path);
	return 0;
}

/* `image` is empty on entry, and what stands on the device afterwards. */
static int slot_fill(const struct slot_writer *writer, const struct slot_head *head,
		     const uint8_t *payload, size_t length, uint8_t *image,
		     struct error *err)
{
	uint64_t filled = (length + SLOT_BLOCK - 1) / SLOT_BLOCK;
	CLEANUP_FREE uint8_t *buffer = slot_buffer(writer->blocks * SLOT_BLOCK);
	int ret;

	if (!buffer)
		return error_set(err, -ENOMEM, "out of memory for the hand-over slot");
	ret = slot_verify(writer, image, buffer, err);
	if (ret)
		return ret;
	slot_image(head->nonce, head->blocks, payload, length, image);
	ret = each_piece(writer, piece_write, image, 1, filled);
	if (!ret)
		ret = slot_flush(writer->fd);
	if (!ret)
		ret = each_piece(writer, piece_write, image, 0, 1);
	if (!ret)
		ret = slot_flush(writer->fd);
	if (ret)
		return error_set(err, ret, "cannot write the hand-over slot to its device: %s",
				 error_text(ret));
	return slot_verify(writer, image, buffer, err);
}

int slot_write(const char *state_folder, const char *name, int device_fd,
	       const struct slot_place *place, const struct handover *handover,
	       uint64_t *sectors, struct error *err)
{
	CLEANUP_FREE uint8_t *payload = NULL, *image = NULL;
	struct slot_writer writer = { .fd = device_fd, .place = place };
	struct slot_head head;
	char path[PATH_MAX];
	size_t length;
	int ret = volume_path(state_folder, name, SLOT_FILE, path, err);

	if (ret)
		return ret;
	ret = handover_encode(handover, &payload, &length);
	if (ret)
		return error_set(err, ret, "cannot put the hand-over together: %s",
				 error_text(ret));
	ret = slot_expect(path, &image, &head, err);
	if (ret)
		return ret;
	writer.blocks = head.blocks;
	if (head.blocks != slot_blocks_for(handover->marks.bits) ||
	    head.blocks != slot_place_blocks(place))
		return error_set(err, -ENOSPC, "the hand-over slot %s has not the size that the volume needs",
				 path);
	*sectors = (1 + (length + SLOT_BLOCK - 1) / SLOT_BLOCK) * (SLOT_BLOCK / 512);
	return slot_fill(&writer, &head, payload, length, image, err);
}

int slot_unwrite(int device_fd, const struct slot_place *place, struct error *err)
{
	struct slot_writer writer = { device_fd, place, slot_place_blocks(place) };
	CLEANUP_FREE uint8_t *block = slot_buffer(SLOT_BLOCK);
	struct slot_head head;
	const char *why;
	int ret = block ? each_piece(&writer, file_pread_all, block, 0, 1) : -ENOMEM;

	/* Who knows what stands there; a head of ours, or nothing is touched. */
	if (!ret)
		ret = slot_head_decode(block, &head, &why);
	if (ret == -EBADMSG || (!ret && !head.length))
		return 0;
	if (!ret) {
		slot_head_empty(head.nonce, head.blocks, block);
		ret = each_piece(&writer, piece_write, block, 0, 1);
	}
	if (!ret)
		ret = slot_flush(device_fd);
	return ret ? error_set(err, ret, "cannot empty the hand-over slot on its device: %s",
			       error_text(ret)) : 0;
}

uint64_t slot_place_blocks(const struct slot_place *place)
{
	uint64_t blocks = 0;

	for (size_t i = 0; i < place->count; i++)
		blocks += place->pieces[i].count;
	return blocks;
}

int slot_place_mark(const struct slot_place *place, uint32_t granularity_bytes,
		    struct bitmap *marks)
{
	uint64_t scale = granularity_bytes / SLOT_BLOCK;
	int ret = scale ? 0 : -EINVAL;

	for (size_t i = 0; !ret && i < place->count; i++) {
		uint64_t first = place->pieces[i].first / scale;
		uint64_t last = (place->pieces[i].first + place->pieces[i].count - 1) / scale;

		ret = bitmap_set(marks, first, last - first + 1);
	}
	return ret;
}
