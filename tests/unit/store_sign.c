/*
 * Signing against AWS's published examples: the four of the S3 documentation
 * ("Signature Calculations for the Authorization Header") and some of the
 * Signature Version 4 test suite.
 */
#include "agent/store/s3_sign.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct credentials documented = {
	.access_key = (char *)"AKIAIOSFODNN7EXAMPLE",
	.secret_key = (char *)"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};

static struct credentials suite = {
	.access_key = (char *)"AKIDEXAMPLE",
	.secret_key = (char *)"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
};

static void expect(const struct s3_signing *signing, const struct credentials *credentials,
		   const char *names, const char *signature)
{
	char authorization[S3_AUTHORIZATION_SIZE], wanted[S3_AUTHORIZATION_SIZE];

	assert_int_equal(s3_sign(signing, credentials, authorization), 0);
	snprintf(wanted, sizeof(wanted),
		 "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=%s,"
		 "Signature=%s", credentials->access_key, signing->date, signing->region,
		 signing->service, names, signature);
	assert_string_equal(authorization, wanted);
}

#define S3_SIGNING(verb, where, what, list, hash) {				\
	.method = verb, .path = where, .query = what, .headers = list,		\
	.header_count = sizeof(list) / sizeof(list[0]), .payload_hash = hash,	\
	.region = "us-east-1", .service = "s3", .date = "20130524T000000Z" }

static void test_s3_get_range(void **state)
{
	const struct s3_header headers[] = {
		{ "host", "examplebucket.s3.amazonaws.com" }, { "range", "bytes=0-9" },
		{ "x-amz-content-sha256", EMPTY_HASH }, { "x-amz-date", "20130524T000000Z" },
	};
	const struct s3_signing signing = S3_SIGNING("GET", "/test.txt", "", headers, EMPTY_HASH);

	(void)state;
	expect(&signing, &documented, "host;range;x-amz-content-sha256;x-amz-date",
	       "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_s3_put(void **state)
{
	char hash[S3_HASH_TEXT_SIZE];
	struct s3_header headers[] = {
		{ "date", "Fri, 24 May 2013 00:00:00 GMT" },
		{ "host", "examplebucket.s3.amazonaws.com" },
		{ "x-amz-content-sha256", hash }, { "x-amz-date", "20130524T000000Z" },
		{ "x-amz-storage-class", "REDUCED_REDUNDANCY" },
	};
	const struct s3_signing signing = S3_SIGNING("PUT", "/test%24file.text", "", headers, hash);

	(void)state;
	s3_hash("Welcome to Amazon S3.", 21, hash);
	assert_string_equal(hash,
		"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
	expect(&signing, &documented,
	       "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	       "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static const struct s3_header plain[] = {
	{ "host", "examplebucket.s3.amazonaws.com" }, { "x-amz-content-sha256", EMPTY_HASH },
	{ "x-amz-date", "20130524T000000Z" },
};

static void test_s3_queries(void **state)
{
	const struct s3_signing lifecycle = S3_SIGNING("GET", "/", "lifecycle=", plain, EMPTY_HASH);
	const struct s3_signing list = S3_SIGNING("GET", "/", "max-keys=2&prefix=J", plain,
						  EMPTY_HASH);

	(void)state;
	expect(&lifecycle, &documented, "host;x-amz-content-sha256;x-amz-date",
	       "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
	expect(&list, &documented, "host;x-amz-content-sha256;x-amz-date",
	       "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_suite(void **state)
{
	static const struct s3_header vanilla[] = {
		{ "host", "example.amazonaws.com" }, { "x-amz-date", "20150830T123600Z" },
	};
	static const struct {
		const char *method, *query, *signature;
	} cases[] = {
		{ "GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
		{ "POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
		{ "GET", "Param1=value1&Param2=value2",
		  "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct s3_signing signing = {
			.method = cases[i].method, .path = "/", .query = cases[i].query,
			.headers = vanilla, .header_count = 2, .payload_hash = EMPTY_HASH,
			.region = "us-east-1", .service = "service", .date = "20150830T123600Z",
		};

		expect(&signing, &suite, "host;x-amz-date", cases[i].signature);
	}
}

/* The session token is a header like any other, and signed. */
static void test_suite_token(void **state)
{
	static const struct s3_header headers[] = {
		{ "host", "example.amazonaws.com" }, { "x-amz-date", "20150830T123600Z" },
		{ "x-amz-security-token",
		  "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAe"
		  "MicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZ"
		  "ampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVq"
		  "r7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICC"
		  "R/oLxBA==" },
	};
	const struct s3_signing signing = {
		.method = "POST", .path = "/", .query = "", .headers = headers,
		.header_count = 3, .payload_hash = EMPTY_HASH, .region = "us-east-1",
		.service = "service", .date = "20150830T123600Z",
	};

	(void)state;
	expect(&signing, &suite, "host;x-amz-date;x-amz-security-token",
	       "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");
}

static void test_parts(void **state)
{
	char text[16] = "", date[S3_DATE_SIZE], hash[S3_HASH_TEXT_SIZE];
	char all[3 * 256 + 1] = "", every[256];

	(void)state;
	s3_date(1369353600, date);
	assert_string_equal(date, "20130524T000000Z");
	s3_hash(NULL, 0, hash);
	assert_string_equal(hash, EMPTY_HASH);
	assert_int_equal(s3_encode("a/b c", text, sizeof(text)), 0);
	assert_string_equal(text, "a%2Fb%20c");
	assert_int_equal(s3_encode("123456", text, sizeof(text)), 0);	/* 15 and the NUL */
	assert_int_equal(s3_encode("x", text, sizeof(text)), -ENAMETOOLONG);
	for (int c = 1; c < 256; c++)
		every[c - 1] = (char)c;
	every[255] = '\0';
	assert_int_equal(s3_encode(every, all, sizeof(all)), 0);
	assert_int_equal(strlen(all), 66 + 3 * (255 - 66));	/* 66 unreserved ones */
	assert_non_null(strstr(all, "%7D~%7F%80"));
}

/* What does not fit is refused, not cut. */
static void test_too_long(void **state)
{
	char region[300], key[S3_AUTHORIZATION_SIZE + 1], authorization[S3_AUTHORIZATION_SIZE];
	struct s3_signing signing = S3_SIGNING("GET", "/", "", plain, EMPTY_HASH);
	struct credentials credentials = documented;

	(void)state;
	memset(region, 'r', sizeof(region));
	region[sizeof(region) - 1] = '\0';
	signing.region = region;
	assert_int_equal(s3_sign(&signing, &documented, authorization), -ENAMETOOLONG);
	signing.region = "us-east-1";
	memset(key, 'k', sizeof(key));
	key[sizeof(key) - 1] = '\0';
	credentials.access_key = key;
	assert_int_equal(s3_sign(&signing, &credentials, authorization), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s3_get_range), cmocka_unit_test(test_s3_put),
		cmocka_unit_test(test_s3_queries), cmocka_unit_test(test_suite),
		cmocka_unit_test(test_suite_token), cmocka_unit_test(test_parts),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
