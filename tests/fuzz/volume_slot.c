/*
 * The hand-over slot. Its digests are no secret, so the harness makes them right where
 * the fuzzer would never guess them. What decodes is what is encoded again.
 *
 * Input: one byte of mode (1: mend the digests; 2: repeat the rest to whole blocks),
 * then the slot.
 */
#include "agent/crypto/crypto.h"
#include "agent/volume/slot_format.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>

static void mend(uint8_t *slot, size_t length)
{
	struct slot_block *head = (struct slot_block *)slot;
	uint64_t payload = get_le64(head->length);

	if (payload >= HANDOVER_DIGEST && payload <= length - SLOT_BLOCK) {
		uint8_t *at = slot + SLOT_BLOCK;

		digest_of(at, payload - HANDOVER_DIGEST, at + payload - HANDOVER_DIGEST);
		digest_of(at, payload, head->payload);
	}
	digest_of(slot, offsetof(struct slot_block, digest), head->digest);
}

static void check(const struct handover *handover, const uint8_t *slot)
{
	const struct slot_block *head = (const struct slot_block *)slot;
	uint64_t blocks = get_le64(head->blocks), payload_blocks;
	uint8_t *payload, *again = malloc(blocks * SLOT_BLOCK);
	size_t length;

	FUZZ_CHECK_TEXT(handover->boot_id);
	FUZZ_CHECK(again && !handover_encode(handover, &payload, &length));
	FUZZ_CHECK(length == get_le64(head->length));
	slot_image(head->nonce, blocks, payload, length, again);
	payload_blocks = (length + SLOT_BLOCK - 1) / SLOT_BLOCK;
	FUZZ_CHECK(!memcmp(again, slot, (1 + payload_blocks) * SLOT_BLOCK));
	free(payload);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	uint8_t mode = fuzz_byte(&data, &length);
	size_t padded = mode & 2 ? (length + SLOT_BLOCK - 1) / SLOT_BLOCK * SLOT_BLOCK : length;
	struct handover handover = { .bytes = 0 };
	uint8_t *slot = calloc(1, padded ? padded : 1);
	const char *why = NULL;
	int ret;

	FUZZ_CHECK(slot);
	if (length)
		memcpy(slot, data, length);
	if (mode & 1 && padded >= 2 * SLOT_BLOCK)
		mend(slot, padded);
	ret = slot_decode(slot, padded, &handover, &why);
	if (ret) {
		FUZZ_CHECK((ret == -EBADMSG || ret == -ENOENT) && why && *why);
		FUZZ_CHECK(!handover.marks.words);
	} else {
		check(&handover, slot);
		bitmap_fini(&handover.marks);
	}
	free(slot);
	return 0;
}
