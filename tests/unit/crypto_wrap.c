/* A point's keys, wrapped and unwrapped. */
#include "tests/unit/crypto_test.h"

#include <openssl/err.h>

/* RFC 7748, 6.1: Bob's key is the recipient's, Alice's the one-use key. */
static const char bob_private[] =
	"-----BEGIN PRIVATE KEY-----\n"
	"MC4CAQAwBQYDK2VuBCIEIF2rCH5iSopLeeF/i4OADuZvO7EpJhi2/Rwviyf/iODr\n"
	"-----END PRIVATE KEY-----\n";
/* Keys 00..3f for "volume", NUL, "point 7", by Python's cryptography. */
static const char golden[] =
	"8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
	"8ce5d976a5a4609fc8d01bdf1618b25d80d1acf004aa0a92ae5faa6c9fd069b1"
	"ba6eaa904dba359632abfc112d2803234d137d7302780dc100acecd42cbf8da5"
	"f27742e27a40741888c903d960333cf0";
static const char context[] = "volume\0point 7";
#define CONTEXT_LENGTH (sizeof(context) - 1)

static struct recovery_private *recipient, *stranger;
static struct recovery_public recipient_public;

static int load_recipients(void **state)
{
	struct error err = ERROR_INIT;

	if (test_folder_make(state))
		return -1;
	test_write(test_path("bob.pem"), bob_private, strlen(bob_private), 0600);
	if (test_shell("umask 077; openssl genpkey -algorithm X25519 -out %s",
		       test_path("stranger.pem")) ||
	    recovery_private_load(test_path("bob.pem"), NULL, &recipient, &err) ||
	    recovery_private_load(test_path("stranger.pem"), NULL, &stranger, &err))
		return -1;
	recovery_private_public(recipient, &recipient_public);
	return 0;
}

static int free_recipients(void **state)
{
	recovery_private_free(recipient);
	recovery_private_free(stranger);
	return test_folder_remove(state);
}

/* Refused, with the right exit code, and with nothing of the keys given out. */
static void refuse(const struct recovery_private *private, const uint8_t *wrap,
		   const void *where, size_t where_length)
{
	struct error err = ERROR_INIT;
	struct point_keys keys;

	memset(&keys, 0xaa, sizeof(keys));
	assert_int_equal(keys_unwrap(private, wrap, where, where_length, &keys, &err),
			 -EKEYREJECTED);
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_true(test_is_zero(&keys, sizeof(keys)));
	assert_int_equal(ERR_peek_error(), 0);
}

static void unwrap_golden(void **state)
{
	uint8_t wrap[CRYPTO_WRAP_SIZE];
	struct error err = ERROR_INIT;
	struct point_keys keys;

	(void)state;
	assert_int_equal(test_hex(golden, wrap), sizeof(wrap));
	assert_int_equal(keys_unwrap(recipient, wrap, context, CONTEXT_LENGTH, &keys,
				     &err), 0);
	for (int i = 0; i < 32; i++) {
		assert_int_equal(keys.data[i], i);
		assert_int_equal(keys.map[i], 32 + i);
	}
	refuse(stranger, wrap, context, CONTEXT_LENGTH);
}

static void wrap_round_trips(void **state)
{
	uint8_t where[CRYPTO_WRAP_CONTEXT_LIMIT], wrap[CRYPTO_WRAP_SIZE];
	uint8_t again[CRYPTO_WRAP_SIZE];
	struct error err = ERROR_INIT;

	(void)state;
	test_seed();
	test_random_bytes(where, sizeof(where));
	for (int round = 0; round < 50; round++) {
		size_t length = test_random() % (sizeof(where) + 1);
		struct point_keys keys, back;

		test_random_bytes(&keys, sizeof(keys));
		assert_int_equal(keys_wrap(&recipient_public, &keys, where, length, wrap,
					   &err), 0);
		assert_int_equal(keys_unwrap(recipient, wrap, where, length, &back, &err),
				 0);
		assert_memory_equal(&keys, &back, sizeof(keys));
		/* Another one-use key each time: nothing repeats. */
		assert_int_equal(keys_wrap(&recipient_public, &keys, where, length, again,
					   &err), 0);
		for (size_t i = 0; i + 16 <= sizeof(wrap); i += 16)
			assert_memory_not_equal(wrap + i, again + i, 16);
	}
}

static void unwrap_refuses_any_flip(void **state)
{
	char where[sizeof(context)];
	uint8_t wrap[CRYPTO_WRAP_SIZE];
	struct error err = ERROR_INIT;
	struct point_keys keys = { .data = { 1 } };

	(void)state;
	memcpy(where, context, sizeof(context));
	assert_int_equal(keys_wrap(&recipient_public, &keys, context, CONTEXT_LENGTH, wrap,
				   &err), 0);
	for (size_t bit = 0; bit < 8 * sizeof(wrap); bit++) {
		/* X25519 ignores this bit; the salt, which holds it, does not. */
		wrap[bit / 8] ^= (uint8_t)(1 << bit % 8);
		refuse(recipient, wrap, context, CONTEXT_LENGTH);
		wrap[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * CONTEXT_LENGTH; bit++) {
		where[bit / 8] = (char)(where[bit / 8] ^ 1 << bit % 8);
		refuse(recipient, wrap, where, CONTEXT_LENGTH);
		where[bit / 8] = (char)(where[bit / 8] ^ 1 << bit % 8);
	}
	for (size_t length = 0; length < CONTEXT_LENGTH; length++)
		refuse(recipient, wrap, context, length);
	refuse(stranger, wrap, context, CONTEXT_LENGTH);
	assert_int_equal(keys_unwrap(recipient, wrap, where, CONTEXT_LENGTH, &keys, &err),
			 0);
}

static void limits(void **state)
{
	uint8_t where[CRYPTO_WRAP_CONTEXT_LIMIT + 1] = { 0 }, wrap[CRYPTO_WRAP_SIZE];
	const struct recovery_public zero = { { 0 } };
	const struct point_keys keys = { .data = { 1 } };
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(keys_wrap(&recipient_public, &keys, where, sizeof(where), wrap,
				   &err), -EINVAL);
	memset(wrap, 0, sizeof(wrap));
	refuse(recipient, wrap, where, sizeof(where));
	/* A one-use key, or a recipient, of small order: the secret would be zero. */
	refuse(recipient, wrap, context, CONTEXT_LENGTH);
	assert_int_equal(keys_wrap(&zero, &keys, NULL, 0, wrap, &err), -EINVAL);
	assert_non_null(strstr(err.message, "no valid X25519 public key"));
	assert_int_equal(ERR_peek_error(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unwrap_golden),
		cmocka_unit_test(wrap_round_trips),
		cmocka_unit_test(unwrap_refuses_any_flip),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, load_recipients, free_recipients);
}
