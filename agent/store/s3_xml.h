/*
 * S3's XML answers, which come from the network and may be damaged or hostile:
 * sizes are bounded, document types (entities) are refused, nothing is trusted to
 * be there. Pure.
 */
#ifndef CLAWBACK_STORE_S3_XML_H
#define CLAWBACK_STORE_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_XML_TEXT_MAX 4096	/* of one element, with the NUL */
#define S3_XML_DEPTH_MAX 8
#define S3_ENTRIES_MAX 1000	/* of one page */

/* What an <Error> says; printable ASCII only, cut to fit, "" when absent. */
struct s3_fault {
	char code[64];
	char message[256];
	char region[64];
	char endpoint[256];
};

/* False when it is no <Error> document; `fault` is then empty. */
bool s3_xml_fault(const void *data, size_t length, struct s3_fault *fault);

/* An object, or an unfinished multipart upload. */
struct s3_entry {
	char *key;		/* decoded */
	char *upload_id;	/* NULL for objects */
	uint64_t bytes;
	int64_t initiated;	/* uploads: seconds since 1970 */
};

struct s3_page {
	struct s3_entry *entry;
	size_t count, room;
	bool uploads;		/* of uploads, and none of objects: every entry has an id */
	bool truncated;
	/* Where the next page starts: the token (objects) or the markers (uploads). */
	char *token;
	char *key_marker;
	char *upload_marker;
};

/* A page of list-type=2 or of ?uploads, asked for with encoding-type=url. -EPROTO. */
int s3_xml_page(const void *data, size_t length, struct s3_page *page);
void s3_page_fini(struct s3_page *page);

/* The text of the root's child `name`; -EPROTO when absent, empty or too long. */
int s3_xml_text(const void *data, size_t length, const char *name, char *text,
		size_t size);

/* In place; -EPROTO on a damaged escape or %00. '+' stands for a space. */
int s3_url_decode(char *text);

/* "2026-11-23T20:15:00.000Z" to seconds since 1970; -EPROTO. */
int s3_time_parse(const char *text, int64_t *seconds);

#endif
