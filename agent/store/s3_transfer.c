/*
 * One attempt of a request through libcurl. The connection's and the transfer's
 * troubles are sorted here into worth trying again or not; what an answer that
 * arrived means is s3_answer.c's business.
 */
#include "agent/store/s3.h"

#include "agent/base/interrupt.h"
#include "agent/store/retry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CONNECT_TIMEOUT_SECONDS 20
#define CLEANUP_TIMEOUT_SECONDS 10	/* people wait at the prompt */
#define FAULT_LIMIT_BYTES (16u << 10)

struct transfer {
	struct s3_attempt *attempt;
	CURL *handle;
	struct s3_sink fault;	/* body of an answer that is no 2xx */
	uint64_t skip_bytes;	/* of a 200 to a range request */
	bool body_begun;
	size_t sent;		/* of request->body */
	/* Without any progress for this long the transfer has stalled. */
	uint64_t stall_ns, moved_ns;
	curl_off_t moved_bytes;
	bool stalled, stopped;
};

static bool request_stop(const void *context)
{
	const struct s3_request *request = context;

	return (request->cancelled && atomic_load(request->cancelled)) ||
	       (!request->despite_interrupt && interrupt_requested());
}

/* ---- callbacks ------------------------------------------------------------- */

static size_t on_read(char *buffer, size_t size, size_t count, void *context)
{
	struct transfer *transfer = context;
	const struct s3_request *request = transfer->attempt->request;
	size_t bytes = size * count, left = request->body_bytes - transfer->sent;

	if (bytes > left)
		bytes = left;
	if (bytes == 0)
		return 0;
	bytes = bandwidth_take(&transfer->attempt->s3->base.bandwidth, bytes);
	memcpy(buffer, (const char *)request->body + transfer->sent, bytes);
	transfer->sent += bytes;
	return bytes;
}

/* libcurl starts over on a fresh connection when a kept one proves dead. */
static int on_seek(void *context, curl_off_t offset, int origin)
{
	struct transfer *transfer = context;

	if (origin != SEEK_SET || offset < 0 ||
	    (uint64_t)offset > transfer->attempt->request->body_bytes)
		return CURL_SEEKFUNC_FAIL;
	if (transfer->sent)
		transfer->attempt->answer->resent = true;
	transfer->sent = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
	struct transfer *transfer = context;
	const struct s3_request *request = transfer->attempt->request;
	size_t bytes = size * count, skip;
	long status = 0;

	curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 299) {	/* what does not fit is dropped */
		s3_sink_append(&transfer->fault, data, bytes);
		return bytes;
	}
	if (!transfer->body_begun) {
		transfer->body_begun = true;
		transfer->skip_bytes = request->range_bytes && status == 200 ?
				       request->range_offset : 0;
	}
	skip = transfer->skip_bytes < bytes ? (size_t)transfer->skip_bytes : bytes;
	transfer->skip_bytes -= skip;
	if (!request->sink || s3_sink_append(request->sink, data + skip, bytes - skip))
		return bytes;
	return 0;	/* ends the transfer; sink->overflow tells why */
}

/* "name: value\r\n" with that name: the value's length, and where it starts. */
static size_t header_value(const char *line, size_t length, const char *name,
			   const char **value)
{
	size_t name_length = strlen(name);

	if (length <= name_length || line[name_length] != ':' ||
	    strncasecmp(line, name, name_length) != 0)
		return 0;
	*value = line + name_length + 1;
	length -= name_length + 1;
	while (length && (**value == ' ' || **value == '\t')) {
		(*value)++;
		length--;
	}
	while (length && strchr("\r\n \t", (*value)[length - 1]))
		length--;
	return length;
}

/* "bytes 0-99/1234", or "bytes * /1234" with a 416. */
static void range_parse(struct s3_answer *answer, const char *value, size_t length)
{
	unsigned long long first, last, total;
	char text[96], slash[2];

	if (length >= sizeof(text))
		return;
	memcpy(text, value, length);
	text[length] = '\0';
	if (sscanf(text, "bytes %llu-%llu%1[/]%llu", &first, &last, slash, &total) == 4) {
		answer->range_offset = first;
		answer->total_bytes = total;
		answer->total_known = last >= first && last < total;
	}
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
	struct transfer *transfer = context;
	struct s3_answer *answer = transfer->attempt->answer;
	size_t bytes = size * count, length;
	const char *value;

	if (bytes > 5 && strncmp(line, "HTTP/", 5) == 0) {	/* after a 100 Continue */
		answer->etag[0] = '\0';
		answer->total_known = false;
	}
	length = header_value(line, bytes, "etag", &value);
	if (length && length < sizeof(answer->etag)) {
		memcpy(answer->etag, value, length);
		answer->etag[length] = '\0';
	}
	length = header_value(line, bytes, "content-range", &value);
	if (length)
		range_parse(answer, value, length);
	return bytes;
}

static int on_progress(void *context, curl_off_t down_total, curl_off_t down,
		       curl_off_t up_total, curl_off_t up)
{
	struct transfer *transfer = context;
	uint64_t now = retry_clock_ns();

	(void)down_total;
	(void)up_total;
	if (request_stop(transfer->attempt->request)) {
		transfer->stopped = true;
		return 1;
	}
	if (down + up != transfer->moved_bytes) {
		transfer->moved_bytes = down + up;
		transfer->moved_ns = now;
	}
	transfer->stalled = now - transfer->moved_ns > transfer->stall_ns;
	return transfer->stalled;
}

/* ---- set-up -------------------------------------------------------------------- */

static void transfer_set_trust(CURL *handle, struct s3_store *s3)
{
	struct curl_blob blob = { s3->trust, s3->trust_bytes, CURL_BLOB_NOCOPY };

	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (s3->trust)
		curl_easy_setopt(handle, CURLOPT_CAINFO_BLOB, &blob);
}

static void transfer_set_body(CURL *handle, struct transfer *transfer)
{
	const struct s3_request *request = transfer->attempt->request;

	if (strcmp(request->method, "GET") == 0)
		return;
	curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method);
	if (strcmp(request->method, "DELETE") == 0)
		return;
	curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_bytes);
	curl_easy_setopt(handle, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(handle, CURLOPT_READDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(handle, CURLOPT_SEEKDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
	/* Without a body on_seek cannot tell that libcurl has sent it twice. */
	if (request->if_absent && !request->body_bytes)
		curl_easy_setopt(handle, CURLOPT_FRESH_CONNECT, 1L);
}

static void transfer_set(CURL *handle, struct transfer *transfer, char *error_buffer)
{
	struct s3_attempt *attempt = transfer->attempt;

	curl_easy_reset(handle);	/* keeps the connection */
	curl_easy_setopt(handle, CURLOPT_URL, attempt->url);
	curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(handle, CURLOPT_USERAGENT, "clawback/" CLAWBACK_VERSION);
	curl_easy_setopt(handle, CURLOPT_HTTPHEADER, attempt->headers);
	curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)(transfer->stall_ns / 1000000 < CONNECT_TIMEOUT_SECONDS * 1000 ?
				transfer->stall_ns / 1000000 : CONNECT_TIMEOUT_SECONDS * 1000));
	curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error_buffer);
	curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(handle, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(handle, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(handle, CURLOPT_XFERINFODATA, transfer);
	transfer_set_trust(handle, attempt->s3);
	transfer_set_body(handle, transfer);
}

/* ---- outcome ------------------------------------------------------------------- */

struct trouble {
	CURLcode result;
	int code;
	bool retryable;
};

static const struct trouble troubles[] = {
	{ CURLE_COULDNT_RESOLVE_HOST, -EHOSTUNREACH, true },
	{ CURLE_COULDNT_RESOLVE_PROXY, -EHOSTUNREACH, true },
	{ CURLE_COULDNT_CONNECT, -ECONNREFUSED, true },
	{ CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT, true },
	{ CURLE_SSL_CONNECT_ERROR, -ECONNRESET, true },
	{ CURLE_SEND_ERROR, -ECONNRESET, true },
	{ CURLE_RECV_ERROR, -ECONNRESET, true },
	{ CURLE_GOT_NOTHING, -ECONNRESET, true },
	{ CURLE_PARTIAL_FILE, -ECONNRESET, true },
	{ CURLE_WEIRD_SERVER_REPLY, -EPROTO, true },
	{ CURLE_PEER_FAILED_VERIFICATION, -EKEYREJECTED, false },
	{ CURLE_SSL_CACERT_BADFILE, -EINVAL, false },
	{ CURLE_OUT_OF_MEMORY, -ENOMEM, false },
};

static int transfer_trouble(struct transfer *transfer, CURLcode result,
			    const char *error_buffer)
{
	struct s3_attempt *attempt = transfer->attempt;
	const char *text = error_buffer[0] ? error_buffer : curl_easy_strerror(result);

	if (transfer->stopped) {
		snprintf(attempt->detail, sizeof(attempt->detail), "interrupted");
		return -EINTR;
	}
	if (transfer->stalled) {
		snprintf(attempt->detail, sizeof(attempt->detail),
			 "nothing came or went for %llu s",
			 (unsigned long long)(transfer->stall_ns / 1000000000));
		attempt->retryable = true;
		return -ETIMEDOUT;
	}
	snprintf(attempt->detail, sizeof(attempt->detail), "%s", text);
	for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++) {
		if (troubles[i].result != result)
			continue;
		attempt->retryable = troubles[i].retryable;
		return troubles[i].code;
	}
	return -EIO;
}

/* A range answer must be the range asked for, and whole. */
static int transfer_check_range(struct transfer *transfer)
{
	struct s3_attempt *attempt = transfer->attempt;
	const struct s3_request *request = attempt->request;
	const struct s3_answer *answer = attempt->answer;
	uint64_t wanted;

	if (answer->status != 206 || !request->range_bytes)
		return 0;
	wanted = answer->total_bytes - request->range_offset;
	if (wanted > request->range_bytes)
		wanted = request->range_bytes;
	if (answer->total_known && answer->range_offset == request->range_offset &&
	    request->sink->length == wanted)
		return 0;
	attempt->retryable = true;
	snprintf(attempt->detail, sizeof(attempt->detail),
		 "the server sent another range than was asked for");
	return -EPROTO;
}

static int transfer_finish(struct transfer *transfer, CURLcode result,
			   const char *error_buffer)
{
	struct s3_attempt *attempt = transfer->attempt;
	struct s3_answer *answer = attempt->answer;
	const struct s3_sink *sink = attempt->request->sink;
	curl_off_t retry_after = 0, length = -1, up = 0, down = 0;

	curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &answer->status);
	curl_easy_getinfo(transfer->handle, CURLINFO_RETRY_AFTER, &retry_after);
	curl_easy_getinfo(transfer->handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(transfer->handle, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(transfer->handle, CURLINFO_SIZE_DOWNLOAD_T, &down);
	atomic_fetch_add(&attempt->s3->base.bytes_sent, (uint64_t)up);
	atomic_fetch_add(&attempt->s3->base.bytes_received, (uint64_t)down);
	answer->retry_after_seconds = (long)retry_after;
	if (answer->status == 200 && length >= 0) {
		answer->total_bytes = (uint64_t)length;
		answer->total_known = true;
	}
	if (result == CURLE_WRITE_ERROR && sink && sink->overflow)
		return 0;	/* the caller has what it has room for */
	if (result != CURLE_OK)
		return transfer_trouble(transfer, result, error_buffer);
	if (answer->status < 200 || answer->status > 299)
		s3_xml_fault(transfer->fault.data, transfer->fault.length, &answer->fault);
	else if (attempt->request->late_fault)
		s3_xml_fault(sink->data, sink->length, &answer->fault);
	return transfer_check_range(transfer);
}

int s3_transfer(struct s3_attempt *attempt)
{
	const struct s3_request *request = attempt->request;
	struct store *store = &attempt->s3->base;
	struct transfer transfer = { .attempt = attempt, .moved_ns = retry_clock_ns() };
	uint32_t seconds = store->timeout_seconds;
	char error_buffer[CURL_ERROR_SIZE] = "";
	CURLcode result;
	int ret;

	if (request->despite_interrupt && seconds > CLEANUP_TIMEOUT_SECONDS)
		seconds = CLEANUP_TIMEOUT_SECONDS;
	transfer.stall_ns = seconds * 1000000000ull;
	transfer.handle = s3_pool_get(&attempt->s3->pool, store->connections, request_stop,
				      request);
	if (!transfer.handle) {
		ret = request_stop(request) ? -EINTR : -ENOMEM;
		snprintf(attempt->detail, sizeof(attempt->detail), "%s", error_text(ret));
		return ret;
	}
	transfer.moved_ns = retry_clock_ns();
	if (request->sink) {
		request->sink->length = 0;
		request->sink->overflow = false;
	}
	s3_sink_growing(&transfer.fault, FAULT_LIMIT_BYTES);
	atomic_fetch_add(&store->requests, 1);
	transfer_set(transfer.handle, &transfer, error_buffer);
	result = curl_easy_perform(transfer.handle);
	ret = transfer_finish(&transfer, result, error_buffer);
	/* Nothing of this stack frame may stay behind in the handle. */
	curl_easy_reset(transfer.handle);
	s3_pool_put(&attempt->s3->pool, transfer.handle);
	s3_sink_fini(&transfer.fault);
	return ret;
}
