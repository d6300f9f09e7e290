/*
 * A point's wrapped keys. The fuzzer's own bytes must never open, and a good wrap
 * must not open once a bit of it or of its context was changed.
 *
 * Input: 112 bytes XORed into a good wrap, then the context to open it with.
 */
#include "tests/fuzz/fixed_keys.h"

static const struct point_keys keys = { { 1, 2, 3 }, { 4, 5, 6 } };
static const char context[] = "context of a point";
static struct recovery_private *private;
static uint8_t good[CRYPTO_WRAP_SIZE];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct recovery_public public;
	struct error err = ERROR_INIT;

	(void)argc;
	(void)argv;
	private = fixed_recovery_key();
	recovery_private_public(private, &public);
	FUZZ_CHECK(!keys_wrap(&public, &keys, context, sizeof(context), good, &err));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static const struct point_keys wiped;
	uint8_t wrap[CRYPTO_WRAP_SIZE];
	struct error err = ERROR_INIT;
	struct point_keys opened;
	bool same, same_context;
	uint8_t *copy;
	int ret;

	for (size_t i = 0; i < sizeof(wrap); i++)
		wrap[i] = good[i] ^ fuzz_byte(&data, &length);
	same = !memcmp(wrap, good, sizeof(wrap));
	same_context = length == sizeof(context) && !memcmp(data, context, length);
	/* X25519 leaves one bit of a public key aside, but that key is in the salt. */
	copy = fuzz_copy(data, length);
	ret = keys_unwrap(private, wrap, copy, length, &opened, &err);
	free(copy);
	FUZZ_CHECK(!ret == (same && same_context));
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!memcmp(&opened, &wiped, sizeof(wiped)));
	} else {
		FUZZ_CHECK(!memcmp(&opened, &keys, sizeof(keys)));
	}
	return 0;
}
