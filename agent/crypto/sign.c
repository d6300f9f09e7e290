/*
 * The host's Ed25519 key. It must work unattended, so it lies on the host
 * unencrypted: a signature says "this host wrote it", no more.
 */
#include "agent/crypto/key_file.h"

#include <errno.h>
#include <openssl/pem.h>
#include <string.h>

#define SIGN_LABEL_LIMIT 128	/* with its NUL */

static const struct key_kind signing_kind = { "signing key", "ED25519", EVP_PKEY_ED25519 };

struct signing_private {
	EVP_PKEY *key;
	struct signing_public public;
};

/* Takes `key`, also when it fails. */
static int signing_new(EVP_PKEY *key, struct signing_private **private,
		       struct error *err)
{
	struct signing_private *made = calloc(1, sizeof(*made));
	size_t length = CRYPTO_KEY_SIZE;

	if (made) {
		made->key = key;
		if (EVP_PKEY_get_raw_public_key(key, made->public.key, &length) == 1) {
			*private = made;
			return openssl_forget(0);
		}
	}
	EVP_PKEY_free(key);
	free(made);
	return openssl_error(err, "load the signing key");
}

int signing_generate(const char *path, struct signing_private **private,
		     struct error *err)
{
	CLEANUP_PKEY EVP_PKEY *key = NULL;
	CLEANUP_PKCS8 PKCS8_PRIV_KEY_INFO *plain = NULL;
	CLEANUP_BIO BIO *text = BIO_new(BIO_s_mem());

	*private = NULL;
	if (key_file_absent(path, &signing_kind, err))
		return err->code;
	if (key_file_generate(&signing_kind, &key, &plain, err))
		return err->code;
	if (!text || PEM_write_bio_PKCS8_PRIV_KEY_INFO(text, plain) != 1)
		return openssl_error(err, "encode the signing key");
	if (key_file_create(path, &signing_kind, text, 0600, err))
		return err->code;
	return signing_new(STEAL(key), private, err);
}

int signing_load(const char *path, struct signing_private **private,
		 struct error *err)
{
	CLEANUP_KEY_FILE struct key_file file;
	EVP_PKEY *key = NULL;

	*private = NULL;
	if (key_file_read(path, &signing_kind, &file, err) ||
	    key_file_private(&file, NULL, &key, err))
		return err->code;
	return signing_new(key, private, err);
}

void signing_free(struct signing_private *private)
{
	if (!private)
		return;
	EVP_PKEY_free(private->key);
	free(private);
}

void signing_public(const struct signing_private *private,
		    struct signing_public *public)
{
	*public = private->public;
}

/*
 * What Ed25519 signs. The label keeps a signature for one purpose from serving
 * another; the digest, so that a caller may sign what it never held whole.
 * Returns the length, 0 for a label that is too long and without memory.
 */
static size_t sign_message(const char *label, const void *data, size_t length,
			   uint8_t message[static SIGN_LABEL_LIMIT + CRYPTO_DIGEST_SIZE])
{
	size_t label_size = strlen(label) + 1;

	if (label_size > SIGN_LABEL_LIMIT)
		return 0;
	memcpy(message, label, label_size);
	if (sha256_of(data, length, message + label_size))
		return 0;
	return label_size + CRYPTO_DIGEST_SIZE;
}

int sign_data(const struct signing_private *private, const char *label,
	      const void *data, size_t length,
	      uint8_t out[static CRYPTO_SIGNATURE_SIZE], struct error *err)
{
	CLEANUP_DIGEST_CONTEXT EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t message[SIGN_LABEL_LIMIT + CRYPTO_DIGEST_SIZE];
	size_t size = sign_message(label, data, length, message);
	size_t out_size = CRYPTO_SIGNATURE_SIZE;

	if (!size)
		return error_set(err, -EINVAL, "cannot sign: the label is too long, or "
				 "no memory is left");
	if (!context ||
	    EVP_DigestSignInit(context, NULL, NULL, NULL, private->key) != 1 ||
	    EVP_DigestSign(context, out, &out_size, message, size) != 1)
		return openssl_error(err, "sign");
	return openssl_forget(0);
}

int sign_verify(const struct signing_public *public, const char *label,
		const void *data, size_t length,
		const uint8_t signature[static CRYPTO_SIGNATURE_SIZE])
{
	CLEANUP_DIGEST_CONTEXT EVP_MD_CTX *context = EVP_MD_CTX_new();
	CLEANUP_PKEY EVP_PKEY *key = EVP_PKEY_new_raw_public_key(
		EVP_PKEY_ED25519, NULL, public->key, sizeof(public->key));
	uint8_t message[SIGN_LABEL_LIMIT + CRYPTO_DIGEST_SIZE];
	size_t size = sign_message(label, data, length, message);

	/* A label that is too long is a mistake of ours, not of the data. */
	if (!context || !key || !size)
		return openssl_forget(strlen(label) < SIGN_LABEL_LIMIT ? -ENOMEM : -EBADMSG);
	errno = 0;
	if (EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestVerify(context, signature, CRYPTO_SIGNATURE_SIZE, message,
			     size) == 1)
		return openssl_forget(0);
	return openssl_verdict(-EBADMSG);
}
