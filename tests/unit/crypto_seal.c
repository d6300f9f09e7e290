/* AES-256-GCM, HKDF and X25519 against published vectors; sealing's promises. */
#include "tests/unit/crypto_test.h"

#include "agent/crypto/openssl.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <pthread.h>

static void gcm_vectors(void **state)
{
	/* Key, IV, plaintext, AAD, ciphertext and tag: two of NIST's CAVP
	 * gcmEncryptExtIV256, and case 16 of the GCM submission. */
	static const char *const vectors[][5] = {
		{ "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
		  "516c33929df5a3284ff463d7", "", "",
		  "bdc1ac884d332457a1d2664f168c76f0" },
		{ "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
		  "0d18e06c7c725ac9e362e1ce", "2db5168e932556f8089a0622981d017d", "",
		  "fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489" },
		{ "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		  "cafebabefacedbaddecaf888",
		  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		  "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		  "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		  "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
		  "76fc6ece0f4e1768cddf8853bb2d551b" },
	};
	uint8_t key[32], nonce[12], plain[64], aad[32], sealed[96], out[96];

	(void)state;
	for (size_t v = 0; v < 3; v++) {
		size_t length, aad_length, sealed_length;
		EVP_CIPHER_CTX *seals, *unseals;

		test_hex(vectors[v][0], key);
		test_hex(vectors[v][1], nonce);
		length = test_hex(vectors[v][2], plain);
		aad_length = test_hex(vectors[v][3], aad);
		sealed_length = test_hex(vectors[v][4], sealed);
		seals = gcm_new(key, true);
		unseals = gcm_new(key, false);
		for (int again = 0; again < 2; again++) {
			assert_int_equal(gcm_seal(seals, nonce, aad, aad_length, plain,
						  length, out), 0);
			assert_memory_equal(out, sealed, sealed_length);
			assert_int_equal(gcm_unseal(unseals, nonce, aad, aad_length,
						    sealed, sealed_length, out), 0);
			assert_memory_equal(out, plain, length);
		}
		EVP_CIPHER_CTX_free(seals);
		EVP_CIPHER_CTX_free(unseals);
	}
}

/* Against OpenSSL's own GMAC, and that every bit counts. */
static void tags(void **state)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "GMAC", NULL);
	uint8_t key[CRYPTO_KEY_SIZE], nonce[12] = { 0 }, data[4096], out[16];
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string("cipher", (char *)"AES-256-GCM", 0),
		OSSL_PARAM_construct_octet_string("iv", nonce, sizeof(nonce)),
		OSSL_PARAM_construct_end(),
	};
	struct tagger *tagger;
	uint64_t tag, changed;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	memset(key, 0x3c, sizeof(key));
	tagger = tagger_new(key);
	assert_non_null(tagger);
	for (size_t length = 0; length <= sizeof(data); length = length * 2 + 1) {
		EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
		size_t n;

		assert_int_equal(EVP_MAC_init(context, key, sizeof(key), params), 1);
		assert_int_equal(EVP_MAC_update(context, data, length), 1);
		assert_int_equal(EVP_MAC_final(context, out, &n, sizeof(out)), 1);
		EVP_MAC_CTX_free(context);
		assert_int_equal(tagger_tag(tagger, data, length, &tag), 0);
		for (int i = 0; i < 8; i++)
			assert_int_equal((uint8_t)(tag >> 8 * i), out[i]);
	}
	assert_int_equal(tagger_tag(tagger, data, sizeof(data), &tag), 0);
	for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(tagger_tag(tagger, data, sizeof(data), &changed), 0);
		assert_true(tag != changed);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(tagger_tag(tagger, data, (1 << 20) + 1, &tag), -EINVAL);
	tagger_free(tagger);
	EVP_MAC_free(mac);
}

static void hkdf_vectors(void **state)
{
	/* RFC 5869, A.1 to A.3. */
	static const char out1[] = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56"
				   "ecc4c5bf34007208d5b887185865";
	static const char out2[] =
		"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99"
		"cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87"
		"c14c01d5c1f3434f1d87";
	static const char out3[] = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f"
				   "3c738d2d9d201395faa4b61a96c8";
	uint8_t bytes[256], same[22], expected[82], out[82];
	uint8_t big[2000];

	(void)state;
	for (int i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	memset(same, 0x0b, sizeof(same));
	assert_int_equal(hkdf_sha256(same, 22, bytes, 13, bytes + 0xf0, 10, out, 42), 0);
	test_hex(out1, expected);
	assert_memory_equal(out, expected, 42);
	assert_int_equal(hkdf_sha256(bytes, 80, bytes + 0x60, 80, bytes + 0xb0, 80, out,
				     82), 0);
	test_hex(out2, expected);
	assert_memory_equal(out, expected, 82);
	assert_int_equal(hkdf_sha256(same, 22, NULL, 0, NULL, 0, out, 42), 0);
	test_hex(out3, expected);
	assert_memory_equal(out, expected, 42);

	/* Made with another implementation (Python's cryptography). */
	assert_int_equal(key_derive(bytes, "salt", 4, "clawback purpose v1", out), 0);
	test_hex("84bbb56959324684692faa864c1af481e12c39c4d62918af38dc4f9a2c6cfe11",
		 expected);
	assert_memory_equal(out, expected, 32);
	assert_int_equal(key_derive(bytes, NULL, 0, "", out), 0);

	/* Whatever cannot be derived leaves no half of a key. */
	memset(big, 'x', sizeof(big));
	assert_int_equal(key_derive(bytes, big, sizeof(big), "", out), -EINVAL);
	assert_true(test_is_zero(out, 32));
	big[sizeof(big) - 1] = 0;
	assert_int_equal(key_derive(bytes, NULL, 0, (char *)big, out), -EINVAL);
	assert_int_equal(hkdf_sha256(bytes, 0, NULL, 0, NULL, 0, out, 0), -EIO);
	assert_int_equal(ERR_peek_error(), 0);
}

static EVP_PKEY *x25519_of(const char *hex)
{
	uint8_t key[32];

	test_hex(hex, key);
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key, sizeof(key));
}

static void x25519_vectors(void **state)
{
	/* RFC 7748, 5.2 (first) and 6.1 (Bob's side). */
	static const char *const vectors[][3] = {
		{ "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
		  "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
		  "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552" },
		{ "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
		  "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
		  "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742" },
	};
	/* Points of small order: 0, 1, one of order 8, p - 1, p, p + 1. */
	static const char *const small[] = {
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	};
	uint8_t public[32], shared[32], expected[32];

	(void)state;
	for (size_t v = 0; v < 2; v++) {
		CLEANUP_PKEY EVP_PKEY *key = x25519_of(vectors[v][0]);

		test_hex(vectors[v][1], public);
		test_hex(vectors[v][2], expected);
		assert_int_equal(x25519_shared(key, public, shared), 0);
		assert_memory_equal(shared, expected, 32);
	}
	for (size_t v = 0; v < sizeof(small) / sizeof(small[0]); v++) {
		CLEANUP_PKEY EVP_PKEY *key = x25519_of(vectors[1][0]);

		test_hex(small[v], public);
		memset(shared, 1, sizeof(shared));
		assert_int_equal(x25519_shared(key, public, shared), -EINVAL);
		assert_true(test_is_zero(shared, sizeof(shared)));
		assert_int_equal(ERR_peek_error(), 0);
	}
}

static struct sealer *sealer_counting(void)
{
	uint8_t key[32];
	struct sealer *sealer;

	for (int i = 0; i < 32; i++)
		key[i] = (uint8_t)i;
	sealer = sealer_new(key);
	assert_non_null(sealer);
	return sealer;
}

/* The nonce's layout, against another implementation (Python's cryptography). */
static void seal_golden(void **state)
{
	struct sealer *sealer = sealer_counting();
	uint8_t out[32], expected[32];
	size_t length = test_hex("267764e6633d4549d14fc47f9e95feb9d1eeb14c618131", expected);

	(void)state;
	assert_int_equal(length, 7 + CRYPTO_TAG_SIZE);
	assert_int_equal(seal(sealer, SEAL_MAP, 0x0102030405060708, "name", 4,
			      (const uint8_t *)"the map", 7, out), 0);
	assert_memory_equal(out, expected, length);
	sealer_free(sealer);
	sealer_free(NULL);
}

static void seal_round_trips(void **state)
{
	static uint8_t plain[70000], sealed[70016], back[70016];
	struct sealer *sealer = sealer_counting();

	(void)state;
	test_seed();
	for (int round = 0; round < 300; round++) {
		size_t length = round < 40 ? (size_t)round : test_random() % sizeof(plain);
		size_t aad_length = test_random() % 100;
		enum seal_domain domain = test_random() % 2 ? SEAL_FRAME : SEAL_MAP;
		uint64_t counter = test_random();
		uint8_t aad[100];

		test_random_bytes(plain, length);
		test_random_bytes(aad, aad_length);
		assert_int_equal(seal(sealer, domain, counter, aad, aad_length, plain,
				      length, sealed), 0);
		if (length > 16)
			assert_memory_not_equal(sealed, plain, length);
		assert_int_equal(unseal(sealer, domain, counter, aad, aad_length, sealed,
					length + CRYPTO_TAG_SIZE, back), 0);
		assert_memory_equal(back, plain, length);
		/* In place gives the same. */
		memcpy(back, plain, length);
		assert_int_equal(seal(sealer, domain, counter, aad, aad_length, back,
				      length, back), 0);
		assert_memory_equal(back, sealed, length + CRYPTO_TAG_SIZE);
		assert_int_equal(unseal(sealer, domain, counter, aad, aad_length, back,
					length + CRYPTO_TAG_SIZE, back), 0);
		assert_memory_equal(back, plain, length);
	}
	assert_int_equal(seal(sealer, SEAL_MAP, 1, NULL, 0, NULL, 0, sealed), 0);
	assert_int_equal(unseal(sealer, SEAL_MAP, 1, NULL, 0, sealed, 16, NULL), 0);
	sealer_free(sealer);
}

struct sealed_case {
	struct sealer *sealer;
	uint8_t domain, counter[8], aad[13], sealed[53 + CRYPTO_TAG_SIZE];
};

static int sealed_open(const struct sealed_case *c, size_t aad_length,
		       size_t sealed_length)
{
	uint8_t out[sizeof(c->sealed)];
	uint64_t counter;
	int ret;

	memcpy(&counter, c->counter, sizeof(counter));
	memset(out, 0xaa, sizeof(out));
	ret = unseal(c->sealer, (enum seal_domain)c->domain, counter, c->aad, aad_length,
		     c->sealed, sealed_length, out);
	/* Nothing of the plaintext is given out, and nothing behind it touched. */
	if (ret && sealed_length >= CRYPTO_TAG_SIZE)
		assert_true(test_is_zero(out, sealed_length - CRYPTO_TAG_SIZE));
	assert_int_equal(out[sizeof(out) - 1], 0xaa);
	assert_int_equal(ERR_peek_error(), 0);
	return ret;
}

/* Every single bit, of all that goes in, counts. */
static void unseal_refuses_any_flip(void **state)
{
	struct sealed_case c = { .sealer = sealer_counting(), .domain = SEAL_FRAME };
	struct { uint8_t *at; size_t length; } parts[] = {
		{ &c.domain, 1 }, { c.counter, 8 }, { c.aad, sizeof(c.aad) },
		{ c.sealed, sizeof(c.sealed) },
	};
	uint64_t counter = test_random();
	uint8_t plain[53];

	(void)state;
	test_random_bytes(plain, sizeof(plain));
	test_random_bytes(c.aad, sizeof(c.aad));
	memcpy(c.counter, &counter, sizeof(counter));
	assert_int_equal(seal(c.sealer, SEAL_FRAME, counter, c.aad, sizeof(c.aad), plain,
			      sizeof(plain), c.sealed), 0);
	assert_int_equal(sealed_open(&c, sizeof(c.aad), sizeof(c.sealed)), 0);
	for (size_t p = 0; p < 4; p++) {
		for (size_t bit = 0; bit < 8 * parts[p].length; bit++) {
			uint8_t mask = (uint8_t)(1 << bit % 8);

			parts[p].at[bit / 8] ^= mask;
			assert_int_equal(sealed_open(&c, sizeof(c.aad),
						     sizeof(c.sealed)), -EBADMSG);
			parts[p].at[bit / 8] ^= mask;
		}
	}
	for (size_t length = 0; length < sizeof(c.sealed); length++)
		assert_int_equal(sealed_open(&c, sizeof(c.aad), length), -EBADMSG);
	for (size_t length = 0; length < sizeof(c.aad); length++)
		assert_int_equal(sealed_open(&c, length, sizeof(c.sealed)), -EBADMSG);
	/* The refusals left the sealer usable. */
	assert_int_equal(sealed_open(&c, sizeof(c.aad), sizeof(c.sealed)), 0);
	sealer_free(c.sealer);
}

static void unseal_in_place_wipes(void **state)
{
	struct sealer *sealer = sealer_counting();
	uint8_t buffer[1000 + CRYPTO_TAG_SIZE];

	(void)state;
	test_random_bytes(buffer, 1000);
	assert_int_equal(seal(sealer, SEAL_FRAME, 3, NULL, 0, buffer, 1000, buffer), 0);
	buffer[500] ^= 1;
	assert_int_equal(unseal(sealer, SEAL_FRAME, 3, NULL, 0, buffer, sizeof(buffer),
				buffer), -EBADMSG);
	assert_true(test_is_zero(buffer, 1000));
	sealer_free(sealer);
}

static void seal_other_key_and_limits(void **state)
{
	struct sealer *sealer = sealer_counting(), *other;
	uint8_t key[32] = { 0 }, buffer[100 + CRYPTO_TAG_SIZE], out[100];

	(void)state;
	other = sealer_new(key);
	test_random_bytes(buffer, 100);
	assert_int_equal(seal(sealer, SEAL_FRAME, 0, NULL, 0, buffer, 100, buffer), 0);
	assert_int_equal(unseal(other, SEAL_FRAME, 0, NULL, 0, buffer, sizeof(buffer),
				out), -EBADMSG);
	/* The length is refused before a byte is read. */
	assert_int_equal(seal(sealer, SEAL_FRAME, 0, NULL, 0, buffer, (size_t)1 << 31,
			      buffer), -EINVAL);
	assert_int_equal(seal(sealer, SEAL_FRAME, 0, buffer, (size_t)1 << 31, buffer, 1,
			      buffer), -EINVAL);
	assert_int_equal(unseal(sealer, SEAL_FRAME, 0, buffer, (size_t)1 << 31, buffer,
				sizeof(buffer), out), -EINVAL);
	assert_int_equal(ERR_peek_error(), 0);
	sealer_free(sealer);
	sealer_free(other);
}

static void *seal_thread(void *result)
{
	struct sealer *sealer = sealer_counting();
	static uint8_t plain[65536];
	uint8_t *sealed = malloc(sizeof(plain) + CRYPTO_TAG_SIZE);

	for (uint64_t i = 0; i < 50; i++)
		if (seal(sealer, SEAL_FRAME, i, NULL, 0, plain, sizeof(plain), sealed) ||
		    unseal(sealer, SEAL_FRAME, i, NULL, 0, sealed,
			   sizeof(plain) + CRYPTO_TAG_SIZE, sealed) ||
		    !test_is_zero(sealed, sizeof(plain)))
			*(int *)result = 1;
	free(sealed);
	sealer_free(sealer);
	return NULL;
}

static void sealers_in_threads(void **state)
{
	pthread_t threads[4];
	int results[4] = { 0 };

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, seal_thread,
						&results[i]), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(results[i], 0);
	}
}

/* Printed, not judged: the machine may be busy, or lack the instructions. */
static void seal_speed(void **state)
{
	const size_t length = 1 << 20;
	uint8_t *buffer = calloc(1, length + CRYPTO_TAG_SIZE);
	struct sealer *sealer = sealer_counting();
	struct timespec from, to;
	double seconds;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (uint64_t i = 0; i < 256; i++)
		assert_int_equal(seal(sealer, SEAL_FRAME, i, "aad", 3, buffer, length,
				      buffer), 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	seconds = (double)(to.tv_sec - from.tv_sec) +
		  (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	print_message("sealing 1 MiB messages: %.2f GB/s\n",
		      256.0 * (double)length / seconds / 1e9);
	sealer_free(sealer);
	free(buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gcm_vectors),
		cmocka_unit_test(tags),
		cmocka_unit_test(hkdf_vectors),
		cmocka_unit_test(x25519_vectors),
		cmocka_unit_test(seal_golden),
		cmocka_unit_test(seal_round_trips),
		cmocka_unit_test(unseal_refuses_any_flip),
		cmocka_unit_test(unseal_in_place_wipes),
		cmocka_unit_test(seal_other_key_and_limits),
		cmocka_unit_test(sealers_in_threads),
		cmocka_unit_test(seal_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
