#include "agent/crypto/key_file.h"

#include "agent/base/file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <string.h>
#include <sys/stat.h>

/* Ours have some 500 bytes; a preamble or a certificate chain is no reason to read more. */
#define KEY_FILE_LIMIT_BYTES 65536

static int key_file_open(const char *path, const struct key_kind *kind,
			 struct stat *st, struct error *err)
{
	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY |
				    O_NONBLOCK);

	if (fd < 0 || fstat(fd, st) < 0)
		return error_set(err, -errno, "cannot open the %s %s: %s",
				 kind->what, path, error_text(errno));
	if (!S_ISREG(st->st_mode))
		return error_set(err, -EINVAL, "cannot read the %s %s: not a "
				 "regular file", kind->what, path);
	if (st->st_size > KEY_FILE_LIMIT_BYTES)
		return error_set_exit(err, EXIT_WRONG_KEY, -EFBIG,
				      "%s is too large (%lld bytes) for a %s", path,
				      (long long)st->st_size, kind->what);
	return STEAL_FD(fd);
}

static int key_file_no_memory(const struct key_file *file, struct error *err)
{
	error_set(err, -ENOMEM, "reading the %s %s: out of memory", file->kind->what,
		  file->path);
	return openssl_forget(err->code);
}

int key_file_read(const char *path, const struct key_kind *kind,
		  struct key_file *file, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_BIO BIO *bio = NULL;
	char *header = NULL;
	struct stat st;
	long length = 0;
	int ret;

	*file = (struct key_file){ .path = path, .kind = kind };
	fd = key_file_open(path, kind, &st, err);
	if (fd < 0)
		return err->code;
	file->mode = st.st_mode;
	file->text_length = (size_t)st.st_size;
	file->text = calloc(1, file->text_length + 1);
	ret = file->text ? file_pread_all(fd, file->text, file->text_length, 0) :
			   -ENOMEM;
	if (ret)
		return error_set(err, ret, "cannot read the %s %s: %s", kind->what,
				 path, error_text(ret));
	errno = 0;
	bio = BIO_new_mem_buf(file->text, (int)file->text_length);
	/* SECURE: its line buffer is wiped too. */
	ret = bio ? PEM_read_bio_ex(bio, &file->label, &header, &file->data, &length,
				    PEM_FLAG_SECURE | PEM_FLAG_EAY_COMPATIBLE) : 0;
	OPENSSL_secure_free(header);
	file->data_length = ret == 1 ? (size_t)length : 0;
	if (ret == 1)
		return 0;
	if (!bio || openssl_verdict(0))
		return key_file_no_memory(file, err);
	error_set_exit(err, EXIT_WRONG_KEY, -EKEYREJECTED,
		       "%s holds no %s: it is not a PEM file, or damaged", path,
		       kind->what);
	return openssl_forget(err->code);
}

void key_file_fini(struct key_file *file)
{
	OPENSSL_secure_free(file->label);
	OPENSSL_secure_clear_free(file->data, file->data_length);
	if (file->text)
		crypto_wipe(file->text, file->text_length);
	free(file->text);
}

/* The PEM label is the file's: printed only where harmless. */
static int key_file_mislabelled(const struct key_file *file, const char *half,
				struct error *err)
{
	char label[32];
	size_t i;

	for (i = 0; file->label[i] && i < sizeof(label) - 1; i++)
		label[i] = isprint((unsigned char)file->label[i]) ?
				   file->label[i] : '?';
	label[i] = '\0';
	error_set_exit(err, EXIT_WRONG_KEY, -EKEYREJECTED,
		       "%s holds a \"%s\", where the %s half of a %s (%s) is needed",
		       file->path, label, half, file->kind->what,
		       file->kind->algorithm);
	return openssl_forget(err->code);
}

static int key_file_damaged(const struct key_file *file, struct error *err)
{
	if (openssl_verdict(0))
		return key_file_no_memory(file, err);
	error_set_exit(err, EXIT_WRONG_KEY, -EKEYREJECTED,
		       "cannot read the %s %s: the file is damaged, or of a kind that "
		       "OpenSSL does not know", file->kind->what, file->path);
	return openssl_forget(err->code);
}

static int key_file_decrypt(const struct key_file *file,
			    const struct passphrase *passphrase,
			    PKCS8_PRIV_KEY_INFO **plain, struct error *err)
{
	const uint8_t *at = file->data;
	CLEANUP_PKCS8_SEALED X509_SIG *sealed = NULL;

	errno = 0;
	sealed = d2i_X509_SIG(NULL, &at, (long)file->data_length);
	if (!sealed)
		return key_file_damaged(file, err);
	if (!passphrase)
		return error_set_exit(err, EXIT_WRONG_KEY, -ENOKEY,
				      "the %s %s is encrypted, and no passphrase is "
				      "given", file->kind->what, file->path);
	*plain = PKCS8_decrypt(sealed, passphrase->text, (int)passphrase->length);
	if (*plain)
		return 0;
	if (openssl_verdict(0))
		return key_file_no_memory(file, err);
	error_set_exit(err, EXIT_WRONG_KEY, -EKEYREJECTED,
		       "cannot open the %s %s: wrong passphrase (or the file is "
		       "damaged)", file->kind->what, file->path);
	return openssl_forget(err->code);
}

static int key_file_plain(const struct key_file *file,
			  PKCS8_PRIV_KEY_INFO **plain, struct error *err)
{
	const uint8_t *at = file->data;

	if (file->mode & 077)
		return error_set(err, -EPERM, "refusing the %s %s: it is not encrypted "
				 "and others may access it (mode %04o); run chmod 600 "
				 "on it, and consider it known to others",
				 file->kind->what, file->path,
				 (unsigned int)file->mode & 07777);
	errno = 0;
	*plain = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)file->data_length);
	return *plain ? 0 : key_file_damaged(file, err);
}

static int key_file_other_kind(const struct key_file *file, const char *algorithm,
			       struct error *err)
{
	error_set_exit(err, EXIT_WRONG_KEY, -EKEYREJECTED,
		       "%s holds a key of another kind (%s): a %s is %s", file->path,
		       algorithm, file->kind->what, file->kind->algorithm);
	return openssl_forget(err->code);
}

/* RFC 8410: the key is an OCTET STRING inside PKCS#8's own. */
#define KEY_OCTETS_SIZE (2 + CRYPTO_KEY_SIZE)
static const uint8_t key_octets[2] = { 0x04, CRYPTO_KEY_SIZE };

/*
 * By hand rather than by EVP_PKCS82PKEY: that tries decoders one after another and
 * leaves the key all over freed memory.
 */
static int key_file_from_pkcs8(const struct key_file *file,
			       const PKCS8_PRIV_KEY_INFO *plain, EVP_PKEY **key,
			       struct error *err)
{
	const ASN1_OBJECT *algorithm;
	const uint8_t *octets;
	char name[64] = "unknown";
	int length;

	if (PKCS8_pkey_get0(&algorithm, &octets, &length, NULL, plain) != 1)
		return key_file_damaged(file, err);
	if (OBJ_obj2nid(algorithm) != file->kind->nid) {
		OBJ_obj2txt(name, sizeof(name), algorithm, 0);
		return key_file_other_kind(file, name, err);
	}
	if (length == KEY_OCTETS_SIZE && !memcmp(octets, key_octets, 2))
		*key = EVP_PKEY_new_raw_private_key(file->kind->nid, NULL, octets + 2,
						    CRYPTO_KEY_SIZE);
	return *key ? openssl_forget(0) : key_file_damaged(file, err);
}

static PKCS8_PRIV_KEY_INFO *key_file_to_pkcs8(const struct key_kind *kind,
					      const uint8_t *raw)
{
	CLEANUP_PKCS8 PKCS8_PRIV_KEY_INFO *plain = PKCS8_PRIV_KEY_INFO_new();
	uint8_t *octets = OPENSSL_malloc(KEY_OCTETS_SIZE);

	if (octets) {
		memcpy(octets, key_octets, 2);
		memcpy(octets + 2, raw, CRYPTO_KEY_SIZE);
		if (plain && PKCS8_pkey_set0(plain, OBJ_nid2obj(kind->nid), 0,
					     V_ASN1_UNDEF, NULL, octets,
					     KEY_OCTETS_SIZE) == 1)
			return STEAL(plain);
	}
	OPENSSL_clear_free(octets, KEY_OCTETS_SIZE);
	return NULL;
}

/*
 * A private key of either kind is 32 random bytes (RFC 7748, 5; RFC 8032, 5.1.5).
 * Drawn here, as getting them out of an EVP_PKEY leaves a copy in freed memory.
 */
int key_file_generate(const struct key_kind *kind, EVP_PKEY **key,
		      PKCS8_PRIV_KEY_INFO **plain, struct error *err)
{
	uint8_t raw[CRYPTO_KEY_SIZE];

	*key = NULL;
	*plain = NULL;
	if (crypto_random(raw, sizeof(raw), err))
		return err->code;
	*key = EVP_PKEY_new_raw_private_key(kind->nid, NULL, raw, sizeof(raw));
	*plain = key_file_to_pkcs8(kind, raw);
	crypto_wipe(raw, sizeof(raw));
	return *key && *plain ? 0 : openssl_error(err, "make a key");
}

int key_file_private(const struct key_file *file,
		     const struct passphrase *passphrase, EVP_PKEY **key,
		     struct error *err)
{
	CLEANUP_PKCS8 PKCS8_PRIV_KEY_INFO *plain = NULL;
	int ret;

	*key = NULL;
	if (!strcmp(file->label, PEM_STRING_PKCS8))
		ret = key_file_decrypt(file, passphrase, &plain, err);
	else if (!strcmp(file->label, PEM_STRING_PKCS8INF))
		ret = key_file_plain(file, &plain, err);
	else
		ret = key_file_mislabelled(file, "private", err);
	return ret ? ret : key_file_from_pkcs8(file, plain, key, err);
}

int key_file_public(const struct key_file *file, EVP_PKEY **key,
		    struct error *err)
{
	const uint8_t *at = file->data;
	const char *algorithm;

	*key = NULL;
	if (strcmp(file->label, PEM_STRING_PUBLIC))
		return key_file_mislabelled(file, "public", err);
	*key = d2i_PUBKEY(NULL, &at, (long)file->data_length);
	if (!*key)
		return key_file_damaged(file, err);
	if (EVP_PKEY_is_a(*key, file->kind->algorithm))
		return openssl_forget(0);
	algorithm = EVP_PKEY_get0_type_name(*key);
	return key_file_other_kind(file, algorithm ? algorithm : "unknown", err);
}

int key_file_create(const char *path, const struct key_kind *kind, BIO *bio,
		    mode_t mode, struct error *err)
{
	char *text = NULL;
	long length = BIO_get_mem_data(bio, &text);
	int ret = length > 0 ? file_create(path, text, (size_t)length, mode) : -EIO;

	if (ret)
		return error_set(err, ret, "cannot create the %s %s: %s", kind->what,
				 path, error_text(ret));
	return 0;
}

int key_file_absent(const char *path, const struct key_kind *kind,
		    struct error *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return 0;	/* other troubles show when it is created */
	return error_set(err, -EEXIST, "will not overwrite %s with a new %s: move it "
			 "away first, points may depend on it", path, kind->what);
}
