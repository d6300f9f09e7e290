/*
 * For this room only: scope clean-up of OpenSSL's objects, and the few
 * primitives that more than one file here composes. They work on plain bytes so
 * that the tests can hold them against published vectors.
 *
 * Every function leaves OpenSSL's per-thread error queue empty: a stale entry
 * would be blamed on whoever looks next, libcurl for instance.
 */
#ifndef CLAWBACK_CRYPTO_OPENSSL_H
#define CLAWBACK_CRYPTO_OPENSSL_H

#include "agent/base/cleanup.h"
#include "agent/base/error.h"
#include "agent/crypto/crypto.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#define OPENSSL_CLEANUP(name, type, release)			\
	static inline void cleanup_##name(type **object)	\
	{							\
		release(*object);				\
	}

OPENSSL_CLEANUP(pkey, EVP_PKEY, EVP_PKEY_free)
OPENSSL_CLEANUP(pkey_context, EVP_PKEY_CTX, EVP_PKEY_CTX_free)
OPENSSL_CLEANUP(cipher_context, EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)
OPENSSL_CLEANUP(digest_context, EVP_MD_CTX, EVP_MD_CTX_free)
OPENSSL_CLEANUP(bio, BIO, BIO_free_all)
OPENSSL_CLEANUP(pkcs8, PKCS8_PRIV_KEY_INFO, PKCS8_PRIV_KEY_INFO_free)
OPENSSL_CLEANUP(pkcs8_sealed, X509_SIG, X509_SIG_free)

#define CLEANUP_PKEY CLEANUP(cleanup_pkey)
#define CLEANUP_PKEY_CONTEXT CLEANUP(cleanup_pkey_context)
#define CLEANUP_CIPHER_CONTEXT CLEANUP(cleanup_cipher_context)
#define CLEANUP_DIGEST_CONTEXT CLEANUP(cleanup_digest_context)
#define CLEANUP_BIO CLEANUP(cleanup_bio)
#define CLEANUP_PKCS8 CLEANUP(cleanup_pkcs8)
#define CLEANUP_PKCS8_SEALED CLEANUP(cleanup_pkcs8_sealed)

#define GCM_NONCE_SIZE 12

/*
 * Records that OpenSSL could not do `what`, with its own reason (never its error
 * data, which may quote input). Returns -EIO.
 */
int openssl_error(struct error *err, const char *what);

/*
 * What it means that OpenSSL said no since errno was set to 0: `code`, or -ENOMEM,
 * which must not be taken for a forgery or a wrong key. Empties the queue.
 */
int openssl_verdict(int code);

/* Empties the error queue; returns `ret`, so that it can end a function. */
int openssl_forget(int ret);

/*
 * A context for AES-256-GCM under `key` in one direction. The key schedule is
 * made here, once; the functions below only set a nonce. NULL: out of memory.
 */
EVP_CIPHER_CTX *gcm_new(const uint8_t key[static CRYPTO_KEY_SIZE], bool seals);

/* -EINVAL for a length that is too large, else as seal() and unseal(). */
int gcm_seal(EVP_CIPHER_CTX *context, const uint8_t nonce[static GCM_NONCE_SIZE],
	     const void *aad, size_t aad_length, const uint8_t *plain,
	     size_t length, uint8_t *out);
int gcm_unseal(EVP_CIPHER_CTX *context, const uint8_t nonce[static GCM_NONCE_SIZE],
	       const void *aad, size_t aad_length, const uint8_t *sealed,
	       size_t sealed_length, uint8_t *out);

/* digest_of and key_fingerprint for those who can report -ENOMEM. */
int sha256_of(const void *data, size_t length,
	      uint8_t out[static CRYPTO_DIGEST_SIZE]);
int fingerprint_of(const uint8_t key[static CRYPTO_KEY_SIZE],
		   char text[static CRYPTO_FINGERPRINT_TEXT]);

/* HKDF-SHA256, extract and expand. -EINVAL for lengths it cannot do, or -EIO. */
int hkdf_sha256(const void *key, size_t key_length, const void *salt,
		size_t salt_length, const void *info, size_t info_length,
		void *out, size_t out_length);

/* -EINVAL when the shared secret is all zero: a public key of small order. */
int x25519_shared(EVP_PKEY *private, const uint8_t public[static CRYPTO_KEY_SIZE],
		  uint8_t shared[static CRYPTO_KEY_SIZE]);

#endif
