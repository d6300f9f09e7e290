/* Which keys, prefixes and options pass: before any store sees them. */
#include "agent/store/store_ops.h"
#include "tests/store/store_suite.h"

#include <unistd.h>

static int ignore_visit(void *context, const char *key, uint64_t bytes)
{
	(void)context;
	(void)key;
	(void)bytes;
	return 0;
}

/* Every function of store.h refuses the key. */
static void expect_refused(struct store *store, const char *key)
{
	struct error err = ERROR_INIT;
	struct store_upload *upload = (void *)1;
	uint8_t byte, *data = (void *)1;
	uint64_t bytes;
	size_t got = 1;

	suite_failed(store_put(store, key, "x", 1, 0, &err), -EINVAL, &err);
	suite_failed(store_get(store, key, 0, &byte, 1, &got, &err), -EINVAL, &err);
	assert_int_equal(got, 0);
	suite_failed(store_get_all(store, key, 1, &data, &got, &err), -EINVAL, &err);
	assert_null(data);
	suite_failed(store_size(store, key, &bytes, &err), -EINVAL, &err);
	suite_failed(store_delete(store, key, &err), -EINVAL, &err);
	suite_failed(store_upload_start(store, key, &upload, &err), -EINVAL, &err);
	assert_null(upload);
}

static void test_refused(void **state)
{
	static const char *const keys[] = {
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "./a", "a/.",
		"a/./b", "a b", "a\nb", "a\\b", "a%2fb", "\xc3\xa4", "a:b", "a\x7f", "a*",
		".tmp-x", "a/.tmp-", "a/.tmp-0123/b",
	};
	char longest[STORE_KEY_MAX + 2], part[STORE_PART_MAX + 2];

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		expect_refused(*state, keys[i]);
	memset(longest, 'a', sizeof(longest));
	for (size_t i = 100; i < sizeof(longest); i += 100)
		longest[i] = '/';
	longest[STORE_KEY_MAX + 1] = '\0';
	expect_refused(*state, longest);
	longest[STORE_KEY_MAX] = '\0';
	assert_true(store_key_valid(longest));
	memset(part, 'a', sizeof(part));
	part[STORE_PART_MAX + 1] = '\0';
	expect_refused(*state, part);
	part[STORE_PART_MAX] = '\0';
	assert_true(store_key_valid(part));
	assert_false(store_key_valid(NULL));
}

static void test_accepted(void **state)
{
	static const char *const keys[] = {
		"a", "clawback.json", "...", "..a", ".a", "a/...", "-", "_", "tmp-x", ".tmp",
		"VOLUME/points/0000000001", "a/b/c/d/e/f/g/h",
	};
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		assert_true(store_key_valid(keys[i]));
		if (keys[i][1] == '/')
			continue;
		suite_ok(store_delete(*state, keys[i], &err), &err);
	}
}

/* All short strings over a telling alphabet, against the rule said otherwise. */
static bool key_valid_naive(const char *key)
{
	char copy[16], *part = copy, *end;

	snprintf(copy, sizeof(copy), "%s/", key);
	while (*part) {
		end = strchr(part, '/');
		*end = '\0';
		if (!*part || !strcmp(part, ".") || !strcmp(part, "..") || strpbrk(part, " %"))
			return false;
		part = end + 1;
	}
	return true;
}

static void test_exhaustive(void **state)
{
	static const char alphabet[] = "/.a %";
	char key[6];

	(void)state;
	for (unsigned number = 0; number < 6 * 6 * 6 * 6 * 6; number++) {
		size_t length = 0;

		for (unsigned rest = number; rest; rest /= 6)
			if (rest % 6)
				key[length++] = alphabet[rest % 6 - 1];
		key[length] = '\0';
		assert_int_equal(store_key_valid(key), length && key_valid_naive(key));
	}
}

static void test_prefix(void **state)
{
	static const char *const refused[] = { "a", "/", "//", "../", "a//", "/a/", ".tmp-a/" };
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		suite_failed(store_list(*state, refused[i], ignore_visit, NULL, &err), -EINVAL,
			     &err);
	suite_ok(store_list(*state, "a/b/", ignore_visit, NULL, &err), &err);
}

static void test_options(void **state)
{
	struct store_options options = { .connections = 65 };
	struct error err = ERROR_INIT;
	struct store *store;

	(void)state;
	suite_failed(store_open("file:///tmp", &options, false, &store, &err), -EINVAL, &err);
	options = (struct store_options){ .part_bytes = 1u << 31 };
	suite_failed(store_open("file:///tmp", &options, false, &store, &err), -EINVAL, &err);
	options = (struct store_options){ .part_bytes = 5 << 20 };
	suite_ok(store_open("file:///tmp", &options, false, &store, &err), &err);
	assert_int_equal(store->connections, 4);
	assert_int_equal(store->retries, 6);
	assert_int_equal(store->timeout_seconds, 60);
	store_close(store);
	options.part_bytes--;
	suite_failed(store_open("s3://bucket", &options, false, &store, &err), -EINVAL, &err);
}

static void test_offset(void **state)
{
	struct error err = ERROR_INIT;
	uint8_t room[16];
	size_t got;

	suite_failed(store_get(*state, "a", UINT64_MAX - 3, room, sizeof(room), &got, &err),
		     -EINVAL, &err);
	suite_failed(store_get(*state, "a", INT64_MAX, room, sizeof(room), &got, &err), -EINVAL,
		     &err);
}

static char folder[] = "/tmp/clawback-key.XXXXXX";

static int lab_start(void **state)
{
	struct error err = ERROR_INIT;
	char url[64];

	if (!mkdtemp(folder))
		return -1;
	snprintf(url, sizeof(url), "file://%s", folder);
	return store_open(url, NULL, false, (struct store **)state, &err);
}

static int lab_end(void **state)
{
	store_close(*state);
	return rmdir(folder);	/* nothing was ever made in it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused), cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_exhaustive), cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_options), cmocka_unit_test(test_offset),
	};

	return cmocka_run_group_tests(tests, lab_start, lab_end);
}
