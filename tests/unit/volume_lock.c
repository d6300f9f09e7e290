/* The lock: one holder, told by name, gone with its process. */
#include "tests/unit/volume_scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static void test_exclusive(void **context)
{
	struct error busy = ERROR_INIT;
	char holder[64];
	int fd, other;

	ASSERT_OK(volume_lock(*context, "pgdata", "backup", &fd, &err));
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(volume_lock(*context, "pgdata", "attach", &other, &busy),
			 -EWOULDBLOCK);
	assert_int_equal(other, -1);
	assert_int_equal(busy.exit, EXIT_LOCKED);
	snprintf(holder, sizeof(holder), "%d backup", (int)getpid());
	assert_non_null(strstr(busy.message, holder));
	/* Another volume is another lock. */
	ASSERT_OK(volume_lock(*context, "wal", "backup", &other, &err));
	close(other);
	close(fd);
	ASSERT_OK(volume_lock(*context, "pgdata", "attach", &fd, &err));
	close(fd);
}

/* Without writing anything, and so only of a volume that was locked before. */
static void test_read_only(void **context)
{
	int fd, other;

	ASSERT_FAILS(-ENOENT, volume_lock_read_only(*context, "pgdata", &fd, &err));
	ASSERT_OK(volume_lock(*context, "pgdata", "backup", &other, &err));
	ASSERT_FAILS(-EWOULDBLOCK, volume_lock_read_only(*context, "pgdata", &fd, &err));
	assert_int_equal(fd, -1);
	close(other);
	ASSERT_OK(volume_lock_read_only(*context, "pgdata", &fd, &err));
	ASSERT_FAILS(-EWOULDBLOCK, volume_lock(*context, "pgdata", "x", &other, &err));
	close(fd);
}

static void test_dies_with_holder(void **context)
{
	int ready[2], fd;
	char byte;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		struct error err = ERROR_INIT;

		if (volume_lock(*context, "pgdata", "backup", &fd, &err))
			_exit(1);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	ASSERT_FAILS(-EWOULDBLOCK, volume_lock(*context, "pgdata", "x", &fd, &err));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	ASSERT_OK(volume_lock(*context, "pgdata", "x", &fd, &err));
	close(fd);
	close(ready[0]);
}

/* What a killed save left goes with the next lock, but not with a refused one. */
static void test_sweeps(void **context)
{
	char state[PATH_MAX], pending[PATH_MAX], foreign[PATH_MAX];
	struct error busy = ERROR_INIT;
	int fd, other;

	ASSERT_OK(volume_lock(*context, "pgdata", "backup", &fd, &err));
	snprintf(state, sizeof(state), "%s/volumes/pgdata/state.json.a1B2c3", (char *)*context);
	snprintf(pending, sizeof(pending), "%s/volumes/pgdata/pending.a1B2c3", (char *)*context);
	snprintf(foreign, sizeof(foreign), "%s/volumes/pgdata/state.json", (char *)*context);
	close(open(state, O_CREAT | O_WRONLY, 0600));
	close(open(pending, O_CREAT | O_WRONLY, 0600));
	close(open(foreign, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(volume_lock(*context, "pgdata", "attach", &other, &busy),
			 -EWOULDBLOCK);
	assert_int_equal(access(state, F_OK), 0);
	close(fd);
	ASSERT_OK(volume_lock(*context, "pgdata", "attach", &fd, &err));
	assert_int_equal(access(state, F_OK), -1);
	assert_int_equal(access(pending, F_OK), -1);
	assert_int_equal(access(foreign, F_OK), 0);
	close(fd);
}

static void test_refused(void **context)
{
	char path[PATH_MAX];
	int fd;

	ASSERT_FAILS(-EINVAL, volume_lock(*context, "../x", "backup", &fd, &err));
	/* A lock that is a link to somewhere else is not followed. */
	snprintf(path, sizeof(path), "%s/volumes/evil", (char *)*context);
	assert_int_equal(file_make_folders(path, 0700), 0);
	strcat(path, "/lock");
	assert_int_equal(symlink("/tmp/volume-test-elsewhere", path), 0);
	ASSERT_FAILS(-ELOOP, volume_lock(*context, "evil", "backup", &fd, &err));
	assert_int_equal(access("/tmp/volume-test-elsewhere", F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_exclusive, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_read_only, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_dies_with_holder, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_sweeps, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_refused, scratch_setup, scratch_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
