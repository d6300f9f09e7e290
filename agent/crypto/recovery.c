/*
 * The recovery pair. Its private half opens every point and is needed at a
 * restore only, years later perhaps and with nothing but openssl(1) at hand: so
 * the file is plain PKCS#8, and a line above the PEM block names the key.
 */
#include "agent/crypto/recovery.h"

#include "agent/base/file.h"
#include "agent/crypto/key_file.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <string.h>

static const struct key_kind recovery_kind = { "recovery key", "X25519", EVP_PKEY_X25519 };

/* RFC 7468 readers skip text before the block. */
#define RECOVERY_PREAMBLE "clawback recovery key "

/*
 * 16 MiB and 0.2 s a guess. N = 2^15 with r = 8 would pass the 32 MiB that OpenSSL 3
 * grants scrypt inside PBES2, so that neither we nor `openssl pkey` could read the
 * file again; p makes up for it, as in the table of equal costs of OWASP's Password
 * Storage Cheat Sheet (N = 2^17, p = 1 … N = 2^14, p = 5). More p is more time for
 * every restore, and nothing more for a guesser to hold in memory.
 */
enum { SCRYPT_N = 1 << 14, SCRYPT_R = 8, SCRYPT_P = 5, SCRYPT_SALT_SIZE = 16 };

static X509_SIG *recovery_encrypt(PKCS8_PRIV_KEY_INFO *plain,
				  const struct passphrase *passphrase)
{
	/* NULL: random salt, random initialisation vector. */
	X509_ALGOR *method = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), NULL,
						   SCRYPT_SALT_SIZE, NULL, SCRYPT_N,
						   SCRYPT_R, SCRYPT_P);
	X509_SIG *sealed = NULL;

	if (method)
		sealed = PKCS8_set0_pbe(passphrase->text, (int)passphrase->length,
					plain, method);
	if (!sealed)
		X509_ALGOR_free(method);
	return sealed;
}

static bool recovery_public_raw(EVP_PKEY *key, struct recovery_public *public)
{
	size_t length = sizeof(public->key);

	return EVP_PKEY_get_raw_public_key(key, public->key, &length) == 1 &&
	       length == sizeof(public->key);
}

/* Both files' content. */
static int recovery_encode(EVP_PKEY *key, X509_SIG *sealed,
			   struct recovery_public *public, BIO *private_text,
			   BIO *public_text, struct error *err)
{
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];

	if (!sealed || !private_text || !public_text)
		return openssl_error(err, "encrypt the recovery key");
	if (!recovery_public_raw(key, public) ||
	    fingerprint_of(public->key, fingerprint) ||
	    BIO_printf(private_text, RECOVERY_PREAMBLE "%s\n", fingerprint) <= 0 ||
	    PEM_write_bio_PKCS8(private_text, sealed) != 1 ||
	    PEM_write_bio_PUBKEY(public_text, key) != 1)
		return openssl_error(err, "encode the recovery key");
	return 0;
}

int recovery_generate(const char *private_path, const char *public_path,
		      const struct passphrase *passphrase,
		      struct recovery_public *public, struct error *err)
{
	CLEANUP_BIO BIO *private_text = BIO_new(BIO_s_mem());
	CLEANUP_BIO BIO *public_text = BIO_new(BIO_s_mem());
	CLEANUP_PKCS8_SEALED X509_SIG *sealed = NULL;
	CLEANUP_PKCS8 PKCS8_PRIV_KEY_INFO *plain = NULL;
	CLEANUP_PKEY EVP_PKEY *key = NULL;
	int ret;

	if (!passphrase->length)
		return error_set(err, -EINVAL, "cannot make a recovery key: its "
				 "passphrase is empty");
	if (key_file_absent(private_path, &recovery_kind, err) ||
	    key_file_absent(public_path, &recovery_kind, err))
		return err->code;
	if (key_file_generate(&recovery_kind, &key, &plain, err))
		return err->code;
	sealed = recovery_encrypt(plain, passphrase);
	if (recovery_encode(key, sealed, public, private_text, public_text, err))
		return err->code;
	/* The private half first: a public key that nobody can open with is a trap. */
	ret = key_file_create(private_path, &recovery_kind, private_text, 0600, err);
	if (ret)
		return openssl_forget(ret);
	ret = key_file_create(public_path, &recovery_kind, public_text, 0644, err);
	if (!ret)
		return openssl_forget(0);
	/* Ours, but for -EEXIST: then another process was faster with its own. */
	if (ret != -EEXIST)
		file_remove(public_path);
	file_remove(private_path);
	return openssl_forget(ret);
}

int recovery_public_load(const char *path, struct recovery_public *public,
			 struct error *err)
{
	CLEANUP_KEY_FILE struct key_file file;
	CLEANUP_PKEY EVP_PKEY *key = NULL;

	if (key_file_read(path, &recovery_kind, &file, err) ||
	    key_file_public(&file, &key, err))
		return err->code;
	if (!recovery_public_raw(key, public))
		return openssl_error(err, "read the recovery public key");
	return openssl_forget(0);
}

/*
 * CBC does not authenticate: a flipped bit may load as another key. Where the
 * file says which key it is, that shows here and not as points nobody can open.
 */
static int recovery_check_preamble(const struct key_file *file,
				   const struct recovery_public *public,
				   struct error *err)
{
	const size_t skip = strlen(RECOVERY_PREAMBLE);
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];

	if (strncmp(file->text, RECOVERY_PREAMBLE, skip))
		return 0;
	if (fingerprint_of(public->key, fingerprint))
		return openssl_error(err, "name the recovery key");
	if (!strncmp(file->text + skip, fingerprint, sizeof(fingerprint) - 1))
		return 0;
	return error_set_exit(err, EXIT_WRONG_KEY, -EKEYREJECTED,
			      "the recovery key %s is damaged: it is not the key that "
			      "its first line names; use another copy of it",
			      file->path);
}

int recovery_private_load(const char *path, const struct passphrase *passphrase,
			  struct recovery_private **private, struct error *err)
{
	CLEANUP_KEY_FILE struct key_file file;
	CLEANUP_PKEY EVP_PKEY *key = NULL;
	struct recovery_public public;

	*private = NULL;
	if (key_file_read(path, &recovery_kind, &file, err) ||
	    key_file_private(&file, passphrase, &key, err))
		return err->code;
	if (!recovery_public_raw(key, &public))
		return openssl_error(err, "read the recovery key");
	if (recovery_check_preamble(&file, &public, err))
		return err->code;
	*private = calloc(1, sizeof(**private));
	if (!*private)
		return error_set(err, -ENOMEM, "cannot load the recovery key %s: %s",
				 path, error_text(-ENOMEM));
	(*private)->key = STEAL(key);
	(*private)->public = public;
	return openssl_forget(0);
}

int recovery_private_get(const struct recovery_private *private,
			 uint8_t key[static CRYPTO_KEY_SIZE], struct error *err)
{
	size_t length = CRYPTO_KEY_SIZE;

	if (EVP_PKEY_get_raw_private_key(private->key, key, &length) != 1 ||
	    length != CRYPTO_KEY_SIZE)
		return openssl_error(err, "hand on the recovery key");
	return 0;
}

int recovery_private_set(const uint8_t key[static CRYPTO_KEY_SIZE],
			 struct recovery_private **private, struct error *err)
{
	CLEANUP_PKEY EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key,
								   CRYPTO_KEY_SIZE);
	struct recovery_public public;

	*private = NULL;
	if (!pkey || !recovery_public_raw(pkey, &public))
		return openssl_error(err, "take over the recovery key");
	*private = calloc(1, sizeof(**private));
	if (!*private)
		return error_set(err, -ENOMEM, "cannot take over the recovery key: %s",
				 error_text(-ENOMEM));
	(*private)->key = STEAL(pkey);
	(*private)->public = public;
	return 0;
}

void recovery_private_free(struct recovery_private *private)
{
	if (!private)
		return;
	EVP_PKEY_free(private->key);
	free(private);
}

void recovery_private_public(const struct recovery_private *private,
			     struct recovery_public *public)
{
	*public = private->public;
}
