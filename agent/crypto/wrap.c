/*
 * A point's keys, sealed to one recipient: ECIES of X25519, HKDF-SHA256 and
 * AES-256-GCM. The private half of the one-use key is never kept, so the host
 * that wrapped cannot unwrap.
 */
#include "agent/crypto/recovery.h"

#include <errno.h>
#include <string.h>

#define WRAP_LABEL "clawback wrap v1"
#define WRAP_LABEL_SIZE (sizeof(WRAP_LABEL) - 1)

struct wrap {
	uint8_t once[CRYPTO_KEY_SIZE];
	uint8_t sealed[sizeof(struct point_keys) + CRYPTO_TAG_SIZE];
};

_Static_assert(sizeof(struct wrap) == CRYPTO_WRAP_SIZE, "wrap is packed");
_Static_assert(sizeof(struct point_keys) == 2 * CRYPTO_KEY_SIZE, "keys are packed");

/*
 * The cipher that both sides arrive at. `own` is the half at hand, `peer` the
 * other's public key. NULL when there is none; `ret` then says why.
 */
static EVP_CIPHER_CTX *wrap_cipher(EVP_PKEY *own, const uint8_t *peer,
				   const uint8_t *once, const uint8_t *recipient,
				   const void *context, size_t context_length,
				   bool seals, int *ret)
{
	uint8_t shared[CRYPTO_KEY_SIZE], key[CRYPTO_KEY_SIZE];
	uint8_t salt[2 * CRYPTO_KEY_SIZE];
	uint8_t info[WRAP_LABEL_SIZE + CRYPTO_WRAP_CONTEXT_LIMIT];
	EVP_CIPHER_CTX *cipher = NULL;

	memcpy(salt, once, CRYPTO_KEY_SIZE);
	memcpy(salt + CRYPTO_KEY_SIZE, recipient, CRYPTO_KEY_SIZE);
	memcpy(info, WRAP_LABEL, WRAP_LABEL_SIZE);
	if (context_length)
		memcpy(info + WRAP_LABEL_SIZE, context, context_length);
	*ret = x25519_shared(own, peer, shared);
	if (!*ret)
		*ret = hkdf_sha256(shared, sizeof(shared), salt, sizeof(salt), info,
				   WRAP_LABEL_SIZE + context_length, key,
				   sizeof(key));
	if (!*ret) {
		cipher = gcm_new(key, seals);
		*ret = cipher ? 0 : -ENOMEM;
	}
	crypto_wipe(shared, sizeof(shared));
	crypto_wipe(key, sizeof(key));
	return cipher;
}

/* The key seals this one message, so its nonce needs no counter. */
static const uint8_t wrap_nonce[GCM_NONCE_SIZE];

int keys_wrap(const struct recovery_public *recipient,
	      const struct point_keys *keys, const void *context,
	      size_t context_length, uint8_t out[static CRYPTO_WRAP_SIZE],
	      struct error *err)
{
	CLEANUP_PKEY EVP_PKEY *once = NULL;
	CLEANUP_CIPHER_CONTEXT EVP_CIPHER_CTX *cipher = NULL;
	struct wrap wrap;
	size_t length = sizeof(wrap.once);
	int ret;

	if (context_length > CRYPTO_WRAP_CONTEXT_LIMIT)
		return error_set(err, -EINVAL, "cannot wrap keys: context of %zu "
				 "bytes is too long", context_length);
	once = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	if (!once || EVP_PKEY_get_raw_public_key(once, wrap.once, &length) != 1)
		return openssl_error(err, "make a one-use key");
	cipher = wrap_cipher(once, recipient->key, wrap.once, recipient->key,
			     context, context_length, true, &ret);
	if (cipher)
		ret = gcm_seal(cipher, wrap_nonce, NULL, 0,
			       (const uint8_t *)keys, sizeof(*keys), wrap.sealed);
	if (ret) {
		char fingerprint[CRYPTO_FINGERPRINT_TEXT];

		fingerprint_of(recipient->key, fingerprint);
		return error_set(err, ret, "cannot wrap keys to the recovery key "
				 "%s: %s", fingerprint, ret == -EINVAL ?
				 "it is no valid X25519 public key" : error_text(ret));
	}
	memcpy(out, &wrap, sizeof(wrap));
	return openssl_forget(0);
}

int keys_unwrap(const struct recovery_private *private,
		const uint8_t wrap[static CRYPTO_WRAP_SIZE], const void *context,
		size_t context_length, struct point_keys *keys,
		struct error *err)
{
	CLEANUP_CIPHER_CONTEXT EVP_CIPHER_CTX *cipher = NULL;
	struct wrap in;
	int ret = -EBADMSG;

	memcpy(&in, wrap, sizeof(in));
	if (context_length <= CRYPTO_WRAP_CONTEXT_LIMIT)
		cipher = wrap_cipher(private->key, in.once, in.once,
				     private->public.key, context, context_length,
				     false, &ret);
	if (cipher)
		ret = gcm_unseal(cipher, wrap_nonce, NULL, 0, in.sealed,
				 sizeof(in.sealed), (uint8_t *)keys);
	if (!ret)
		return openssl_forget(0);
	crypto_wipe(keys, sizeof(*keys));
	if (ret == -ENOMEM || ret == -EIO)
		return error_set(err, ret, "cannot open the sealed keys: %s",
				 error_text(ret));
	return error_set_exit(err, EXIT_WRONG_KEY, -EKEYREJECTED,
			      "this recovery key does not open the sealed keys: they "
			      "are for another recipient or another point, or damaged");
}
