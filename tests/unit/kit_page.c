/* The recovery kit's page: its fragment is a configuration, its codes are the fragment. */
#include "agent/kit/kit.h"
#include "tests/unit/config_lab.h"

#include <stdlib.h>

static struct config config;
static struct kit kit;

static void kit_new(const char *url)
{
	memset(&config, 0, sizeof(config));
	memset(&kit, 0, sizeof(kit));
	strcpy(config.repository.name, CONFIG_STORE_FIRST);
	snprintf(config.repository.url, sizeof(config.repository.url), "%s", url);
	kit.config = &config;
	strcpy(kit.host, "host");
	strcpy(kit.store, CONFIG_STORE_FIRST);
	memset(kit.fingerprint, 'a', 64);
}

static void kit_add_stores(size_t count)
{
	config.stores = calloc(count, sizeof(*config.stores));
	assert_non_null(config.stores);
	config.store_count = count;
	for (size_t i = 0; i < count; i++) {
		struct config_store *store = &config.stores[i];

		snprintf(store->name, sizeof(store->name), "store%zu", i);
		snprintf(store->url, sizeof(store->url), "s3://bucket-%zu/some/prefix", i);
		snprintf(store->endpoint, sizeof(store->endpoint), "https://s3.%zu.example.org:8443", i);
		strcpy(store->region, "eu-central-1");
		store->path_style = i % 2;
		strcpy(store->credentials_file, "/etc/clawback/credentials-are-elsewhere");
	}
}

static void kit_add_volumes(size_t count)
{
	kit.volumes = calloc(count, sizeof(*kit.volumes));
	assert_non_null(kit.volumes);
	kit.volume_count = count;
	for (size_t i = 0; i < count; i++) {
		struct kit_volume *volume = &kit.volumes[i];

		snprintf(volume->name, sizeof(volume->name), "volume%zu", i);
		snprintf(volume->which, sizeof(volume->which), "volume%zu", i);
		snprintf(volume->device, sizeof(volume->device), "/dev/disk\xc3\xa9/%zu", i);
		volume->point = i;	/* the first has none */
		volume->time_ns = 1000000000ull * 1700000000;
		volume->bytes = 1ull << (i % 50);
	}
}

static void kit_end(void)
{
	kit_fini(&kit);
	free(config.stores);
}

static void fragment_is_a_configuration(void **state)
{
	CLEANUP_FREE char *fragment = NULL;
	struct error err = ERROR_INIT;
	struct config read;

	(void)state;
	kit_new("s3://bucket/it's $HOME #1");
	kit_add_stores(3);
	fragment = kit_fragment(&kit);
	assert_non_null(fragment);
	if (config_load_text(fragment, strlen(fragment), NULL, 0, &read, &err))
		fail_msg("%s", err.message);
	assert_string_equal(config.repository.url, read.repository.url);
	assert_string_equal(kit.fingerprint, read.identity.fingerprint);
	assert_int_equal(3, read.store_count);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(config.stores[i].url, read.stores[i].url);
		assert_string_equal(config.stores[i].endpoint, read.stores[i].endpoint);
		assert_string_equal(config.stores[i].region, read.stores[i].region);
		assert_int_equal(config.stores[i].path_style, read.stores[i].path_style);
	}
	assert_null(strstr(fragment, "credentials"));
	config_fini(&read);
	kit_end();
}

/* Short, long, and with a line that is longer than a code may hold. */
static void parts_are_the_fragment(void **state)
{
	static const size_t stores[] = { 0, 1, 8 };
	char url[1500] = "s3://bucket/";

	(void)state;
	memset(url + strlen(url), 'x', sizeof(url) - strlen(url) - 1);
	for (size_t i = 0; i < 4; i++) {
		CLEANUP_FREE char *fragment = NULL;
		char joined[8192] = "";
		size_t count = 1;

		kit_new(i < 3 ? "s3://bucket/prefix" : url);
		kit_add_stores(i < 3 ? stores[i] : 1);
		fragment = kit_fragment(&kit);
		for (size_t at = 0; at < count; at++) {
			CLEANUP_FREE char *part = kit_part(fragment, at, &count);

			assert_non_null(part);
			assert_in_range(strlen(part), 1, 600);
			strcat(joined, part);
		}
		assert_string_equal(fragment, joined);
		assert_null(kit_part(fragment, count, &count));
		assert_true(i == 0 ? count == 1 : i == 1 || count > 1);
		kit_end();
	}
}

static void text_has_no_command_for_what_is_not_there(void **state)
{
	CLEANUP_FREE char *text = NULL;

	(void)state;
	kit_new("s3://bucket");
	kit_add_volumes(2);
	text = kit_text(&kit);
	assert_non_null(strstr(text, "    clawback restore volume1@latest --to volume1.img"));
	assert_null(strstr(text, "restore volume0"));
	assert_non_null(strstr(text, "no recovery point"));
	assert_non_null(strstr(text, "AWS_ACCESS_KEY_ID"));
	assert_null(strstr(text, "NO STORE"));
	kit_end();
}

static void text_says_what_did_not_answer(void **state)
{
	CLEANUP_FREE char *without = NULL, *second = NULL;

	(void)state;
	kit_new("file:///somewhere");
	strcpy(kit.problem, "it is away");
	strcpy(kit.store, "other");
	second = kit_text(&kit);
	assert_non_null(strstr(second, "as store other has them"));
	*kit.store = *kit.fingerprint = '\0';
	without = kit_text(&kit);
	assert_non_null(strstr(without, "NO STORE ANSWERED"));
	assert_non_null(strstr(without, "fingerprint  not known here"));
	assert_null(strstr(without, "fingerprint = "));
	assert_null(strstr(without, "AWS_"));
	kit_end();
}

static size_t pages(const uint8_t *data, size_t length)
{
	size_t count = 0;
	const uint8_t *at = data;

	while ((at = memmem(at, length - (size_t)(at - data), "/Type /Page\n", 12))) {
		count++;
		at += 12;
	}
	return count;
}

static void pdf_takes_any_amount(void **state)
{
	static const struct { size_t volumes, stores, pages; } cases[] = {
		{ 0, 0, 1 }, { 4, 2, 1 }, { 300, 8, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP_FREE uint8_t *data = NULL;
		struct error err = ERROR_INIT;
		size_t length;

		kit_new("s3://bucket/prefix");
		kit_add_stores(cases[i].stores);
		kit_add_volumes(cases[i].volumes);
		if (kit_pdf(&kit, &data, &length, &err))
			fail_msg("%s", err.message);
		assert_true(length > 1000 && !memcmp(data, "%PDF-", 5));
		if (cases[i].pages)
			assert_int_equal(cases[i].pages, pages(data, length));
		else
			assert_true(pages(data, length) > 5);
		kit_end();
	}
}

static void secrets_are_refused(void **state)
{
	static const struct { const char *url, *endpoint; } bad[] = {
		{ "s3://key:secret@bucket/", "" },
		{ "s3://bucket/", "https://key:secret@example.org" },
	};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct error err = ERROR_INIT;
		struct config_store *store;

		kit_new("file:///a@b");
		kit_add_stores(1);
		store = i < 2 ? &config.repository : &config.stores[0];
		strcpy(store->url, bad[i % 2].url);
		strcpy(store->endpoint, bad[i % 2].endpoint);
		assert_int_equal(-EINVAL, kit_gather(&config, &kit, &err));
		assert_int_equal(EXIT_USAGE, err.exit);
		assert_null(strstr(err.message, "secret"));
		kit_end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fragment_is_a_configuration),
		cmocka_unit_test(parts_are_the_fragment),
		cmocka_unit_test(text_has_no_command_for_what_is_not_there),
		cmocka_unit_test(text_says_what_did_not_answer),
		cmocka_unit_test(pdf_takes_any_amount),
		cmocka_unit_test(secrets_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
