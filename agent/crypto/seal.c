/*
 * AES-256-GCM for the data path: a frame or a map at a time, megabytes each.
 * The key schedule (and GHASH's tables) are made once per sealer; a message
 * only sets its nonce.
 */
#include "agent/crypto/openssl.h"

#include "agent/base/le.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* Two contexts, as OpenSSL does not promise that one may change direction. */
struct sealer {
	EVP_CIPHER_CTX *seals;
	EVP_CIPHER_CTX *unseals;
};

EVP_CIPHER_CTX *gcm_new(const uint8_t key[static CRYPTO_KEY_SIZE], bool seals)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

	if (context && EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key,
					 NULL, seals) == 1)
		return context;
	EVP_CIPHER_CTX_free(context);
	openssl_forget(0);
	return NULL;
}

/* OpenSSL counts in int. */
static bool gcm_lengths_fit(size_t aad_length, size_t length)
{
	return aad_length <= INT_MAX && length <= INT_MAX - CRYPTO_TAG_SIZE;
}

/* Everything but the tag, in the context's direction. */
static bool gcm_run(EVP_CIPHER_CTX *context, const uint8_t *nonce,
		    const void *aad, size_t aad_length, const uint8_t *in,
		    size_t length, uint8_t *out)
{
	int done;

	if (EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, -1) != 1)
		return false;
	if (aad_length &&
	    EVP_CipherUpdate(context, NULL, &done, aad, (int)aad_length) != 1)
		return false;
	return !length || EVP_CipherUpdate(context, out, &done, in, (int)length) == 1;
}

int gcm_seal(EVP_CIPHER_CTX *context, const uint8_t nonce[static GCM_NONCE_SIZE],
	     const void *aad, size_t aad_length, const uint8_t *plain,
	     size_t length, uint8_t *out)
{
	int done;

	if (!gcm_lengths_fit(aad_length, length))
		return -EINVAL;
	if (gcm_run(context, nonce, aad, aad_length, plain, length, out) &&
	    EVP_CipherFinal_ex(context, out + length, &done) == 1 &&
	    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_SIZE,
				out + length) == 1)
		return 0;
	return openssl_forget(-EIO);
}

int gcm_unseal(EVP_CIPHER_CTX *context, const uint8_t nonce[static GCM_NONCE_SIZE],
	       const void *aad, size_t aad_length, const uint8_t *sealed,
	       size_t sealed_length, uint8_t *out)
{
	uint8_t tag[CRYPTO_TAG_SIZE], nothing[CRYPTO_TAG_SIZE];
	size_t length;
	int done;

	if (sealed_length < CRYPTO_TAG_SIZE)
		return -EBADMSG;
	length = sealed_length - CRYPTO_TAG_SIZE;
	if (!gcm_lengths_fit(aad_length, length))
		return -EINVAL;
	memcpy(tag, sealed + length, sizeof(tag));
	errno = 0;
	if (gcm_run(context, nonce, aad, aad_length, sealed, length, out) &&
	    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, sizeof(tag),
				tag) == 1 &&
	    EVP_CipherFinal_ex(context, nothing, &done) == 1)
		return 0;
	/* GCM deciphers before it knows whether it should have. */
	if (length)
		crypto_wipe(out, length);
	return openssl_verdict(-EBADMSG);
}

struct sealer *sealer_new(const uint8_t key[static CRYPTO_KEY_SIZE])
{
	struct sealer *sealer = calloc(1, sizeof(*sealer));

	if (!sealer)
		return NULL;
	sealer->seals = gcm_new(key, true);
	sealer->unseals = gcm_new(key, false);
	if (sealer->seals && sealer->unseals)
		return sealer;
	sealer_free(sealer);
	return NULL;
}

void sealer_free(struct sealer *sealer)
{
	if (!sealer)
		return;
	/* These wipe the key schedules. */
	EVP_CIPHER_CTX_free(sealer->seals);
	EVP_CIPHER_CTX_free(sealer->unseals);
	free(sealer);
}

static void seal_nonce(enum seal_domain domain, uint64_t counter,
		       uint8_t nonce[static GCM_NONCE_SIZE])
{
	const struct le64 count = le64(counter);

	memset(nonce, 0, 4);
	nonce[0] = (uint8_t)domain;
	memcpy(nonce + 4, count.b, sizeof(count.b));
}

int seal(struct sealer *sealer, enum seal_domain domain, uint64_t counter,
	 const void *aad, size_t aad_length, const uint8_t *plain, size_t length,
	 uint8_t *out)
{
	uint8_t nonce[GCM_NONCE_SIZE];

	seal_nonce(domain, counter, nonce);
	return gcm_seal(sealer->seals, nonce, aad, aad_length, plain, length, out);
}

int unseal(struct sealer *sealer, enum seal_domain domain, uint64_t counter,
	   const void *aad, size_t aad_length, const uint8_t *sealed,
	   size_t sealed_length, uint8_t *out)
{
	uint8_t nonce[GCM_NONCE_SIZE];

	seal_nonce(domain, counter, nonce);
	return gcm_unseal(sealer->unseals, nonce, aad, aad_length, sealed,
			  sealed_length, out);
}
