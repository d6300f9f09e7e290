/*
 * Marks between rotation and commit. The file is the only place where they are
 * once the tracker's retired bitmap was dropped, so it is durable before that,
 * and a damaged one is told from a missing one: missing means that nothing is
 * pending, damaged that nobody knows.
 */
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/crypto/crypto.h"
#include "agent/volume/pending_format.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int pending_digest(const void *data, size_t length,
			  uint8_t out[static CRYPTO_DIGEST_SIZE])
{
	const uint8_t *bytes = data;
	struct digest *digest = digest_new();

	if (!digest)
		return -ENOMEM;
	digest_update(digest, bytes, offsetof(struct pending_header, digest));
	digest_update(digest, bytes + sizeof(struct pending_header),
		      length - sizeof(struct pending_header));
	digest_finish(digest, out);
	return 0;
}

int pending_save(const char *state_folder, const char *name,
		 uint32_t granularity_bytes, const struct uuid *run,
		 const struct bitmap *bitmap, struct error *err)
{
	size_t words = bitmap_words(bitmap->bits);
	size_t length = sizeof(struct pending_header) + words * 8;
	CLEANUP_FREE uint8_t *data = NULL;
	struct pending_header *header;
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, NULL, path, err);

	if (ret)
		return ret;
	if (!bitmap->bits || bitmap->bits > PENDING_BITS_MAX || !granularity_bytes)
		return error_set(err, -EOVERFLOW, "volume %s: %llu marks cannot be kept in a pending file",
				 name, (unsigned long long)bitmap->bits);
	ret = file_make_folders(path, 0700);
	if (ret)
		return error_set(err, ret, "cannot make the folder %s: %s", path,
				 error_text(ret));
	data = calloc(1, length);
	if (!data)
		return error_set(err, -ENOMEM, "out of memory for the pending file of volume %s",
				 name);
	header = (struct pending_header *)data;
	memcpy(header->magic, PENDING_MAGIC, sizeof(header->magic));
	header->version = le32(PENDING_VERSION);
	header->granularity_bytes = le32(granularity_bytes);
	header->bits = le64(bitmap->bits);
	memcpy(header->run, run->b, sizeof(header->run));
	for (size_t i = 0; i < words; i++) {
		struct le64 word = le64(bitmap->words[i]);

		memcpy(data + sizeof(*header) + i * 8, &word, 8);
	}
	strcat(path, "/pending");
	ret = pending_digest(data, length, header->digest);
	if (!ret)
		ret = file_replace(path, data, length, 0600);
	return ret ? error_set(err, ret, "cannot write the pending file %s: %s", path,
			       error_text(ret)) : 0;
}

static int pending_damaged(const char *path, const char *how, struct error *err)
{
	error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
		       "the pending file %s is damaged: %s", path, how);
	return error_hint(err, "the next run must compare the whole volume");
}

/* All but the digest; lengths before contents. */
static int pending_check(const struct pending_header *header, size_t length,
			 uint32_t granularity_bytes, uint64_t bits,
			 const char *path, struct error *err)
{
	static const uint8_t zero[sizeof(header->reserved)];
	uint64_t stored;

	if (length < sizeof(*header))
		return pending_damaged(path, "it is too short", err);
	if (memcmp(header->magic, PENDING_MAGIC, sizeof(header->magic)))
		return pending_damaged(path, "it does not begin as one", err);
	if (get_le32(header->version) != PENDING_VERSION)
		return error_set(err, -EPROTONOSUPPORT, "the pending file %s has version %u, which this program does not know; use the clawback that wrote it",
				 path, get_le32(header->version));
	stored = get_le64(header->bits);
	if (memcmp(header->reserved, zero, sizeof(zero)) || !stored ||
	    stored > PENDING_BITS_MAX ||
	    length != sizeof(*header) + bitmap_words(stored) * 8)
		return pending_damaged(path, "its length or header is wrong", err);
	if ((bits && stored != bits) ||
	    get_le32(header->granularity_bytes) != granularity_bytes)
		return pending_damaged(path, "it was written for another size or granularity", err);
	return 0;
}

/* ORs the words at `from` into the bitmap, made first if it is empty. */
static int pending_take(const char *from, uint64_t bits, struct bitmap *bitmap,
			const char *path, struct error *err)
{
	size_t words = bitmap_words(bits);
	struct le64 word;
	int ret;

	/* The digest vouches for what a writer of ours wrote, and none of ours
	 * sets bits beyond the end. */
	memcpy(&word, from + (words - 1) * 8, 8);
	if (bits % 64 && get_le64(word) >> (bits % 64))
		return pending_damaged(path, "it has marks beyond the volume", err);
	if (!bitmap->bits) {
		ret = bitmap_init(bitmap, bits);
		if (ret)
			return error_set(err, ret, "cannot hold the marks of %s in memory: %s",
					 path, error_text(ret));
	}
	for (size_t i = 0; i < words; i++) {
		memcpy(&word, from + i * 8, 8);
		bitmap->words[i] |= get_le64(word);
	}
	return 0;
}

int pending_load(const char *state_folder, const char *name,
		 uint32_t granularity_bytes, struct uuid *run, struct bitmap *bitmap,
		 struct error *err)
{
	CLEANUP_FREE char *data = NULL;
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	const struct pending_header *header;
	size_t length;
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, "pending", path, err);

	if (ret)
		return ret;
	ret = file_read(path, sizeof(*header) + PENDING_BITS_MAX / 8, &data, &length);
	if (ret == -EFBIG)
		return pending_damaged(path, "it is too long", err);
	if (ret)
		return error_set(err, ret, "cannot read the pending file %s: %s", path,
				 error_text(ret));
	header = (const struct pending_header *)data;
	ret = pending_check(header, length, granularity_bytes, bitmap->bits, path, err);
	if (!ret && pending_digest(data, length, digest))
		ret = error_set(err, -ENOMEM, "out of memory for the pending file %s", path);
	if (ret)
		return ret;
	if (memcmp(digest, header->digest, sizeof(digest)))
		return pending_damaged(path, "its checksum is wrong", err);
	memcpy(run->b, header->run, sizeof(run->b));
	return pending_take(data + sizeof(*header), get_le64(header->bits), bitmap,
			    path, err);
}

int pending_remove(const char *state_folder, const char *name,
		   struct error *err)
{
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, "pending", path, err);

	if (ret)
		return ret;
	ret = file_remove(path);
	return ret ? error_set(err, ret, "cannot remove the pending file %s: %s", path,
			       error_text(ret)) : 0;
}
