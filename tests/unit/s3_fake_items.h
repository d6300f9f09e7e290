/* What the server of s3_fake.h holds, and how it answers a request. */
#ifndef CLAWBACK_TESTS_S3_FAKE_ITEMS_H
#define CLAWBACK_TESTS_S3_FAKE_ITEMS_H

#include "agent/base/cleanup.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAKE_ITEMS 1024
#define FAKE_PLANS 32
#define FAKE_CONNECTIONS 64
#define FAKE_PAGE 7

/* An object, or a part (upload and number set), or a begun upload (no data). */
struct fake_item {
	char key[600];
	unsigned upload, number;
	uint8_t *data;
	size_t length;
	unsigned etag;
};

/* What the next request of a method gets instead: whole answers, or the end. */
struct fake_plan {
	const char *method;	/* NULL: used up */
	const char *answer;	/* "reset": the connection ends; "stall": nothing comes;
				 * "lost": done, then the connection ends */
};

struct fake {
	int listener, fds[FAKE_CONNECTIONS];
	pthread_t thread, threads[FAKE_CONNECTIONS];
	unsigned connection_count;
	uint16_t port;
	pthread_mutex_t lock;	/* guards all below */
	struct fake_item items[FAKE_ITEMS];
	size_t count;
	unsigned last_id;
	struct fake_plan plans[FAKE_PLANS];
};

struct fake_request {
	struct fake *fake;
	int fd;
	char head[16384];
	char *method, *key, *query, *headers;
	uint8_t *body;
	size_t body_length;
};

/* ---- talking -------------------------------------------------------------------- */

static inline void fake_send(int fd, const void *data, size_t length)
{
	const char *at = data;

	while (length) {
		ssize_t n = send(fd, at, length, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		at += n;
		length -= (size_t)n;
	}
}

static inline void fake_answer(const struct fake_request *request, const char *status,
			       const char *headers, const void *body, size_t length)
{
	char head[1024];

	fake_send(request->fd, head, (size_t)snprintf(head, sizeof(head), "HTTP/1.1 %s\r\n%s"
						      "Content-Length: %zu\r\n\r\n", status,
						      headers, length));
	fake_send(request->fd, body, length);
}

static inline void fake_refuse(const struct fake_request *request, const char *status,
			       const char *code)
{
	char body[256];

	fake_answer(request, status, "", body, (size_t)snprintf(body, sizeof(body),
		    "<Error><Code>%s</Code></Error>", code));
}

/* ---- what is asked for ------------------------------------------------------------ */

/* The value of NAME in the query, decoded; false when it is not there. */
static inline bool fake_query(const struct fake_request *request, const char *name,
			      char value[static 600])
{
	size_t length = strlen(name), used = 0;
	const char *at = request->query;

	while (at && (strncmp(at, name, length) || at[length] != '=')) {
		at = strchr(at, '&');
		at = at ? at + 1 : NULL;
	}
	if (!at)
		return false;
	for (at += length + 1; *at && *at != '&' && used < 599; at++) {
		unsigned byte = (unsigned char)*at;

		if (*at == '%' && sscanf(at + 1, "%2x", &byte) == 1)
			at += 2;
		value[used++] = (char)byte;
	}
	value[used] = '\0';
	return true;
}

static inline const char *fake_header(const struct fake_request *request, const char *name)
{
	char wanted[64];
	const char *at;

	snprintf(wanted, sizeof(wanted), "\r\n%s: ", name);
	at = strcasestr(request->headers, wanted);
	return at ? at + strlen(wanted) : NULL;
}

static inline struct fake_item *fake_find(struct fake *fake, const char *key, unsigned upload,
					  unsigned number)
{
	for (size_t i = 0; i < fake->count; i++)
		if (fake->items[i].upload == upload && fake->items[i].number == number &&
		    (!key || !strcmp(fake->items[i].key, key)))
			return &fake->items[i];
	return NULL;
}

static inline void fake_drop(struct fake *fake, struct fake_item *item)
{
	free(item->data);
	*item = fake->items[--fake->count];
}

static inline struct fake_item *fake_store(struct fake *fake, const char *key, unsigned upload,
					   unsigned number, uint8_t *data, size_t length)
{
	struct fake_item *item = fake_find(fake, key, upload, number);

	if (item)
		fake_drop(fake, item);
	if (fake->count == FAKE_ITEMS)
		abort();
	item = &fake->items[fake->count++];
	*item = (struct fake_item){ .upload = upload, .number = number, .data = data,
				    .length = length, .etag = ++fake->last_id };
	snprintf(item->key, sizeof(item->key), "%s", key);
	return item;
}

/* ---- operations, all under the lock ----------------------------------------------- */

static inline void fake_put(struct fake_request *request)
{
	char id[600], number[600] = "0", etag[64];
	bool part = fake_query(request, "uploadId", id);
	struct fake_item *item;

	fake_query(request, "partNumber", number);
	/* One that its client gave up, and that comes after the upload's end. */
	if (part && !fake_find(request->fake, request->key, (unsigned)atoi(id), 0)) {
		fake_refuse(request, "404 Not Found", "NoSuchUpload");
		return;
	}
	if (fake_header(request, "if-none-match") && fake_find(request->fake, request->key, 0, 0)) {
		fake_refuse(request, "412 Precondition Failed", "PreconditionFailed");
		return;
	}
	item = fake_store(request->fake, request->key, part ? (unsigned)atoi(id) : 0,
			  (unsigned)atoi(number), STEAL(request->body), request->body_length);
	snprintf(etag, sizeof(etag), "ETag: \"%032x\"\r\n", item->etag);
	fake_answer(request, "200 OK", etag, "", 0);
}

static inline void fake_get(struct fake_request *request)
{
	const struct fake_item *item = fake_find(request->fake, request->key, 0, 0);
	const char *range = fake_header(request, "range");
	unsigned long long first, last;
	char header[128];

	if (!item) {
		fake_refuse(request, "404 Not Found", "NoSuchKey");
	} else if (!range || sscanf(range, "bytes=%llu-%llu", &first, &last) != 2) {
		fake_answer(request, "200 OK", "", item->data, item->length);
	} else if (first >= item->length) {
		fake_refuse(request, "416 Range", "InvalidRange");
	} else {
		last = last < item->length ? last : item->length - 1;
		snprintf(header, sizeof(header), "Content-Range: bytes %llu-%llu/%zu\r\n", first,
			 last, item->length);
		fake_answer(request, "206 Partial", header, item->data + first, last - first + 1);
	}
}

static inline int fake_order(const void *a, const void *b)
{
	return strcmp(((const struct fake_item *)a)->key, ((const struct fake_item *)b)->key);
}

/* FAKE_PAGE objects, or begun uploads, behind the one that the last page ended with. */
static inline void fake_list(struct fake_request *request, bool uploads)
{
	struct fake *fake = request->fake;
	char prefix[600] = "", after[600] = "", last[600] = "", body[32768];
	size_t used = 0, seen = 0;
	bool more = false;

	fake_query(request, "prefix", prefix);
	fake_query(request, uploads ? "key-marker" : "continuation-token", after);
	qsort(fake->items, fake->count, sizeof(*fake->items), fake_order);
	used += (size_t)sprintf(body, "<List%sResult>", uploads ? "MultipartUploads" : "Bucket");
	for (size_t i = 0; i < fake->count && !more; i++) {
		const struct fake_item *item = &fake->items[i];

		if (item->number || (item->upload != 0) != uploads || strcmp(item->key, after) <= 0 ||
		    strncmp(item->key, prefix, strlen(prefix)))
			continue;
		more = seen++ == FAKE_PAGE;
		if (more)
			break;
		strcpy(last, item->key);
		used += (size_t)sprintf(body + used, uploads ?
			"<Upload><Key>%s</Key><UploadId>%u</UploadId><Initiated>"
			"2020-01-01T00:00:00.000Z</Initiated></Upload>" :
			"<Contents><Key>%s</Key><Size>%u</Size></Contents>", item->key,
			uploads ? item->upload : (unsigned)item->length);
	}
	used += (size_t)sprintf(body + used, "<IsTruncated>%s</IsTruncated>",
				more ? "true" : "false");
	if (more)
		used += (size_t)sprintf(body + used, uploads ? "<NextKeyMarker>%s</NextKeyMarker>"
			"<NextUploadIdMarker>1</NextUploadIdMarker>" :
			"<NextContinuationToken>%s</NextContinuationToken>", last);
	used += (size_t)sprintf(body + used, "</List%sResult>",
				uploads ? "MultipartUploads" : "Bucket");
	fake_answer(request, "200 OK", "", body, used);
}

/* Joins the parts when `store`; then upload and parts go. */
static inline bool fake_upload_end(struct fake *fake, const char *key, unsigned upload,
				   bool store)
{
	struct fake_item *begun = fake_find(fake, key, upload, 0), *part;
	uint8_t *data = NULL;
	size_t length = 0;

	if (!begun)
		return false;
	fake_drop(fake, begun);
	for (unsigned i = 1; (part = fake_find(fake, key, upload, i)); i++) {
		data = realloc(data, length + part->length);
		memcpy(data + length, part->data, part->length);
		length += part->length;
		fake_drop(fake, part);
	}
	/* Behind a part that never came there may be more. */
	for (size_t i = fake->count; i--;)
		if (fake->items[i].upload == upload)
			fake_drop(fake, &fake->items[i]);
	if (store)
		fake_store(fake, key, 0, 0, data, length);
	else
		free(data);
	return true;
}

static inline void fake_post(struct fake_request *request)
{
	char id[600], body[128];

	if (!fake_query(request, "uploadId", id)) {
		fake_store(request->fake, request->key, ++request->fake->last_id, 0, NULL, 0);
		fake_answer(request, "200 OK", "", body, (size_t)sprintf(body, "<I><UploadId>%u"
			    "</UploadId></I>", request->fake->last_id - 1));
	} else if (fake_upload_end(request->fake, request->key, (unsigned)atoi(id), true)) {
		fake_answer(request, "200 OK", "", "<R/>", 4);
	} else {
		fake_refuse(request, "404 Not Found", "NoSuchUpload");
	}
}

static inline void fake_delete(struct fake_request *request)
{
	struct fake_item *item = fake_find(request->fake, request->key, 0, 0);
	char id[600];

	if (fake_query(request, "uploadId", id)) {
		if (!fake_upload_end(request->fake, request->key, (unsigned)atoi(id), false)) {
			fake_refuse(request, "404 Not Found", "NoSuchUpload");
			return;
		}
	} else if (item) {
		fake_drop(request->fake, item);
	}
	fake_send(request->fd, "HTTP/1.1 204 No Content\r\n\r\n", 27);
}

#endif
