/* Who may open a file as a target, and when. */
#include "agent/restore/restore_private.h"

#include "agent/base/file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int open_target(const char *path, bool force, bool in_place,
		       struct restore_target **target, struct error *err)
{
	struct restore_target_options options = {
		.bytes = 1u << 20, .force = force, .in_place = in_place,
	};

	*err = (struct error)ERROR_INIT;
	return restore_target_open(path, &options, target, err);
}

/* Whatever is asked for, the file is locked: refused, and left as it is. */
static void check_refused(const char *path, off_t length)
{
	struct restore_target *target = NULL;
	struct error err;
	struct stat st;

	for (int how = 0; how < 4; how++) {
		assert_int_equal(-EBUSY, open_target(path, how & 1, how & 2, &target, &err));
		assert_null(target);
		assert_int_equal(err.exit, EXIT_FAILED);
		assert_non_null(strstr(err.message, path));
	}
	assert_int_equal(0, stat(path, &st));
	assert_int_equal(st.st_size, length);
}

static void one_restore_a_file(void **state)
{
	char folder[] = "/tmp/clawback-restore.XXXXXX";
	struct restore_target *first, *second;
	struct error err;
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/target", folder);
	for (int made = 0; made < 2; made++) {	/* there before, or made by the first */
		unlink(path);
		if (!made)
			assert_int_equal(0, file_replace(path, "precious", 8, 0600));
		assert_int_equal(0, open_target(path, true, false, &first, &err));
		check_refused(path, made ? 0 : 8);
		assert_int_equal(0, target_prepare(first, 1u << 20, &err));
		check_refused(path, 1 << 20);
		assert_int_equal(0, restore_target_close(first, &err));
		/* Free again, and what it holds counts again. */
		assert_int_equal(-EEXIST, open_target(path, false, false, &second, &err));
		assert_int_equal(0, open_target(path, true, false, &second, &err));
		assert_int_equal(0, restore_target_close(second, &err));
	}
	unlink(path);
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_restore_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
