/* Restores of random chains of points, compared with the images they were made of. */
#include "agent/restore/restore_private.h"
#include "tests/unit/points_lab.h"

#include "agent/base/interrupt.h"
#include "agent/base/memory.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- faults ---------------------------------------------------------------- */

/* The program's own pwrite: fails, or lies, at the Nth call. 0: never. */
static atomic_long pwrite_fail_at, pwrite_corrupt_at;

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	long fail_at = atomic_load(&pwrite_fail_at);
	long corrupt_at = atomic_load(&pwrite_corrupt_at);
	uint8_t lie = 0;

	if (fail_at && atomic_fetch_sub(&pwrite_fail_at, 1) == 1) {
		errno = ENOSPC;
		return -1;
	}
	if (corrupt_at && atomic_fetch_sub(&pwrite_corrupt_at, 1) == 1) {
		ssize_t n = syscall(SYS_pwrite64, fd, data, length, offset);

		lie = (uint8_t)(*(const uint8_t *)data ^ 1);
		syscall(SYS_pwrite64, fd, &lie, 1, offset);
		return n;
	}
	return syscall(SYS_pwrite64, fd, data, length, offset);
}

/* ---- helpers --------------------------------------------------------------- */

static void target_path(const struct points_lab *lab, char path[static 700])
{
	lab_path(lab, "target", path);
}

/* Opens, runs, closes; what comes first counts. */
static int restore_to(struct points_lab *lab, uint64_t number, const char *path,
		      const struct restore_target_options *how,
		      const struct restore_options *options,
		      const struct key_ring *ring, struct restore_result *result,
		      struct error *err)
{
	struct restore_target_options target_options = how ? *how :
		(struct restore_target_options){ .force = true };
	struct key_ring own = lab_ring(lab);
	struct restore_target *target;
	struct error close_err = ERROR_INIT;
	int ret, closed;

	target_options.bytes = lab->images[number].bytes;
	ret = restore_target_open(path, &target_options, &target, err);
	if (ret)
		return ret;
	ret = restore_run(lab->repo, &lab->points[number], ring ? ring : &own, target,
			  options, result, err);
	closed = restore_target_close(target, &close_err);
	if (!ret && closed)
		*err = close_err;
	return ret ? ret : closed;
}

static void check_file(const struct points_lab *lab, uint64_t number, const char *path)
{
	const struct lab_image *image = &lab->images[number];
	CLEANUP_FREE char *data = NULL;
	size_t length;

	assert_int_equal(0, file_read(path, 1u << 30, &data, &length));
	assert_int_equal(length, image->bytes);
	if (memcmp(data, image->data, length))
		for (uint64_t b = 0; b < image->blocks; b++)
			if (memcmp(data + b * BLOCK_BYTES, image->data + b * BLOCK_BYTES,
				   plan_clip(&(struct plan){ .volume_bytes = image->bytes },
					     b, 1)))
				fail_msg("point %llu: block %llu differs",
					 (unsigned long long)number,
					 (unsigned long long)b);
}

static void check_restore(struct points_lab *lab, uint64_t number,
			  const struct restore_target_options *how,
			  const struct restore_options *options,
			  struct restore_result *result)
{
	struct error err = ERROR_INIT;
	char path[700];

	target_path(lab, path);
	if (restore_to(lab, number, path, how, options, NULL, result, &err))
		fail_msg("point %llu: %s", (unsigned long long)number, err.message);
	check_file(lab, number, path);
}

static uint64_t data_bytes_of(const struct lab_image *image)
{
	uint64_t bytes = 0;

	for (uint64_t b = 0; b < image->blocks; b++)
		if (!memory_is_zero(image->data + b * BLOCK_BYTES, BLOCK_BYTES))
			bytes += plan_clip(&(struct plan){ .volume_bytes = image->bytes },
					   b, 1);
	return bytes;
}

/* Bytes of the blocks in which two images differ, beyond either's end as zero. */
static uint64_t differing_bytes(const struct lab_image *from, const struct lab_image *to)
{
	static const uint8_t zero[BLOCK_BYTES];
	uint64_t bytes = 0;

	for (uint64_t b = 0; b < to->blocks; b++) {
		size_t n = plan_clip(&(struct plan){ .volume_bytes = to->bytes }, b, 1);
		uint8_t there[BLOCK_BYTES] = { 0 };

		if (b < from->blocks)	/* zero behind its end */
			memcpy(there, from->data + b * BLOCK_BYTES, BLOCK_BYTES);
		if (memcmp(b < from->blocks ? there : zero, to->data + b * BLOCK_BYTES, n))
			bytes += n;
	}
	return bytes;
}

/* ---- tests ----------------------------------------------------------------- */

static void every_point_is_exact(void **state)
{
	struct random_state random = random_start("every_point_is_exact");

	(void)state;
	for (int round = 0; round < 6; round++) {
		struct points_lab *lab = points_lab_new();
		struct restore_options options = {
			.fetchers = 1 + (uint32_t)random_below(&random, 5),
			.decoders = 1 + (uint32_t)random_below(&random, 4),
			.verify = round % 2,
			/* In every other round some frames, or nearly all, are strays. */
			.held_bytes = round % 2 ? 0 : 1 + (uint32_t)random_below(&random, 1u << 20),
		};
		struct restore_result result, planned;
		struct key_ring ring = lab_ring(lab);
		struct error err = ERROR_INIT;

		lab->image_digest = round % 3 == 0;
		lab_build(lab, &random, 8, (1u << 20) + 512 * random_below(&random, 9000));
		for (uint64_t i = 1; i <= lab->count; i++) {
			check_restore(lab, i, NULL, &options, &result);
			assert_int_equal(result.volume_bytes, lab->images[i].bytes);
			assert_int_equal(result.data_bytes, data_bytes_of(&lab->images[i]));
			assert_int_equal(result.data_bytes + result.hole_bytes,
					 result.volume_bytes);
			assert_int_equal(result.written_bytes, result.data_bytes);
			assert_int_equal(result.verified, options.verify);
			assert_int_equal(0, restore_plan(lab->repo, &lab->points[i], &ring,
							 NULL, &planned, &err));
			if (!options.held_bytes)
				assert_int_equal(planned.fetched_bytes, result.fetched_bytes);
			assert_int_equal(planned.frames, result.frames);
			assert_int_equal(planned.data_bytes, result.data_bytes);
		}
		points_lab_free(lab);
	}
}

/* From any point to any other, and again: only what differs is written. */
static void in_place_writes_what_differs(void **state)
{
	struct random_state random = random_start("in_place_writes_what_differs");
	struct points_lab *lab = points_lab_new();
	struct restore_target_options in_place = { .in_place = true };
	struct restore_options options = { .verify = true };
	struct restore_result result;
	uint64_t from = 1;

	(void)state;
	lab_build(lab, &random, 9, 5 * 1000 * 1000 / 512 * 512);
	check_restore(lab, from, NULL, NULL, &result);
	for (int i = 0; i < 25; i++) {
		uint64_t to = 1 + random_below(&random, lab->count);

		check_restore(lab, to, &in_place, &options, &result);
		assert_int_equal(result.written_bytes,
				 differing_bytes(&lab->images[from], &lab->images[to]));
		check_restore(lab, to, &in_place, NULL, &result);
		assert_int_equal(result.written_bytes, 0);
		from = to;
	}
	points_lab_free(lab);
}

/* Holes cost no space. */
static void file_is_sparse(void **state)
{
	struct random_state random = random_start("file_is_sparse");
	struct points_lab *lab = points_lab_new();
	struct restore_result result;
	struct stat st;
	char path[700];

	(void)state;
	lab_image_change(lab, &random, 1, 64u << 20, 0, 1);
	memset(lab->images[1].data + (40u << 20), 7, 5 * BLOCK_BYTES);
	lab_commit(lab, &random, POINT_FULL, false);
	check_restore(lab, 1, NULL, NULL, &result);
	target_path(lab, path);
	assert_int_equal(0, stat(path, &st));
	assert_int_equal(st.st_size, 64u << 20);
	assert_true(st.st_blocks * 512 <= 64 << 10);
	assert_int_equal(st.st_mode & 07777, 0600);
	points_lab_free(lab);
}

/* Nothing but zeros: no frame, no source; the key must fit all the same. */
static void empty_volume(void **state)
{
	struct random_state random = random_start("empty_volume");
	struct points_lab *lab = points_lab_new();
	struct key_ring wrong = { lab->stranger, lab->host_map_key };
	struct restore_options options = { .verify = true };
	struct restore_result result;
	struct error err = ERROR_INIT;
	char path[700];

	(void)state;
	lab_image_change(lab, &random, 1, (1u << 20) + 512, 0, 1);
	lab_commit(lab, &random, POINT_FULL, false);
	check_restore(lab, 1, NULL, &options, &result);
	assert_int_equal(result.frames, 0);
	lab_path(lab, "other", path);
	assert_int_not_equal(0, restore_to(lab, 1, path, NULL, NULL, &wrong, NULL, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	wrong.recovery = NULL;		/* the host opens the map, and no more */
	assert_int_not_equal(0, restore_to(lab, 1, path, NULL, NULL, &wrong, NULL, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	points_lab_free(lab);
}

/* Frames that a later point replaced are skipped over, not fetched. */
static void gaps_are_not_fetched(void **state)
{
	struct random_state random = random_start("gaps_are_not_fetched");
	struct points_lab *lab = points_lab_new();
	struct restore_result full, later;

	(void)state;
	lab->options.inline_bytes = 1;
	lab_image_change(lab, &random, 1, 8u << 20, 0, 1);
	for (size_t i = 0; i < 8u << 20; i += 8) {
		uint64_t value = random_next(&random);	/* does not compress */

		memcpy(lab->images[1].data + i, &value, 8);
	}
	lab_commit(lab, &random, POINT_FULL, false);
	lab_image_change(lab, &random, 2, 8u << 20, 0, 1);
	memset(lab->images[2].data + (1u << 20), 0, 1u << 20);
	lab_commit(lab, &random, POINT_INCREMENTAL, false);
	check_restore(lab, 1, NULL, NULL, &full);
	assert_in_range(full.fetched_bytes, 8u << 20, (8u << 20) + (64u << 10));
	check_restore(lab, 2, NULL, NULL, &later);
	/* The few blocks marked without need come on top. */
	assert_in_range(later.fetched_bytes, 7u << 20, (8u << 20) - (64u << 10));
	points_lab_free(lab);
}

static void target_refusals(void **state)
{
	struct random_state random = random_start("target_refusals");
	struct points_lab *lab = points_lab_new();
	struct restore_target_options careful = { .force = false };
	struct error err = ERROR_INIT;
	char path[700];
	struct stat st;

	(void)state;
	lab_build(lab, &random, 1, 1u << 20);
	target_path(lab, path);
	assert_int_equal(0, file_replace(path, "precious", 8, 0600));
	assert_int_equal(-EEXIST, restore_to(lab, 1, path, &careful, NULL, NULL, NULL,
					     &err));
	assert_non_null(strstr(err.message, "--force"));
	assert_int_equal(0, stat(path, &st));
	assert_int_equal(st.st_size, 8);
	assert_int_equal(0, file_replace(path, "", 0, 0600));
	assert_int_equal(0, restore_to(lab, 1, path, &careful, NULL, NULL, NULL, &err));
	check_file(lab, 1, path);
	assert_int_equal(-EINVAL, restore_to(lab, 1, lab->folder, NULL, NULL, NULL, NULL,
					     &err));
	assert_int_equal(-EINVAL, restore_to(lab, 1, "/dev/null", NULL, NULL, NULL, NULL,
					     &err));
	lab_path(lab, "no/such/folder", path);
	assert_int_equal(-ENOENT, restore_to(lab, 1, path, NULL, NULL, NULL, NULL, &err));
	points_lab_free(lab);
}

/* A wrong key shows before anything is touched. */
static void wrong_key_touches_nothing(void **state)
{
	struct random_state random = random_start("wrong_key_touches_nothing");
	struct points_lab *lab = points_lab_new();
	struct key_ring wrong = { lab->stranger, lab->host_map_key };
	struct key_ring none = { NULL, lab->host_map_key };
	CLEANUP_FREE char *data = NULL;
	struct error err = ERROR_INIT;
	char path[700];
	size_t length;

	(void)state;
	lab_build(lab, &random, 3, 1u << 20);
	target_path(lab, path);
	assert_int_equal(0, file_replace(path, "precious", 8, 0600));
	assert_int_not_equal(0, restore_to(lab, 3, path, NULL, NULL, &wrong, NULL, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_null(strstr(err.message, "partial"));
	assert_int_not_equal(0, restore_to(lab, 3, path, NULL, NULL, &none, NULL, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_int_equal(0, file_read(path, 100, &data, &length));
	assert_int_equal(length, 8);
	/* And a file that would have been made is not left behind. */
	lab_path(lab, "new", path);
	assert_int_not_equal(0, restore_to(lab, 3, path, NULL, NULL, &wrong, NULL, &err));
	assert_int_equal(-1, access(path, F_OK));
	points_lab_free(lab);
}

/* A write that fails: told, with what it leaves; run again in place, it is done. */
static void failed_write_can_be_resumed(void **state)
{
	struct random_state random = random_start("failed_write_can_be_resumed");
	struct points_lab *lab = points_lab_new();
	struct restore_target_options in_place = { .in_place = true };
	struct restore_result result;
	char path[700];

	(void)state;
	lab_build(lab, &random, 4, 4u << 20);
	target_path(lab, path);
	for (long at = 1; at < 40; at += 1 + (long)random_below(&random, 6)) {
		struct error err = ERROR_INIT;
		int ret;

		unlink(path);
		atomic_store(&pwrite_fail_at, at);
		ret = restore_to(lab, 4, path, NULL, NULL, NULL, NULL, &err);
		atomic_store(&pwrite_fail_at, 0);
		if (!ret)
			continue;	/* it needed fewer writes */
		assert_int_equal(ret, -ENOSPC);
		assert_int_equal(err.exit, EXIT_FAILED);
		assert_non_null(strstr(err.message, "holds a partial restore"));
		assert_non_null(strstr(err.message, "with --force"));
		check_restore(lab, 4, &in_place, NULL, &result);
	}
	points_lab_free(lab);
}

/* A medium that does not hold what it was given is found by reading back. */
static void verify_finds_a_lying_medium(void **state)
{
	struct random_state random = random_start("verify_finds_a_lying_medium");
	struct restore_options options = { .verify = true };
	int found = 0;

	(void)state;
	for (int with_digest = 0; with_digest < 2; with_digest++) {
		struct points_lab *lab = points_lab_new();
		char path[700];

		lab->image_digest = with_digest;
		lab_build(lab, &random, 3, 4u << 20);
		target_path(lab, path);
		for (long at = 1; at < 12; at++) {
			struct error err = ERROR_INIT;
			long left;
			int ret;

			atomic_store(&pwrite_corrupt_at, at);
			ret = restore_to(lab, 3, path, NULL, &options, NULL, NULL, &err);
			left = atomic_exchange(&pwrite_corrupt_at, 0);
			if (left > 0) {	/* fewer writes than that */
				assert_int_equal(ret, 0);
				continue;
			}
			found++;
			assert_int_equal(ret, with_digest ? -EBADMSG : -EIO);
			assert_int_equal(err.exit, with_digest ? EXIT_UNTRUSTWORTHY :
								 EXIT_FAILED);
		}
		points_lab_free(lab);
	}
	assert_true(found > 4);
}

struct progress { uint64_t done, total, calls; };

static void progress_seen(void *context, uint64_t done, uint64_t total)
{
	struct progress *progress = context;

	assert_true(done >= progress->done);
	assert_true(done <= total);
	assert_true(!progress->calls || total == progress->total);
	*progress = (struct progress){ done, total, progress->calls + 1 };
}

static void progress_reaches_the_end(void **state)
{
	struct random_state random = random_start("progress_reaches_the_end");
	struct points_lab *lab = points_lab_new();
	struct progress progress = { 0 };
	struct restore_options options = {
		.verify = true, .report = progress_seen, .context = &progress,
	};
	struct restore_result result;

	(void)state;
	lab_build(lab, &random, 2, 8u << 20);
	check_restore(lab, 2, NULL, &options, &result);
	assert_true(progress.calls >= 1);
	assert_int_equal(progress.done, progress.total);
	assert_int_equal(progress.total, result.data_bytes + result.volume_bytes);
	points_lab_free(lab);
}

/* The last run of the map a block too far: the frame's own list gives it away. */
static void spoil_block(struct map *map)
{
	map->entries[map->entry_count - 1].block++;
}

static void map_and_frame_disagree(void **state)
{
	struct random_state random = random_start("map_and_frame_disagree");
	struct points_lab *lab = points_lab_new();
	struct error err = ERROR_INIT;
	char path[700];

	(void)state;
	lab_image_change(lab, &random, 1, 1u << 20, 0, 1);
	memset(lab->images[1].data + 7 * BLOCK_BYTES, 1, 20 * BLOCK_BYTES);
	lab->spoil = spoil_block;
	lab_commit(lab, &random, POINT_FULL, false);
	target_path(lab, path);
	assert_int_equal(-EBADMSG, restore_to(lab, 1, path, NULL, NULL, NULL, NULL, &err));
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	memset(lab->images[1].data, 0, 1u << 20);	/* nothing was written */
	check_file(lab, 1, path);
	points_lab_free(lab);
}

static void interrupt_now(void *context, uint64_t done, uint64_t total)
{
	(void)context;
	(void)done;
	(void)total;
	raise(SIGTERM);
}

/* In a child, as an interrupt cannot be taken back. */
static int interrupted_child(struct points_lab *lab)
{
	struct restore_options options = { .report = interrupt_now };
	struct error err = ERROR_INIT;
	char path[700];

	interrupt_install();
	target_path(lab, path);
	if (restore_to(lab, 1, path, NULL, &options, NULL, NULL, &err) != -EINTR ||
	    err.exit != EXIT_INTERRUPTED)
		return 1;
	return strstr(err.message, "holds a partial restore") ? 42 : 2;
}

static void interrupt_ends_it(void **state)
{
	struct random_state random = random_start("interrupt_ends_it");
	struct points_lab *lab = points_lab_new();
	int status;
	pid_t pid;

	(void)state;
	lab_build(lab, &random, 1, 8u << 20);
	pid = fork();
	if (!pid)
		_exit(interrupted_child(lab));
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_point_is_exact),
		cmocka_unit_test(in_place_writes_what_differs),
		cmocka_unit_test(file_is_sparse),
		cmocka_unit_test(empty_volume),
		cmocka_unit_test(gaps_are_not_fetched),
		cmocka_unit_test(target_refusals),
		cmocka_unit_test(wrong_key_touches_nothing),
		cmocka_unit_test(failed_write_can_be_resumed),
		cmocka_unit_test(verify_finds_a_lying_medium),
		cmocka_unit_test(progress_reaches_the_end),
		cmocka_unit_test(map_and_frame_disagree),
		cmocka_unit_test(interrupt_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
