/*
 * A volume over a point: random writes, zeros and reads agree with a model, while it is
 * filled in and not, across restarts; what a flush promised outlives any crash, and what
 * was not flushed never shows where it would be wrong; in the end the target alone is
 * the volume.
 */
#include "tests/unit/serve_lab.h"

#include "agent/base/log.h"

#include <sys/syscall.h>
#include <sys/wait.h>

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

struct volume {
	struct serve_lab lab;
	struct overlay *overlay;
	char target[700], present[710];
	uint8_t *model;
	uint64_t bytes;
};

static void volume_open(struct volume *volume)
{
	struct overlay_options options = { volume->target, volume->present, false };
	struct error err = ERROR_INIT;

	if (overlay_open(volume->lab.reader, &volume->lab.points->points[volume->lab.number],
			 &options, &volume->overlay, &err))
		fail_msg("%s", err.message);
}

/* Over the last point of a lab that was made. */
static void volume_begin(struct volume *volume)
{
	serve_lab_open(&volume->lab, volume->lab.points->count, 0);
	volume->bytes = volume->lab.image->bytes;
	lab_path(volume->lab.points, "target", volume->target);
	snprintf(volume->present, sizeof(volume->present), "%s.present", volume->target);
	volume->model = malloc(volume->bytes);
	memcpy(volume->model, volume->lab.image->data, volume->bytes);
	volume_open(volume);
}

static void volume_new(struct volume *volume, struct random_state *random, uint64_t points,
		       uint64_t bytes)
{
	memset(volume, 0, sizeof(*volume));
	serve_lab_new(&volume->lab, random, points, bytes);
	volume_begin(volume);
}

static void volume_free(struct volume *volume)
{
	struct error err = ERROR_INIT;

	assert_int_equal(0, overlay_close(volume->overlay, &err));
	free(volume->model);
	serve_lab_free(&volume->lab);
}

static void volume_write(struct volume *volume, struct random_state *random)
{
	struct error err = ERROR_INIT;
	uint64_t offset;
	size_t length;
	int ret;

	somewhere(random, volume->bytes, 96 << 10, &offset, &length);
	if (random_one_in(random, 4)) {
		memset(volume->model + offset, 0, length);
		ret = overlay_zero(volume->overlay, offset, length, &err);
	} else {
		memset(volume->model + offset, (int)random_below(random, 256), length);
		ret = overlay_write(volume->overlay, offset, volume->model + offset, length, &err);
	}
	if (ret)
		fail_msg("%zu at %llu: %s", length, (unsigned long long)offset, err.message);
}

static void volume_check(struct volume *volume, uint64_t offset, size_t length)
{
	uint8_t *buffer = malloc(length + 1);
	struct error err = ERROR_INIT;

	if (overlay_read(volume->overlay, offset, buffer, length, &err))
		fail_msg("%s", err.message);
	for (size_t i = 0; i < length; i++)
		if (buffer[i] != volume->model[offset + i])
			fail_msg("byte %llu differs", (unsigned long long)(offset + i));
	free(buffer);
}

static void volume_step(struct volume *volume, struct random_state *random)
{
	uint64_t offset;
	size_t length;

	volume_write(volume, random);
	somewhere(random, volume->bytes, 64 << 10, &offset, &length);
	volume_check(volume, offset, length);
}

/* Extents that are said to be holes are zero. */
static void volume_check_holes(struct volume *volume)
{
	for (uint64_t at = 0, length; at < volume->bytes; at += length) {
		length = volume->bytes - at;
		if (!overlay_hole(volume->overlay, at, &length))
			continue;
		for (uint64_t i = at; i < at + length; i++)
			assert_int_equal(volume->model[i], 0);
	}
}

static void target_is_model(const struct volume *volume)
{
	char *data;
	size_t length;

	assert_int_equal(0, file_read(volume->target, 1u << 30, &data, &length));
	assert_int_equal(length, volume->bytes);
	for (uint64_t i = 0; i < length; i++)
		if ((uint8_t)data[i] != volume->model[i])
			fail_msg("the finished volume differs at %llu", (unsigned long long)i);
	free(data);
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

/* ---- filling ------------------------------------------------------------------- */

struct ending {
	atomic_int ended;
	int ret;
	struct error err;
};

static void fill_end(void *context, int ret, const struct error *err)
{
	struct ending *ending = context;

	ending->ret = ret;
	ending->err = *err;
	atomic_store(&ending->ended, 1);
}

static struct fill *begin_fill(struct volume *volume, struct ending *ending)
{
	struct fill_options options = { .ended = fill_end, .context = ending };
	struct error err = ERROR_INIT;
	struct fill *fill;

	memset(ending, 0, sizeof(*ending));
	if (fill_start(volume->overlay, &options, &fill, &err))
		fail_msg("%s", err.message);
	return fill;
}

static void await(struct ending *ending)
{
	for (int i = 0; i < 3000 && !atomic_load(&ending->ended); i++)
		usleep(10000);
	assert_true(atomic_load(&ending->ended));
}

static void filled_under_writes(void **state)
{
	struct random_state random = random_start("filled_under_writes");

	(void)state;
	for (int round = 0; round < 6; round++) {
		struct ending ending;
		struct volume volume;
		struct fill *fill;
		int steps = 0;

		volume_new(&volume, &random, 4, 3 * MEBIBYTE + 512 * random_below(&random, 999));
		for (int i = 0; i < 20; i++)
			volume_step(&volume, &random);
		fill = begin_fill(&volume, &ending);
		while (!atomic_load(&ending.ended) && steps++ < 3000)
			volume_step(&volume, &random);
		await(&ending);
		if (ending.ret)
			fail_msg("%s", ending.err.message);
		for (int i = 0; i < 20; i++)
			volume_step(&volume, &random);
		fill_stop(fill);
		assert_int_equal(0, access(volume.present, F_OK));
		volume_check(&volume, 0, volume.bytes);
		assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
		volume.overlay = NULL;
		target_is_model(&volume);
		assert_int_not_equal(0, access(volume.present, F_OK));
		volume_free(&volume);
	}
}

/* ---- crashes ---------------------------------------------------------------------- */

/*
 * Killed in the middle: a child writes blocks' numbers of their own, and tells by a pipe
 * what was flushed. Each block is then what it was when it was last flushed, or newer;
 * and one that nobody wrote to is the point's.
 */
struct note { uint32_t block, value; bool flushed; };

static void crash_child(struct volume *volume, struct random_state *random, uint32_t value,
			int pipe_fd)
{
	struct ending ending;
	uint8_t data[BLOCK_BYTES];
	struct error err = ERROR_INIT;

	volume_open(volume);
	if (random_one_in(random, 2))
		begin_fill(volume, &ending);
	for (;; value++) {
		struct note note = {
			(uint32_t)random_below(random, volume->bytes / BLOCK_BYTES), value, false
		};

		/* Told before it is done: it may show from now on. */
		if (write(pipe_fd, &note, sizeof(note)) != sizeof(note))
			_exit(1);
		memset(data, (int)value & 0xff, sizeof(data));
		memcpy(data, &value, sizeof(value));
		if (overlay_write(volume->overlay, note.block * (uint64_t)BLOCK_BYTES, data,
				  sizeof(data), &err))
			_exit(2);
		if (!random_one_in(random, 5))
			continue;
		if (overlay_flush(volume->overlay, &err))
			_exit(3);
		note.flushed = true;
		if (write(pipe_fd, &note, sizeof(note)) != sizeof(note))
			_exit(1);
	}
}

/* Into `flushed` and `newest`, by block, what the child told. */
static void crash_read(int pipe_fd, uint32_t *flushed, uint32_t *newest, uint64_t blocks)
{
	struct note note;

	while (read(pipe_fd, &note, sizeof(note)) == sizeof(note)) {
		assert_true(note.block < blocks);
		if (!note.flushed)
			newest[note.block] = note.value;
		else
			memcpy(flushed, newest, blocks * sizeof(*newest));
	}
}

static void crash_check(struct volume *volume, const uint32_t *flushed, const uint32_t *newest)
{
	for (uint64_t b = 0; b < volume->bytes / BLOCK_BYTES; b++) {
		uint8_t *model = volume->model + b * BLOCK_BYTES, data[BLOCK_BYTES];
		struct error err = ERROR_INIT;
		uint32_t value;

		if (overlay_read(volume->overlay, b * BLOCK_BYTES, data, sizeof(data), &err))
			fail_msg("%s", err.message);
		memcpy(&value, data, sizeof(value));
		if (memcmp(data, model, sizeof(data))) {	/* written in this life */
			if (!newest[b] || value > newest[b] || value < flushed[b])
				fail_msg("block %llu holds %u, flushed %u, newest %u",
					 (unsigned long long)b, value, flushed[b], newest[b]);
			for (size_t i = 4; i < sizeof(data); i++)
				assert_int_equal(data[i], value & 0xff);
		} else if (flushed[b]) {
			fail_msg("block %llu lost what was flushed", (unsigned long long)b);
		}
		memcpy(model, data, sizeof(data));
	}
}

/* Each life has values of its own. */
static void crash_once(struct volume *volume, struct random_state *random, uint32_t first)
{
	uint64_t blocks = volume->bytes / BLOCK_BYTES;
	uint32_t *flushed = calloc(blocks, sizeof(*flushed));
	uint32_t *newest = calloc(blocks, sizeof(*newest));
	unsigned wait_us = 1000 + (unsigned)random_below(random, 60000);
	uint64_t seed = random_next(random) | 1;
	int fds[2];
	pid_t child;

	assert_int_equal(0, pipe(fds));
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	child = fork();
	if (!child) {
		struct random_state own = { .value = seed };

		close(fds[0]);
		serve_lab_open(&volume->lab, volume->lab.number, 0);
		crash_child(volume, &own, first, fds[1]);
	}
	close(fds[1]);
	usleep(wait_us);
	kill(child, SIGKILL);
	crash_read(fds[0], flushed, newest, blocks);
	waitpid(child, NULL, 0);
	close(fds[0]);
	volume_open(volume);
	crash_check(volume, flushed, newest);
	free(flushed);
	free(newest);
}

static void killed_at_any_moment(void **state)
{
	struct random_state random = random_start("killed_at_any_moment");
	struct ending ending;
	struct volume volume;
	struct fill *fill;

	(void)state;
	volume_new(&volume, &random, 3, 2 * MEBIBYTE);
	for (uint32_t life = 0; life < 12; life++) {
		assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
		volume.overlay = NULL;
		if (access(volume.present, F_OK))	/* it is complete */
			break;
		crash_once(&volume, &random, (life << 20) + 1);
	}
	if (volume.overlay) {
		fill = begin_fill(&volume, &ending);
		await(&ending);
		assert_int_equal(ending.ret, 0);
		fill_stop(fill);
		assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
		volume.overlay = NULL;
	}
	target_is_model(&volume);
	volume_free(&volume);
}

/*
 * What was written and not flushed is forgotten by a crash: then not even a block that is
 * a hole in the point, and needs no data, may keep it, or it would come back when the
 * volume is filled in.
 */
static void the_unflushed_does_not_return(void **state)
{
	struct random_state random = random_start("the_unflushed_does_not_return");
	uint8_t data[BLOCK_BYTES];
	struct ending ending;
	struct volume volume;
	struct fill *fill;
	int fd;

	(void)state;
	memset(&volume, 0, sizeof(volume));
	volume.lab.points = points_lab_new();
	lab_image_change(volume.lab.points, &random, 1, 2 * MEBIBYTE, 5, 20);
	lab_commit(volume.lab.points, &random, POINT_FULL, false);
	volume_begin(&volume);
	assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
	/* As a crash would leave it: data in the target, and no bit. */
	memset(data, 0xee, sizeof(data));
	fd = open(volume.target, O_WRONLY | O_CLOEXEC);
	for (uint64_t b = 0; b < volume.bytes / BLOCK_BYTES; b++)
		assert_int_equal(0, file_pwrite_all(fd, data, sizeof(data), b * BLOCK_BYTES));
	close(fd);
	volume_open(&volume);
	volume_check(&volume, 0, volume.bytes);
	fill = begin_fill(&volume, &ending);
	await(&ending);
	assert_int_equal(ending.ret, 0);
	fill_stop(fill);
	assert_int_equal(0, overlay_close(volume.overlay, &(struct error)ERROR_INIT));
	volume.overlay = NULL;
	target_is_model(&volume);
	volume_free(&volume);
}

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

/* The only segment: gone, or with a bit of its third frame turned over. */
static void segment_spoil(struct volume *volume, bool remove)
{
	const struct plan *plan = &volume->lab.reader->plan;
	const struct map_frame *where = &plan->map.frames[plan->order[2]];
	struct lab_keys keys;
	size_t which = 0, length;
	char *data;

	lab_keys_list(volume->lab.points, "", &keys);
	while (!strstr(keys.items[which], "/segments/"))
		which++;
	lab_object_read(volume->lab.points, keys.items[which], &data, &length);
	data[where->offset + where->length / 2] ^= 1;
	lab_object_remove(volume->lab.points, keys.items[which]);
	if (!remove)
		lab_object_write(volume->lab.points, keys.items[which], data, length);
	free(data);
	lab_keys_free(&keys);
}

/* A frame that cannot be had is told, its blocks are not called present, and what is
 * written over them makes the volume whole. */
static void damage_is_left_out(void **state)
{
	struct random_state random = random_start("damage_is_left_out");

	(void)state;
	for (int remove = 0; remove < 2; remove++) {
		struct overlay_counts counts;
		struct ending ending;
		struct volume volume;
		struct fill *fill;

		memset(&volume, 0, sizeof(volume));
		lab_dense(&volume.lab, &random, 4 * MEBIBYTE);
		volume_begin(&volume);
		segment_spoil(&volume, remove);
		fill = begin_fill(&volume, &ending);
		await(&ending);
		fill_stop(fill);
		assert_int_not_equal(ending.ret, 0);
		assert_int_equal(ending.err.exit, EXIT_UNTRUSTWORTHY);
		overlay_counts(volume.overlay, &counts);
		assert_int_equal(counts.present_blocks, remove ? 0 : counts.blocks - 256);
		assert_int_equal(0, overlay_write(volume.overlay, 0, volume.model, volume.bytes,
						  &(struct error)ERROR_INIT));
		overlay_counts(volume.overlay, &counts);
		assert_true(counts.complete);
		volume_check(&volume, 0, volume.bytes);
		volume_free(&volume);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_model),
		cmocka_unit_test(filled_under_writes),
		cmocka_unit_test(killed_at_any_moment),
		cmocka_unit_test(the_unflushed_does_not_return),
		cmocka_unit_test(data_before_bits),
		cmocka_unit_test(a_failed_sync_is_final),
		cmocka_unit_test(what_does_not_belong_is_refused),
		cmocka_unit_test(damage_is_left_out),
	};

	/* What fails on purpose is told, too. */
	log_set_level(LOG_ERRORS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
