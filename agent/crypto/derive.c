/* HKDF-SHA256 (RFC 5869) and X25519 (RFC 7748). */
#include "agent/crypto/openssl.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

/* Far above what any caller sends, below OpenSSL's own bounds. */
#define HKDF_INPUT_LIMIT 1024

int hkdf_sha256(const void *key, size_t key_length, const void *salt,
		size_t salt_length, const void *info, size_t info_length,
		void *out, size_t out_length)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_HKDF, NULL);
	EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	char digest[] = "SHA256";
	OSSL_PARAM params[5], *p = params;
	int ret = -EINVAL;

	if (salt_length > HKDF_INPUT_LIMIT || info_length > HKDF_INPUT_LIMIT)
		goto out;
	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key,
						 key_length);
	if (salt_length)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT,
							 (void *)salt, salt_length);
	if (info_length)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO,
							 (void *)info, info_length);
	*p = OSSL_PARAM_construct_end();
	ret = -EIO;
	if (context && EVP_KDF_derive(context, out, out_length, params) == 1)
		ret = 0;
out:
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
	if (ret)
		crypto_wipe(out, out_length);
	return openssl_forget(ret);
}

int key_derive(const uint8_t key[static CRYPTO_KEY_SIZE], const void *salt,
	       size_t salt_length, const char *info,
	       uint8_t out[static CRYPTO_KEY_SIZE])
{
	return hkdf_sha256(key, CRYPTO_KEY_SIZE, salt, salt_length, info,
			   strlen(info), out, CRYPTO_KEY_SIZE);
}

int x25519_shared(EVP_PKEY *private, const uint8_t public[static CRYPTO_KEY_SIZE],
		  uint8_t shared[static CRYPTO_KEY_SIZE])
{
	static const uint8_t zero[CRYPTO_KEY_SIZE];
	CLEANUP_PKEY EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(
		EVP_PKEY_X25519, NULL, public, CRYPTO_KEY_SIZE);
	CLEANUP_PKEY_CONTEXT EVP_PKEY_CTX *context =
		EVP_PKEY_CTX_new_from_pkey(NULL, private, NULL);
	size_t length = CRYPTO_KEY_SIZE;

	/* OpenSSL refuses the zero secret too (RFC 7748, 6.1); not relied upon. */
	if (peer && context && EVP_PKEY_derive_init(context) == 1 &&
	    EVP_PKEY_derive_set_peer(context, peer) == 1 &&
	    EVP_PKEY_derive(context, shared, &length) == 1 &&
	    length == CRYPTO_KEY_SIZE && !crypto_equal(shared, zero, sizeof(zero)))
		return 0;
	crypto_wipe(shared, CRYPTO_KEY_SIZE);
	return openssl_forget(-EINVAL);
}
