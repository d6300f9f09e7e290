/* Restores to block devices: loop devices over memory, which vanish with their last user. */
#include "agent/restore/restore_private.h"
#include "tests/unit/points_lab.h"

#include "agent/base/log.h"

#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define SKIPPED 77
#define FILL 0xee

struct device {
	char path[64];
	int fd;		/* keeps it; the kernel removes the device after its last close */
	uint64_t bytes;
};

static void device_on(struct device *device, int backing, uint64_t bytes,
		      uint32_t block_bytes, bool read_only)
{
	CLEANUP_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .block_size = block_bytes, .fd = (uint32_t)backing };

	config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
	device->bytes = bytes;
	for (int tries = 0; tries < 20; tries++) {	/* others take devices too */
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		assert_true(number >= 0);
		snprintf(device->path, sizeof(device->path), "/dev/loop%d", number);
		device->fd = open(device->path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
		assert_true(device->fd >= 0);
		if (!ioctl(device->fd, LOOP_CONFIGURE, &config))
			return;
		close(device->fd);
	}
	fail_msg("no loop device to be had: %s", error_text(errno));
}

/* `block_bytes` 0: 512. Full of 0xee, so that a forgotten hole shows. */
static void device_new(struct device *device, uint64_t bytes, uint32_t block_bytes,
		       bool read_only)
{
	CLEANUP_CLOSE int backing = memfd_create("device", MFD_CLOEXEC);
	CLEANUP_FREE uint8_t *fill = malloc(bytes);

	memset(fill, FILL, bytes);
	assert_int_equal(0, file_pwrite_all(backing, fill, bytes, 0));
	device_on(device, backing, bytes, block_bytes, read_only);
}

/* Over a sparse file. */
static void device_over(struct device *device, const char *path, uint64_t bytes)
{
	CLEANUP_CLOSE int backing = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(backing >= 0);
	assert_int_equal(0, ftruncate(backing, (off_t)bytes));
	device_on(device, backing, bytes, 0, false);
}

static int restore_to(struct points_lab *lab, uint64_t number, const char *path,
		      bool in_place, bool without_fallocate,
		      struct restore_result *result, struct error *err)
{
	struct restore_target_options how = {
		.bytes = lab->images[number].bytes, .in_place = in_place,
	};
	struct restore_options options = {
		.verify = true, .decoders = 3, .held_bytes = number % 2 ? 0 : 100000,
	};
	struct key_ring ring = lab_ring(lab);
	struct restore_target *target;
	int ret, closed;

	*err = (struct error)ERROR_INIT;
	ret = restore_target_open(path, &how, &target, err);
	if (ret)
		return ret;
	atomic_store(&target->cannot_punch, without_fallocate);
	atomic_store(&target->cannot_zero, without_fallocate);
	ret = restore_run(lab->repo, &lab->points[number], &ring, target, &options,
			  result, err);
	closed = restore_target_close(target, err);
	return ret ? ret : closed;
}

static uint8_t *device_read(const struct device *device)
{
	uint8_t *data = malloc(device->bytes);
	CLEANUP_CLOSE int fd = open(device->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(0, ioctl(fd, BLKFLSBUF, 0));
	assert_int_equal(0, file_pread_all(fd, data, device->bytes, 0));
	return data;
}

static void check_device_image(const struct device *device, const struct lab_image *image)
{
	CLEANUP_FREE uint8_t *data = device_read(device);

	assert_memory_equal(data, image->data, image->bytes);
}

/* The image, and behind it what was there before. */
static void check_device(const struct device *device, const struct lab_image *image)
{
	CLEANUP_FREE uint8_t *data = device_read(device);

	assert_memory_equal(data, image->data, image->bytes);
	for (uint64_t i = image->bytes; i < device->bytes; i++)
		assert_int_equal(data[i], FILL);
}

static void check_restores(uint32_t block_bytes, bool without_fallocate, const char *name)
{
	struct random_state random = random_start(name);
	struct points_lab *lab = points_lab_new();
	uint64_t most = 0;

	lab_build(lab, &random, 5, (4u << 20) + 512 * 3);
	for (uint64_t i = 1; i <= lab->count; i++)
		if (lab->images[i].bytes > most)
			most = lab->images[i].bytes;
	for (uint64_t i = 1; i <= lab->count; i++) {
		struct restore_result result;
		struct device device;
		struct error err;

		device_new(&device, (most + 65536) / 4096 * 4096, block_bytes, false);
		for (int in_place = 0; in_place < 2; in_place++) {
			if (restore_to(lab, i, device.path, in_place, without_fallocate,
				       &result, &err))
				fail_msg("point %llu: %s", (unsigned long long)i,
					 err.message);
			check_device(&device, &lab->images[i]);
			assert_int_equal(result.written_bytes,
					 in_place ? 0 : result.data_bytes);
		}
		close(device.fd);
		/* In place over rubbish: every byte differs. */
		device_new(&device, (most + 65536) / 4096 * 4096, block_bytes, false);
		if (restore_to(lab, i, device.path, true, without_fallocate, &result, &err))
			fail_msg("point %llu, in place: %s", (unsigned long long)i, err.message);
		check_device(&device, &lab->images[i]);
		assert_int_equal(result.written_bytes, result.volume_bytes);
		close(device.fd);
	}
	points_lab_free(lab);
}

static void devices_are_exact(void **state)
{
	(void)state;
	check_restores(0, false, "devices_are_exact");
}

static void large_sectors(void **state)
{
	(void)state;
	check_restores(4096, false, "large_sectors");
}

static void no_fallocate(void **state)
{
	(void)state;
	check_restores(0, true, "no_fallocate");
}

/* ---- killed, and run again --------------------------------------------------- */

static int restore_noted(struct points_lab *lab, uint64_t number, const char *path,
			 bool verify, struct restore_result *result, struct error *err)
{
	char journal[700];
	struct restore_target_options how = { .bytes = lab->images[number].bytes };
	struct restore_options options = {
		.verify = verify, .journal = journal, .journal_delay_ns = 1,
	};
	struct key_ring ring = lab_ring(lab);
	struct restore_target *target;
	int ret, closed;

	lab_path(lab, "journal", journal);
	*err = (struct error)ERROR_INIT;
	ret = restore_target_open(path, &how, &target, err);
	if (ret)
		return ret;
	ret = restore_run(lab->repo, &lab->points[number], &ring, target, &options, result,
			  err);
	closed = restore_target_close(target, err);
	return ret ? ret : closed;
}

/* At any moment, with writes in flight; `at_us` 0: lives to its end. What it took, in µs. */
static uint64_t restore_killed(struct points_lab *lab, uint64_t number, const char *path,
			       uint64_t at_us)
{
	struct timespec begin, end;
	int status;
	pid_t pid = fork();

	clock_gettime(CLOCK_MONOTONIC, &begin);
	if (!pid) {
		struct restore_result result;
		struct error err;

		_exit(restore_noted(lab, number, path, false, &result, &err) ? 1 : 0);
	}
	if (at_us) {
		usleep((useconds_t)at_us);
		kill(pid, SIGKILL);
	}
	assert_int_equal(pid, waitpid(pid, &status, 0));
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return (uint64_t)(end.tv_sec - begin.tv_sec) * 1000000 +
	       (uint64_t)(end.tv_nsec / 1000) - (uint64_t)(begin.tv_nsec / 1000);
}

/* Others write to the device meanwhile, at times. */
static void killed_anywhere(void **state)
{
	struct random_state random = random_start("killed_anywhere");
	struct points_lab *lab = points_lab_new();
	struct device device;
	uint64_t took, taken_up = 0;

	(void)state;
	log_set_level(LOG_WARNINGS);
	lab_build(lab, &random, 5, (32u << 20) + 512 * 3);
	device_new(&device, 40u << 20, 0, false);
	took = restore_killed(lab, 5, device.path, 0);
	for (int round = 0; round < 20; round++) {
		uint64_t value = random_next(&random);
		struct restore_result result;
		struct error err;

		/* All of it is something else before. */
		assert_int_equal(0, restore_to(lab, 1 + round % 4, device.path, false, false,
					       &result, &err));
		for (uint64_t times = random_below(&random, 3) + 1; times; times--)
			restore_killed(lab, 5, device.path, 1 + random_below(&random, took));
		if (round % 2)
			assert_int_equal(0, file_pwrite_all(device.fd, &value, sizeof(value),
						random_below(&random, lab->images[5].bytes - 8)));
		if (restore_noted(lab, 5, device.path, round % 3 == 0, &result, &err))
			fail_msg("round %d: %s", round, err.message);
		check_device_image(&device, &lab->images[5]);
		taken_up += result.resumed_bytes > 0;
	}
	print_message("%d of 20 taken up\n", (int)taken_up);
	assert_true(taken_up > 0);
	close(device.fd);
	points_lab_free(lab);
}

/* A device whose backing store is full, or damaged: told, and no success. */
static void full_medium(void **state)
{
	struct random_state random = random_start("full_medium");
	struct points_lab *lab = points_lab_new();
	struct restore_result result;
	char folder[700], image[720];
	struct device device;
	struct error err;

	(void)state;
	lab_image_change(lab, &random, 1, 24u << 20, 0, 1);
	for (size_t i = 0; i < 24u << 20; i += 8) {
		uint64_t value = random_next(&random);

		memcpy(lab->images[1].data + i, &value, 8);
	}
	lab_commit(lab, &random, POINT_FULL, false);
	lab_path(lab, "small", folder);
	assert_int_equal(0, mkdir(folder, 0700));
	assert_int_equal(0, mount("none", folder, "tmpfs", 0, "size=8m"));
	snprintf(image, sizeof(image), "%s/image", folder);
	device_over(&device, image, 24u << 20);
	if (restore_noted(lab, 1, device.path, false, &result, &err) == 0)
		fail_msg("a full medium made a success");
	assert_int_equal(err.exit, EXIT_FAILED);
	if (!strstr(err.message, device.path) || !strstr(err.message, "partial restore"))
		fail_msg("%s", err.message);
	close(device.fd);
	assert_int_equal(0, umount2(folder, MNT_DETACH));
	points_lab_free(lab);
}

static void check_refused(struct points_lab *lab, const struct device *device, int code,
			  const char *why)
{
	struct error err;

	assert_int_equal(code, restore_to(lab, 1, device->path, false, false, NULL, &err));
	if (!strstr(err.message, why))
		fail_msg("no \"%s\" in: %s", why, err.message);
}

static void run(const char *program, const char *argument)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execlp(program, program, "-q", argument, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_int_equal(status, 0);
}

static void refusals(void **state)
{
	struct random_state random = random_start("refusals");
	struct points_lab *lab = points_lab_new();
	struct device device;
	char folder[700];
	int held;

	(void)state;
	lab_build(lab, &random, 1, 4u << 20);
	device_new(&device, (4u << 20) - 4096, 0, false);
	check_refused(lab, &device, -ENOSPC, "4190208 bytes, the volume 4194304");
	close(device.fd);
	device_new(&device, 4u << 20, 0, true);
	check_refused(lab, &device, -EROFS, "read-only");
	close(device.fd);
	device_new(&device, 8u << 20, 0, false);
	held = open(device.path, O_RDONLY | O_EXCL | O_CLOEXEC);
	assert_true(held >= 0);
	check_refused(lab, &device, -EBUSY, "in use");
	close(held);
	run("mkfs.ext4", device.path);
	lab_path(lab, "mounted", folder);
	assert_int_equal(0, mkdir(folder, 0700));
	assert_int_equal(0, mount(device.path, folder, "ext4", MS_RDONLY, NULL));
	check_refused(lab, &device, -EBUSY, "mounted");
	assert_int_equal(0, umount(folder));
	close(device.fd);
	points_lab_free(lab);
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
		cmocka_unit_test(devices_are_exact),
		cmocka_unit_test(large_sectors),
		cmocka_unit_test(no_fallocate),
		cmocka_unit_test(refusals),
		cmocka_unit_test(killed_anywhere),
		cmocka_unit_test(full_medium),
	};

	return cmocka_run_group_tests(list, NULL, NULL);
}

/* In a child with a mount namespace of its own: its mounts and devices end with it. */
int main(void)
{
	int status;
	pid_t pid;

	if (geteuid() || access("/dev/loop-control", R_OK | W_OK)) {
		printf("skipped: needs root and loop devices\n");
		return SKIPPED;
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNS) ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(1);
		exit(tests());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
