/*
 * The hand-over file. Its digest is no secret, so the harness makes it right where
 * the fuzzer would never guess it. What decodes is what is encoded again.
 *
 * Input: one byte of mode, then the file.
 */
#include "agent/crypto/crypto.h"
#include "agent/volume/handover_format.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>

static void check(const struct handover *handover, const uint8_t *file, size_t length)
{
	uint8_t *again;
	size_t again_length;

	FUZZ_CHECK_TEXT(handover->boot_id);
	FUZZ_CHECK_TEXT(handover->dm_uuid);
	FUZZ_CHECK(handover->granularity_bytes);
	FUZZ_CHECK(handover->marks.bits == (handover->bytes + handover->granularity_bytes - 1) /
					   handover->granularity_bytes);
	if (handover->marks.bits % 64)
		FUZZ_CHECK(!(handover->marks.words[handover->marks.bits / 64] >>
			     (handover->marks.bits % 64)));
	FUZZ_CHECK(!handover_encode(handover, &again, &again_length));
	FUZZ_CHECK(again_length == length && !memcmp(again, file, length));
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	bool mend = fuzz_byte(&data, &length) % 2;
	uint8_t *file = fuzz_copy(data, length);
	struct handover handover = { .bytes = 0 };
	const char *why = NULL;
	int ret;

	if (mend && length >= HANDOVER_DIGEST)
		digest_of(file, length - HANDOVER_DIGEST, file + length - HANDOVER_DIGEST);
	ret = handover_decode(file, length, &handover, &why);
	if (ret) {
		FUZZ_CHECK(ret == -EBADMSG && why && *why);
		FUZZ_CHECK(!handover.marks.words);
	} else {
		check(&handover, file, length);
		bitmap_fini(&handover.marks);
	}
	free(file);
	return 0;
}
