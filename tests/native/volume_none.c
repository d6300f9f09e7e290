/*
 * Provider none on a loop device with the real tracker: the read set is exact,
 * any write during the read is noticed, a volume in use or never at rest is
 * refused. And boundaries that never were tracked.
 */
#include "tests/native/volume_lab.h"

#include <errno.h>
#include <sys/mount.h>
#include <time.h>

#define BYTES (8u << 20)
#define BLOCK 4096u

static struct random_state random_source;
static struct tracker *tracker;

struct lab {
	struct lab_loop loop;
	struct boundary_volume volume;
	struct boundary *boundary;
	bool attached;
};

static void lab_attach(struct lab *lab)
{
	struct tracker_volume track;

	track = (struct tracker_volume){ .device = lab->volume.device.device,
					 .sectors = BYTES / 512, .block_bytes = BLOCK };
	ASSERT_OK(tracker_attach(tracker, &track, &lab->volume.slot, &err));
	lab->attached = lab->volume.tracked = true;
}

static int lab_setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	*state = lab;
	lab_loop(&lab->loop, BYTES, -1);
	ASSERT_OK(device_facts(lab->loop.path, &lab->volume.device, &err));
	lab->volume.name = "labnone";
	return uuid_new(&lab->volume.id);
}

static int lab_teardown(void **state)
{
	struct lab *lab = *state;
	struct error err = ERROR_INIT;

	boundary_close(lab->boundary, &err);
	if (lab->attached)
		tracker_detach(tracker, lab->volume.slot, &err);
	close(lab->loop.fd);
	free(lab);
	return 0;
}

static void write_blocks(struct lab *lab, uint64_t first, uint64_t count)
{
	uint8_t *data = aligned_alloc(BLOCK, count * BLOCK);
	int fd = open(lab->loop.path, O_WRONLY | O_DIRECT | O_CLOEXEC);

	memset(data, (int)random_next(&random_source), count * BLOCK);
	assert_int_equal(pwrite(fd, data, count * BLOCK, (off_t)(first * BLOCK)),
			 count * BLOCK);
	close(fd);
	free(data);
}

/* Random writes between boundaries: exactly those blocks are in the set. */
static void test_exact_read_set(void **state)
{
	struct lab *lab = *state;
	struct bitmap wanted;

	lab_attach(lab);
	for (int round = 0; round < 10; round++) {
		unsigned writes = (unsigned)random_below(&random_source, 20);

		assert_int_equal(bitmap_init(&wanted, BYTES / BLOCK), 0);
		for (unsigned i = 0; i < writes; i++) {
			uint64_t count = 1 + random_below(&random_source, 8);
			uint64_t first = random_below(&random_source, BYTES / BLOCK - 8);

			write_blocks(lab, first, count);
			bitmap_set(&wanted, first, count);
		}
		ASSERT_OK(boundary_open(tracker, &lab->volume, 1, NULL, &lab->boundary, &err));
		assert_int_equal(lab->volume.used, PROVIDER_NONE);
		assert_string_equal(lab->volume.read_path, lab->loop.path);
		assert_false(lab->volume.frozen_fs);
		assert_memory_equal(lab->volume.read_set.words, wanted.words,
				    bitmap_words(wanted.bits) * 8);
		ASSERT_OK(boundary_check(lab->boundary, &err));
		ASSERT_OK(tracker_drop_retired(tracker, lab->volume.slot, &err));
		ASSERT_OK(boundary_close(lab->boundary, &err));
		lab->boundary = NULL;
		bitmap_fini(&wanted);
	}
}

/* Buffered writes that still wait in the page cache belong to the point. */
static void test_flushed(void **state)
{
	struct lab *lab = *state;

	lab_attach(lab);
	assert_int_equal(pwrite(lab->loop.fd, "dirty", 5, 100 * BLOCK), 5);
	ASSERT_OK(boundary_open(tracker, &lab->volume, 1, NULL, &lab->boundary, &err));
	assert_true(bitmap_test(&lab->volume.read_set, 100));
	assert_int_equal(bitmap_count(&lab->volume.read_set), 1);
	ASSERT_OK(boundary_check(lab->boundary, &err));
}

static void check_noticed(struct lab *lab, bool discard)
{
	uint64_t range[2] = { 5 * BLOCK, BLOCK };
	struct error busy = ERROR_INIT;

	ASSERT_OK(boundary_open(tracker, &lab->volume, 1, NULL, &lab->boundary, &err));
	ASSERT_OK(boundary_check(lab->boundary, &err));
	if (discard)
		assert_int_equal(ioctl(lab->loop.fd, BLKDISCARD, range), 0);
	else
		write_blocks(lab, 5, 1);
	assert_int_equal(boundary_check(lab->boundary, &busy), -EBUSY);
	assert_non_null(strstr(busy.message, "written to while being read"));
	ASSERT_OK(boundary_close(lab->boundary, &err));
	lab->boundary = NULL;
}

static void test_write_noticed(void **state)
{
	struct lab *lab = *state;

	lab_attach(lab);
	check_noticed(lab, false);
	check_noticed(lab, true);
	/* The marks are not lost: nobody dropped the retired bitmap. */
	ASSERT_OK(boundary_open(tracker, &lab->volume, 1, NULL, &lab->boundary, &err));
	assert_true(bitmap_test(&lab->volume.read_set, 5));
}

static void test_untracked(void **state)
{
	struct lab *lab = *state;

	write_blocks(lab, 1, 1);
	check_noticed(lab, false);
	check_noticed(lab, true);
	ASSERT_OK(boundary_open(NULL, &lab->volume, 1, NULL, &lab->boundary, &err));
	assert_null(lab->volume.read_set.words);
	ASSERT_OK(boundary_check(lab->boundary, &err));
}

static int save_fails(void *context, const struct boundary_volume *volume,
		      struct error *err)
{
	(void)context;
	(void)volume;
	return error_set(err, -ENOSPC, "no room for the marks");
}

static int save_counts(void *context, const struct boundary_volume *volume,
		       struct error *err)
{
	(void)err;
	*(uint64_t *)context = bitmap_count(&volume->read_set);
	return 0;
}

/* A run whose marks could not be saved leaves them to the next one. */
static void test_save(void **state)
{
	struct boundary_options options = { .save = save_fails };
	struct lab *lab = *state;
	struct bitmap pending;
	uint64_t saved = 0;

	lab_attach(lab);
	write_blocks(lab, 7, 2);
	ASSERT_FAILS(-ENOSPC, boundary_open(tracker, &lab->volume, 1, &options,
					    &lab->boundary, &err));
	assert_null(lab->boundary);
	write_blocks(lab, 20, 1);
	assert_int_equal(bitmap_init(&pending, BYTES / BLOCK), 0);
	bitmap_set(&pending, 30, 4);
	lab->volume.pending = &pending;
	options = (struct boundary_options){ .save = save_counts, .context = &saved };
	ASSERT_OK(boundary_open(tracker, &lab->volume, 1, &options, &lab->boundary, &err));
	assert_int_equal(saved, 7);
	ASSERT_OK(boundary_close(lab->boundary, &err));
	/* Saved, so dropped. */
	lab->volume.pending = NULL;
	ASSERT_OK(boundary_open(tracker, &lab->volume, 1, &options, &lab->boundary, &err));
	assert_int_equal(saved, 0);
	bitmap_fini(&pending);
}

/* Pending marks of another size would mean other blocks. */
static void test_pending_size(void **state)
{
	struct lab *lab = *state;
	struct bitmap pending;

	lab_attach(lab);
	assert_int_equal(bitmap_init(&pending, BYTES / BLOCK + 1), 0);
	lab->volume.pending = &pending;
	ASSERT_FAILS(-EINVAL, boundary_open(tracker, &lab->volume, 1, NULL,
					    &lab->boundary, &err));
	bitmap_fini(&pending);
}

static void test_mounted(void **state)
{
	struct lab *lab = *state;
	char command[128], folder[] = "/tmp/volume-mount-XXXXXX";
	struct error err = ERROR_INIT;

	snprintf(command, sizeof(command), "mkfs.ext4 -q %s", lab->loop.path);
	assert_int_equal(system(command), 0);
	assert_non_null(mkdtemp(folder));
	assert_int_equal(mount(lab->loop.path, folder, "ext4", 0, NULL), 0);
	assert_int_equal(boundary_open(NULL, &lab->volume, 1, NULL, &lab->boundary, &err),
			 -EBUSY);
	/* Told before anything can fail, so that the mount does not stay. */
	umount(folder);
	assert_non_null(strstr(err.message, folder));
	assert_int_equal(mount(lab->loop.path, folder, "ext4", MS_RDONLY, NULL), 0);
	err.code = boundary_open(NULL, &lab->volume, 1, NULL, &lab->boundary, &err);
	umount(folder);
	rmdir(folder);
	if (err.code)
		fail_msg("read-only mount: %s", err.message);
}

/* Held exclusively by somebody we cannot see, as a mount in a container would. */
static void test_held(void **state)
{
	struct lab *lab = *state;
	int fd = open(lab->loop.path, O_RDONLY | O_EXCL | O_CLOEXEC);

	assert_true(fd >= 0);
	ASSERT_FAILS(-EBUSY, boundary_open(NULL, &lab->volume, 1, NULL,
					   &lab->boundary, &err));
	close(fd);
}

/* Who writes while the provider naps; a thread of its own would miss the one nap
 * in which a busy machine did not let it run, and that nap would be rest. */
static struct lab *restless;
static unsigned restless_writes;

int nanosleep(const struct timespec *span, struct timespec *left)
{
	int ret;

	if (restless) {
		write_blocks(restless, 9, 1);
		restless_writes++;
		return 0;
	}
	ret = clock_nanosleep(CLOCK_MONOTONIC, 0, span, left);
	errno = ret;
	return ret ? -1 : 0;
}

static void test_restless(void **state)
{
	struct error err = ERROR_INIT;
	struct lab *lab = *state;
	int ret;

	restless = lab;
	ret = boundary_open(NULL, &lab->volume, 1, NULL, &lab->boundary, &err);
	restless = NULL;
	assert_int_equal(ret, -EBUSY);
	assert_non_null(strstr(err.message, "come to rest"));
	/* It waited for rest as long as it says, and did not give up at once. */
	assert_true(restless_writes >= 100);
}

/* The same device twice, a name that is none, a slot of another device. */
static void test_refused(void **state)
{
	struct lab *lab = *state;
	struct boundary_volume twice[2] = { lab->volume, lab->volume };

	twice[1].name = "other";
	ASSERT_FAILS(-EINVAL, boundary_open(NULL, twice, 2, NULL, &lab->boundary, &err));
	twice[0].name = "../x";
	ASSERT_FAILS(-EINVAL, boundary_open(NULL, twice, 1, NULL, &lab->boundary, &err));
	ASSERT_FAILS(-EINVAL, boundary_open(NULL, twice, 0, NULL, &lab->boundary, &err));
	lab_attach(lab);
	twice[0] = lab->volume;
	twice[0].device.bytes += 4096;
	ASSERT_FAILS(-ESTALE, boundary_open(tracker, twice, 1, NULL, &lab->boundary, &err));
}

/* The judgement on a living tracker: trusted, then a mark lost by bypass. */
static void test_judge(void **state)
{
	struct lab *lab = *state;
	struct volume_state remembered = { .trust = TRUST_TRACKED };
	struct tracker_facts facts;
	char reason[256];

	assert_int_equal(volume_judge(tracker, &remembered, &lab->volume.device, NULL,
				      reason, sizeof(reason)), TRUST_UNTRUSTED);
	assert_string_equal(reason, "the volume is not tracked");
	assert_int_equal(volume_judge(NULL, &remembered, &lab->volume.device, NULL,
				      reason, sizeof(reason)), TRUST_UNTRUSTED);
	lab_attach(lab);
	ASSERT_OK(tracker_facts(tracker, &facts, &err));
	remembered.identity = facts.identity;
	remembered.recursion_misses = facts.recursion_misses;
	remembered.device = lab->volume.device.device;
	remembered.diskseq = lab->volume.device.diskseq;
	remembered.bytes = BYTES;
	remembered.granularity_bytes = BLOCK;
	ASSERT_OK(tracker_ledger(tracker, remembered.device, &remembered.base, &err));
	write_blocks(lab, 3, 3);
	if (volume_judge(tracker, &remembered, &lab->volume.device, NULL, reason,
			 sizeof(reason)) != TRUST_TRACKED)
		fail_msg("%s", reason);
	/* As if the kernel had counted one sector more. */
	remembered.base.kernel_write_sectors--;
	assert_int_equal(volume_judge(tracker, &remembered, &lab->volume.device, NULL,
				      reason, sizeof(reason)), TRUST_UNTRUSTED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_exact_read_set), TEST(test_flushed), TEST(test_write_noticed),
		TEST(test_untracked), TEST(test_save), TEST(test_pending_size),
		TEST(test_mounted), TEST(test_held), TEST(test_restless),
		TEST(test_refused), TEST(test_judge),
	};
	struct error err = ERROR_INIT;
	bool loaded;
	int ret = lab_need_root();

	if (ret)
		return ret;
	random_source = random_start("volume_none");
	/* Leave a tracker that was there before. */
	loaded = tracker_open(false, &tracker, &err) == 0;
	if (!loaded && tracker_open(true, &tracker, &err)) {
		printf("FAILED: %s\n", err.message);
		return 1;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	tracker_close(tracker);
	if (!loaded && tracker_remove(&err))
		printf("FAILED: %s\n", err.message);
	return ret || (!loaded && err.code && err.code != -ENOENT) ? 1 : 0;
}
