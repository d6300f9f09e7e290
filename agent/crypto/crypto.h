/*
 * Keys, sealing and signing; everything cryptographic is OpenSSL's, only the
 * composition is ours (docs/format.md "Keys").
 *
 *   recovery pair   X25519; the private half in a passphrase-protected PEM
 *   data key        random, one per point; sealed to every recipient
 *   map key         one per point, derived from a random one that the host keeps
 *                   per repository; seals the point's map, and is sealed to every
 *                   recipient along with the data key
 *   signing pair    Ed25519, the host's; signs manifests
 *
 * Keys in memory are wiped by the _fini/_free/wipe functions. Nothing here logs;
 * messages never contain key material or a passphrase.
 * Threads: a sealer belongs to one thread; all else is re-entrant.
 */
#ifndef CLAWBACK_CRYPTO_CRYPTO_H
#define CLAWBACK_CRYPTO_CRYPTO_H

#include "agent/base/error.h"
#include "agent/base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_KEY_SIZE 32	/* AES-256, X25519 and Ed25519 keys */
#define CRYPTO_TAG_SIZE 16	/* GCM */
#define CRYPTO_DIGEST_SIZE 32	/* SHA-256 */
#define CRYPTO_SIGNATURE_SIZE 64 /* Ed25519 */
#define CRYPTO_FINGERPRINT_TEXT 65 /* SHA-256 of a public key, hexadecimal, NUL */

/* ---- process hardening ------------------------------------------------- */

/*
 * No core file, not ptraceable by others: call first thing in main. (A sanitizer's
 * leak check then works for root only.)
 */
int crypto_harden_process(struct error *err);

void crypto_wipe(void *memory, size_t length);
bool crypto_equal(const void *a, const void *b, size_t length); /* constant time */
int crypto_random(void *buffer, size_t length, struct error *err);

/* ---- digests and text -------------------------------------------------- */

/*
 * Should OpenSSL be unable to compute (no memory), update, finish and digest_of
 * end the process: no value may pass for a digest that is none.
 */
struct digest;		/* SHA-256 in progress */
struct digest *digest_new(void);	/* NULL: out of memory */
void digest_update(struct digest *digest, const void *data, size_t length);
/* Ends it, frees it. */
void digest_finish(struct digest *digest, uint8_t out[static CRYPTO_DIGEST_SIZE]);
void digest_free(struct digest *digest);
void digest_of(const void *data, size_t length,
	       uint8_t out[static CRYPTO_DIGEST_SIZE]);

/* `text` has room for 2 * length + 1. */
void hex_encode(const uint8_t *data, size_t length, char *text);
/* -EINVAL unless exactly 2 * length digits. */
int hex_decode(const char *text, uint8_t *data, size_t length);
/* Base64 with padding, without line breaks. encode allocates (NULL: no memory).
 * decode is strict; -EINVAL, or -EMSGSIZE when `room` is too small. */
char *base64_encode(const uint8_t *data, size_t length);
int base64_decode(const char *text, uint8_t *data, size_t room, size_t *length);

/* ---- passphrases ------------------------------------------------------- */

struct passphrase {
	char text[1024];	/* NUL-terminated */
	size_t length;
};

enum passphrase_source { PASSPHRASE_PROMPT, PASSPHRASE_FILE, PASSPHRASE_FD };

struct passphrase_options {
	enum passphrase_source source;
	const char *path;	/* PASSPHRASE_FILE: must not be readable by group/other */
	int fd;			/* PASSPHRASE_FD: one line is read */
	bool confirm;		/* PASSPHRASE_PROMPT: ask twice */
	const char *what;	/* "recovery key", for the prompt */
};

/*
 * One line without its line end (LF or CR LF); empty, over-long or containing NUL
 * is refused, and `passphrase` is then wiped. Nothing behind the line is consumed.
 * The prompt uses /dev/tty with echo off, restored also on a signal, which then
 * acts as usual (EXIT_INTERRUPTED with interrupt_install); ask before starting
 * threads, as theirs would take the signal. No terminal: EXIT_USAGE.
 */
int passphrase_read(const struct passphrase_options *options,
		    struct passphrase *passphrase, struct error *err);
void passphrase_wipe(struct passphrase *passphrase);

/* ---- recovery keys ----------------------------------------------------- */

struct recovery_public { uint8_t key[CRYPTO_KEY_SIZE]; };
struct recovery_private;

/*
 * Makes a pair. The private half is written to `private_path` (mode 0600,
 * PKCS#8 PEM encrypted with AES-256-CBC, key from scrypt), the public half to
 * `public_path` (SubjectPublicKeyInfo PEM, 0644). Neither may exist (-EEXIST);
 * after a failure neither is left, unless its folder could not be synced.
 */
int recovery_generate(const char *private_path, const char *public_path,
		      const struct passphrase *passphrase,
		      struct recovery_public *public, struct error *err);
int recovery_public_load(const char *path, struct recovery_public *public,
			 struct error *err);
/*
 * EXIT_WRONG_KEY for a wrong passphrase, a key of another kind or a damaged file.
 * Never asks. `passphrase` may be NULL: then only an unencrypted key loads, and
 * an encrypted one is -ENOKEY (so a caller can find out whether to ask). An
 * unencrypted key file must not be accessible to group or others (-EPERM).
 */
int recovery_private_load(const char *path, const struct passphrase *passphrase,
			  struct recovery_private **private, struct error *err);
void recovery_private_free(struct recovery_private *private);
/*
 * The key itself, to be handed to another process of ours over what nobody else can read;
 * to be wiped there and here. A new one from that: -ENOMEM, -EIO.
 */
int recovery_private_get(const struct recovery_private *private,
			 uint8_t key[static CRYPTO_KEY_SIZE], struct error *err);
int recovery_private_set(const uint8_t key[static CRYPTO_KEY_SIZE],
			 struct recovery_private **private, struct error *err);
void recovery_private_public(const struct recovery_private *private,
			     struct recovery_public *public);

/* SHA-256 of the 32 raw key bytes, hexadecimal. */
void key_fingerprint(const uint8_t key[static CRYPTO_KEY_SIZE],
		     char text[static CRYPTO_FINGERPRINT_TEXT]);

/* ---- wrapping keys to recipients --------------------------------------- */

/* What is wrapped for a point: its data key and its map key. */
struct point_keys {
	uint8_t data[CRYPTO_KEY_SIZE];
	uint8_t map[CRYPTO_KEY_SIZE];
};

#define CRYPTO_WRAP_CONTEXT_LIMIT 512
#define CRYPTO_WRAP_SIZE (CRYPTO_KEY_SIZE + sizeof(struct point_keys) + CRYPTO_TAG_SIZE)

/*
 * X25519 with a one-use key, HKDF-SHA256 (salt: both public keys; info:
 * "clawback wrap v1" and the context), AES-256-GCM. `context` binds the wrap to
 * its volume and point number (at most CRYPTO_WRAP_CONTEXT_LIMIT bytes).
 * Output: one-use public key, ciphertext, tag.
 */
int keys_wrap(const struct recovery_public *recipient,
	      const struct point_keys *keys, const void *context,
	      size_t context_length, uint8_t out[static CRYPTO_WRAP_SIZE],
	      struct error *err);
/* EXIT_WRONG_KEY when this private key does not open it; `keys` is then wiped. */
int keys_unwrap(const struct recovery_private *private,
		const uint8_t wrap[static CRYPTO_WRAP_SIZE], const void *context,
		size_t context_length, struct point_keys *keys,
		struct error *err);

/* ---- sealing ----------------------------------------------------------- */

/* What a nonce is for; its first byte. The rest is the counter. */
enum seal_domain { SEAL_FRAME = 1, SEAL_MAP = 2 };

struct sealer;		/* AES-256-GCM under one key; one thread */

struct sealer *sealer_new(const uint8_t key[static CRYPTO_KEY_SIZE]); /* NULL: ENOMEM */
void sealer_free(struct sealer *sealer);

/*
 * Nonce: domain (1 byte), zero (3), counter (8, little-endian). The caller never
 * uses a (domain, counter) twice under one key. In place is allowed
 * (out == plain), no other overlap. `out` has room for length + CRYPTO_TAG_SIZE.
 */
int seal(struct sealer *sealer, enum seal_domain domain, uint64_t counter,
	 const void *aad, size_t aad_length, const uint8_t *plain, size_t length,
	 uint8_t *out);
/*
 * `sealed_length` includes the tag. -EBADMSG when it does not authenticate; then
 * `out` holds nothing of the plaintext (nor of the ciphertext, when in place).
 * Both: -EINVAL for a length of 2 GiB or more.
 */
int unseal(struct sealer *sealer, enum seal_domain domain, uint64_t counter,
	   const void *aad, size_t aad_length, const uint8_t *sealed,
	   size_t sealed_length, uint8_t *out);

/* ---- fingerprints ------------------------------------------------------ */

/*
 * Short keyed fingerprints that tell whether a block is still what it was: the
 * first 64 bits of GMAC (NIST SP 800-38D: AES-256-GCM over additional data alone)
 * under one fixed nonce. As a universal hash that is sound, since tags are never
 * shown to anyone who could choose data by them: two different blocks of 4 KiB get
 * the same one with a probability of at most 2^-55. They authenticate nothing.
 */
struct tagger;		/* one thread */

struct tagger *tagger_new(const uint8_t key[static CRYPTO_KEY_SIZE]); /* NULL: ENOMEM */
void tagger_free(struct tagger *tagger);
/* At most 1 MiB. -EINVAL for more, -EIO when OpenSSL could not. */
int tagger_tag(struct tagger *tagger, const void *data, size_t length, uint64_t *tag);

/* HKDF-SHA256 to one 32-byte key. `info` (without its NUL) says what it is for;
 * salt and info have at most 1024 bytes each (else -EINVAL). */
int key_derive(const uint8_t key[static CRYPTO_KEY_SIZE], const void *salt,
	       size_t salt_length, const char *info,
	       uint8_t out[static CRYPTO_KEY_SIZE]);

/* ---- signing ----------------------------------------------------------- */

struct signing_public { uint8_t key[CRYPTO_KEY_SIZE]; };
struct signing_private;

/* Unencrypted PKCS#8 PEM, mode 0600; must not exist (-EEXIST) / must not be group-
 * or world-accessible (-EPERM). A key of another kind is EXIT_WRONG_KEY. */
int signing_generate(const char *path, struct signing_private **private,
		     struct error *err);
int signing_load(const char *path, struct signing_private **private,
		 struct error *err);
void signing_free(struct signing_private *private);
void signing_public(const struct signing_private *private,
		    struct signing_public *public);

/* Ed25519 over `label` (with its NUL, at most 128 bytes) followed by the SHA-256
 * of the data. */
int sign_data(const struct signing_private *private, const char *label,
	      const void *data, size_t length,
	      uint8_t out[static CRYPTO_SIGNATURE_SIZE], struct error *err);
/* -EBADMSG when it does not verify; -ENOMEM when that could not be found out. */
int sign_verify(const struct signing_public *public, const char *label,
		const void *data, size_t length,
		const uint8_t signature[static CRYPTO_SIGNATURE_SIZE]);

#endif
