/*
 * The hand-over slot while its file system can be written to: made, emptied, read. It
 * is for the volume that holds the state folder itself: at the end of a boot, when
 * that one's marks can be saved, its file system is read-only, and no file can be
 * made. So one is made in time, written to its last byte, and later written to once
 * more beneath the file system (slot_device.c).
 */
#include "agent/volume/slot.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/crypto/crypto.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint8_t *slot_buffer(size_t length)
{
	void *buffer = NULL;

	return posix_memalign(&buffer, SLOT_BLOCK, length) ? NULL : buffer;
}

/* A file system in memory has no direct access, and nothing beneath it either. */
static int slot_open(const char *path, int flags)
{
	int fd = open(path, flags | O_DIRECT | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 && errno == EINVAL ? open(path, flags | O_NOFOLLOW | O_CLOEXEC) : fd;
}

static int slot_length(int fd, size_t *length)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)(2 * SLOT_BLOCK) ||
	    st.st_size % SLOT_BLOCK || (uint64_t)st.st_size > SLOT_BLOCKS_MAX * SLOT_BLOCK)
		return -EBADMSG;
	*length = (size_t)st.st_size;
	return 0;
}

int slot_read(const char *path, uint8_t **data, size_t *length)
{
	CLEANUP_CLOSE int fd = slot_open(path, O_RDONLY);
	int ret = fd < 0 ? -errno : slot_length(fd, length);

	*data = NULL;
	if (ret)
		return ret;
	*data = slot_buffer(*length);
	ret = *data ? file_pread_all(fd, *data, *length, 0) : -ENOMEM;
	if (ret) {
		free(*data);
		*data = NULL;
	}
	return ret;
}

int slot_load(const char *state_folder, const char *name, struct handover *handover,
	      struct error *err)
{
	CLEANUP_FREE uint8_t *data = NULL;
	const char *why = "its length is wrong";
	char path[PATH_MAX];
	size_t length;
	int ret = volume_path(state_folder, name, SLOT_FILE, path, err);

	memset(handover, 0, sizeof(*handover));
	if (ret)
		return ret;
	ret = slot_read(path, &data, &length);
	if (!ret)
		ret = slot_decode(data, length, handover, &why);
	if (ret == -EBADMSG)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, ret,
				      "the hand-over slot is damaged: %s", why);
	return ret ? error_set(err, ret, "cannot read the hand-over slot %s: %s", path,
			       error_text(ret)) : 0;
}

/* ---- emptying ------------------------------------------------------------- */

/* Damaged, it holds nothing that anybody believes, and goes on doing so. */
static int head_overwrite(int fd, const struct slot_head *head, bool damaged, uint8_t *block)
{
	int ret;

	if (damaged)
		memset(block, 0, SLOT_BLOCK);
	else
		slot_head_empty(head->nonce, head->blocks, block);
	ret = file_pwrite_all(fd, block, SLOT_BLOCK, 0);
	return ret || fsync(fd) == 0 ? ret : -errno;
}

static int slot_empty_open(int fd, enum slot_content *was, struct error *err)
{
	CLEANUP_FREE uint8_t *block = slot_buffer(SLOT_BLOCK);
	struct slot_head head;
	const char *why;
	size_t length;
	int ret = block ? slot_length(fd, &length) : -ENOMEM;

	*was = SLOT_DAMAGED;
	if (ret == -EBADMSG)
		return ftruncate(fd, 0) == 0 && fsync(fd) == 0 ? 0 : -errno;
	if (!ret)
		ret = file_pread_all(fd, block, SLOT_BLOCK, 0);
	if (ret)
		return ret;
	if (!slot_head_decode(block, &head, &why))
		*was = head.length ? SLOT_FILLED : SLOT_EMPTY;
	else
		error_set(err, -EBADMSG, "the hand-over slot is damaged: %s", why);
	return *was == SLOT_EMPTY ? 0 : head_overwrite(fd, &head, *was == SLOT_DAMAGED, block);
}

int slot_empty(const char *state_folder, const char *name, enum slot_content *was,
	       struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	struct error ignored = ERROR_INIT;
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, SLOT_FILE, path, err);

	*was = SLOT_NONE;
	if (ret)
		return ret;
	fd = slot_open(path, O_RDWR);
	if (fd < 0 && errno == ENOENT)
		return 0;
	ret = fd < 0 ? -errno : slot_empty_open(fd, was, &ignored);
	return ret ? error_set(err, ret, "cannot empty the hand-over slot %s: %s", path,
			       error_text(ret)) : 0;
}

/* ---- making ---------------------------------------------------------------- */

/* Nothing in it but its stamps, of the right length, on places that can be found. */
static bool slot_is_ready(const char *state_folder, const char *name, const char *path,
			  uint64_t blocks)
{
	CLEANUP(slot_place_fini) struct slot_place place = { NULL, 0 };
	CLEANUP_FREE uint8_t *data = NULL, *wanted = NULL;
	struct error ignored = ERROR_INIT;
	struct slot_head head;
	const char *why;
	size_t length;

	if (slot_read(path, &data, &length) || length != blocks * SLOT_BLOCK ||
	    slot_head_decode(data, &head, &why) || head.blocks != blocks)
		return false;
	wanted = malloc(length);
	if (!wanted)
		return false;
	slot_image(head.nonce, blocks, NULL, 0, wanted);
	return memcmp(data, wanted, length) == 0 &&
	       !slot_find(state_folder, name, &place, &ignored);
}

static int slot_make(const char *path, uint64_t blocks, struct error *err)
{
	CLEANUP_FREE uint8_t *image = malloc(blocks * SLOT_BLOCK);
	uint8_t nonce[SLOT_NONCE];
	int ret = crypto_random(nonce, sizeof(nonce), err);

	if (ret)
		return ret;
	if (!image)
		return error_set(err, -ENOMEM, "out of memory for the hand-over slot");
	slot_image(nonce, blocks, NULL, 0, image);
	ret = file_replace(path, image, blocks * SLOT_BLOCK, 0600);
	return ret ? error_set(err, ret, "cannot write the hand-over slot %s (%llu bytes): %s",
			       path, (unsigned long long)(blocks * SLOT_BLOCK),
			       error_text(ret)) : 0;
}

int slot_keep(const char *state_folder, const char *name, uint64_t bits, struct error *err)
{
	CLEANUP(slot_place_fini) struct slot_place place = { NULL, 0 };
	uint64_t blocks = slot_blocks_for(bits);
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, SLOT_FILE, path, err);

	if (ret)
		return ret;
	if (!blocks)
		return error_set(err, -EOVERFLOW, "no hand-over slot holds %llu marks",
				 (unsigned long long)bits);
	if (slot_is_ready(state_folder, name, path, blocks))
		return 0;
	ret = slot_make(path, blocks, err);
	return ret ? ret : slot_find(state_folder, name, &place, err);
}
