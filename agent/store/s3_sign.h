/*
 * AWS Signature Version 4 for requests whose headers and payload are known in
 * full. Pure: no clock, no environment, no I/O.
 */
#ifndef CLAWBACK_STORE_S3_SIGN_H
#define CLAWBACK_STORE_S3_SIGN_H

#include "agent/store/credentials.h"

#include <stddef.h>
#include <time.h>

#define S3_HASH_TEXT_SIZE 65		/* SHA-256 in hexadecimal, with the NUL */
#define S3_DATE_SIZE 17			/* 20130524T000000Z, with the NUL */
#define S3_AUTHORIZATION_SIZE 1024

struct s3_header {
	const char *name;	/* lower case */
	const char *value;	/* no white space at the ends, no doubled spaces */
};

struct s3_signing {
	const char *method;
	const char *path;	/* percent-encoded once, starts with '/' */
	const char *query;	/* canonical: sorted, encoded, "" for none */
	const struct s3_header *headers; /* all signed; sorted by name */
	size_t header_count;
	const char *payload_hash;
	const char *region;
	const char *service;
	const char *date;	/* as in x-amz-date */
};

void s3_hash(const void *data, size_t length, char text[static S3_HASH_TEXT_SIZE]);
void s3_date(time_t now, char text[static S3_DATE_SIZE]);

/*
 * Percent-encodes all but unreserved characters ('/' too) to the end of `text`,
 * a string in `size` bytes. -ENAMETOOLONG when it does not fit.
 */
int s3_encode(const char *value, char *text, size_t size);

/* The Authorization header's value; -ENAMETOOLONG, -ENOMEM. */
int s3_sign(const struct s3_signing *signing, const struct credentials *credentials,
	    char authorization[static S3_AUTHORIZATION_SIZE]);

#endif
