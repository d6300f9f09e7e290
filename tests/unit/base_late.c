/* A library that is loaded late: what is missing is told, and had at the next call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/base/late_private.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/base-late-XXXXXX";
static char path[sizeof(folder) + 16];
static const char *(*version)(void);
static void *(*absent)(void);
static unsigned starts;
static int start_result;

static int start(struct error *err)
{
	starts++;
	return start_result ? error_set(err, start_result, "it does not start") : 0;
}

static const struct late_symbol there[] = {
	{ "gnu_get_libc_version", (void **)&version },
};
static const struct late_symbol more[] = {
	{ "gnu_get_libc_version", (void **)&version },
	{ "no_such_function", (void **)&absent },
};

static void refused(struct late_library *library, int code, const char *text)
{
	struct error err = ERROR_INIT;

	assert_int_equal(late_load(library, &err), code);
	if (!strstr(err.message, text))
		fail_msg("'%s' is not in '%s'", text, err.message);
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	strcat(strcpy(path, folder), "/libx.so");
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static void install(void)
{
	Dl_info libc;

	assert_true(dladdr((void *)gnu_get_libc_version, &libc));
	unlink(path);
	assert_int_equal(symlink(libc.dli_fname, path), 0);
}

static void what_failed_is_tried_again(void **state)
{
	struct late_library library = {
		.name = path, .package = "libx1", .symbols = there, .count = 1,
		.start = start, .lock = LATE_LIBRARY_LOCK,
	};
	struct error err = ERROR_INIT;

	(void)state;
	refused(&library, -ELIBACC, "install libx1");
	assert_int_equal(starts, 0);
	install();
	start_result = -ENOMEM;
	refused(&library, -ENOMEM, "it does not start");
	start_result = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(late_load(&library, &err), 0);
	assert_int_equal(starts, 2);
	assert_string_equal(version(), gnu_get_libc_version());
	/* Nobody looks at the file any more. */
	unlink(path);
	assert_int_equal(late_load(&library, &err), 0);
}

static void all_symbols_or_none(void **state)
{
	struct late_library library = {
		.name = path, .package = "libx1", .symbols = more, .count = 2,
		.lock = LATE_LIBRARY_LOCK,
	};

	(void)state;
	install();
	refused(&library, -ELIBACC, "no_such_function");
	refused(&library, -ELIBACC, "install libx1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_failed_is_tried_again),
		cmocka_unit_test(all_symbols_or_none),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
