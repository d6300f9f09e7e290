/* Keyed fingerprints of blocks: GMAC, cut to 64 bits. */
#include "agent/crypto/openssl.h"

#include "agent/base/le.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAGGER_LENGTH_MAX (1u << 20)

struct tagger {
	EVP_CIPHER_CTX *context;
};

struct tagger *tagger_new(const uint8_t key[static CRYPTO_KEY_SIZE])
{
	struct tagger *tagger = calloc(1, sizeof(*tagger));

	if (!tagger)
		return NULL;
	tagger->context = gcm_new(key, true);
	if (tagger->context)
		return tagger;
	free(tagger);
	return NULL;
}

void tagger_free(struct tagger *tagger)
{
	if (!tagger)
		return;
	EVP_CIPHER_CTX_free(tagger->context);
	free(tagger);
}

int tagger_tag(struct tagger *tagger, const void *data, size_t length, uint64_t *tag)
{
	static const uint8_t nonce[GCM_NONCE_SIZE];
	uint8_t whole[CRYPTO_TAG_SIZE];
	struct le64 first;
	int ret;

	if (length > TAGGER_LENGTH_MAX)
		return -EINVAL;
	ret = gcm_seal(tagger->context, nonce, data, length, NULL, 0, whole);
	if (ret)
		return ret;
	memcpy(first.b, whole, sizeof(first.b));
	*tag = get_le64(first);
	return 0;
}
