/*
 * The hand-over file: what one boot knows of a volume, for the next one. It is
 * written once, when nobody can write to the volume any more, and taken away,
 * durably, before anybody believes it: believed twice, it would hide what was
 * written after the first time.
 */
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/crypto/crypto.h"
#include "agent/volume/handover_format.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void handover_fini(struct handover *handover)
{
	bitmap_fini(&handover->marks);
}

/* ---- encoding ------------------------------------------------------------- */

static void header_fill(const struct handover *from, struct handover_header *header)
{
	memcpy(header->magic, HANDOVER_MAGIC, sizeof(header->magic));
	header->version = le32(HANDOVER_VERSION);
	header->granularity_bytes = le32(from->granularity_bytes);
	header->bits = le64(from->marks.bits);
	header->bytes = le64(from->bytes);
	header->time_ns = le64(from->time_ns);
	memcpy(header->volume, from->volume.b, sizeof(header->volume));
	memcpy(header->boot_id, from->boot_id, strlen(from->boot_id));
	memcpy(header->dm_uuid, from->dm_uuid, strlen(from->dm_uuid));
	header->seed = le64(from->seed);
	memcpy(header->place, from->place, sizeof(header->place));
	memcpy(header->state, from->state, sizeof(header->state));
	memcpy(header->edges, from->witness.edges, sizeof(header->edges));
	memcpy(header->journal, from->witness.journal, sizeof(header->journal));
	memcpy(header->sample, from->witness.sample, sizeof(header->sample));
}

int handover_encode(const struct handover *handover, uint8_t **data, size_t *length)
{
	const struct bitmap *marks = &handover->marks;
	size_t words = bitmap_words(marks->bits);
	size_t body = sizeof(struct handover_header) + words * 8;

	*data = NULL;
	if (!marks->bits || marks->bits > HANDOVER_BITS_MAX)
		return -EOVERFLOW;
	*data = calloc(1, body + HANDOVER_DIGEST);
	if (!*data)
		return -ENOMEM;
	header_fill(handover, (struct handover_header *)*data);
	for (size_t i = 0; i < words; i++) {
		struct le64 word = le64(marks->words[i]);

		memcpy(*data + sizeof(struct handover_header) + i * 8, &word, 8);
	}
	digest_of(*data, body, *data + body);
	*length = body + HANDOVER_DIGEST;
	return 0;
}

/* ---- decoding ------------------------------------------------------------- */

/* Text that ends inside its field, and nothing but zeros behind it. */
static bool text_take(const char *from, size_t field, char *to, size_t room)
{
	size_t length = strnlen(from, field);

	if (length >= field || length >= room)
		return false;
	for (size_t i = length; i < field; i++)
		if (from[i])
			return false;
	memcpy(to, from, length + 1);
	return true;
}

/* Lengths before contents, and both before anything is believed. */
static const char *header_check(const uint8_t *data, size_t length)
{
	const struct handover_header *header = (const struct handover_header *)data;
	static const uint8_t zero[sizeof(header->reserved)];
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	uint64_t bits, bytes, granularity;

	if (length < sizeof(*header) + HANDOVER_DIGEST)
		return "it is too short";
	if (memcmp(header->magic, HANDOVER_MAGIC, sizeof(header->magic)))
		return "it does not begin as one";
	if (get_le32(header->version) != HANDOVER_VERSION)
		return "another version of clawback wrote it";
	bits = get_le64(header->bits);
	bytes = get_le64(header->bytes);
	granularity = get_le32(header->granularity_bytes);
	if (!bits || bits > HANDOVER_BITS_MAX ||
	    length != sizeof(*header) + bitmap_words(bits) * 8 + HANDOVER_DIGEST)
		return "its length is wrong";
	digest_of(data, length - HANDOVER_DIGEST, digest);
	if (memcmp(digest, data + length - HANDOVER_DIGEST, sizeof(digest)))
		return "its checksum is wrong";
	if (memcmp(header->reserved, zero, sizeof(zero)) || !granularity || !bytes ||
	    (bytes - 1) / granularity + 1 != bits)
		return "its header contradicts itself";
	return NULL;
}

static int marks_take(const uint8_t *from, uint64_t bits, struct bitmap *marks,
		      const char **why)
{
	size_t words = bitmap_words(bits);
	struct le64 word;
	int ret;

	memcpy(&word, from + (words - 1) * 8, 8);
	if (bits % 64 && get_le64(word) >> (bits % 64)) {
		*why = "it has marks beyond the volume";
		return -EBADMSG;
	}
	ret = bitmap_init(marks, bits);
	for (size_t i = 0; !ret && i < words; i++) {
		memcpy(&word, from + i * 8, 8);
		marks->words[i] = get_le64(word);
	}
	return ret;
}

int handover_decode(const uint8_t *data, size_t length, struct handover *handover,
		    const char **why)
{
	const struct handover_header *header = (const struct handover_header *)data;

	*why = header_check(data, length);
	if (*why)
		return -EBADMSG;
	if (!text_take(header->boot_id, sizeof(header->boot_id), handover->boot_id,
		       sizeof(handover->boot_id)) ||
	    !text_take(header->dm_uuid, sizeof(header->dm_uuid), handover->dm_uuid,
		       sizeof(handover->dm_uuid))) {
		*why = "its header contradicts itself";
		return -EBADMSG;
	}
	memcpy(handover->volume.b, header->volume, sizeof(header->volume));
	handover->time_ns = get_le64(header->time_ns);
	handover->bytes = get_le64(header->bytes);
	handover->granularity_bytes = get_le32(header->granularity_bytes);
	handover->seed = get_le64(header->seed);
	memcpy(handover->place, header->place, sizeof(header->place));
	memcpy(handover->state, header->state, sizeof(header->state));
	memcpy(handover->witness.edges, header->edges, sizeof(header->edges));
	memcpy(handover->witness.journal, header->journal, sizeof(header->journal));
	memcpy(handover->witness.sample, header->sample, sizeof(header->sample));
	return marks_take(data + sizeof(*header), get_le64(header->bits),
			  &handover->marks, why);
}

/* ---- the file -------------------------------------------------------------- */

int handover_save(const char *state_folder, const char *name,
		  const struct handover *handover, struct error *err)
{
	CLEANUP_FREE uint8_t *data = NULL;
	char path[PATH_MAX];
	size_t length;
	int ret = volume_path(state_folder, name, "handover", path, err);

	if (ret)
		return ret;
	ret = handover_encode(handover, &data, &length);
	if (!ret)
		ret = file_replace(path, data, length, 0600);
	return ret ? error_set(err, ret, "cannot write the hand-over file %s: %s", path,
			       error_text(ret)) : 0;
}

int handover_load(const char *state_folder, const char *name,
		  struct handover *handover, struct error *err)
{
	CLEANUP_FREE char *data = NULL;
	const char *why = "it is too long";
	char path[PATH_MAX];
	size_t length;
	int ret = volume_path(state_folder, name, "handover", path, err);

	memset(handover, 0, sizeof(*handover));
	if (ret)
		return ret;
	ret = file_read(path, sizeof(struct handover_header) + HANDOVER_BITS_MAX / 8 +
			HANDOVER_DIGEST, &data, &length);
	if (!ret)
		ret = handover_decode((const uint8_t *)data, length, handover, &why);
	if (ret == -EBADMSG || ret == -EFBIG)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				      "the hand-over file is damaged: %s", why);
	return ret ? error_set(err, ret, "cannot read the hand-over file %s: %s", path,
			       error_text(ret)) : 0;
}

int handover_remove(const char *state_folder, const char *name, struct error *err)
{
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, "handover", path, err);

	if (ret)
		return ret;
	ret = file_remove(path);
	return ret ? error_set(err, ret, "cannot remove the hand-over file %s: %s", path,
			       error_text(ret)) : 0;
}
