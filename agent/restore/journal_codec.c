/* The bytes of a restore's journal. */
#include "agent/restore/journal_format.h"
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void batch_digest(const uint8_t header[static 32], const struct journal_batch *batch,
			 const uint8_t *items, size_t bytes,
			 uint8_t digest[static CRYPTO_DIGEST_SIZE], struct digest *running)
{
	digest_update(running, header, 32);
	digest_update(running, batch, offsetof(struct journal_batch, digest));
	digest_update(running, items, bytes);
	digest_finish(running, digest);
}

static void header_put(const struct journal_subject *subject, struct journal_header *header)
{
	memset(header, 0, sizeof(*header));
	memcpy(header->magic, JOURNAL_MAGIC, sizeof(header->magic));
	header->version = le32(JOURNAL_VERSION);
	header->window_bytes = le32(WINDOW_BYTES);
	memcpy(header->repository, &subject->repository, sizeof(header->repository));
	memcpy(header->volume, &subject->volume, sizeof(header->volume));
	header->point = le64(subject->point);
	header->volume_bytes = le64(subject->volume_bytes);
	header->device = le64(subject->device);
	header->inode = le64(subject->inode);
	memcpy(header->point_hash, subject->point_hash, sizeof(header->point_hash));
	memcpy(header->key, subject->key, sizeof(header->key));
	digest_of(header, offsetof(struct journal_header, digest), header->digest);
}

int journal_encode_header(const struct journal_subject *subject, uint8_t **data,
			  size_t *length)
{
	struct journal_header *header = malloc(sizeof(*header));

	if (!header)
		return -ENOMEM;
	header_put(subject, header);
	*data = (uint8_t *)header;
	*length = sizeof(*header);
	return 0;
}

int journal_encode_batch(const struct journal_subject *subject,
			 const struct journal_record *records, size_t count,
			 uint8_t **data, size_t *length)
{
	size_t bytes = count * sizeof(struct journal_item);
	struct journal_batch batch = {
		.magic = le32(JOURNAL_BATCH_MAGIC), .count = le32((uint32_t)count),
	};
	struct digest *digest = digest_new();
	uint8_t *out = malloc(sizeof(batch) + bytes);
	struct journal_header header;

	if (!digest || !out) {
		digest_free(digest);
		free(out);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		struct journal_item item = { le64(records[i].window), le64(records[i].tag) };

		memcpy(out + sizeof(batch) + i * sizeof(item), &item, sizeof(item));
	}
	header_put(subject, &header);
	batch_digest(header.digest, &batch, out + sizeof(batch), bytes, batch.digest, digest);
	crypto_wipe(&header, sizeof(header));
	memcpy(out, &batch, sizeof(batch));
	*data = out;
	*length = sizeof(batch) + bytes;
	return 0;
}

static bool header_get(const uint8_t *data, size_t length, struct journal_header *header,
		       struct journal_subject *subject)
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];

	if (length < sizeof(*header))
		return false;
	memcpy(header, data, sizeof(*header));
	digest_of(header, offsetof(struct journal_header, digest), digest);
	if (memcmp(header->magic, JOURNAL_MAGIC, sizeof(header->magic)) ||
	    get_le32(header->version) != JOURNAL_VERSION ||
	    get_le32(header->window_bytes) != WINDOW_BYTES ||
	    memcmp(digest, header->digest, sizeof(digest)))
		return false;
	memcpy(&subject->repository, header->repository, sizeof(subject->repository));
	memcpy(&subject->volume, header->volume, sizeof(subject->volume));
	subject->point = get_le64(header->point);
	subject->volume_bytes = get_le64(header->volume_bytes);
	subject->device = get_le64(header->device);
	subject->inode = get_le64(header->inode);
	memcpy(subject->point_hash, header->point_hash, sizeof(subject->point_hash));
	memcpy(subject->key, header->key, sizeof(subject->key));
	return true;
}

/* Bytes of the batch at `data`; 0: there is none, or it is not to be believed. */
static size_t batch_check(const struct journal_header *header, const uint8_t *data,
			  size_t length, uint32_t *count)
{
	uint8_t found[CRYPTO_DIGEST_SIZE];
	struct journal_batch batch;
	struct digest *digest;
	size_t bytes;

	if (length < sizeof(batch))
		return 0;
	memcpy(&batch, data, sizeof(batch));
	*count = get_le32(batch.count);
	if (get_le32(batch.magic) != JOURNAL_BATCH_MAGIC || !*count ||
	    *count > JOURNAL_BATCH_MAX)
		return 0;
	bytes = *count * sizeof(struct journal_item);
	if (bytes > length - sizeof(batch))
		return 0;
	digest = digest_new();
	if (!digest)
		return 0;	/* as if it were cut off here */
	batch_digest(header->digest, &batch, data + sizeof(batch), bytes, found, digest);
	return memcmp(found, batch.digest, sizeof(found)) ? 0 : sizeof(batch) + bytes;
}

static int compare_records(const void *a, const void *b)
{
	const struct journal_record *x = a, *y = b;

	return x->window < y->window ? -1 : x->window > y->window;
}

/* Sorted; of two of one window either will do: the target decides. */
static void records_settle(struct journal_contents *contents)
{
	size_t kept = 0;

	qsort(contents->records, contents->count, sizeof(*contents->records), compare_records);
	for (size_t i = 0; i < contents->count; i++)
		if (!kept || contents->records[kept - 1].window != contents->records[i].window)
			contents->records[kept++] = contents->records[i];
	contents->count = kept;
}

int journal_decode(const uint8_t *data, size_t length, struct journal_contents *contents)
{
	struct journal_header header;
	size_t at = sizeof(header), bytes;
	uint32_t count;

	memset(contents, 0, sizeof(*contents));
	if (!header_get(data, length, &header, &contents->subject))
		return -EBADMSG;
	contents->records = malloc(((length - at) / sizeof(struct journal_item) + 1) *
				   sizeof(*contents->records));
	if (!contents->records)
		return -ENOMEM;
	while ((bytes = batch_check(&header, data + at, length - at, &count))) {
		for (uint32_t i = 0; i < count; i++) {
			struct journal_item item;

			memcpy(&item, data + at + sizeof(struct journal_batch) +
			       i * sizeof(item), sizeof(item));
			contents->records[contents->count++] = (struct journal_record){
				get_le64(item.window), get_le64(item.tag) };
		}
		at += bytes;
	}
	records_settle(contents);
	return 0;
}

void journal_contents_fini(struct journal_contents *contents)
{
	free(contents->records);
	crypto_wipe(contents, sizeof(*contents));
}
