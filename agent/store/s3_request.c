/*
 * One request to S3: put together, signed anew for each attempt (the signature
 * holds the time), repeated while that can help, and explained when it cannot.
 */
#include "agent/store/s3.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/store/retry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLEANUP_RETRIES 2
#define HEADERS_MAX 8
#define QUERY_SIZE 4096

/* What stays the same over all attempts. */
struct exchange {
	struct s3_store *s3;
	const struct s3_request *request;
	char path[S3_URL_SIZE];
	char query[QUERY_SIZE];
	char url[S3_URL_SIZE + QUERY_SIZE];
	char payload_hash[S3_HASH_TEXT_SIZE];
	char range[64];
};

void s3_url(const struct s3_store *s3, const char *key, char url[static S3_URL_SIZE])
{
	snprintf(url, S3_URL_SIZE, "%s%s/%s%s", s3->origin, s3->root,
		 key ? s3->prefix : "", key ?: "");
}

/* Keys and prefix need no encoding: store.h allows unreserved characters only. */
static int exchange_init(struct exchange *exchange, struct s3_store *s3,
			 const struct s3_request *request)
{
	int ret = 0;

	exchange->s3 = s3;
	exchange->request = request;
	snprintf(exchange->path, sizeof(exchange->path), "%s/%s%s", s3->root,
		 request->key ? s3->prefix : "", request->key ?: "");
	for (size_t i = 0; i < request->query_count && !ret; i++) {
		char *query = exchange->query;

		if (i)
			strcat(query, "&");
		ret = s3_encode(request->query[i].name, query, sizeof(exchange->query) - 2);
		if (!ret) {
			strcat(query, "=");
			ret = s3_encode(request->query[i].value, query,
					sizeof(exchange->query) - 2);
		}
	}
	snprintf(exchange->url, sizeof(exchange->url), "%s%s%s%s", s3->origin, exchange->path,
		 exchange->query[0] ? "?" : "", exchange->query);
	if (request->range_bytes)
		snprintf(exchange->range, sizeof(exchange->range), "bytes=%llu-%llu",
			 (unsigned long long)request->range_offset,
			 (unsigned long long)(request->range_offset +
					      request->range_bytes - 1));
	s3_hash(request->body, request->body_bytes, exchange->payload_hash);
	return ret;
}

static int header_append(struct curl_slist **list, const char *name, const char *value)
{
	struct curl_slist *longer;
	char *line;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		return -ENOMEM;
	longer = curl_slist_append(*list, line);
	secret_free(line);
	if (!longer)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static void headers_free(struct curl_slist **list)
{
	for (struct curl_slist *item = *list; item; item = item->next)
		explicit_bzero(item->data, strlen(item->data));
	curl_slist_free_all(*list);
	*list = NULL;
}

/* Every header is signed, the condition too: a proxy that drops it is found out. */
static int headers_make(const struct exchange *exchange, struct curl_slist **list)
{
	const struct s3_store *s3 = exchange->s3;
	char date[S3_DATE_SIZE], authorization[S3_AUTHORIZATION_SIZE];
	struct s3_header headers[HEADERS_MAX];
	struct s3_signing signing = {
		.method = exchange->request->method, .path = exchange->path,
		.query = exchange->query, .headers = headers,
		.payload_hash = exchange->payload_hash, .region = s3->region,
		.service = "s3", .date = date,
	};
	size_t count = 0;
	int ret;

	s3_date(time(NULL), date);
	headers[count++] = (struct s3_header){ "host", s3->host };
	if (exchange->request->if_absent)
		headers[count++] = (struct s3_header){ "if-none-match", "*" };
	if (exchange->range[0])
		headers[count++] = (struct s3_header){ "range", exchange->range };
	headers[count++] = (struct s3_header){ "x-amz-content-sha256", exchange->payload_hash };
	headers[count++] = (struct s3_header){ "x-amz-date", date };
	if (s3->credentials.session_token)
		headers[count++] = (struct s3_header){ "x-amz-security-token",
						       s3->credentials.session_token };
	signing.header_count = count;
	ret = s3_sign(&signing, &s3->credentials, authorization);
	for (size_t i = 0; i < count && !ret; i++)
		ret = header_append(list, headers[i].name, headers[i].value);
	if (!ret)
		ret = header_append(list, "authorization", authorization);
	return ret;
}

/* A server's or a proxy's text that repeats a credential is not passed on. */
static const char *message_safe(const struct s3_store *s3, const char *text)
{
	const struct credentials *ours = &s3->credentials;

	if (strstr(text, ours->secret_key) || strstr(text, ours->access_key) ||
	    (ours->session_token && strstr(text, ours->session_token)))
		return "(left out: it repeats a credential)";
	return text;
}

static void exchange_explain_answer(const struct exchange *exchange,
				    const struct s3_answer *answer, int code,
				    const char *hint, struct error *err)
{
	const struct s3_fault *fault = &answer->fault;
	const struct s3_store *s3 = exchange->s3;
	char url[S3_URL_SIZE];

	s3_url(s3, exchange->request->key, url);
	error_set_exit(err, code == -ENXIO ? EXIT_NO_REPOSITORY : EXIT_FAILED, code,
		       "could not %s %.600s: the server answered %ld%s%s%s%s%s",
		       exchange->request->what, url, answer->status,
		       fault->code[0] ? " " : "", message_safe(s3, fault->code),
		       fault->message[0] ? " (" : "", message_safe(s3, fault->message),
		       fault->message[0] ? ")" : "");
	if (hint)
		error_hint(err, "%s", hint);
	if (fault->region[0] && (code == -EREMOTE || code == -EACCES))
		error_hint(err, "the bucket is in region %s", message_safe(s3, fault->region));
}

static void exchange_explain_trouble(const struct exchange *exchange, int code,
				     const char *detail, struct error *err)
{
	char url[S3_URL_SIZE];

	s3_url(exchange->s3, exchange->request->key, url);
	if (code == -EINTR && interrupt_check(err)) {
		error_prefix(err, "could not %s %.600s", exchange->request->what, url);
		return;
	}
	error_set(err, code, "could not %s %.600s: %s", exchange->request->what, url, detail);
	if (code == -EKEYREJECTED)
		error_hint(err, "if the server's certificate comes from an authority of your "
			   "own, name that authority's certificate (ca_file)");
	else if (code == -EHOSTUNREACH || code == -ECONNREFUSED)
		error_hint(err, "check the endpoint and the network");
}

/* One attempt; fills `err` on failure and says whether to try again. */
static int exchange_attempt(const struct exchange *exchange, struct s3_answer *answer,
			    bool *retryable, struct error *err)
{
	CLEANUP(headers_free) struct curl_slist *headers = NULL;
	struct s3_attempt attempt = {
		.s3 = exchange->s3, .request = exchange->request, .url = exchange->url,
		.answer = answer,
	};
	struct s3_meaning meaning;
	int ret = headers_make(exchange, &headers);

	*retryable = false;
	if (ret) {
		exchange_explain_trouble(exchange, ret, error_text(ret), err);
		return ret;
	}
	attempt.headers = headers;
	ret = s3_transfer(&attempt);
	if (ret) {
		*retryable = attempt.retryable;
		exchange_explain_trouble(exchange, ret, attempt.detail, err);
		return ret;
	}
	/* A 200 can carry an error that came too late for the status line. */
	if (answer->status >= 200 && answer->status <= 299 && !answer->fault.code[0])
		return 0;
	meaning = s3_answer_meaning(answer);
	*retryable = meaning.retryable;
	exchange_explain_answer(exchange, answer, meaning.code, meaning.hint, err);
	return meaning.code;
}

static bool request_stop(const void *context)
{
	const struct s3_request *request = context;

	return (request->cancelled && atomic_load(request->cancelled)) ||
	       (!request->despite_interrupt && interrupt_requested());
}

static void answer_clear(struct s3_answer *answer)
{
	unsigned tries = answer->tries;
	bool resent = answer->resent;

	memset(answer, 0, sizeof(*answer));
	answer->tries = tries;
	answer->resent = resent;
}

static int exchange_run(const struct exchange *exchange, struct s3_answer *answer,
			struct error *err)
{
	const struct s3_request *request = exchange->request;
	struct store *store = &exchange->s3->base;
	unsigned retries = request->despite_interrupt && store->retries > CLEANUP_RETRIES ?
			   CLEANUP_RETRIES : store->retries;
	uint64_t began_ns = retry_clock_ns();

	for (;;) {
		struct error failure = ERROR_INIT;
		bool retryable;
		int ret;

		answer_clear(answer);
		answer->tries++;
		ret = exchange_attempt(exchange, answer, &retryable, &failure);
		if (!ret)
			return 0;
		if (retryable && answer->tries <= retries &&
		    !retry_wait(retry_delay_ms(answer->tries, answer->retry_after_seconds,
					       retry_random()), request_stop, request)) {
			atomic_fetch_add(&store->retried, 1);
			answer->resent = true;
			continue;
		}
		if (retryable && request_stop(request)) {
			ret = -EINTR;
			exchange_explain_trouble(exchange, ret, "interrupted", &failure);
		} else if (answer->tries > 1) {
			error_hint(&failure, "gave up after %u tries in %llu s", answer->tries,
				   (unsigned long long)(retry_clock_ns() - began_ns) /
				   1000000000);
		}
		*err = failure;
		return ret;
	}
}

int s3_request(struct s3_store *s3, const struct s3_request *request,
	       struct s3_answer *answer, struct error *err)
{
	CLEANUP_FREE struct exchange *exchange = calloc(1, sizeof(*exchange));
	int ret;

	memset(answer, 0, sizeof(*answer));
	if (!exchange)
		return error_set(err, -ENOMEM, "could not %s %s: out of memory", request->what,
				 request->key ?: s3->base.url);
	ret = exchange_init(exchange, s3, request);
	if (ret) {
		exchange_explain_trouble(exchange, ret, error_text(ret), err);
		return ret;
	}
	return exchange_run(exchange, answer, err);
}
