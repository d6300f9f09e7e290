/*
 * The journal of a restore that broke off. Its digests are no secret, so the harness
 * makes them right where the fuzzer would never guess them; and what was read is
 * encoded again.
 *
 * Input: one byte of mode, then the file.
 */
#include "agent/restore/journal_codec.c"

#include "tests/fuzz/fuzz.h"

static void mend(uint8_t *data, size_t length)
{
	struct journal_header header;
	size_t at = sizeof(header);

	if (length < sizeof(header))
		return;
	memcpy(&header, data, sizeof(header));
	digest_of(&header, offsetof(struct journal_header, digest), header.digest);
	memcpy(data, &header, sizeof(header));
	while (length - at >= sizeof(struct journal_batch)) {
		struct journal_batch batch;
		uint32_t count;

		memcpy(&batch, data + at, sizeof(batch));
		count = get_le32(batch.count);
		if (count > (length - at - sizeof(batch)) / sizeof(struct journal_item))
			break;
		batch_digest(header.digest, &batch, data + at + sizeof(batch),
			     count * sizeof(struct journal_item), batch.digest, digest_new());
		memcpy(data + at, &batch, sizeof(batch));
		at += sizeof(batch) + count * sizeof(struct journal_item);
	}
}

/* The same records come back from what would be written of them. */
static void check_again(const struct journal_contents *contents)
{
	struct journal_contents again;
	uint8_t *header, *batch = NULL, *all;
	size_t header_length, length = 0;
	size_t count = contents->count < JOURNAL_BATCH_MAX ? contents->count : JOURNAL_BATCH_MAX;

	FUZZ_CHECK(!journal_encode_header(&contents->subject, &header, &header_length));
	if (count)
		FUZZ_CHECK(!journal_encode_batch(&contents->subject, contents->records, count,
						 &batch, &length));
	all = malloc(header_length + length);
	FUZZ_CHECK(all);
	memcpy(all, header, header_length);
	if (length)
		memcpy(all + header_length, batch, length);
	FUZZ_CHECK(!journal_decode(all, header_length + length, &again));
	FUZZ_CHECK(again.count == count);
	FUZZ_CHECK(!count || !memcmp(again.records, contents->records,
				     count * sizeof(*again.records)));
	FUZZ_CHECK(!memcmp(&again.subject, &contents->subject, sizeof(again.subject)));
	journal_contents_fini(&again);
	free(header);
	free(batch);
	free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	bool mended = fuzz_byte(&data, &length) % 2;
	uint8_t *file = fuzz_copy(data, length);
	struct journal_contents contents;
	int ret;

	if (mended)
		mend(file, length);
	ret = journal_decode(file, length, &contents);
	FUZZ_CHECK(!ret || (ret == -EBADMSG && !contents.records));
	for (size_t i = 1; !ret && i < contents.count; i++)
		FUZZ_CHECK(contents.records[i - 1].window < contents.records[i].window);
	if (!ret)
		check_again(&contents);
	journal_contents_fini(&contents);
	free(file);
	return 0;
}
