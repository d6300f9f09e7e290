/* Local files: contents, modes, races, and a writer that is killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "tests/unit/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/clawback-base-file-XXXXXX";

static const char *in_folder(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", folder, name);
	return path;
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int files_in(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

static void check_content(const char *path, const void *data, size_t length)
{
	CLEANUP_FREE char *got = NULL;
	size_t got_length = 0;

	assert_int_equal(file_read(path, SIZE_MAX, &got, &got_length), 0);
	assert_int_equal(got_length, length);
	assert_memory_equal(got, data, length);
	assert_int_equal(got[length], 0);
}

static void test_read_limits(void **state)
{
	static const size_t lengths[] = { 0, 1, 4094, 4095, 4096, 4097, 8191,
					  8192, 100000 };
	static char data[100000];
	const char *path = in_folder("limits");

	(void)state;
	memset(data, 'd', sizeof(data));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t length = lengths[i];
		char *got = (char *)1;

		assert_int_equal(file_replace(path, data, length, 0600), 0);
		check_content(path, data, length);
		assert_int_equal(file_read(path, length, &got, NULL), 0);
		free(got);
		if (!length)
			continue;
		assert_int_equal(file_read(path, length - 1, &got, NULL), -EFBIG);
		assert_null(got);
	}
	assert_int_equal(file_read(in_folder("none"), 1, (char *[]){ NULL }, NULL),
			 -ENOENT);
	assert_int_equal(file_read(folder, 1, (char *[]){ NULL }, NULL), -EISDIR);
	assert_int_equal(file_remove(path), 0);
	assert_int_equal(file_remove(path), 0);
	assert_int_equal(file_remove(folder), -EISDIR);
	assert_int_equal(files_in(folder), 0);
}

static void test_positions(void **state)
{
	struct random_state random = random_start("file positions");
	static uint8_t model[5000], got[5000];
	CLEANUP_CLOSE int fd = open(folder, O_RDWR | O_TMPFILE, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(file_pwrite_all(fd, model, sizeof(model), 0), 0);
	for (int i = 0; i < 2000; i++) {
		size_t offset = random_below(&random, sizeof(model));
		size_t length = random_below(&random, sizeof(model) - offset + 1);

		if (random_one_in(&random, 2)) {
			memset(model + offset, (int)random_next(&random), length);
			assert_int_equal(file_pwrite_all(fd, model + offset,
							 length, offset), 0);
		} else {
			assert_int_equal(file_pread_all(fd, got, length, offset), 0);
			assert_memory_equal(got, model + offset, length);
		}
	}
	assert_int_equal(file_pread_all(fd, got, 1, sizeof(model)), -ENODATA);
	assert_int_equal(file_pread_all(fd, got, 2, sizeof(model) - 1), -ENODATA);
	assert_int_equal(file_pread_all(fd, got, 0, sizeof(model)), 0);
	assert_int_equal(file_pread_all(-1, got, 1, 0), -EBADF);
	assert_int_equal(file_pwrite_all(-1, got, 1, 0), -EBADF);
	assert_int_equal(file_write_all(-1, got, 1), -EBADF);
	assert_int_equal(file_pread_all(fd, got, 1, UINT64_MAX), -EINVAL);
}

static void test_replace_and_create(void **state)
{
	const char *path = in_folder("file");
	mode_t umask_before = umask(077);
	struct stat st;

	(void)state;
	assert_int_equal(file_create(path, "one", 3, 0644), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(file_create(path, "two", 3, 0644), -EEXIST);
	check_content(path, "one", 3);
	umask(0);
	assert_int_equal(file_replace(path, "three", 5, 0600), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	check_content(path, "three", 5);
	umask(umask_before);
	assert_int_equal(files_in(folder), 1);

	assert_int_equal(file_replace(in_folder("no/file"), "x", 1, 0600), -ENOENT);
	assert_int_equal(file_remove(path), 0);
	/* What cannot be replaced leaves nothing behind either. */
	assert_int_equal(mkdir(in_folder("dir"), 0700), 0);
	assert_int_equal(file_replace(in_folder("dir"), "x", 1, 0600), -EISDIR);
	assert_int_equal(file_create(in_folder("dir"), "x", 1, 0600), -EEXIST);
	assert_int_equal(files_in(folder), 1);
	assert_int_equal(rmdir(in_folder("dir")), 0);
}

/* A path without a folder in it means the working directory. */
static void test_relative(void **state)
{
	char before[PATH_MAX];

	(void)state;
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(file_replace("bare", "x", 1, 0600), 0);
	assert_int_equal(file_make_folders("one/two", 0700), 0);
	assert_int_equal(file_make_folders("one", 0700), 0);
	assert_int_equal(file_remove("bare"), 0);
	assert_int_equal(rmdir("one/two"), 0);
	assert_int_equal(rmdir("one"), 0);
	assert_int_equal(chdir(before), 0);
}

static void test_folders(void **state)
{
	const char *deep = in_folder("a/b//c/");
	struct stat st;

	(void)state;
	assert_int_equal(file_make_folders("", 0700), -ENOENT);
	assert_int_equal(file_make_folders("/", 0700), 0);
	assert_int_equal(file_make_folders(deep, 0700), 0);
	assert_int_equal(file_make_folders(deep, 0700), 0);
	assert_int_equal(stat(in_folder("a/b/c"), &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(file_create(in_folder("a/file"), "", 0, 0600), 0);
	assert_int_equal(file_make_folders(in_folder("a/file"), 0700), -ENOTDIR);
	assert_int_equal(file_make_folders(in_folder("a/file/x"), 0700), -ENOTDIR);
	assert_int_equal(unlink(in_folder("a/file")), 0);
	assert_int_equal(rmdir(in_folder("a/b/c")), 0);
	assert_int_equal(rmdir(in_folder("a/b")), 0);
	assert_int_equal(rmdir(in_folder("a")), 0);
}

static int wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* Eight processes create the same file: one wins, and its content is there. */
static void test_create_race(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		const char *path = in_folder("raced");
		int winner = -1, gate[2];
		pid_t pids[8];
		char content[64];

		assert_int_equal(pipe(gate), 0);
		for (int i = 0; i < 8; i++) {
			pids[i] = fork();
			assert_true(pids[i] >= 0);
			if (pids[i])
				continue;
			alarm(20);
			close(gate[1]);
			memset(content, 'a' + i, sizeof(content));
			if (read(gate[0], content, 1) != 0)
				_exit(3);
			memset(content, 'a' + i, sizeof(content));
			_exit(-file_create(path, content, sizeof(content), 0600));
		}
		close(gate[0]);
		close(gate[1]);		/* off they go */
		for (int i = 0; i < 8; i++) {
			int status = wait_for(pids[i]);

			assert_true(WIFEXITED(status));
			if (WEXITSTATUS(status) == EEXIST)
				continue;
			assert_int_equal(WEXITSTATUS(status), 0);
			assert_int_equal(winner, -1);
			winner = i;
		}
		assert_true(winner >= 0);
		memset(content, 'a' + winner, sizeof(content));
		check_content(path, content, sizeof(content));
		assert_int_equal(files_in(folder), 1);
		assert_int_equal(file_remove(path), 0);
	}
}

/* Killed while it replaces: the file holds one of the contents, whole. */
static void test_killed(void **state)
{
	struct random_state random = random_start("file killed");
	const char *path = in_folder("killed");
	static char content[50000];

	(void)state;
	memset(content, 'a', sizeof(content));
	assert_int_equal(file_replace(path, content, sizeof(content), 0600), 0);
	for (int round = 0; round < 30; round++) {
		CLEANUP_FREE char *got = NULL;
		size_t length;
		pid_t pid = fork();

		assert_true(pid >= 0);		/* kill(-1) would be no test */
		if (!pid) {
			alarm(20);
			for (char c = 'a';; c = c == 'z' ? 'a' : (char)(c + 1)) {
				memset(content, c, sizeof(content));
				if (file_replace(path, content, sizeof(content), 0600))
					_exit(1);
			}
		}
		usleep((useconds_t)random_below(&random, 3000));
		kill(pid, SIGKILL);
		assert_true(WIFSIGNALED(wait_for(pid)));
		assert_int_equal(file_read(path, SIZE_MAX, &got, &length), 0);
		assert_int_equal(length, sizeof(content));
		for (size_t i = 1; i < length; i++) {
			if (got[i] != got[0])
				fail_msg("byte %zu differs", i);
		}
	}
}

/* No room: the old content stays, and no temporary file. */
static void put_aged(const char *path, unsigned age_seconds)
{
	struct timeval times[2] = { { time(NULL) - (time_t)age_seconds, 0 } };

	times[1] = times[0];
	assert_int_equal(file_create(path, "x", 1, 0600), 0);
	assert_int_equal(utimes(path, times), 0);
}

/* Only what file_replace could have left of that very name, and only when old. */
static void test_sweep(void **state)
{
	static const char *const others[] = {
		"swept", "swept.json", "swept.abc", "swept.abcdefg", "swept.abcde-",
		"other.abcdef", "aswept.abcdef", "swept.abcdef.x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		put_aged(in_folder(others[i]), 7200);
	assert_int_equal(mkdir(in_folder("swept.folder"), 0700), 0);
	assert_int_equal(symlink("swept", in_folder("swept.toLink")), 0);
	put_aged(in_folder("swept.a1B2c3"), 7200);
	put_aged(in_folder("swept.young1"), 60);
	assert_int_equal(file_sweep(in_folder("swept"), 3600), 1);
	assert_int_equal(access(in_folder("swept.a1B2c3"), F_OK), -1);
	assert_int_equal(file_sweep(in_folder("swept"), 0), 1);
	assert_int_equal(access(in_folder("swept.young1"), F_OK), -1);
	assert_int_equal(file_sweep(in_folder("none/swept"), 0), 0);
	assert_int_equal(files_in(folder), sizeof(others) / sizeof(others[0]) + 2);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(unlink(in_folder(others[i])), 0);
	assert_int_equal(rmdir(in_folder("swept.folder")), 0);
	assert_int_equal(unlink(in_folder("swept.toLink")), 0);
}

static void test_no_room(void **state)
{
	const char *path = in_folder("room");
	static char large[100000];
	pid_t pid;

	(void)state;
	assert_int_equal(file_replace(path, "old", 3, 0600), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct rlimit limit = { 4096, 4096 };

		signal(SIGXFSZ, SIG_IGN);
		if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
			_exit(200);
		_exit(-file_replace(path, large, sizeof(large), 0600));
	}
	assert_int_equal(WEXITSTATUS(wait_for(pid)), EFBIG);
	check_content(path, "old", 3);
	assert_int_equal(file_remove(path), 0);
}

static void ignore_signal(int number)
{
	(void)number;
}

/* Signals all the time, a pipe that is always full: every byte arrives once. */
static void test_interrupted_writes(void **state)
{
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { 0 };
	struct sigaction action = { .sa_handler = ignore_signal }, before;
	static uint8_t data[1 << 21];
	int ends[2], ret;
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		static uint8_t got[1 << 21];
		size_t used = 0;
		ssize_t n;

		close(ends[1]);
		while ((n = read(ends[0], got + used, 30000)) > 0) {
			used += (size_t)n;
			usleep(2000);
		}
		_exit(used != sizeof(data) || memcmp(got, data, used) != 0);
	}
	close(ends[0]);
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &often, NULL);
	ret = file_write_all(ends[1], data, sizeof(data));
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
	close(ends[1]);
	assert_int_equal(ret, 0);
	assert_int_equal(wait_for(pid), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_limits),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_replace_and_create),
		cmocka_unit_test(test_relative),
		cmocka_unit_test(test_folders),
		cmocka_unit_test(test_create_race),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_interrupted_writes),
		cmocka_unit_test(test_killed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
