/* Digests, hexadecimal, base64, random bytes, wiping. */
#include "tests/unit/crypto_test.h"

static void digest_vectors(void **state)
{
	/* FIPS 180-4 examples, and a million "a". */
	static const struct { const char *text, *hex; unsigned int times; } vectors[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1 },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1 },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1 },
		{ "aaaaaaaaaa",
		  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 100000 },
	};
	uint8_t out[CRYPTO_DIGEST_SIZE];
	char hex[2 * CRYPTO_DIGEST_SIZE + 1];

	(void)state;
	for (size_t v = 0; v < 4; v++) {
		struct digest *digest = digest_new();

		assert_non_null(digest);
		for (unsigned int i = 0; i < vectors[v].times; i++)
			digest_update(digest, vectors[v].text, strlen(vectors[v].text));
		digest_finish(digest, out);
		hex_encode(out, sizeof(out), hex);
		assert_string_equal(hex, vectors[v].hex);
	}
	digest_of("abc", 3, out);
	hex_encode(out, sizeof(out), hex);
	assert_string_equal(hex, vectors[1].hex);
	digest_of(NULL, 0, out);
	hex_encode(out, sizeof(out), hex);
	assert_string_equal(hex, vectors[0].hex);
	digest_free(NULL);
	digest_free(digest_new());
}

static void digest_in_parts(void **state)
{
	uint8_t data[5000], whole[CRYPTO_DIGEST_SIZE], parts[CRYPTO_DIGEST_SIZE];

	(void)state;
	test_seed();
	for (int round = 0; round < 200; round++) {
		size_t length = test_random() % sizeof(data), at = 0;
		struct digest *digest = digest_new();

		test_random_bytes(data, length);
		while (at < length) {
			size_t part = test_random() % (length - at + 1);

			digest_update(digest, data + at, part);
			at += part;
		}
		digest_finish(digest, parts);
		digest_of(data, length, whole);
		assert_memory_equal(parts, whole, sizeof(whole));
	}
}

static void hex_round_trip(void **state)
{
	uint8_t data[100] = { 0 }, back[100];
	char text[201];

	(void)state;
	for (size_t length = 0; length <= sizeof(data); length++) {
		test_random_bytes(data, length);
		hex_encode(data, length, text);
		assert_int_equal(strlen(text), 2 * length);
		assert_int_equal(hex_decode(text, back, length), 0);
		assert_memory_equal(back, data, length);
		assert_int_equal(hex_decode(text, back, length + 1), -EINVAL);
		if (length)
			assert_int_equal(hex_decode(text, back, length - 1), -EINVAL);
	}
	assert_int_equal(hex_decode("aBCd", back, 2), 0);
	assert_memory_equal(back, "\xab\xcd", 2);
	for (int c = 1; c < 256; c++) {
		const char bad[3] = { '0', (char)c, 0 }, bad2[3] = { (char)c, '0', 0 };
		bool digit = strchr("0123456789abcdefABCDEF", c) != NULL;

		assert_int_equal(hex_decode(bad, back, 1), digit ? 0 : -EINVAL);
		assert_int_equal(hex_decode(bad2, back, 1), digit ? 0 : -EINVAL);
	}
}

static void base64_vectors(void **state)
{
	/* RFC 4648, section 10. */
	static const char *const vectors[][2] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
	};
	/* Lengths, padding, spare bits, other alphabets, white space. */
	static const char *const bad[] = {
		"Z", "Zg", "Zg=", "Zg===", "=", "====", "Z===", "=Zg=", "Zg=a", "Zh==",
		"Zm9=", "Zm-_", "Zm9v\n", "Zm 9", "Zg==Zg==", "Zm9vZg=", "\xff\xff\xff\xff",
	};
	uint8_t data[16];
	size_t length;

	(void)state;
	for (size_t v = 0; v < 7; v++) {
		size_t expected = strlen(vectors[v][0]);
		CLEANUP_FREE char *text = base64_encode(
			(const uint8_t *)vectors[v][0], expected);

		assert_string_equal(text, vectors[v][1]);
		assert_int_equal(base64_decode(text, data, sizeof(data), &length), 0);
		assert_int_equal(length, expected);
		assert_memory_equal(data, vectors[v][0], length);
		assert_int_equal(base64_decode(text, data, expected, &length), 0);
		if (expected)
			assert_int_equal(base64_decode(text, data, expected - 1, &length),
					 -EMSGSIZE);
	}
	for (size_t v = 0; v < sizeof(bad) / sizeof(bad[0]); v++) {
		assert_int_equal(base64_decode(bad[v], data, sizeof(data), &length),
				 -EINVAL);
		assert_int_equal(length, 0);
	}
	assert_null(base64_encode(data, SIZE_MAX));
}

/* Whatever decodes encodes to the same text: no value has two. */
static void base64_is_canonical(void **state)
{
	static const char digits[] = "AQgwx/+=9 ";
	uint8_t data[16];
	size_t length;
	int decoded = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		char text[13] = "";
		size_t count = test_random() % 13;

		for (size_t i = 0; i < count; i++)
			text[i] = digits[test_random() % 10];
		if (base64_decode(text, data, sizeof(data), &length) == 0) {
			CLEANUP_FREE char *again = base64_encode(data, length);

			assert_string_equal(again, text);
			decoded++;
		}
	}
	assert_true(decoded > 2000);
	for (int round = 0; round < 500; round++) {
		uint8_t in[300], out[300];
		size_t count = test_random() % sizeof(in);
		CLEANUP_FREE char *text = NULL;

		test_random_bytes(in, count);
		text = base64_encode(in, count);
		assert_int_equal(base64_decode(text, out, count, &length), 0);
		assert_int_equal(length, count);
		assert_memory_equal(in, out, count);
	}
}

static void random_equal_wipe(void **state)
{
	struct error err = ERROR_INIT;
	uint8_t a[64] = { 0 }, b[64] = { 0 };

	(void)state;
	assert_true(crypto_equal(a, b, sizeof(a)));
	assert_int_equal(crypto_random(a, sizeof(a), &err), 0);
	assert_int_equal(crypto_random(b, sizeof(b), &err), 0);
	assert_int_equal(crypto_random(b, 0, &err), 0);
	assert_false(crypto_equal(a, b, sizeof(a)));
	for (size_t bit = 0; bit < 8 * sizeof(a); bit++) {
		memcpy(b, a, sizeof(a));
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(crypto_equal(a, b, sizeof(a)));
	}
	crypto_wipe(a, sizeof(a));
	assert_true(test_is_zero(a, sizeof(a)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_vectors),
		cmocka_unit_test(digest_in_parts),
		cmocka_unit_test(hex_round_trip),
		cmocka_unit_test(base64_vectors),
		cmocka_unit_test(base64_is_canonical),
		cmocka_unit_test(random_equal_wipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
