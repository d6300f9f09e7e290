/*
 * The header of a list of present blocks. Its checksum is no secret, so the harness makes
 * it right for inputs whose first byte is odd.
 */
#include "agent/serve/present_format.h"
#include "agent/serve/serve_private.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	bool mend = fuzz_byte(&data, &length) & 1;
	uint8_t *copy = fuzz_copy(data, length);
	struct present_header header;
	struct present_owner owner;
	int ret;

	if (mend && length >= sizeof(header)) {
		memcpy(&header, copy, sizeof(header));
		digest_of(&header, offsetof(struct present_header, sha256), header.sha256);
		memcpy(copy, &header, sizeof(header));
	}
	memset(&owner, 0xa5, sizeof(owner));
	ret = present_decode(copy, length, &owner);
	FUZZ_CHECK(!ret || ret == -EBADMSG || ret == -EPROTONOSUPPORT);
	if (!ret) {
		/* What it says is what stands there, and nothing unknown does. */
		memcpy(&header, copy, sizeof(header));
		FUZZ_CHECK(length >= PRESENT_HEADER_BYTES);
		FUZZ_CHECK(!memcmp(header.magic, PRESENT_MAGIC, sizeof(header.magic)));
		FUZZ_CHECK(owner.point == get_le64(header.point));
		FUZZ_CHECK(owner.volume_bytes == get_le64(header.volume_bytes));
		FUZZ_CHECK(owner.target == get_le64(header.target));
		for (size_t i = sizeof(header); i < PRESENT_HEADER_BYTES; i++)
			FUZZ_CHECK(!copy[i]);
	}
	free(copy);
	return 0;
}
