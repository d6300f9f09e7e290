/* Credentials: which files are refused, what is read, and what is never said. */
#include "agent/store/credentials.h"
#include "tests/store/store_suite.h"

#include <sys/stat.h>
#include <unistd.h>

#define SECRET "SECRETsecret/+0123456789"

static char folder[] = "/tmp/clawback-credentials.XXXXXX";
static char path[64];

static void file_write(const char *text, mode_t mode)
{
	FILE *out = fopen(path, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(chmod(path, mode), 0);
}

static void expect(const struct credentials *found, const char *access_key,
		   const char *secret_key, const char *token)
{
	assert_string_equal(found->access_key, access_key);
	assert_string_equal(found->secret_key, secret_key);
	if (token)
		assert_string_equal(found->session_token, token);
	else
		assert_null(found->session_token);
}

static void test_profiles(void **state)
{
	struct error err = ERROR_INIT;
	struct credentials found;

	(void)state;
	file_write("# comment\n"
		   "aws_secret_access_key = outside\n"
		   "[other]\n"
		   "aws_access_key_id=OTHER\naws_secret_access_key=othersecret\n"
		   "\n[default]\r\n"
		   "  aws_access_key_id =  KEY  \r\n"
		   "; aws_access_key_id = COMMENT\n"
		   "region = us-east-1\nno equals sign\n"
		   "aws_secret_access_key\t=\t" SECRET "==\n"
		   "[ spaced ]\naws_access_key_id=A\naws_secret_access_key=B#;C\n"
		   "aws_session_token = T/=\n"
		   "[default-no]\naws_access_key_id=NO\n", 0600);
	suite_ok(credentials_load(path, NULL, &found, &err), &err);
	expect(&found, "KEY", SECRET "==", NULL);
	credentials_fini(&found);
	assert_null(found.secret_key);
	suite_ok(credentials_load(path, "other", &found, &err), &err);
	expect(&found, "OTHER", "othersecret", NULL);
	credentials_fini(&found);
	suite_ok(credentials_load(path, "spaced", &found, &err), &err);
	expect(&found, "A", "B#;C", "T/=");
	credentials_fini(&found);
	suite_failed(credentials_load(path, "none", &found, &err), -EACCES, &err);
	assert_non_null(strstr(err.message, "[none]"));
	suite_failed(credentials_load(path, "default-no", &found, &err), -EACCES, &err);
	assert_non_null(strstr(err.message, "secret key"));
	assert_null(found.access_key);
}

/* Longer than any line buffer one would think of. */
static void test_long_token(void **state)
{
	struct error err = ERROR_INIT;
	struct credentials found;
	char text[4096], token[3001];

	(void)state;
	memset(token, 't', sizeof(token));
	token[sizeof(token) - 1] = '\0';
	snprintf(text, sizeof(text), "[default]\naws_access_key_id=K\naws_secret_access_key=S\n"
		 "aws_session_token=%s", token);	/* and no newline */
	file_write(text, 0600);
	suite_ok(credentials_load(path, NULL, &found, &err), &err);
	expect(&found, "K", "S", token);
	credentials_fini(&found);
}

static void test_modes(void **state)
{
	static const mode_t refused[] = { 0644, 0640, 0660, 0604, 0602, 0620, 0610, 0601, 0666 };
	struct error err = ERROR_INIT;
	struct credentials found;
	const char *text = "[default]\naws_access_key_id=K\naws_secret_access_key=" SECRET "\n";

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		file_write(text, refused[i]);
		suite_failed(credentials_load(path, NULL, &found, &err), -EACCES, &err);
		assert_non_null(strstr(err.message, "chmod 600"));
		assert_null(strstr(err.message, SECRET));
		assert_int_equal(err.exit, EXIT_USAGE);
		assert_null(found.secret_key);
	}
	file_write(text, 0600);
	suite_ok(credentials_load(path, NULL, &found, &err), &err);
	credentials_fini(&found);
	file_write(text, 0400);
	suite_ok(credentials_load(path, NULL, &found, &err), &err);
	credentials_fini(&found);
	if (geteuid() == 0) {	/* somebody else's */
		assert_int_equal(chown(path, 65534, 65534), 0);
		suite_failed(credentials_load(path, NULL, &found, &err), -EACCES, &err);
		assert_int_equal(chown(path, 0, 0), 0);
	}
	suite_failed(credentials_load(folder, NULL, &found, &err), -EINVAL, &err);
	suite_failed(credentials_load("/nonexistent/x", NULL, &found, &err), -ENOENT, &err);
}

/* Values that would break a header, and none of them in a message. */
static void test_damaged(void **state)
{
	static const char *const values[] = { "", SECRET " x", SECRET "\x01", SECRET "\xff" };
	struct error err = ERROR_INIT;
	struct credentials found;
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(text, sizeof(text), "[default]\naws_access_key_id=K\n"
			 "aws_secret_access_key=%s\n", values[i]);
		file_write(text, 0600);
		suite_failed(credentials_load(path, NULL, &found, &err), -EACCES, &err);
		assert_null(strstr(err.message, "SECRET"));
		assert_null(found.secret_key);
	}
}

/* Random bytes never crash it, and never leave half a pair. */
static void test_random(void **state)
{
	static const char *const pieces[] = {
		"[default]", "[", "]", "aws_access_key_id", "aws_secret_access_key", "=", " = ",
		"\n", "\n", "\n", "K", "\t", "#", ";", "\r", "\xff", "aws_session_token", "",
	};
	struct random_state random = random_start("credentials");

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct error err = ERROR_INIT;
		struct credentials found;
		char text[512] = "";
		int ret;

		for (uint64_t i = random_below(&random, 16); i; i--)
			strcat(text, pieces[random_below(&random, sizeof(pieces) /
							 sizeof(pieces[0]))]);
		ret = credentials_parse(text, "x", "default", &found, &err);
		assert_int_equal(ret == 0, found.access_key && found.secret_key);
		assert_int_equal(ret, err.code);
		credentials_fini(&found);
	}
}

static void test_environment(void **state)
{
	struct error err = ERROR_INIT;
	struct credentials found;
	char home[64];

	(void)state;
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	unsetenv("AWS_SESSION_TOKEN");
	setenv("HOME", folder, 1);
	suite_failed(credentials_load(NULL, NULL, &found, &err), -EACCES, &err);
	assert_int_equal(err.exit, EXIT_USAGE);
	snprintf(home, sizeof(home), "%s/.aws", folder);
	assert_int_equal(mkdir(home, 0700), 0);
	snprintf(path, sizeof(path), "%s/.aws/credentials", folder);
	file_write("[default]\naws_access_key_id=HOME\naws_secret_access_key=S\n", 0600);
	suite_ok(credentials_load(NULL, NULL, &found, &err), &err);
	expect(&found, "HOME", "S", NULL);
	credentials_fini(&found);
	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	suite_failed(credentials_load(NULL, NULL, &found, &err), -EACCES, &err);
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	suite_ok(credentials_load(NULL, NULL, &found, &err), &err);
	expect(&found, "ENV", SECRET, NULL);
	credentials_fini(&found);
	setenv("AWS_SESSION_TOKEN", "TOKEN", 1);
	suite_ok(credentials_load(NULL, NULL, &found, &err), &err);
	expect(&found, "ENV", SECRET, "TOKEN");
	credentials_fini(&found);
	/* A file that was asked for comes first, and does not mix. */
	suite_ok(credentials_load(path, NULL, &found, &err), &err);
	expect(&found, "HOME", "S", NULL);
	credentials_fini(&found);
	unlink(path);
	suite_failed(credentials_load(path, NULL, &found, &err), -ENOENT, &err);
	rmdir(home);
}

static int lab_start(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/file", folder);
	return 0;
}

static int lab_end(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/file", folder);
	unlink(path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_profiles), cmocka_unit_test(test_long_token),
		cmocka_unit_test(test_modes), cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_random), cmocka_unit_test(test_environment),
	};

	return cmocka_run_group_tests(tests, lab_start, lab_end);
}
