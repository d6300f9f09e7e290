/*
 * Where an s3:// store is: the repository's URL, endpoint and region. What comes of
 * them is sent in the request line and in the signed Host header.
 *
 * Input: URL behind "s3://", endpoint, region, one a line; the last may be missing.
 */
#include "agent/base/log.h"
#include "agent/store/s3.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_ERRORS);
	return 0;
}

static void check_visible(const char *text)
{
	for (; *text; text++)
		FUZZ_CHECK((unsigned char)*text > ' ' && *text != 0x7f);
}

static void check_place(const struct s3_store *s3)
{
	size_t prefix = strlen(s3->prefix);

	check_visible(s3->origin);
	check_visible(s3->host);
	check_visible(s3->root);
	FUZZ_CHECK(!strncmp(s3->origin, "http", 4) && strstr(s3->origin, s3->host));
	FUZZ_CHECK(!strchr(s3->host, '/') && !strchr(s3->host, '@'));
	FUZZ_CHECK(!prefix || s3->prefix[prefix - 1] == '/');
	FUZZ_CHECK(prefix <= STORE_URL_PREFIX_MAX + 1);
	/* Either way the bucket is named once. */
	FUZZ_CHECK(s3->root[0] ? !strcmp(s3->root + 1, s3->bucket) :
				 !strncmp(s3->host, s3->bucket, strlen(s3->bucket)));
}

static void store_free(struct s3_store *s3)
{
	free(s3->base.url);
	free(s3->bucket);
	free(s3->prefix);
	free(s3->region);
	free(s3->origin);
	free(s3->host);
	free(s3->root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	bool path_style = fuzz_byte(&data, &length) & 1;
	char *text = fuzz_text(data, length), *save = text, *url;
	struct store_options options = { .path_style = path_style };
	struct s3_store s3 = { .base = { .url = NULL } };
	struct error err = ERROR_INIT;
	int ret;

	FUZZ_CHECK(asprintf(&url, "s3://%s", strsep(&save, "\n")) >= 0);
	options.endpoint = strsep(&save, "\n");
	options.region = strsep(&save, "\n");
	ret = s3_endpoint_init(&s3, url, &options, &err);
	if (ret)
		fuzz_refused(ret, &err);
	else
		check_place(&s3);
	store_free(&s3);
	free(url);
	free(text);
	return 0;
}
