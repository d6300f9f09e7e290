/*
 * For this room only: key files, that is one PEM block (RFC 7468) in a regular
 * file. Nothing here ever asks for a passphrase by itself.
 *
 * Keys and passphrases are wiped from the memory that was used, with one exception:
 * OpenSSL's base64 buffer, where the last line of an unencrypted key file may stay
 * behind in freed memory.
 */
#ifndef CLAWBACK_CRYPTO_KEY_FILE_H
#define CLAWBACK_CRYPTO_KEY_FILE_H

#include "agent/crypto/openssl.h"

#include <sys/types.h>

/* What a file should hold: "recovery key", "X25519", EVP_PKEY_X25519. */
struct key_kind {
	const char *what;
	const char *algorithm;
	int nid;
};

struct key_file {
	const char *path;	/* the caller's */
	const struct key_kind *kind;
	mode_t mode;
	char *text;		/* the whole file, NUL-terminated */
	size_t text_length;
	char *label;		/* of the PEM block */
	uint8_t *data;		/* what it encloses */
	size_t data_length;
};

/* Fills *file; key_file_fini wipes it, after a failure too. */
int key_file_read(const char *path, const struct key_kind *kind,
		  struct key_file *file, struct error *err);
void key_file_fini(struct key_file *file);
#define CLEANUP_KEY_FILE CLEANUP(key_file_fini)

/*
 * PKCS#8, encrypted or not. An encrypted one needs `passphrase` (-ENOKEY when
 * that is NULL); a plain one must be the owner's alone to read (-EPERM).
 * A wrong passphrase and a key of another kind are EXIT_WRONG_KEY.
 */
int key_file_private(const struct key_file *file,
		     const struct passphrase *passphrase, EVP_PKEY **key,
		     struct error *err);

/* A new pair, and its private half for writing. The caller frees both, also after
 * a failure. */
int key_file_generate(const struct key_kind *kind, EVP_PKEY **key,
		      PKCS8_PRIV_KEY_INFO **plain, struct error *err);

/* SubjectPublicKeyInfo. The caller frees *key, also after a failure. */
int key_file_public(const struct key_file *file, EVP_PKEY **key,
		    struct error *err);

/* Creates `path` with what `bio` (in memory) holds; it must not exist. */
int key_file_create(const char *path, const struct key_kind *kind, BIO *bio,
		    mode_t mode, struct error *err);

/* Fails when something is at `path` already. */
int key_file_absent(const char *path, const struct key_kind *kind,
		    struct error *err);

#endif
