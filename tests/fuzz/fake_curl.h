/*
 * libcurl without a network: a harness that includes this is linked with these
 * functions instead of those of agent/base/late_curl.c, which are weak, and so dictates
 * what a server answers, down to single header lines. Everything of ours is the real
 * thing.
 *
 * An answer is an HTTP head, an empty line, a body; or '!' and a byte: a CURLcode
 * with which the transfer fails. When none is left, the server is gone.
 */
#ifndef CLAWBACK_TESTS_FUZZ_FAKE_CURL_H
#define CLAWBACK_TESTS_FUZZ_FAKE_CURL_H

#include "tests/fuzz/fuzz.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <strings.h>

#undef curl_easy_setopt
#undef curl_easy_getinfo

#define ANSWER_END 0x1e		/* ASCII's record separator */

struct fake_handle {
	curl_write_callback body, header;
	curl_read_callback upload;
	void *body_to, *header_to, *upload_from;
	long status;
	curl_off_t retry_after, length, sent, received;
};

/* Answers still to be given. */
static const uint8_t *fake_at;
static size_t fake_left;

CURL *curl_easy_init(void)
{
	struct fake_handle *handle = calloc(1, sizeof(*handle));

	FUZZ_CHECK(handle);
	return handle;
}

void curl_easy_cleanup(CURL *handle)
{
	free(handle);
}

void curl_easy_reset(CURL *handle)
{
	memset(handle, 0, sizeof(struct fake_handle));
}

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	struct fake_handle *handle = easy;
	va_list args;

	va_start(args, option);
	switch ((int)option) {
	case CURLOPT_WRITEFUNCTION: handle->body = va_arg(args, curl_write_callback); break;
	case CURLOPT_WRITEDATA: handle->body_to = va_arg(args, void *); break;
	case CURLOPT_HEADERFUNCTION: handle->header = va_arg(args, curl_write_callback); break;
	case CURLOPT_HEADERDATA: handle->header_to = va_arg(args, void *); break;
	case CURLOPT_READFUNCTION: handle->upload = va_arg(args, curl_read_callback); break;
	case CURLOPT_READDATA: handle->upload_from = va_arg(args, void *); break;
	}
	va_end(args);
	return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...)
{
	const struct fake_handle *handle = easy;
	va_list args;

	va_start(args, info);
	switch ((int)info) {
	case CURLINFO_RESPONSE_CODE: *va_arg(args, long *) = handle->status; break;
	case CURLINFO_RETRY_AFTER: *va_arg(args, curl_off_t *) = handle->retry_after; break;
	case CURLINFO_CONTENT_LENGTH_DOWNLOAD_T:
		*va_arg(args, curl_off_t *) = handle->length;
		break;
	case CURLINFO_SIZE_UPLOAD_T: *va_arg(args, curl_off_t *) = handle->sent; break;
	case CURLINFO_SIZE_DOWNLOAD_T: *va_arg(args, curl_off_t *) = handle->received; break;
	}
	va_end(args);
	return CURLE_OK;
}

/* What libcurl itself reads from a head. */
static inline void fake_header(struct fake_handle *handle, const char *line)
{
	if (!strncmp(line, "HTTP/", 5))
		handle->status = strtol(strchr(line, ' ') ?: "", NULL, 10);
	else if (!strncasecmp(line, "content-length:", 15))
		handle->length = strtoll(line + 15, NULL, 10);
	else if (!strncasecmp(line, "retry-after:", 12))
		handle->retry_after = strtoll(line + 12, NULL, 10);
}

static inline void fake_send(struct fake_handle *handle)
{
	char buffer[64];
	size_t bytes;

	while (handle->upload &&
	       (bytes = handle->upload(buffer, 1, sizeof(buffer), handle->upload_from)))
		handle->sent += (curl_off_t)bytes;
}

/* Lines up to the empty one, which is a line too; what is left is the body. */
static inline CURLcode fake_head(struct fake_handle *handle, const uint8_t **at,
				 size_t *left)
{
	for (;;) {
		const uint8_t *end = *left ? memchr(*at, '\n', *left) : NULL;
		size_t bytes = end ? (size_t)(end - *at) + 1 : *left;
		char *line, *text;
		bool empty;

		if (!bytes)
			return CURLE_GOT_NOTHING;
		/* A line of just its size, without a NUL, as libcurl hands it on. */
		line = fuzz_copy(*at, bytes);
		text = fuzz_text(*at, bytes);
		fake_header(handle, text);
		empty = text[strspn(text, "\r\n")] == '\0';
		free(text);
		*at += bytes;
		*left -= bytes;
		FUZZ_CHECK(handle->header(line, 1, bytes, handle->header_to) == bytes);
		free(line);
		if (empty)
			return CURLE_OK;
	}
}

/* In two pieces, so that the second meets what the first left. */
static inline CURLcode fake_body(struct fake_handle *handle, const uint8_t *at, size_t left)
{
	while (left) {
		size_t bytes = left > 1 ? left / 2 : left, taken;
		char *piece = fuzz_copy(at, bytes);

		taken = handle->body(piece, 1, bytes, handle->body_to);
		free(piece);
		handle->received += (curl_off_t)bytes;
		if (taken != bytes)
			return CURLE_WRITE_ERROR;
		at += bytes;
		left -= bytes;
	}
	return CURLE_OK;
}

CURLcode curl_easy_perform(CURL *easy)
{
	const uint8_t *at = fake_at, *end;
	struct fake_handle *handle = easy;
	size_t left;
	CURLcode result;

	handle->length = -1;
	fake_send(handle);
	if (!fake_left)
		return CURLE_COULDNT_CONNECT;
	end = memchr(at, ANSWER_END, fake_left);
	left = end ? (size_t)(end - at) : fake_left;
	fake_at += left + (end ? 1 : 0);
	fake_left -= left + (end ? 1 : 0);
	if (left == 2 && *at == '!')
		return (CURLcode)(at[1] % CURL_LAST) ?: CURLE_RECV_ERROR;
	result = fake_head(handle, &at, &left);
	if (result == CURLE_OK)
		result = fake_body(handle, at, left);
	/* libcurl sees to it that a body is as long as was announced. */
	if (result == CURLE_OK && handle->length >= 0 && handle->received != handle->length)
		return CURLE_PARTIAL_FILE;
	return result;
}

#endif
