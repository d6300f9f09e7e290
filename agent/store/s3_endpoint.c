/*
 * From s3://bucket/prefix and the options to where requests go. A bucket stands
 * in the host name (what AWS wants) or in the path (path_style, what most other
 * servers want); in the path always where a host name cannot hold it: an address,
 * "localhost", or over TLS a bucket with dots, which no wildcard covers.
 */
#include "agent/store/s3.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRUST_LIMIT_BYTES (16u << 20)

struct endpoint {
	char *scheme, *host, *port;	/* port NULL: the scheme's own */
};

static void endpoint_fini(struct endpoint *endpoint)
{
	curl_free(endpoint->scheme);
	curl_free(endpoint->host);
	curl_free(endpoint->port);
}

static bool name_valid(const char *name, size_t shortest, size_t longest)
{
	size_t length = strlen(name);

	if (length < shortest || length > longest || name[0] == '.' || name[0] == '-')
		return false;
	return store_part_valid(name, length);
}

static bool curl_url_has(CURLU *url, CURLUPart part)
{
	char *text = NULL;
	bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;

	curl_free(text);
	return has;
}

/* False unless it is http or https with a host, and nothing but a port behind it. */
static bool endpoint_split(CURLU *url, struct endpoint *endpoint)
{
	char *path = NULL;
	bool plain;

	if (curl_url_get(url, CURLUPART_SCHEME, &endpoint->scheme, 0) ||
	    curl_url_get(url, CURLUPART_HOST, &endpoint->host, 0))
		return false;
	if (curl_url_get(url, CURLUPART_PORT, &endpoint->port, CURLU_NO_DEFAULT_PORT))
		endpoint->port = NULL;
	plain = curl_url_get(url, CURLUPART_PATH, &path, 0) || strcmp(path, "/") == 0;
	curl_free(path);
	return plain && !curl_url_has(url, CURLUPART_USER) &&
	       !curl_url_has(url, CURLUPART_PASSWORD) &&
	       !curl_url_has(url, CURLUPART_QUERY) && !curl_url_has(url, CURLUPART_FRAGMENT) &&
	       (strcmp(endpoint->scheme, "https") == 0 || strcmp(endpoint->scheme, "http") == 0);
}

/* The endpoint is not echoed: people do put passwords into URLs. */
static int endpoint_parse(const char *text, struct endpoint *endpoint, struct error *err)
{
	CURLU *url = curl_url();
	bool ok = url && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
		  endpoint_split(url, endpoint);

	curl_url_cleanup(url);
	return ok ? 0 : error_set_exit(err, EXIT_USAGE, -EINVAL,
				       "the object store's endpoint must be https://HOST[:PORT] "
				       "(or http), without user, path or query");
}

static bool host_is_address(const char *host)
{
	struct in_addr address;

	return host[0] == '[' || inet_pton(AF_INET, host, &address) == 1;
}

static bool host_is_local(const char *host)
{
	size_t length = strlen(host), suffix = strlen(".localhost");

	return (length > suffix && strcmp(host + length - suffix, ".localhost") == 0) ||
	       strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
	       strncmp(host, "127.", 4) == 0;
}

/* Fills origin, host and root. */
static int endpoint_apply(struct s3_store *s3, const struct endpoint *endpoint,
			  bool path_style)
{
	bool tls = strcmp(endpoint->scheme, "https") == 0;
	bool in_path = path_style || host_is_address(endpoint->host) ||
		       strcmp(endpoint->host, "localhost") == 0 ||
		       (tls && strchr(s3->bucket, '.'));

	if (asprintf(&s3->host, "%s%s%s%s%s", in_path ? "" : s3->bucket, in_path ? "" : ".",
		     endpoint->host, endpoint->port ? ":" : "", endpoint->port ?: "") < 0)
		s3->host = NULL;
	if (!s3->host || asprintf(&s3->origin, "%s://%s", endpoint->scheme, s3->host) < 0)
		s3->origin = NULL;
	if (asprintf(&s3->root, "%s%s", in_path ? "/" : "", in_path ? s3->bucket : "") < 0)
		s3->root = NULL;
	if (!s3->host || !s3->origin || !s3->root)
		return -ENOMEM;
	if (!tls && !host_is_local(endpoint->host))
		log_warning("%s is not encrypted: whoever is on the way sees object names and "
			    "can disturb the requests; use https", s3->origin);
	return 0;
}

/* s3://bucket[/prefix[/]] */
static int url_parse(struct s3_store *s3, const char *url, struct error *err)
{
	CLEANUP_FREE char *copy = strdup(url + strlen("s3://"));
	char *slash, *prefix = NULL;
	size_t length = 0;
	bool ok;

	if (!copy)
		return error_set(err, -ENOMEM, "could not open the object store: out of memory");
	slash = strchr(copy, '/');
	if (slash) {
		*slash = '\0';
		prefix = slash + 1;
		length = strlen(prefix);
		if (length > 1 && prefix[length - 1] == '/')
			prefix[--length] = '\0';
	}
	ok = name_valid(copy, 3, 63) &&
	     (!length || (length <= STORE_URL_PREFIX_MAX && store_key_valid(prefix)));
	if (!ok)
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "a repository's URL on S3 must be s3://BUCKET[/PREFIX]: a "
				      "bucket of 3 to 63 and a prefix of at most %d letters, digits, "
				      "'.', '_', '-' (and '/' in the prefix)", STORE_URL_PREFIX_MAX);
	s3->bucket = strdup(copy);
	if (asprintf(&s3->prefix, "%s%s", length ? prefix : "", length ? "/" : "") < 0)
		s3->prefix = NULL;
	if (asprintf(&s3->base.url, "s3://%s%s%s", copy, length ? "/" : "",
		     length ? prefix : "") < 0)
		s3->base.url = NULL;
	if (!s3->bucket || !s3->prefix || !s3->base.url)
		return error_set(err, -ENOMEM, "could not open the object store: out of memory");
	return 0;
}

/*
 * The system's anchors and the extra one, in one piece: CURLOPT_CAINFO alone would
 * replace the system's.
 */
static int trust_load(struct s3_store *s3, const char *ca_file, struct error *err)
{
	const char *bundle = curl_version_info(CURLVERSION_NOW)->cainfo;
	CLEANUP_FREE char *system = NULL;
	CLEANUP_FREE char *extra = NULL;
	size_t system_bytes = 0, extra_bytes = 0;
	int ret = file_read(ca_file, TRUST_LIMIT_BYTES, &extra, &extra_bytes);

	if (ret)
		return error_set_exit(err, EXIT_USAGE, ret,
				      "could not read the authority's certificate %s: %s",
				      ca_file, error_text(ret));
	if (!strstr(extra, "-----BEGIN CERTIFICATE-----"))
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "there is no certificate in %s; it must be a PEM file "
				      "(-----BEGIN CERTIFICATE-----)", ca_file);
	/* A system without a bundle of its own trusts the extra one only. */
	if (!bundle || file_read(bundle, TRUST_LIMIT_BYTES, &system, &system_bytes))
		system_bytes = 0;
	s3->trust = malloc(system_bytes + extra_bytes + 1);
	if (!s3->trust)
		return error_set(err, -ENOMEM, "could not read %s: out of memory", ca_file);
	memcpy(s3->trust, extra, extra_bytes);
	s3->trust[extra_bytes] = '\n';
	if (system_bytes)
		memcpy(s3->trust + extra_bytes + 1, system, system_bytes);
	s3->trust_bytes = extra_bytes + 1 + system_bytes;
	return 0;
}

int s3_endpoint_init(struct s3_store *s3, const char *url,
		     const struct store_options *options, struct error *err)
{
	CLEANUP(endpoint_fini) struct endpoint endpoint = { NULL, NULL, NULL };
	const char *region = options->region ?: "us-east-1";
	char amazon[128];
	int ret = url_parse(s3, url, err);

	if (ret)
		return ret;
	if (!name_valid(region, 1, 63))
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "the region of %s must be a name like us-east-1",
				      s3->base.url);
	snprintf(amazon, sizeof(amazon), "https://s3.%s.amazonaws.com", region);
	ret = endpoint_parse(options->endpoint ?: amazon, &endpoint, err);
	if (ret)
		return ret;
	s3->region = strdup(region);
	if (!s3->region || endpoint_apply(s3, &endpoint, options->path_style))
		return error_set(err, -ENOMEM, "could not open %s: out of memory", s3->base.url);
	return options->ca_file ? trust_load(s3, options->ca_file, err) : 0;
}
