/*
 * Whole runs on a block device opened with O_DIRECT, whose last block is cut
 * short: the kernel must give us the rest of it for a read of the whole block.
 */
#include "tests/unit/pipeline_lab.h"

#include <linux/loop.h>
#include <sys/ioctl.h>

#define SKIPPED 77

/* The device goes with its last descriptor. Negative errno. */
static int loop_open(const char *path, uint32_t block_bytes)
{
	CLEANUP_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	CLEANUP_CLOSE int file = open(path, O_RDWR | O_CLOEXEC);
	struct loop_config config = {
		.fd = (uint32_t)file,
		.block_size = block_bytes,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY,
	};

	if (control < 0 || file < 0)
		return -errno;
	/* Somebody else may take the free one first. */
	for (int tries = 0; tries < 20; tries++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		char name[32];
		int fd;

		if (number < 0)
			return -errno;
		snprintf(name, sizeof(name), "/dev/loop%d", number);
		fd = open(name, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
			/* The first descriptor keeps it alive until the second is open. */
			int direct = open(name, O_RDONLY | O_CLOEXEC | O_DIRECT);
			int code = direct < 0 ? -errno : 0;

			close(fd);
			return code ? code : direct;
		}
		if (fd >= 0)
			close(fd);
		if (errno != EBUSY && errno != ENOENT)
			return -errno;
	}
	return -EBUSY;
}

static void device_run(struct lab *lab, struct random_state *random, uint64_t bytes,
		       uint32_t block_bytes)
{
	struct pipeline_result result;
	struct pipeline_job job;
	char path[128];
	int fd;

	lab_store_clear(lab);
	lab_volume(lab, random, bytes);
	/* The last block counts: never zero. */
	lab->image[bytes - 1] = 0x77;
	lab_path(lab, "volume", path);
	assert_int_equal(0, file_replace(path, lab->image, bytes, 0600));
	fd = loop_open(path, block_bytes);
	assert_true(fd >= 0);
	assert_int_equal((off_t)bytes, lseek(fd, 0, SEEK_END));
	close(lab->fd);
	lab->fd = fd;
	lab_extents_all(lab);
	job = lab_job(lab, MAP_FULL);
	lab_run(&job, &result);
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);

	lab_extents(lab, random, 3, 5);
	lab_store_clear(lab);
	job = lab_job(lab, MAP_DELTA);
	lab_run(&job, &result);
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);
}

static void test_device(void **state)
{
	struct random_state random = random_start("pipeline_device");
	struct lab *lab = *state;

	for (uint64_t sectors = 1; sectors < 8; sectors++)
		device_run(lab, &random, (3 << 20) + sectors * 512, 512);
	device_run(lab, &random, 4 << 20, 4096);
}

/* A device that is said to be longer than it is. */
static void test_device_short(void **state)
{
	struct random_state random = random_start("pipeline_device short");
	struct lab *lab = *state;
	struct pipeline_result result;
	struct error err = ERROR_INIT;
	struct pipeline_job job;
	char path[128];

	lab_volume(lab, &random, (2 << 20) + 1024);
	lab_path(lab, "volume", path);
	close(lab->fd);
	lab->fd = loop_open(path, 512);
	assert_true(lab->fd >= 0);
	lab_extents_all(lab);
	job = lab_job(lab, MAP_FULL);
	job.volume_bytes += 512;
	assert_int_equal(-ENODATA, pipeline_run(&job, &result, &err));
	assert_non_null(strstr(err.message, "at byte 2097152"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_device, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_device_short, lab_setup, lab_teardown),
	};

	if (geteuid() != 0) {
		printf("skipped: loop devices need root\n");
		return SKIPPED;
	}
	if (access("/dev/loop-control", F_OK) < 0) {
		printf("skipped: this kernel has no loop devices\n");
		return SKIPPED;
	}
	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
