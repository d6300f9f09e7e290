/*
 * The access key, secret and session token that sign requests to S3, from an AWS
 * shared-credentials file or from AWS_* variables. Own parser: inih cuts lines at
 * 200 bytes (session tokens are longer) and leaves copies of the secret behind.
 */
#ifndef CLAWBACK_STORE_CREDENTIALS_H
#define CLAWBACK_STORE_CREDENTIALS_H

#include "agent/base/error.h"

#include <stddef.h>

struct credentials {
	char *access_key;
	char *secret_key;
	char *session_token;	/* NULL: none */
};

/*
 * In this order: `file` (if not NULL, and then nothing else), the variables
 * AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, ~/.aws/credentials.
 * `profile` NULL means "default". A file that others than its owner (us or root)
 * may read or write is refused with -EACCES.
 */
int credentials_load(const char *file, const char *profile,
		     struct credentials *credentials, struct error *err);

/*
 * One profile of a file's `text` (changed by parsing; `name` is for messages).
 * Lines that are no `key = value`, unknown keys and other profiles are passed over.
 */
int credentials_parse(char *text, const char *name, const char *profile,
		      struct credentials *credentials, struct error *err);

/* Wipes and frees the strings. */
void credentials_fini(struct credentials *credentials);

/* Wipes and frees a secret string; NULL is fine. */
void secret_free(char *secret);

#endif
