/* Errors and little-endian fields and identities: small things used everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/base/error.h"
#include "agent/base/le.h"
#include "agent/base/uuid.h"
#include "tests/unit/random.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void test_never_success(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(err.code, 0);
	assert_int_equal(error_set(&err, -ENOENT, "opening %s", "x"), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_int_equal(err.exit, EXIT_FAILED);
	assert_string_equal(err.message, "opening x");
	assert_int_equal(error_set(&err, 0, "a"), -EIO);
	assert_int_equal(error_set(&err, ENOMEM, "a"), -ENOMEM);
	assert_int_equal(error_set_exit(&err, EXIT_WRONG_KEY, 0, "b"), -EIO);
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_int_equal(error_set(&err, -EIO, "c"), -EIO);
	assert_int_equal(err.exit, EXIT_FAILED);
}

static void test_prefix_and_hint(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	error_set_exit(&err, EXIT_LOCKED, -EAGAIN, "lock is held");
	assert_int_equal(error_prefix(&err, "volume %s", "pg"), -EAGAIN);
	assert_int_equal(error_hint(&err, "wait, or end process %d", 7), -EAGAIN);
	assert_string_equal(err.message,
			    "volume pg: lock is held; wait, or end process 7");
	assert_int_equal(err.exit, EXIT_LOCKED);
}

/* A caller may well pass the old message on. */
static void test_message_as_argument(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	error_set(&err, -EIO, "reading");
	error_set(&err, -EIO, "again: %s", err.message);
	assert_string_equal(err.message, "again: reading");
	error_prefix(&err, "[%s]", err.message);
	assert_string_equal(err.message, "[again: reading]: again: reading");
	error_set(&err, -EIO, "abc");
	error_hint(&err, "%s", err.message);
	assert_string_equal(err.message, "abc; abc");
}

static void test_one_line(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	error_set(&err, -EIO, "server said \"%s\"", "a\r\nb\x1b[2Jc\x7f\tü");
	assert_string_equal(err.message, "server said \"a  b [2Jc  ü\"");
	error_hint(&err, "x\ny");
	error_prefix(&err, "p\nq");
	assert_null(strpbrk(err.message, "\r\n\t\x1b"));
}

/* Any lengths: always terminated, never beyond, as much as there is room for. */
static void test_long_messages(void **state)
{
	struct random_state random = random_start("error lengths");
	static char text[3000];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (int i = 0; i < 2000; i++) {
		struct {
			struct error err;
			char behind[16];
		} box = { ERROR_INIT, "untouched" };
		int a = (int)random_below(&random, 1100);
		int b = (int)random_below(&random, i % 2 ? 1100 : 20);
		size_t room = sizeof(box.err.message) - 1;
		size_t both = (size_t)a + (size_t)b + 2, length;

		error_set(&box.err, -EIO, "%.*s", a, text);
		length = strnlen(box.err.message, room + 1);
		assert_int_equal(length, (size_t)a < room ? (size_t)a : room);
		if (random_one_in(&random, 2)) {
			error_prefix(&box.err, "%.*s", b, text);
			length = strnlen(box.err.message, room + 1);
			assert_int_equal(length, both < room ? both : room);
		} else {
			error_hint(&box.err, "%.*s", b, text);
			assert_true(strnlen(box.err.message, room + 1) <= room);
		}
		assert_string_equal(box.behind, "untouched");
		assert_int_equal(box.err.code, -EIO);
	}
}

static void test_text(void **state)
{
	(void)state;
	assert_string_equal(error_text(-ENOENT), "No such file or directory");
	assert_ptr_equal(error_text(ENOENT), error_text(-ENOENT));
	assert_string_equal(error_text(99999), "unknown error");
	assert_string_equal(error_text(INT_MIN), "unknown error");
}

static void test_little_endian(void **state)
{
	struct random_state random = random_start("little-endian");
	static const uint8_t bytes[] = { 8, 7, 6, 5, 4, 3, 2, 1 };
	struct le64 eight = le64(UINT64_C(0x0102030405060708));
	struct le32 four = le32(0x05060708);
	struct le16 two = le16(0x0708);

	(void)state;
	assert_memory_equal(&eight, bytes, 8);
	assert_memory_equal(&four, bytes, 4);
	assert_memory_equal(&two, bytes, 2);
	for (int i = 0; i < 1000; i++) {
		uint64_t v = random_next(&random);

		assert_true(get_le64(le64(v)) == v);
		assert_true(get_le32(le32((uint32_t)v)) == (uint32_t)v);
		assert_true(get_le16(le16((uint16_t)v)) == (uint16_t)v);
	}
	assert_true(get_le64(le64(UINT64_MAX)) == UINT64_MAX);
	assert_true(get_le32(le32(UINT32_MAX)) == UINT32_MAX);
}

static void test_uuid(void **state)
{
	struct uuid a, b, last = { { 0 } };
	char text[UUID_TEXT_SIZE];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(uuid_new(&a), 0);
		assert_false(uuid_equal(&a, &last));
		assert_int_equal(a.b[6] >> 4, 4);	/* version */
		assert_int_equal(a.b[8] >> 6, 2);	/* variant */
		uuid_format(&a, text);
		assert_int_equal(strlen(text), UUID_TEXT_SIZE - 1);
		assert_int_equal(uuid_parse(text, &b), 0);
		assert_true(uuid_equal(&a, &b));
		b.b[i % 16] ^= (uint8_t)(1 << i % 8);
		assert_false(uuid_equal(&a, &b));
		last = a;
	}
}

static void test_uuid_text(void **state)
{
	static const char good[] = "00112233-4455-6677-8899-aabbccddeeff";
	char text[UUID_TEXT_SIZE], bad[UUID_TEXT_SIZE + 1];
	struct uuid uuid, upper;

	(void)state;
	assert_int_equal(uuid_parse(good, &uuid), 0);
	for (int i = 0; i < 16; i++)
		assert_int_equal(uuid.b[i], i * 0x11);
	uuid_format(&uuid, text);
	assert_string_equal(text, good);
	assert_int_equal(uuid_parse("00112233-4455-6677-8899-AABBCCDDEEFF", &upper), 0);
	assert_true(uuid_equal(&uuid, &upper));

	/* One wrong character anywhere, one too few, one too many. */
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		for (const char *wrong = "-gG/:@`. "; *wrong; wrong++) {
			memcpy(bad, good, sizeof(good));
			if (bad[i] == *wrong)
				continue;
			bad[i] = *wrong;
			assert_int_equal(uuid_parse(bad, &uuid), -EINVAL);
		}
		memcpy(bad, good, sizeof(good));
		if (bad[i] == '-') {
			bad[i] = '0';
			assert_int_equal(uuid_parse(bad, &uuid), -EINVAL);
		}
		bad[i] = '\0';
		assert_int_equal(uuid_parse(bad, &uuid), -EINVAL);
	}
	snprintf(bad, sizeof(bad), "%s0", good);
	assert_int_equal(uuid_parse(bad, &uuid), -EINVAL);
	assert_int_equal(uuid_parse("", &uuid), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_success),
		cmocka_unit_test(test_prefix_and_hint),
		cmocka_unit_test(test_message_as_argument),
		cmocka_unit_test(test_one_line),
		cmocka_unit_test(test_long_messages),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_little_endian),
		cmocka_unit_test(test_uuid),
		cmocka_unit_test(test_uuid_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
