/*
 * Runs that fail: the first error comes out with its place, nothing is left
 * running, open or half stored, and the result stays untouched.
 */
#include "agent/base/interrupt.h"
#include "tests/unit/pipeline_lab.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* The kernel's own threads behind a ring may take a moment to go. */
static void threads_back_to(unsigned before)
{
	for (int i = 0; i < 200 && lab_threads() != before; i++)
		usleep(10000);
	assert_int_equal(lab_threads(), before);
}

static void run_fails(const struct pipeline_job *job, int code, const char *text)
{
	struct pipeline_result result, untouched;
	struct error err = ERROR_INIT;
	unsigned threads = lab_threads(), files = open_files();

	memset(&result, 0x5a, sizeof(result));
	memset(&untouched, 0x5a, sizeof(untouched));
	assert_int_equal(code, pipeline_run(job, &result, &err));
	assert_int_equal(code, err.code);
	if (!strstr(err.message, text))
		fail_msg("\"%s\" does not say \"%s\"", err.message, text);
	assert_memory_equal(&result, &untouched, sizeof(result));
	threads_back_to(threads);
	assert_int_equal(files, open_files());
}

static void lab_prepare(struct lab *lab, const char *name, uint64_t bytes)
{
	struct random_state random = random_start(name);

	lab_volume(lab, &random, bytes);
	lab_extents_all(lab);
}

/* ---- the volume ----------------------------------------------------------- */

static void test_truncated(void **state)
{
	struct lab *lab = *state;
	struct pipeline_job job;
	char path[128];

	lab_prepare(lab, "pipeline_failure truncated", 9 << 20);
	lab_path(lab, "volume", path);
	job = lab_job(lab, MAP_FULL);
	job.options.queue_depth = 1;	/* so that the first failure is certain */
	assert_int_equal(0, truncate(path, (6 << 20) + 4096 * 3));
	run_fails(&job, -ENODATA, "at byte 6303744");
	assert_int_equal(0, truncate(path, (6 << 20) + 4096 * 3 + 700));
	run_fails(&job, -ENODATA, "at byte 6303744");
	job.options.queue_depth = 32;
	run_fails(&job, -ENODATA, "has it shrunk");
}

/* Page zero of our own memory is not mapped: reading there is an I/O error. */
static void test_io_error(void **state)
{
	struct lab *lab = *state;
	struct pipeline_job job;

	lab_prepare(lab, "pipeline_failure io error", 1 << 20);
	close(lab->fd);
	lab->fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	assert_true(lab->fd >= 0);
	extent_list_fini(&lab->extents);
	extent_list_append(&lab->extents, 7, 2);
	job = lab_job(lab, MAP_DELTA);
	run_fails(&job, -EIO, "at byte 28672 (8192 bytes)");
}

static void test_bad_jobs(void **state)
{
	struct lab *lab = *state;
	struct pipeline_job job;

	lab_prepare(lab, "pipeline_failure bad jobs", 1 << 20);
	job = lab_job(lab, MAP_FULL);
	job.volume_bytes = 255 * BLOCK_BYTES;
	run_fails(&job, -ERANGE, "the volume has 255");
	job = lab_job(lab, MAP_FULL);
	job.volume_bytes = UINT64_MAX;
	run_fails(&job, -EFBIG, "too large");
	job = lab_job(lab, MAP_FULL);
	job.fd = open(lab->folder, O_RDONLY | O_CLOEXEC);
	run_fails(&job, -EISDIR, "at byte 0");
	close(job.fd);
}

/* ---- the store ------------------------------------------------------------ */

/* A frame's number is its nonce: before it could come round, the run is refused. */
static void test_too_many_frames(void **state)
{
	struct lab *lab = *state;
	struct extent_list extents = EXTENT_LIST_INIT;
	struct pipeline_job job;

	lab_prepare(lab, "pipeline_failure frames", 1 << 20);
	job = lab_job(lab, MAP_FULL);
	job.volume_bytes = UINT64_C(17) << 40;
	assert_int_equal(0, extent_list_append(&extents, 0, job.volume_bytes / BLOCK_BYTES));
	job.extents = &extents;
	job.options.frame_blocks = 1;
	run_fails(&job, -EOVERFLOW, "larger frame_size");
	extent_list_fini(&extents);
}

static void store_remove(const struct lab *lab)
{
	char path[128];

	lab_path(lab, "store", path);
	nftw(path, lab_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static unsigned objects_left;

static int count_object(const char *path, const struct stat *st, int type,
			struct FTW *ftw)
{
	(void)path;
	(void)st;
	(void)ftw;
	objects_left += type == FTW_F;
	return 0;
}

static void count_objects(const struct lab *lab)
{
	char path[128];

	lab_path(lab, "store", path);
	objects_left = 0;
	nftw(path, count_object, 16, FTW_PHYS);
}

static void test_store_gone(void **state)
{
	struct lab *lab = *state;
	struct pipeline_job job;

	lab_prepare(lab, "pipeline_failure store gone", 9 << 20);
	store_remove(lab);
	job = lab_job(lab, MAP_FULL);
	run_fails(&job, -ENOENT, LAB_PREFIX "000000");
}

static void remove_on_report(void *context, uint64_t done, uint64_t total,
			     uint64_t stored)
{
	(void)done;
	(void)total;
	if (stored)
		store_remove(context);
}

/* The folder goes while segments are being written. */
static void test_store_goes(void **state)
{
	struct lab *lab = *state;
	struct pipeline_job job;

	lab_prepare(lab, "pipeline_failure store goes", 24 << 20);
	job = lab_job(lab, MAP_FULL);
	job.options.inline_bytes = 1;
	job.options.segment_bytes = 1 << 20;
	job.progress.report = remove_on_report;
	job.progress.context = lab;
	run_fails(&job, -ENOENT, LAB_PREFIX);
}

/* A write that fails in the middle of a segment: the file may not grow more. */
static void test_store_full(void **state)
{
	struct lab *lab = *state;
	struct rlimit before, limit;
	struct pipeline_job job;

	lab_prepare(lab, "pipeline_failure store full", 32 << 20);
	job = lab_job(lab, MAP_FULL);
	job.options.workers = 3;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &before));
	limit = before;
	limit.rlim_cur = 3 << 20;
	assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &limit));
	run_fails(&job, -EFBIG, LAB_PREFIX "000000");
	assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &before));
	signal(SIGXFSZ, SIG_DFL);
	count_objects(lab);
	assert_int_equal(objects_left, 0);
}

/* ---- callbacks ------------------------------------------------------------ */

static int refuse(void *context, struct error *err)
{
	(void)context;
	return error_set(err, -EBUSY, "the snapshot overflowed");
}

static void test_read_done_refuses(void **state)
{
	struct lab *lab = *state;
	struct pipeline_job job;

	lab_prepare(lab, "pipeline_failure read_done", 3 << 20);
	job = lab_job(lab, MAP_FULL);
	job.progress.read_done = refuse;
	run_fails(&job, -EBUSY, "the snapshot overflowed");
	extent_list_fini(&lab->extents);
	run_fails(&job, -EBUSY, "the snapshot overflowed");
}

static void stop_on_report(void *context, uint64_t done, uint64_t total,
			   uint64_t stored)
{
	(void)context;
	(void)done;
	(void)total;
	(void)stored;
	raise(SIGTERM);
}

/* In a child, as an interrupt is for good. */
static int interrupted_child(struct lab *lab)
{
	struct pipeline_job job = lab_job(lab, MAP_FULL);
	struct pipeline_result result;
	struct error err = ERROR_INIT;

	unsigned threads;

	lab_thread_start();
	threads = lab_threads();
	interrupt_install();
	job.progress.report = stop_on_report;
	job.options.inline_bytes = 1;
	job.options.read_bytes_per_second = 2 << 20;
	if (pipeline_run(&job, &result, &err) != -EINTR)
		return 2;
	if (err.exit != EXIT_INTERRUPTED)
		return 3;
	for (int i = 0; i < 200 && lab_threads() != threads; i++)
		usleep(10000);
	if (lab_threads() != threads)
		return 4;
	count_objects(lab);
	return objects_left ? 5 : 0;
}

static void test_interrupt(void **state)
{
	struct lab *lab = *state;
	int status;
	pid_t pid;

	lab_prepare(lab, "pipeline_failure interrupt", 8 << 20);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(20);
		_exit(interrupted_child(lab));
	}
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_truncated),
		TEST(test_io_error),
		TEST(test_bad_jobs),
		TEST(test_too_many_frames),
		TEST(test_store_gone),
		TEST(test_store_goes),
		TEST(test_store_full),
		TEST(test_read_done_refuses),
		TEST(test_interrupt),
	};

	alarm(300);	/* a lost wake-up must not hang the lane */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
