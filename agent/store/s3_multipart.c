#include "agent/store/s3_multipart.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_LIMIT_BYTES (64u << 10)
#define UPLOAD_ID_SIZE 1024
#define MD5_BYTES 16

static int multipart_failed(struct s3_store *s3, const char *key, int code,
			    const char *why, struct error *err)
{
	return error_set(err, code, "could not write %s/%s: %s", s3->base.url, key, why);
}

int s3_multipart_begin(struct s3_store *s3, const char *key, char **upload_id,
		       struct error *err)
{
	CLEANUP(s3_sink_fini) struct s3_sink sink;
	struct s3_query query = { "uploads", "" };
	struct s3_request request = {
		.what = "begin to write", .method = "POST", .key = key, .query = &query,
		.query_count = 1, .sink = &sink,
	};
	struct s3_answer answer;
	char text[UPLOAD_ID_SIZE];
	int ret;

	s3_sink_growing(&sink, ANSWER_LIMIT_BYTES);
	ret = s3_request(s3, &request, &answer, err);
	if (ret)
		return ret;
	ret = s3_xml_text(sink.data, sink.length, "UploadId", text, sizeof(text));
	if (ret)
		return multipart_failed(s3, key, ret, "the server gave no upload id", err);
	*upload_id = strdup(text);
	return *upload_id ? 0 : multipart_failed(s3, key, -ENOMEM, "out of memory", err);
}

int s3_multipart_put(struct s3_store *s3, const char *key, const char *upload_id,
		     unsigned number, const void *data, size_t length,
		     const atomic_bool *cancelled, struct s3_etag *etag,
		     struct error *err)
{
	char number_text[16];
	struct s3_query query[] = {
		{ "partNumber", number_text }, { "uploadId", upload_id },
	};
	struct s3_request request = {
		.what = "write a part of", .method = "PUT", .key = key, .query = query,
		.query_count = 2, .body = data, .body_bytes = length, .cancelled = cancelled,
	};
	struct s3_answer answer;
	int ret;

	snprintf(number_text, sizeof(number_text), "%u", number);
	ret = s3_request(s3, &request, &answer, err);
	if (ret)
		return ret;
	if (!answer.etag[0] || strpbrk(answer.etag, "<>&"))
		return multipart_failed(s3, key, -EPROTO, "the server named a part badly", err);
	memcpy(etag->text, answer.etag, sizeof(etag->text));
	return 0;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 32 hexadecimal digits, mostly in quotes. */
static int md5_parse(const char *text, unsigned char digest[static MD5_BYTES])
{
	text += *text == '"';
	for (int i = 0; i < MD5_BYTES; i++, text += 2) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0)
			return -EPROTO;
		digest[i] = (unsigned char)(high << 4 | low);
	}
	return *text == '\0' || strcmp(text, "\"") == 0 ? 0 : -EPROTO;
}

int s3_multipart_etag(const struct s3_etag *etags, unsigned count, struct s3_etag *etag)
{
	CLEANUP_FREE unsigned char *digests = calloc(count + 1, MD5_BYTES);
	unsigned char digest[MD5_BYTES];
	char *to = etag->text;
	int ret = digests ? 0 : -ENOMEM;

	for (unsigned i = 0; i < count && !ret; i++)
		ret = md5_parse(etags[i].text, digests + (size_t)i * MD5_BYTES);
	if (!ret && !EVP_Digest(digests, (size_t)count * MD5_BYTES, digest, NULL, EVP_md5(),
				NULL))
		ret = -EPROTO;	/* a system that forbids MD5 */
	if (ret)
		return ret;
	*to++ = '"';
	for (int i = 0; i < MD5_BYTES; i++)
		to += sprintf(to, "%02x", digest[i]);
	sprintf(to, "-%u\"", count);
	return 0;
}

/* The answer to a completion may be lost: is what is stored under the key this upload? */
static int complete_confirm(struct s3_store *s3, const char *key,
			    const struct s3_etag *etags, unsigned count,
			    uint64_t total_bytes, struct error *err)
{
	struct s3_answer answer;
	struct s3_etag expected;
	int ret = s3_size_request(s3, key, &answer, err);

	if (ret)
		return ret;
	if (answer.total_bytes == total_bytes &&
	    !s3_multipart_etag(etags, count, &expected) &&
	    strcasecmp(answer.etag, expected.text) == 0)
		return 0;
	return multipart_failed(s3, key, -EIO, "the answer to its completion was lost and the "
				"stored object cannot be shown to be it", err);
}

static char *complete_body(const struct s3_etag *etags, unsigned count, size_t *length)
{
	char *body = NULL;
	FILE *out = open_memstream(&body, length);

	if (!out)
		return NULL;
	fputs("<CompleteMultipartUpload>", out);
	for (unsigned i = 0; i < count; i++)
		fprintf(out, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1,
			etags[i].text);
	fputs("</CompleteMultipartUpload>", out);
	if (fclose(out) != 0) {
		free(body);
		return NULL;
	}
	return body;
}

int s3_multipart_complete(struct s3_store *s3, const char *key, const char *upload_id,
			  const struct s3_etag *etags, unsigned count,
			  uint64_t total_bytes, struct error *err)
{
	CLEANUP(s3_sink_fini) struct s3_sink sink;
	CLEANUP_FREE char *body = NULL;
	size_t length = 0;
	struct s3_query query = { "uploadId", upload_id };
	struct s3_request request = {
		.what = "finish writing", .method = "POST", .key = key, .query = &query,
		.query_count = 1, .sink = &sink, .late_fault = true,
	};
	struct error doubt = ERROR_INIT;
	struct s3_answer answer;
	int ret, confirmed;

	body = complete_body(etags, count, &length);
	if (!body)
		return multipart_failed(s3, key, -ENOMEM, "out of memory", err);
	request.body = body;
	request.body_bytes = length;
	s3_sink_growing(&sink, ANSWER_LIMIT_BYTES);
	ret = s3_request(s3, &request, &answer, err);
	if (!ret || ret == -EINTR || !answer.resent)
		return ret;
	/* Also after other failures: some servers call a completed upload an error. */
	confirmed = complete_confirm(s3, key, etags, count, total_bytes, &doubt);
	if (!confirmed)
		return 0;
	if (ret != -ESTALE)
		return ret;
	*err = doubt;
	return confirmed;
}
