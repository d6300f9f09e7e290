/*
 * The order of the steps that make a file durable, and each of them failing. The
 * source is included, with its system calls noted down and failed on demand; the
 * last of them really happen, so the outcome is looked at too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char noted[512];		/* "create write fsync …" */
static int fail_at = -1;	/* which call fails; -1: none */
static int fail_errno;
static int calls;
static bool no_flag;		/* renameat2 knows no RENAME_NOREPLACE here */

/* Whether this call, noted as `what`, is to fail. */
static bool note(const char *what)
{
	strncat(noted, noted[0] ? " " : "", sizeof(noted) - strlen(noted) - 1);
	strncat(noted, what, sizeof(noted) - strlen(noted) - 1);
	if (calls++ != fail_at)
		return false;
	errno = fail_errno;
	return true;
}

static int hook_mkostemp(char *path, int flags)
{
	return note("create") ? -1 : mkostemp(path, flags);
}

static ssize_t hook_write(int fd, const void *data, size_t length)
{
	return note("write") ? -1 : write(fd, data, length);
}

static int hook_fchmod(int fd, mode_t mode)
{
	return note("fchmod") ? -1 : fchmod(fd, mode);
}

static int hook_fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	if (note(S_ISDIR(st.st_mode) ? "fsync-folder" : "fsync"))
		return -1;
	return fsync(fd);
}

static int hook_rename(const char *from, const char *to)
{
	return note("rename") ? -1 : rename(from, to);
}

static int hook_renameat2(int a, const char *from, int b, const char *to,
			  unsigned flags)
{
	if (no_flag) {
		errno = EINVAL;
		return -1;
	}
	return note("rename-new") ? -1 : renameat2(a, from, b, to, flags);
}

static int hook_link(const char *from, const char *to)
{
	return note("link") ? -1 : link(from, to);
}

static int hook_mkdir(const char *path, mode_t mode)
{
	return note("mkdir") ? -1 : mkdir(path, mode);
}

#define mkostemp(path, flags) hook_mkostemp(path, flags)
#define write(fd, data, length) hook_write(fd, data, length)
#define fchmod(fd, mode) hook_fchmod(fd, mode)
#define fsync(fd) hook_fsync(fd)
#define rename(from, to) hook_rename(from, to)
#define renameat2(a, from, b, to, flags) hook_renameat2(a, from, b, to, flags)
#define link(from, to) hook_link(from, to)
#define mkdir(path, mode) hook_mkdir(path, mode)

#include "agent/base/file.c"

static char folder[] = "/tmp/clawback-base-durable-XXXXXX";
static char path[128];

static void restart(int call, int code)
{
	noted[0] = '\0';
	calls = 0;
	fail_at = call;
	fail_errno = code;
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/file", folder);
	return 0;
}

/* Only what the tests name is there: a folder that is not empty stays and tells. */
static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static void test_replace_order(void **state)
{
	(void)state;
	restart(-1, 0);
	assert_int_equal(file_replace(path, "old", 3, 0600), 0);
	assert_string_equal(noted, "create write fchmod fsync rename fsync-folder");
}

static void test_create_order(void **state)
{
	(void)state;
	unlink(path);
	restart(-1, 0);
	assert_int_equal(file_create(path, "old", 3, 0600), 0);
	assert_string_equal(noted, "create write fchmod fsync rename-new fsync-folder");
	unlink(path);
	no_flag = true;
	restart(-1, 0);
	assert_int_equal(file_create(path, "old", 3, 0600), 0);
	assert_string_equal(noted, "create write fchmod fsync link fsync-folder");
	restart(-1, 0);
	assert_int_equal(file_create(path, "new", 3, 0600), -EEXIST);
	no_flag = false;
}

static void test_remove_order(void **state)
{
	(void)state;
	restart(-1, 0);
	assert_int_equal(file_remove(path), 0);
	assert_string_equal(noted, "fsync-folder");
	restart(0, EIO);
	assert_int_equal(file_remove(path), 0);		/* nothing was there */
	assert_string_equal(noted, "");
	restart(-1, 0);
	assert_int_equal(file_replace(path, "old", 3, 0600), 0);
	restart(0, EIO);
	assert_int_equal(file_remove(path), -EIO);
}

/* A new folder lasts before anything is put in it. */
static void test_folder_order(void **state)
{
	char deep[160], upper[160];

	(void)state;
	snprintf(deep, sizeof(deep), "%s/a/b", folder);
	snprintf(upper, sizeof(upper), "%s/a", folder);
	restart(-1, 0);
	assert_int_equal(file_make_folders(deep, 0700), 0);
	/* /tmp, the test's folder, a, b: the last two are new */
	assert_string_equal(noted, "mkdir mkdir mkdir fsync-folder mkdir fsync-folder");
	rmdir(deep);
	restart(4, EIO);
	assert_int_equal(file_make_folders(deep, 0700), -EIO);
	rmdir(deep);
	restart(3, EACCES);
	assert_int_equal(file_make_folders(deep, 0700), -EACCES);
	rmdir(upper);
	restart(2, EROFS);
	assert_int_equal(file_make_folders(deep, 0700), -EROFS);
}

/* Each step fails once: the code comes back, the old content stays, no debris. */
static void test_each_failure(void **state)
{
	static const char *const last = "fsync-folder";

	(void)state;
	for (int step = 0; step < 6; step++) {
		char *got = NULL;
		bool done;

		restart(-1, 0);
		assert_int_equal(file_replace(path, "old", 3, 0600), 0);
		restart(step, ENOSPC);
		assert_int_equal(file_replace(path, "new", 3, 0600), -ENOSPC);
		assert_int_equal(calls, step + 1);	/* nothing was tried after it */
		done = strstr(noted, last) != NULL;
		assert_int_equal(file_read(path, 10, &got, NULL), 0);
		assert_string_equal(got, done ? "new" : "old");
		free(got);

		unlink(path);
		restart(step, ENOSPC);
		assert_int_equal(file_create(path, "new", 3, 0600), -ENOSPC);
		assert_int_equal(access(path, F_OK), strstr(noted, last) ? 0 : -1);
		unlink(path);
		restart(-1, 0);
		assert_int_equal(rmdir(folder), 0);	/* no temporary file in it */
		assert_int_equal(mkdir(folder, 0700), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace_order),
		cmocka_unit_test(test_create_order),
		cmocka_unit_test(test_remove_order),
		cmocka_unit_test(test_folder_order),
		cmocka_unit_test(test_each_failure),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
