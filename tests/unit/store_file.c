/* The file:// store: the common suite, and what only files can do wrong. */
#include "agent/store/store.h"
#include "tests/store/store_suite.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

#define PART_BYTES (64u << 10)

/* ---- what the store asks of the kernel, in order ------------------------------ */

/* The libraries are linked statically: these are what the store calls. */
static char asked[4096];
static bool asking;

static void ask(const char *what, int fd, const char *name)
{
	char link[64], path[512] = "?";
	size_t used = strlen(asked);
	ssize_t length;

	if (!asking)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length > 0 ? length : 0] = '\0';
	/* Temporary names are random: only that it is one is kept. */
	if (strstr(path, "/.tmp-"))
		strcpy(strstr(path, "/.tmp-"), "/TEMPORARY");
	if (strncmp(name, ".tmp-", 5) == 0)
		name = "TEMPORARY";
	snprintf(asked + used, sizeof(asked) - used, "%s %s%s%s\n", what,
		 strstr(path, "/repository") ? strstr(path, "/repository") : path,
		 *name ? " " : "", name);
}

int fsync(int fd)
{
	ask("fsync", fd, "");
	return (int)syscall(SYS_fsync, fd);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
	ask("mkdir", fd, path);
	return (int)syscall(SYS_mkdirat, fd, path, mode);
}

int renameat(int old_fd, const char *old, int new_fd, const char *new)
{
	ask("rename to", new_fd, new);
	return (int)syscall(SYS_renameat2, old_fd, old, new_fd, new, 0);
}

/* Some file systems know no renaming without replacing. */
static bool rename_plain_only;

int renameat2(int old_fd, const char *old, int new_fd, const char *new, unsigned flags)
{
	ask("rename without replacing to", new_fd, new);
	if (rename_plain_only) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_renameat2, old_fd, old, new_fd, new, flags);
}

int linkat(int old_fd, const char *old, int new_fd, const char *new, int flags)
{
	ask("link to", new_fd, new);
	return (int)syscall(SYS_linkat, old_fd, old, new_fd, new, flags);
}

struct lab {
	char folder[64];
	struct store *store;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int lab_start(void **state)
{
	static struct lab lab;
	const struct store_options options = { .part_bytes = PART_BYTES };
	struct error err = ERROR_INIT;
	char url[128];

	strcpy(lab.folder, "/tmp/clawback-store.XXXXXX");
	if (!mkdtemp(lab.folder))
		return -1;
	/* Two folders to be made. */
	snprintf(url, sizeof(url), "file://%s/a/repository", lab.folder);
	*state = &lab;
	return store_open(url, &options, true, &lab.store, &err);
}

static int lab_end(void **state)
{
	struct lab *lab = *state;

	store_close(lab->store);
	return nftw(lab->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct store *lab_store(void **state)
{
	return ((struct lab *)*state)->store;
}

static char *lab_path(void **state, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/a/repository/%s", ((struct lab *)*state)->folder, name);
	return path;
}

static void lab_file(void **state, const char *name, const char *text)
{
	int fd = open(lab_path(state, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int ignore_visit(void *context, const char *key, uint64_t bytes)
{
	(void)key;
	(void)bytes;
	++*(int *)context;
	return 0;
}

static void test_basics(void **state) { suite_basics(lab_store(state)); }
static void test_ranges(void **state) { suite_ranges(lab_store(state)); }
static void test_if_absent(void **state) { suite_if_absent(lab_store(state)); }
static void test_races(void **state) { suite_races(lab_store(state), 50); }
static void test_random(void **state) { suite_random(lab_store(state), 3000); }
static void test_many(void **state) { suite_many(lab_store(state), 1100); }
static void test_threads(void **state) { suite_threads(lab_store(state), 10); }

static void test_upload(void **state)
{
	suite_upload_sizes(lab_store(state), PART_BYTES);
	suite_upload_abort(lab_store(state), 0);
	suite_upload_abort(lab_store(state), 3 * PART_BYTES);
}

static void test_open(void **state)
{
	static const char *const refused[] = {
		"file://relative", "file://", "file:///tmp/../etc", "file:///..", "file:/tmp",
		"/tmp", "", "ftp://host/", "file:///tmp/x/..",
	};
	struct error err = ERROR_INIT;
	struct store *store;
	char url[128];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		suite_failed(store_open(refused[i], NULL, true, &store, &err), -EINVAL, &err);
		assert_int_equal(err.exit, EXIT_USAGE);
		assert_null(store);
	}
	snprintf(url, sizeof(url), "file://%s/none", ((struct lab *)*state)->folder);
	suite_failed(store_open(url, NULL, false, &store, &err), -ENOENT, &err);
	assert_int_equal(err.exit, EXIT_NO_REPOSITORY);
	snprintf(url, sizeof(url), "file://%s/a/repository//", ((struct lab *)*state)->folder);
	suite_ok(store_open(url, NULL, false, &store, &err), &err);
	assert_null(strstr(store_url(store), "repository/"));
	store_close(store);
	store_close(NULL);
}

static void expect_asked(const char *wanted)
{
	asking = false;
	assert_string_equal(asked, wanted);
	asked[0] = '\0';
	asking = true;
}

/*
 * Durability cannot be seen without a power cut; what brings it about can: data
 * before its name, the name before success, and each new folder in its parent.
 */
static void test_durable(void **state)
{
	struct store *store = lab_store(state);
	struct error err = ERROR_INIT;
	struct store_upload *upload;

	asking = true;
	suite_put(store, "d1/d2/x", 1, 10);
	expect_asked("mkdir /repository d1\nfsync /repository\n"
		     "mkdir /repository/d1 d2\nfsync /repository/d1\n"
		     "fsync /repository/d1/d2/TEMPORARY\n"
		     "rename to /repository/d1/d2 x\nfsync /repository/d1/d2\n");
	suite_put(store, "d1/d2/y", 1, 10);	/* the folders are known now */
	expect_asked("fsync /repository/d1/d2/TEMPORARY\n"
		     "rename to /repository/d1/d2 y\nfsync /repository/d1/d2\n");
	suite_ok(store_put(store, "d1/z", "z", 1, STORE_IF_ABSENT, &err), &err);
	expect_asked("fsync /repository/d1/TEMPORARY\n"
		     "rename without replacing to /repository/d1 z\nfsync /repository/d1\n");
	suite_ok(store_upload_start(store, "d1/u", &upload, &err), &err);
	suite_ok(store_upload_write(upload, "u", 1, &err), &err);
	expect_asked("");
	suite_ok(store_upload_finish(upload, &err), &err);
	expect_asked("fsync /repository/d1/TEMPORARY\n"
		     "rename to /repository/d1 u\nfsync /repository/d1\n");
	suite_ok(store_delete(store, "d1/u", &err), &err);
	expect_asked("fsync /repository/d1\n");
	suite_ok(store_delete(store, "d1/z", &err), &err);
	suite_ok(store_delete(store, "d1/d2/x", &err), &err);
	suite_ok(store_delete(store, "d1/d2/y", &err), &err);
	asking = false;
	asked[0] = '\0';
}

static void test_link_instead(void **state)
{
	rename_plain_only = true;
	suite_if_absent(lab_store(state));
	suite_races(lab_store(state), 20);
	rename_plain_only = false;
}

/* Temporary files are nobody's objects, and go when they are old. */
static void test_temporary(void **state)
{
	struct store *store = lab_store(state);
	struct utimbuf old = { time(NULL) - 7200, time(NULL) - 7200 };
	struct error err = ERROR_INIT;
	int seen = 0;

	suite_put(store, "t/object", 1, 10);
	lab_file(state, "t/.tmp-0123456789abcdef", "old");
	utime(lab_path(state, "t/.tmp-0123456789abcdef"), &old);
	lab_file(state, ".tmp-young", "young");
	lab_file(state, "t/name with space", "foreign");
	utime(lab_path(state, "t/name with space"), &old);
	utime(lab_path(state, "t/object"), &old);
	suite_ok(store_list(store, "", ignore_visit, &seen, &err), &err);
	assert_int_equal(seen, 1);
	assert_int_equal(store_clean(store, "", 3600, &err), 1);
	lab_file(state, "t/.tmp-another", "dead");
	assert_int_equal(store_clean(store, "u/", 0, &err), 0);	/* there is no such folder */
	assert_int_equal(store_clean(store, "t/", 0, &err), 1);
	assert_int_equal(access(lab_path(state, "t/.tmp-another"), F_OK), -1);
	assert_int_equal(access(lab_path(state, "t/.tmp-0123456789abcdef"), F_OK), -1);
	assert_int_equal(access(lab_path(state, ".tmp-young"), F_OK), 0);
	assert_int_equal(access(lab_path(state, "t/name with space"), F_OK), 0);
	assert_int_equal(store_clean(store, "", 0, &err), 1);
	suite_expect(store, "t/object", 1, 10);
	suite_ok(store_delete(store, "t/object", &err), &err);
	unlink(lab_path(state, "t/name with space"));
}

/* A link inside the store leads nowhere: not for reading, writing or listing. */
static void test_links(void **state)
{
	struct store *store = lab_store(state);
	struct error err = ERROR_INIT;
	char outside[128], target[192];
	uint64_t bytes;
	int seen = 0;

	snprintf(outside, sizeof(outside), "%s/outside", ((struct lab *)*state)->folder);
	assert_int_equal(mkdir(outside, 0700), 0);
	assert_int_equal(symlink(outside, lab_path(state, "link")), 0);
	assert_int_equal(store_put(store, "link/x", "x", 1, 0, &err), -ENOTDIR);
	snprintf(target, sizeof(target), "%s/x", outside);
	assert_int_equal(access(target, F_OK), -1);
	close(open(target, O_CREAT | O_WRONLY, 0600));
	assert_true(store_size(store, "link/x", &bytes, &err) < 0);
	assert_true(store_delete(store, "link/x", &err) < 0);
	assert_int_equal(access(target, F_OK), 0);
	/* Not taken for an empty folder: what is behind it would look deleted. */
	suite_failed(store_list(store, "", ignore_visit, &seen, &err), -ELOOP, &err);
	assert_true(store_list(store, "link/", ignore_visit, &seen, &err) < 0);
	unlink(lab_path(state, "link"));

	assert_int_equal(symlink(target, lab_path(state, "leaf")), 0);
	assert_int_equal(store_size(store, "leaf", &bytes, &err), -ELOOP);
	suite_put(store, "leaf", 7, 100);	/* replaces the link, not its target */
	assert_int_equal(truncate(target, 0), 0);
	suite_expect(store, "leaf", 7, 100);
	suite_ok(store_delete(store, "leaf", &err), &err);
}

/* Things of other kinds are not objects, and opening them does not hang. */
static void test_kinds(void **state)
{
	struct store *store = lab_store(state);
	struct error err = ERROR_INIT;
	int seen = 0;

	assert_int_equal(mkfifo(lab_path(state, "fifo"), 0600), 0);
	assert_int_equal(mkdir(lab_path(state, "folder"), 0700), 0);
	suite_absent(store, "fifo");
	suite_absent(store, "folder");
	suite_ok(store_delete(store, "folder", &err), &err);
	suite_ok(store_list(store, "", ignore_visit, &seen, &err), &err);
	assert_int_equal(seen, 0);
	assert_int_equal(store_put(store, "folder", "x", 1, 0, &err), -EISDIR);
	assert_int_equal(store_clean(store, "", 0, &err), 0);	/* its draft is gone */
	unlink(lab_path(state, "fifo"));
}

/* A folder that somebody removed while we knew it comes back. */
static void test_folder_gone(void **state)
{
	struct store *store = lab_store(state);
	struct error err = ERROR_INIT;

	suite_put(store, "gone/deep/x", 1, 10);
	suite_ok(store_delete(store, "gone/deep/x", &err), &err);
	assert_int_equal(rmdir(lab_path(state, "gone/deep")), 0);
	suite_put(store, "gone/deep/x", 2, 20);
	suite_expect(store, "gone/deep/x", 2, 20);
	suite_ok(store_delete(store, "gone/deep/x", &err), &err);
}

/* kill -9 at random moments: a key holds one of the versions whole, or nothing. */
static void test_killed(void **state)
{
	enum { LENGTH = 200000 };
	struct store *store = lab_store(state);
	struct random_state random = random_start("killed");
	struct error err = ERROR_INIT;

	for (int round = 0; round < 40; round++) {
		pid_t pid = fork();
		uint8_t *data;
		size_t length;
		int ret, status;

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (uint64_t seed = 0;; seed++) {
				data = suite_data(seed, LENGTH);
				memcpy(data, &seed, sizeof(seed));
				store_put(store, "killed/x", data, LENGTH, 0, &err);
				free(data);
			}
		}
		usleep((useconds_t)random_below(&random, 8000));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		ret = store_get_all(store, "killed/x", LENGTH, &data, &length, &err);
		if (ret == -ENOENT)
			continue;
		suite_ok(ret, &err);
		assert_int_equal(length, LENGTH);
		{
			uint64_t seed;
			uint8_t *wanted;

			memcpy(&seed, data, sizeof(seed));
			wanted = suite_data(seed, LENGTH);
			memcpy(wanted, &seed, sizeof(seed));
			assert_memory_equal(data, wanted, LENGTH);
			free(wanted);
		}
		free(data);
	}
	assert_true(store_clean(store, "", 0, &err) >= 0);
	suite_ok(store_delete(store, "killed/x", &err), &err);
}

/* Counting reaches zero descriptors more than at the start. */
static int descriptors_open(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_descriptors(void **state)
{
	struct store *store = lab_store(state);
	struct error err = ERROR_INIT;
	int before = descriptors_open(), seen = 0;

	suite_basics(store);
	suite_if_absent(store);
	suite_upload_abort(store, 1000);
	suite_ok(store_list(store, "", ignore_visit, &seen, &err), &err);
	assert_int_equal(descriptors_open(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open), cmocka_unit_test(test_basics),
		cmocka_unit_test(test_ranges), cmocka_unit_test(test_if_absent),
		cmocka_unit_test(test_races), cmocka_unit_test(test_random),
		cmocka_unit_test(test_many), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_upload), cmocka_unit_test(test_durable),
		cmocka_unit_test(test_link_instead), cmocka_unit_test(test_temporary),
		cmocka_unit_test(test_links), cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_folder_gone), cmocka_unit_test(test_killed),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, lab_start, lab_end);
}
