/*
 * The file of points' facts. The harness writes the digest, and the ids, that make it be
 * looked at.
 *
 * Input: one byte of mode, then the file, or all but its digest and ids.
 */
#include "agent/repo/point_facts_format.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stddef.h>

static const struct uuid repository = { { 1 } }, volume = { { 2 } };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	bool mend = fuzz_byte(&data, &length) % 2;
	uint8_t *copy = malloc(length + CRYPTO_DIGEST_SIZE);
	struct point_facts_file file;
	int ret;

	FUZZ_CHECK(copy);
	if (length)
		memcpy(copy, data, length);
	if (mend && length >= sizeof(struct facts_header)) {
		memcpy(copy + offsetof(struct facts_header, repository), repository.b, 16);
		memcpy(copy + offsetof(struct facts_header, volume), volume.b, 16);
		digest_of(copy, length, copy + length);
		length += CRYPTO_DIGEST_SIZE;
	}
	ret = point_facts_decode(copy, length, &repository, &volume, &file);
	FUZZ_CHECK(!ret || ret == -EBADMSG);
	for (size_t i = 0; !ret && i < file.count; i++) {
		FUZZ_CHECK(file.items[i].number > (i ? file.items[i - 1].number : 0));
		FUZZ_CHECK(point_kind_name(file.items[i].kind));
		FUZZ_CHECK(point_consistency_name(file.items[i].consistency));
	}
	if (!ret)
		free(file.items);
	free(copy);
	return 0;
}
