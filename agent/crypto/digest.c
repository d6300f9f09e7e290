/* SHA-256. */
#include "agent/crypto/openssl.h"

#include <errno.h>
#include <stdio.h>

struct digest {
	EVP_MD_CTX *context;
};

/*
 * OpenSSL's SHA-256 fails only without memory. There is no value that could
 * stand for "no digest" without being taken for one, so the process ends.
 */
static void digest_require(int done)
{
	if (done == 1)
		return;
	fputs("clawback: error: OpenSSL cannot compute SHA-256\n", stderr);
	abort();
}

struct digest *digest_new(void)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (!digest)
		return NULL;
	digest->context = EVP_MD_CTX_new();
	if (digest->context &&
	    EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) == 1)
		return digest;
	digest_free(digest);
	openssl_forget(0);
	return NULL;
}

void digest_update(struct digest *digest, const void *data, size_t length)
{
	if (length)
		digest_require(EVP_DigestUpdate(digest->context, data, length));
}

void digest_finish(struct digest *digest, uint8_t out[static CRYPTO_DIGEST_SIZE])
{
	digest_require(EVP_DigestFinal_ex(digest->context, out, NULL));
	digest_free(digest);
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->context);
	free(digest);
}

int sha256_of(const void *data, size_t length,
	      uint8_t out[static CRYPTO_DIGEST_SIZE])
{
	int done = EVP_Digest(data, length, out, NULL, EVP_sha256(), NULL);

	return openssl_forget(done == 1 ? 0 : -ENOMEM);
}

void digest_of(const void *data, size_t length,
	       uint8_t out[static CRYPTO_DIGEST_SIZE])
{
	digest_require(sha256_of(data, length, out) == 0);
}

int fingerprint_of(const uint8_t key[static CRYPTO_KEY_SIZE],
		   char text[static CRYPTO_FINGERPRINT_TEXT])
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	int ret = sha256_of(key, CRYPTO_KEY_SIZE, digest);

	hex_encode(digest, ret ? 0 : sizeof(digest), text);
	return ret;
}

void key_fingerprint(const uint8_t key[static CRYPTO_KEY_SIZE],
		     char text[static CRYPTO_FINGERPRINT_TEXT])
{
	digest_require(fingerprint_of(key, text) == 0);
}
