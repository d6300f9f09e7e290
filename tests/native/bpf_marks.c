/*
 * Are all blocks that an operation touches marked, and, where the operation is
 * passed on as it is (O_DIRECT), no others? And does the ledger show exactly
 * what the kernel counted? A random workload beside a simple model.
 */
#include "tests/native/bpf_lab.h"

#define ROUNDS 12
#define OPERATIONS 60
#define WRITE_MAX (1u << 20)

struct lane {
	struct tracker *tracker;
	struct random_state random;
	struct lab_loop loop;
	struct bitmap model;
	uint32_t slot, block_bytes;
	bool written_zeroes;
	char *buffer;
};

/* A range of at most `max_sectors`, often at the ends of the device. */
static void range_pick(struct lane *lane, uint64_t max_sectors, uint64_t unit,
		       uint64_t *sector, uint64_t *sectors)
{
	uint64_t units = lane->loop.sectors / unit, length;

	max_sectors /= unit;
	length = 1 + random_below(&lane->random, max_sectors);
	if (random_one_in(&lane->random, 3))
		length = 1 + length % 16;
	if (length > units)
		length = units;
	*sector = random_below(&lane->random, units - length + 1);
	if (random_one_in(&lane->random, 8))
		*sector = 0;
	if (random_one_in(&lane->random, 8))
		*sector = units - length;
	*sector *= unit;
	*sectors = length * unit;
}

static void block_ioctl(struct lane *lane, unsigned long request, uint64_t sector,
			uint64_t sectors)
{
	uint64_t range[2] = { sector * 512, sectors * 512 };

	assert_int_equal(ioctl(lane->loop.fd, request, range), 0);
}

/*
 * Zeroes a range. With BLKZEROOUT the driver is asked not to unmap, which a loop
 * device on tmpfs refuses: then the kernel writes zeroes, and never again offers
 * the operation. So a device sees either that or holes punched.
 */
static void zero(struct lane *lane, uint64_t *sector, uint64_t *sectors)
{
	if (lane->written_zeroes) {
		range_pick(lane, 16u << 11, 1, sector, sectors);
		block_ioctl(lane, BLKZEROOUT, *sector, *sectors);
		return;
	}
	range_pick(lane, lane->loop.sectors, 1, sector, sectors);
	assert_int_equal(fallocate(lane->loop.fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(*sector * 512),
				   (off_t)(*sectors * 512)), 0);
}

/* One operation whose bios cover the same range. */
static void operate_direct(struct lane *lane)
{
	uint64_t sector, sectors;

	switch (random_below(&lane->random, 4)) {
	case 0:
	case 1:
		range_pick(lane, WRITE_MAX / 512, 1, &sector, &sectors);
		lab_write(lane->loop.fd, lane->buffer, sectors * 512, sector);
		break;
	case 2:
		range_pick(lane, lane->loop.sectors, 1, &sector, &sectors);
		block_ioctl(lane, BLKDISCARD, sector, sectors);
		break;
	default:
		zero(lane, &sector, &sectors);
	}
	lab_model_add(&lane->model, lane->block_bytes, sector, sectors);
}

static void operate_buffered(struct lane *lane)
{
	uint64_t sector, sectors;

	range_pick(lane, WRITE_MAX / 512, 1, &sector, &sectors);
	lab_write(lane->loop.buffered_fd, lane->buffer, sectors * 512, sector);
	lab_model_add(&lane->model, lane->block_bytes, sector, sectors);
}

static void lane_round(struct lane *lane, bool buffered)
{
	struct tracker_ledger before = lab_ledger(lane->tracker,
						  lane->loop.device);
	struct bitmap marks;

	for (int i = 0; i < OPERATIONS; i++)
		if (buffered && random_one_in(&lane->random, 2))
			operate_buffered(lane);
		else
			operate_direct(lane);
	assert_int_equal(fsync(lane->loop.buffered_fd), 0);
	marks = lab_current(lane->tracker, lane->slot);
	if (buffered) {
		lab_assert_superset(&marks, &lane->model);
		assert_int_equal(bitmap_or(&lane->model, &marks), 0);
	} else {
		lab_assert_equal(&marks, &lane->model);
	}
	assert_int_equal(lab_marks(lane->tracker, lane->slot).dirty_blocks,
			 bitmap_count(&marks));
	lab_ledger_exact(lane->tracker, lane->loop.device, &before);
	bitmap_fini(&marks);
}

/* Empties the bitmap now and then, or it is full before long. */
static void lane_restart(struct lane *lane)
{
	struct error err = ERROR_INIT;

	assert_done(tracker_rotate(lane->tracker, lane->slot, &err), &err);
	assert_done(tracker_drop_retired(lane->tracker, lane->slot, &err), &err);
	memset(lane->model.words, 0, bitmap_words(lane->model.bits) * 8);
	assert_int_equal(lab_marks(lane->tracker, lane->slot).dirty_blocks, 0);
}

static void lane_run(uint64_t bytes, uint32_t block_bytes, bool written_zeroes)
{
	struct error err = ERROR_INIT;
	struct lane lane = {
		.tracker = lab_tracker(),
		.random = random_start("bpf_marks"),
		.loop = lab_loop_open(bytes),
		.block_bytes = block_bytes,
		.written_zeroes = written_zeroes,
		.buffer = lab_buffer(WRITE_MAX),
	};

	lane.random.value += bytes + block_bytes;
	lane.slot = lab_attach(lane.tracker, &lane.loop, block_bytes);
	assert_int_equal(bitmap_init(&lane.model,
				     lab_slot(lane.tracker, lane.slot).blocks), 0);
	for (int round = 0; round < ROUNDS; round++) {
		lane_round(&lane, round % 3 == 2);
		lane_restart(&lane);
	}
	assert_int_equal(lab_slot(lane.tracker, lane.slot).flags, 0);
	assert_done(tracker_detach(lane.tracker, lane.slot, &err), &err);
	bitmap_fini(&lane.model);
	lab_loop_close(&lane.loop);
	free(lane.buffer);
	tracker_close(lane.tracker);
}

static void marks_4k(void **state)
{
	(void)state;
	lane_run((256u << 20) + 512, 4096, true);
}

static void marks_64k(void **state)
{
	(void)state;
	lane_run((256u << 20) + 3 * 4096, 65536, false);
}

static void marks_64m(void **state)
{
	(void)state;
	lane_run((700u << 20) + 512, 64u << 20, true);
}

/* Discards of more than 4 GiB: more than one bio, each of many pages of bits. */
static void marks_large(void **state)
{
	(void)state;
	lane_run((11ull << 30) + 4096, 4096, false);
}

/* Every block boundary: ranges of some sectors around a word's and page's edge. */
static void marks_edges(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(300u << 20);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	char *buffer = lab_buffer(WRITE_MAX);
	const uint64_t edges[] = { 8, 64 * 8, 32768 * 8, 65536 * 8 };
	struct error err = ERROR_INIT;
	struct bitmap model;

	(void)state;
	assert_int_equal(bitmap_init(&model, 300u << 8), 0);
	for (size_t e = 0; e < 4; e++)
		for (uint64_t before = 1; before <= 9; before += 4)
			for (uint64_t length = 1; length <= 530; length += 23) {
				uint64_t sector = edges[e] - (before % 9);
				struct bitmap marks;

				lab_write(loop.fd, buffer, length * 512, sector);
				lab_model_add(&model, 4096, sector, length);
				marks = lab_current(tracker, slot);
				lab_assert_equal(&marks, &model);
				bitmap_fini(&marks);
			}
	assert_done(tracker_detach(tracker, slot, &err), &err);
	bitmap_fini(&model);
	lab_loop_close(&loop);
	free(buffer);
	tracker_close(tracker);
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
		cmocka_unit_test(marks_4k),
		cmocka_unit_test(marks_64k),
		cmocka_unit_test(marks_64m),
		cmocka_unit_test(marks_large),
		cmocka_unit_test(marks_edges),
	};

	return cmocka_run_group_tests_name("bpf_marks", list, NULL, NULL);
}

int main(void)
{
	return lab_run(tests);
}
