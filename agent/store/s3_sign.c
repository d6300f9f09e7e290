#include "agent/store/s3_sign.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define DIGEST_BYTES 32

static void hex_format(const unsigned char digest[static DIGEST_BYTES],
		       char text[static S3_HASH_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < DIGEST_BYTES; i++) {
		text[2 * i] = digits[digest[i] >> 4];
		text[2 * i + 1] = digits[digest[i] & 15];
	}
	text[2 * DIGEST_BYTES] = '\0';
}

void s3_hash(const void *data, size_t length, char text[static S3_HASH_TEXT_SIZE])
{
	unsigned char digest[DIGEST_BYTES] = { 0 };

	/* Failing (no memory) leaves zeroes: the server then refuses the request. */
	EVP_Digest(length ? data : "", length, digest, NULL, EVP_sha256(), NULL);
	hex_format(digest, text);
}

void s3_date(time_t now, char text[static S3_DATE_SIZE])
{
	struct tm parts;

	gmtime_r(&now, &parts);
	strftime(text, S3_DATE_SIZE, "%Y%m%dT%H%M%SZ", &parts);
}

int s3_encode(const char *value, char *text, size_t size)
{
	size_t used = strlen(text);

	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || strchr("-._~", c);

		if (used + (plain ? 1 : 3) >= size)
			return -ENAMETOOLONG;
		used += (size_t)sprintf(text + used, plain ? "%c" : "%%%02X", c);
	}
	return 0;
}

/* "host;x-amz-date" */
static int names_format(const struct s3_signing *signing, char *names, size_t size)
{
	size_t used = 0;

	names[0] = '\0';
	for (size_t i = 0; i < signing->header_count; i++) {
		used += (size_t)snprintf(names + used, size - used, "%s%s", i ? ";" : "",
					 signing->headers[i].name);
		if (used >= size)
			return -ENAMETOOLONG;
	}
	return 0;
}

static bool hash_texts(EVP_MD_CTX *context, const char *const *texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!EVP_DigestUpdate(context, texts[i], strlen(texts[i])))
			return false;
	return true;
}

/*
 * The canonical request is hashed piece by piece, never put together: it holds
 * the session token.
 */
static int request_hash(const struct s3_signing *signing, const char *names,
			char text[static S3_HASH_TEXT_SIZE])
{
	const char *const first[] = { signing->method, "\n", signing->path, "\n",
				      signing->query, "\n" };
	const char *const last[] = { "\n", names, "\n", signing->payload_hash };
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char digest[DIGEST_BYTES];
	bool ok;

	ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) &&
	     hash_texts(context, first, sizeof(first) / sizeof(first[0]));
	for (size_t i = 0; ok && i < signing->header_count; i++) {
		const struct s3_header *header = &signing->headers[i];

		ok = hash_texts(context, (const char *const[]){ header->name, ":",
				header->value, "\n" }, 4);
	}
	ok = ok && hash_texts(context, last, sizeof(last) / sizeof(last[0])) &&
	     EVP_DigestFinal_ex(context, digest, NULL);
	EVP_MD_CTX_free(context);
	if (ok)
		hex_format(digest, text);
	return ok ? 0 : -ENOMEM;
}

static bool hmac(const void *key, size_t key_length, const char *text,
		 unsigned char out[static DIGEST_BYTES])
{
	return HMAC(EVP_sha256(), key, (int)key_length, (const unsigned char *)text,
		    strlen(text), out, NULL) != NULL;
}

/* `digest` is the key of each step and the result. */
static bool signature(const struct s3_signing *signing, const char *secret_key,
		      const char *to_sign, unsigned char digest[static DIGEST_BYTES])
{
	char *first;
	char day[9];
	bool ok;

	if (asprintf(&first, "AWS4%s", secret_key) < 0)
		return false;
	snprintf(day, sizeof(day), "%.8s", signing->date);
	ok = hmac(first, strlen(first), day, digest) &&
	     hmac(digest, DIGEST_BYTES, signing->region, digest) &&
	     hmac(digest, DIGEST_BYTES, signing->service, digest) &&
	     hmac(digest, DIGEST_BYTES, "aws4_request", digest) &&
	     hmac(digest, DIGEST_BYTES, to_sign, digest);
	secret_free(first);
	return ok;
}

int s3_sign(const struct s3_signing *signing, const struct credentials *credentials,
	    char authorization[static S3_AUTHORIZATION_SIZE])
{
	unsigned char digest[DIGEST_BYTES];
	char hash[S3_HASH_TEXT_SIZE], scope[160], names[256], to_sign[512];
	int ret = names_format(signing, names, sizeof(names));

	if (!ret)
		ret = request_hash(signing, names, hash);
	if (ret)
		return ret;
	if (snprintf(scope, sizeof(scope), "%.8s/%s/%s/aws4_request", signing->date,
		     signing->region, signing->service) >= (int)sizeof(scope))
		return -ENAMETOOLONG;
	snprintf(to_sign, sizeof(to_sign), ALGORITHM "\n%s\n%s\n%s", signing->date, scope, hash);
	if (!signature(signing, credentials->secret_key, to_sign, digest))
		return -ENOMEM;
	hex_format(digest, hash);
	if (snprintf(authorization, S3_AUTHORIZATION_SIZE,
		     ALGORITHM " Credential=%s/%s,SignedHeaders=%s,Signature=%s",
		     credentials->access_key, scope, names, hash) >= S3_AUTHORIZATION_SIZE)
		return -ENAMETOOLONG;
	return 0;
}
