/*
 * A volume over a point: random writes, zeros and reads agree with a model across
 * restarts; what is said to be there is durable; what does not belong to it is refused.
 */
#include "tests/unit/serve_volume.h"

#include "agent/base/log.h"

#include <sys/syscall.h>

/* ---- what reaches the disk, and when ------------------------------------------------ */

/* The program's own: the target's data, and what says that it is there, in order. */
static atomic_bool watched, target_dirty, present_early, fail_sync;

static bool is_present_file(int fd)
{
	char link[64], path[900];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = '\0';
	return strstr(path, ".present") != NULL;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	if (atomic_load(&watched)) {
		if (!is_present_file(fd))
			atomic_store(&target_dirty, true);
		else if (atomic_load(&target_dirty))
			atomic_store(&present_early, true);
	}
	return syscall(SYS_pwrite64, fd, data, length, offset);
}

int fsync(int fd)
{
	if (atomic_load(&watched) && !is_present_file(fd)) {
		if (atomic_exchange(&fail_sync, false)) {
			errno = EIO;
			return -1;
		}
		atomic_store(&target_dirty, false);
	}
	return (int)syscall(SYS_fsync, fd);
}

static void as_the_model(void **state)
{
	struct random_state random = random_start("as_the_model");

	(void)state;
	for (int round = 0; round < 4; round++) {
		struct volume volume;

		volume_new(&volume, &random, 3, 2 * MEBIBYTE + 512 * random_below(&random, 999));
		for (int i = 0; i < 400; i++) {
			struct overlay_counts counts;
			struct error err = ERROR_INIT;

			volume_step(&volume, &random);
			overlay_counts(volume.overlay, &counts);
			if (counts.complete || !random_one_in(&random, 60))
				continue;
			assert_int_equal(0, overlay_close(volume.overlay, &err));
			volume_open(&volume);	/* ended and begun again */
		}
		volume_check(&volume, 0, volume.bytes);
		volume_check_holes(&volume);
		volume_free(&volume);
	}
}

/* ---- durability --------------------------------------------------------------------- */

/* Power may fail at any moment: what the list says is in the target lies on the disk. */
static void data_before_bits(void **state)
{
	struct random_state random = random_start("data_before_bits");
	struct error err = ERROR_INIT;
	struct volume volume;

	(void)state;
	volume_new(&volume, &random, 2, 2 * MEBIBYTE);
	atomic_store(&watched, true);
	for (int i = 0; i < 60; i++) {
		volume_write(&volume, &random);
		if (random_one_in(&random, 3))
			assert_int_equal(0, overlay_flush(volume.overlay, &err));
	}
	assert_int_equal(0, overlay_flush(volume.overlay, &err));
	assert_false(atomic_load(&target_dirty));
	assert_false(atomic_load(&present_early));
	atomic_store(&watched, false);
	volume_free(&volume);
}

/* The kernel says it once, and has dropped the data: what was not durable then is not
 * there, whatever a later sync says. */
static void a_failed_sync_is_final(void **state)
{
	struct random_state random = random_start("a_failed_sync_is_final");
	struct error err = ERROR_INIT;
	struct overlay_counts counts;
	struct volume volume;
	uint8_t data[BLOCK_BYTES];

	(void)state;
	volume_new(&volume, &random, 1, 2 * MEBIBYTE);
	memset(data, 0x77, sizeof(data));
	assert_int_equal(0, overlay_write(volume.overlay, 0, data, sizeof(data), &err));
	atomic_store(&watched, true);
	atomic_store(&fail_sync, true);
	assert_int_equal(-EIO, overlay_flush(volume.overlay, &err));
	assert_int_equal(-EIO, overlay_flush(volume.overlay, &err));
	assert_int_equal(-EIO, overlay_write(volume.overlay, 0, data, sizeof(data), &err));
	atomic_store(&watched, false);
	overlay_close(volume.overlay, &err);
	volume_open(&volume);
	overlay_counts(volume.overlay, &counts);
	assert_int_equal(counts.present_blocks, 0);
	volume_check(&volume, 0, volume.bytes);
	volume_free(&volume);
}

/* ---- refusals ---------------------------------------------------------------------- */

static void refused(struct volume *volume, int wanted, const char *says)
{
	struct overlay_options options = { volume->target, volume->present, false };
	struct overlay *other;
	struct error err = ERROR_INIT;
	int ret = overlay_open(volume->lab.reader,
			       &volume->lab.points->points[volume->lab.number], &options, &other,
			       &err);

	assert_null(other);
	if (ret != wanted || !strstr(err.message, says))
		fail_msg("%d, not %d, %s: %s", ret, wanted, says, err.message);
}

static void present_flip(struct volume *volume, off_t offset)
{
	int fd = open(volume->present, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_int_equal(1, pread(fd, &byte, 1, offset));
	byte ^= 0x80;
	assert_int_equal(1, pwrite(fd, &byte, 1, offset));
	close(fd);
}

static void what_does_not_belong_is_refused(void **state)
{
	struct random_state random = random_start("what_does_not_belong_is_refused");
	struct volume volume;
	char command[4096];

	(void)state;
	volume_new(&volume, &random, 2, 2 * MEBIBYTE + 4096);
	refused(&volume, -EBUSY, "another program has locked");
	volume_write(&volume, &random);
	assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
	/* Another point. */
	volume.lab.number = 1;
	refused(&volume, -ESTALE, "point 2, not of 1");
	volume.lab.number = 2;
	/* Damage: the header, its padding, a bit behind the end. */
	for (off_t at = 0; at < 104; at += 13) {
		present_flip(&volume, at);
		refused(&volume, -ESTALE, "no list of present blocks, or damaged");
		present_flip(&volume, at);
	}
	present_flip(&volume, 4095);
	refused(&volume, -ESTALE, "or damaged");
	present_flip(&volume, 4095);
	present_flip(&volume, 8191);
	refused(&volume, -ESTALE, "bits behind");
	present_flip(&volume, 8191);
	assert_int_equal(0, truncate(volume.present, 8191));
	refused(&volume, -ESTALE, "length");
	assert_int_equal(0, truncate(volume.present, 8192));
	/* A copy of the target is not the target; a target without its list is nobody's. */
	snprintf(command, sizeof(command), "cp %s %s.copy && mv %s.copy %s", volume.target,
		 volume.target, volume.target, volume.target);
	assert_int_equal(0, system(command));
	refused(&volume, -ESTALE, "another target");
	assert_int_equal(0, unlink(volume.present));
	refused(&volume, -EEXIST, "not empty");
	assert_int_equal(0, unlink(volume.target));
	volume_open(&volume);
	memcpy(volume.model, volume.lab.image->data, volume.bytes);
	volume_check(&volume, 0, volume.bytes);
	volume_free(&volume);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_model),
		cmocka_unit_test(data_before_bits),
		cmocka_unit_test(a_failed_sync_is_final),
		cmocka_unit_test(what_does_not_belong_is_refused),
	};

	/* What fails on purpose is told, too. */
	log_set_level(LOG_ERRORS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
