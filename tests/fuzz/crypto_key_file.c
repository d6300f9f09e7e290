/*
 * Key files: PEM around PKCS#8 and SubjectPublicKeyInfo. Where the fuzzer makes what
 * PEM encloses, or what the passphrase protects, the harness does the rest: with one
 * round of PBKDF2, as scrypt as we write it takes 0.2 s.
 *
 * Input: one byte of mode, then the file or what it encloses.
 */
#include "agent/crypto/key_file.h"
#include "tests/fuzz/fixed_keys.h"

#include <openssl/pem.h>
#include <openssl/pkcs12.h>

enum mode {
	MODE_AS_IT_IS,		/* the file */
	MODE_PUBLIC,		/* what the block encloses */
	MODE_PRIVATE,
	MODE_ENCRYPTED,		/* still encrypted: no passphrase opens it */
	MODE_DECRYPTED,		/* what the passphrase protects */
	MODE_COUNT,
};

static const char *const labels[] = {
	[MODE_PUBLIC] = PEM_STRING_PUBLIC, [MODE_PRIVATE] = PEM_STRING_PKCS8INF,
	[MODE_ENCRYPTED] = PEM_STRING_PKCS8, [MODE_DECRYPTED] = PEM_STRING_PKCS8,
};

static const struct passphrase passphrase = { .text = "fuzz", .length = 4 };
static char path[32];
static int file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	file = fixed_file(path);
	return 0;
}

/* The sealed form of bytes that need not be a key. */
static int encrypt(const uint8_t *data, size_t length, uint8_t **sealed)
{
	static uint8_t salt[16];
	X509_ALGOR *method = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), 1, salt, sizeof(salt),
					       salt, -1);
	X509_SIG *outer = X509_SIG_new();
	X509_ALGOR *algorithm;
	ASN1_OCTET_STRING *octets;
	uint8_t *encrypted = NULL;
	int encrypted_length = 0, sealed_length;

	FUZZ_CHECK(method && outer);
	FUZZ_CHECK(PKCS12_pbe_crypt(method, passphrase.text, (int)passphrase.length, data,
				    (int)length, &encrypted, &encrypted_length, 1));
	X509_SIG_getm(outer, &algorithm, &octets);
	FUZZ_CHECK(X509_ALGOR_set0(algorithm, OBJ_dup(method->algorithm), V_ASN1_SEQUENCE,
				   ASN1_STRING_dup(method->parameter->value.sequence)));
	ASN1_STRING_set0(octets, encrypted, encrypted_length);
	*sealed = NULL;
	sealed_length = i2d_X509_SIG(outer, sealed);
	FUZZ_CHECK(sealed_length > 0);
	X509_SIG_free(outer);
	X509_ALGOR_free(method);
	return sealed_length;
}

static void file_make(enum mode mode, const uint8_t *data, size_t length)
{
	CLEANUP_BIO BIO *bio = NULL;
	uint8_t *sealed = NULL;
	char *text;

	if (mode == MODE_AS_IT_IS) {
		fixed_file_set(file, data, length);
		return;
	}
	if (mode == MODE_DECRYPTED) {
		length = (size_t)encrypt(data, length, &sealed);
		data = sealed;
	}
	bio = BIO_new(BIO_s_mem());
	FUZZ_CHECK(bio && PEM_write_bio(bio, labels[mode], "", data, (long)length) > 0);
	length = (size_t)BIO_get_mem_data(bio, &text);
	fixed_file_set(file, text, length);
	OPENSSL_free(sealed);
}

static void load_public(void)
{
	struct error err = ERROR_INIT;
	struct recovery_public public;
	int ret = recovery_public_load(path, &public, &err);

	if (ret)
		fuzz_refused(ret, &err);
}

/* Without a passphrase nothing encrypted may load. */
static void load_recovery(const struct passphrase *opens)
{
	struct error err = ERROR_INIT;
	struct recovery_private *private;
	struct recovery_public public;
	int ret = recovery_private_load(path, opens, &private, &err);

	if (ret) {
		FUZZ_CHECK(!private);
		fuzz_refused(ret, &err);
		return;
	}
	recovery_private_public(private, &public);
	recovery_private_free(private);
}

static void load_signing(void)
{
	struct error err = ERROR_INIT;
	struct signing_private *private;
	struct signing_public public;
	uint8_t signature[CRYPTO_SIGNATURE_SIZE];
	int ret = signing_load(path, &private, &err);

	if (ret) {
		FUZZ_CHECK(!private);
		fuzz_refused(ret, &err);
		return;
	}
	signing_public(private, &public);
	FUZZ_CHECK(!sign_data(private, "fuzz", "data", 4, signature, &err));
	FUZZ_CHECK(!sign_verify(&public, "fuzz", "data", 4, signature));
	signing_free(private);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	enum mode mode = fuzz_byte(&data, &length) % MODE_COUNT;

	if (!length)	/* OpenSSL writes no empty block */
		return 0;
	file_make(mode, data, length);
	if (mode == MODE_AS_IT_IS || mode == MODE_PUBLIC)
		load_public();
	if (mode != MODE_PUBLIC)
		load_recovery(mode == MODE_DECRYPTED ? &passphrase : NULL);
	if (mode == MODE_AS_IT_IS || mode == MODE_PRIVATE)
		load_signing();
	return 0;
}
