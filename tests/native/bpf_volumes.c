/*
 * Which writes concern which volume: attaching, detaching, stand-ins, writes
 * beyond the end, partitions and their disks. And what is refused.
 */
#include "tests/native/bpf_lab.h"

#include "bpf/tracker_private.h"

#include <bpf/bpf.h>
#include <linux/blkpg.h>

#define BYTES (64ull << 20)

static uint64_t dirty(struct tracker *tracker, uint32_t slot)
{
	return lab_marks(tracker, slot).dirty_blocks;
}

static bool marked(struct tracker *tracker, uint32_t slot, uint64_t block)
{
	struct bitmap marks = lab_current(tracker, slot);
	bool is_marked = bitmap_test(&marks, block);

	bitmap_fini(&marks);
	return is_marked;
}

static void detach(struct tracker *tracker, uint32_t slot)
{
	struct error err = ERROR_INIT;

	assert_done(tracker_detach(tracker, slot, &err), &err);
}

static void attach_and_detach(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES), other = lab_loop_open(BYTES);
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct tracker_facts facts;
	struct tracker_ledger ledger;
	struct tracker_slot info;
	struct tracker_marks marks;
	uint32_t slot, found;

	(void)state;
	assert_int_equal(tracker_find(tracker, loop.device, &found), -ENOENT);
	slot = lab_attach(tracker, &loop, 8192);
	assert_int_equal(tracker_find(tracker, loop.device, &found), 0);
	assert_int_equal(found, slot);
	assert_int_equal(tracker_find(tracker, other.device, &found), -ENOENT);
	lab_write(other.fd, buffer, 4096, 0);
	lab_write(loop.fd, buffer, 4096, 16);
	info = lab_slot(tracker, slot);
	assert_int_equal(info.device, loop.device);
	assert_int_equal(info.sectors, BYTES / 512);
	assert_int_equal(info.block_bytes, 8192);
	assert_int_equal(info.blocks, BYTES / 8192);
	assert_int_equal(info.flags, 0);
	marks = lab_marks(tracker, slot);
	assert_true(marks.dirty_blocks == 1 && !marks.retired && marks.bitmap_id);
	assert_refused(tracker_ledger(tracker, other.device, &ledger, &err),
		       -ENOENT, &err);
	assert_done(tracker_facts(tracker, &facts, &err), &err);
	assert_int_equal(facts.slots_used, 1);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	detach(tracker, slot);
	assert_refused(tracker_detach(tracker, slot, &err), -ENOENT, &err);
	assert_refused(tracker_slot(tracker, slot, &info, &err), -ENOENT, &err);
	assert_refused(tracker_marks(tracker, slot, &marks, &err), -ENOENT, &err);
	assert_refused(tracker_slot(tracker, UINT32_MAX, &info, &err), -ENOENT,
		       &err);
	assert_refused(tracker_rotate(tracker, slot, &err), -ENOENT, &err);
	assert_int_equal(tracker_find(tracker, loop.device, &found), -ENOENT);
	/* Again, in other blocks: nothing of the former life is there. */
	slot = lab_attach(tracker, &loop, 4096);
	marks = lab_marks(tracker, slot);
	assert_true(marks.dirty_blocks == 0 && !marks.retired);
	assert_int_equal(lab_ledger(tracker, loop.device).traced_write_sectors, 0);
	lab_write(loop.fd, buffer, 4096, 16);
	assert_int_equal(dirty(tracker, slot), 1);
	assert_true(marked(tracker, slot, 2));
	detach(tracker, slot);
	assert_done(tracker_facts(tracker, &facts, &err), &err);
	assert_int_equal(facts.slots_used, 0);
	free(buffer);
	lab_loop_close(&loop);
	lab_loop_close(&other);
	tracker_close(tracker);
}

static void refusals(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	struct tracker_volume good = { .device = loop.device,
				       .sectors = loop.sectors,
				       .block_bytes = 4096 };
	struct tracker_volume bad[] = { good, good, good, good, good, good, good };
	struct error err = ERROR_INIT;
	uint32_t slot;

	(void)state;
	bad[0].block_bytes = 2048;
	bad[1].block_bytes = 5000;
	bad[2].block_bytes = 128u << 20;
	bad[3].sectors = 0;
	bad[4].device = 0;
	bad[5].start_sector = 8;
	bad[6].disk = 8 << 20;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_refused(tracker_attach(tracker, &bad[i], &slot, &err),
			       -EINVAL, &err);
	bad[0] = good;
	bad[0].sectors = UINT64_MAX;
	assert_refused(tracker_attach(tracker, &bad[0], &slot, &err), -EOVERFLOW,
		       &err);
	bad[0] = good;
	bad[0].device = 4000u << 20 | 77;
	assert_refused(tracker_attach(tracker, &bad[0], &slot, &err), -ENODEV,
		       &err);
	assert_done(tracker_attach(tracker, &good, &slot, &err), &err);
	assert_refused(tracker_attach(tracker, &good, &slot, &err), -EEXIST, &err);
	assert_refused(tracker_alias_add(tracker, slot, loop.device, &err),
		       -EINVAL, &err);
	assert_refused(tracker_alias_add(tracker, slot + 1, 5, &err), -ENOENT,
		       &err);
	detach(tracker, slot);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

static void stand_in(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES), real = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096), found;
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct tracker_ledger before;

	(void)state;
	lab_write(real.fd, buffer, 4096, 8);
	assert_done(tracker_alias_add(tracker, slot, real.device, &err), &err);
	assert_done(tracker_alias_add(tracker, slot, real.device, &err), &err);
	assert_int_equal(tracker_find(tracker, real.device, &found), -ENOENT);
	before = lab_ledger(tracker, real.device);
	lab_write(loop.fd, buffer, 4096, 80);
	lab_write(real.fd, buffer, 4096, 160);
	lab_ledger_exact(tracker, real.device, &before);
	assert_int_equal(dirty(tracker, slot), 2);
	assert_true(marked(tracker, slot, 10) && marked(tracker, slot, 20));
	assert_done(tracker_alias_remove(tracker, real.device, &err), &err);
	assert_done(tracker_alias_remove(tracker, real.device, &err), &err);
	/* The volume's own route is none. */
	assert_done(tracker_alias_remove(tracker, loop.device, &err), &err);
	lab_write(loop.fd, buffer, 4096, 240);
	lab_write(real.fd, buffer, 4096, 320);
	assert_int_equal(dirty(tracker, slot), 3);
	/* One that a dead run left goes with the volume. */
	assert_done(tracker_alias_add(tracker, slot, real.device, &err), &err);
	detach(tracker, slot);
	assert_refused(tracker_ledger(tracker, real.device, &before, &err),
		       -ENOENT, &err);
	free(buffer);
	lab_loop_close(&loop);
	lab_loop_close(&real);
	tracker_close(tracker);
}

/* The device is larger than was said: it grew. */
static void beyond_the_end(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES), small;
	char *buffer = lab_buffer(8192);
	struct error err = ERROR_INIT;
	uint32_t slot;

	(void)state;
	small = loop;
	small.sectors -= 8;
	slot = lab_attach(tracker, &small, 4096);
	lab_write(loop.fd, buffer, 4096, small.sectors - 8);
	assert_int_equal(lab_slot(tracker, slot).flags, 0);
	lab_write(loop.fd, buffer, 8192, small.sectors - 8);
	assert_int_equal(lab_slot(tracker, slot).flags, TRACKER_OUT_OF_RANGE);
	assert_done(tracker_clear_flags(tracker, slot, &err), &err);
	assert_int_equal(lab_slot(tracker, slot).flags, 0);
	lab_write(loop.fd, buffer, 4096, small.sectors);
	assert_int_equal(lab_slot(tracker, slot).flags, TRACKER_OUT_OF_RANGE);
	assert_int_equal(dirty(tracker, slot), 1);
	detach(tracker, slot);
	free(buffer);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

/* What the program cannot mark it says, for good. */
static void lost_marks(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(BYTES);
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	int fd;

	(void)state;
	assert_int_equal(bitmap_map_open(tracker->bitmaps_fd, slot, &fd, NULL), 0);
	assert_int_equal(bitmap_map_drop(tracker->bitmaps_fd, slot), 0);
	lab_write(loop.fd, buffer, 4096, 0);
	assert_int_equal(bpf_map_update_elem(tracker->bitmaps_fd, &slot, &fd, 0),
			 0);
	close(fd);
	lab_write(loop.fd, buffer, 4096, 8);
	assert_int_equal(lab_slot(tracker, slot).flags, TRACKER_LOST_MARK);
	assert_int_equal(dirty(tracker, slot), 1);
	assert_done(tracker_clear_flags(tracker, slot, &err), &err);
	/* No ledger entry: the marks are there, but nothing vouches for them. */
	assert_int_equal(bpf_map_delete_elem(tracker->ledger_fd, &loop.device), 0);
	lab_write(loop.fd, buffer, 4096, 16);
	assert_int_equal(lab_slot(tracker, slot).flags, TRACKER_LOST_MARK);
	assert_int_equal(dirty(tracker, slot), 2);
	detach(tracker, slot);
	free(buffer);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

/* ---- partitions -------------------------------------------------------------- */

struct partition {
	struct lab_loop loop;		/* its own device */
	uint64_t start;			/* sectors */
};

static void partition_change(const struct lab_loop *disk, int op, int number,
			     uint64_t start, uint64_t sectors)
{
	struct blkpg_partition data = {
		.start = (long long)start * 512,
		.length = (long long)sectors * 512,
		.pno = number,
	};
	struct blkpg_ioctl_arg change = { .op = op, .data = &data,
					  .datalen = sizeof(data) };

	if (ioctl(disk->fd, BLKPG, &change))
		fail_msg("BLKPG %d on %s: %s", op, disk->path, strerror(errno));
}

static struct partition partition_open(const struct lab_loop *disk, int number,
				       uint64_t start, uint64_t sectors)
{
	struct partition part = { .start = start, .loop.sectors = sectors };

	partition_change(disk, BLKPG_ADD_PARTITION, number, start, sectors);
	snprintf(part.loop.path, sizeof(part.loop.path), "%.20sp%d", disk->path,
		 number);
	for (int i = 0; i < 100; i++) {
		part.loop.fd = open(part.loop.path,
				    O_RDWR | O_DIRECT | O_CLOEXEC);
		if (part.loop.fd >= 0)
			break;
		lab_sleep_ms(10);
	}
	assert_true(part.loop.fd >= 0);
	part.loop.device = lab_device(part.loop.fd);
	return part;
}

static uint32_t partition_attach(struct tracker *tracker,
				 const struct lab_loop *disk,
				 const struct partition *part)
{
	struct tracker_volume volume = {
		.device = part->loop.device,
		.start_sector = part->start,
		.sectors = part->loop.sectors,
		.block_bytes = 4096,
		.disk = disk->device,
	};
	struct error err = ERROR_INIT;
	uint32_t slot;

	assert_done(tracker_attach(tracker, &volume, &slot, &err), &err);
	return slot;
}

/* Random writes through three devices against three models. */
static void partitions_model(struct tracker *tracker, const struct lab_loop *disk,
			     const struct partition *parts, const uint32_t *slots)
{
	struct random_state random = random_start("bpf_volumes");
	char *buffer = lab_buffer(1 << 20);
	const struct lab_loop *devices[] = { &parts[0].loop, &parts[1].loop, disk };
	const uint64_t starts[] = { parts[0].start, parts[1].start, 0 };
	struct bitmap models[3];

	for (int v = 0; v < 3; v++)
		assert_int_equal(bitmap_init(&models[v],
					     lab_slot(tracker, slots[v]).blocks),
				 0);
	for (int i = 0; i < 120; i++) {
		int d = (int)random_below(&random, 3);
		uint64_t sectors = 1 + random_below(&random,
						    random_one_in(&random, 3) ?
						    2048 : 16);
		uint64_t sector = random_below(&random,
					       devices[d]->sectors - sectors);

		lab_write(devices[d]->fd, buffer, sectors * 512, sector);
		for (uint64_t s = sector + starts[d];
		     s < sector + starts[d] + sectors; s++)
			for (int v = 0; v < 3; v++)
				if (s >= starts[v] &&
				    s < starts[v] + devices[v]->sectors)
					lab_model_add(&models[v], 4096,
						      s - starts[v], 1);
	}
	for (int v = 0; v < 3; v++) {
		struct bitmap marks = lab_current(tracker, slots[v]);

		lab_assert_equal(&marks, &models[v]);
		bitmap_fini(&marks);
		bitmap_fini(&models[v]);
		assert_int_equal(lab_slot(tracker, slots[v]).flags, 0);
	}
	free(buffer);
}

static void partitions(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop disk = lab_loop_open(BYTES);
	struct partition parts[] = {
		partition_open(&disk, 1, 2048, 40000),
		partition_open(&disk, 2, 43001, 50001),
	};
	uint32_t slots[] = {
		partition_attach(tracker, &disk, &parts[0]),
		partition_attach(tracker, &disk, &parts[1]),
		lab_attach(tracker, &disk, 4096),
	};
	struct tracker_ledger before[] = {
		lab_ledger(tracker, parts[0].loop.device),
		lab_ledger(tracker, parts[1].loop.device),
		lab_ledger(tracker, disk.device),
	};
	struct tracker_volume bad = {
		.device = parts[0].loop.device, .sectors = 40000,
		.block_bytes = 4096,
	};
	struct error err = ERROR_INIT;
	char *buffer = lab_buffer(4096);
	uint32_t slot;

	(void)state;
	partitions_model(tracker, &disk, parts, slots);
	lab_ledger_exact(tracker, parts[0].loop.device, &before[0]);
	lab_ledger_exact(tracker, parts[1].loop.device, &before[1]);
	lab_ledger_exact(tracker, disk.device, &before[2]);
	/* The disk's route outlives any one of those who share it. */
	detach(tracker, slots[0]);
	detach(tracker, slots[2]);
	assert_int_equal(tracker_find(tracker, disk.device, &slot), -ENOENT);
	assert_done(tracker_rotate(tracker, slots[1], &err), &err);
	assert_done(tracker_drop_retired(tracker, slots[1], &err), &err);
	lab_write(disk.fd, buffer, 4096, 43001 + 16);
	lab_write(parts[0].loop.fd, buffer, 4096, 16);
	assert_int_equal(dirty(tracker, slots[1]), 1);
	assert_true(marked(tracker, slots[1], 2));
	assert_refused(tracker_attach(tracker, &bad, &slot, &err), -EINVAL, &err);
	bad.disk = disk.device;
	bad.start_sector = 2049;
	assert_refused(tracker_attach(tracker, &bad, &slot, &err), -EINVAL, &err);
	detach(tracker, slots[1]);
	assert_refused(tracker_ledger(tracker, disk.device, &before[0], &err),
		       -ENOENT, &err);
	close(parts[0].loop.fd);
	close(parts[1].loop.fd);
	free(buffer);
	lab_loop_close(&disk);
	tracker_close(tracker);
}

/*
 * Deleted and made anew elsewhere, under the same number; the kernel gives it
 * another one here, so the former one's route is given to it.
 */
static void partition_moved(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop disk = lab_loop_open(BYTES);
	struct partition part = partition_open(&disk, 1, 2048, 40000);
	uint32_t slot = partition_attach(tracker, &disk, &part);
	struct route_target target = { .start_sector = 2048, .sectors = 40000,
				       .slot = slot, .strict = 1 };
	struct error err = ERROR_INIT;
	char *buffer = lab_buffer(4096);

	(void)state;
	lab_write(part.loop.fd, buffer, 4096, 0);
	assert_int_equal(lab_slot(tracker, slot).flags, 0);
	close(part.loop.fd);
	partition_change(&disk, BLKPG_DEL_PARTITION, 1, 0, 0);
	part = partition_open(&disk, 1, 4096, 30000);
	assert_done(route_add(tracker, part.loop.device, &target, &err), &err);
	lab_write(part.loop.fd, buffer, 4096, 0);
	assert_int_equal(lab_slot(tracker, slot).flags, TRACKER_OUT_OF_RANGE);
	assert_int_equal(dirty(tracker, slot), 2);
	assert_true(marked(tracker, slot, (4096 - 2048) / 8));
	detach(tracker, slot);
	close(part.loop.fd);
	free(buffer);
	lab_loop_close(&disk);
	tracker_close(tracker);
}

/* One more volume on a disk than a route has room for. */
static void too_many_on_one_disk(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop disk = lab_loop_open(BYTES);
	struct partition parts[TRACKER_TARGETS + 1];
	uint32_t slots[TRACKER_TARGETS], slot;
	struct error err = ERROR_INIT;
	struct tracker_volume volume;
	struct tracker_facts facts;

	(void)state;
	for (int i = 0; i <= TRACKER_TARGETS; i++)
		parts[i] = partition_open(&disk, i + 1, 2048u * (i + 1), 2048);
	for (int i = 0; i < TRACKER_TARGETS; i++)
		slots[i] = partition_attach(tracker, &disk, &parts[i]);
	volume = (struct tracker_volume){
		.device = parts[TRACKER_TARGETS].loop.device,
		.start_sector = parts[TRACKER_TARGETS].start,
		.sectors = 2048, .block_bytes = 4096, .disk = disk.device,
	};
	assert_refused(tracker_attach(tracker, &volume, &slot, &err), -ENOSPC,
		       &err);
	assert_done(tracker_facts(tracker, &facts, &err), &err);
	assert_int_equal(facts.slots_used, TRACKER_TARGETS);
	for (int i = 0; i < TRACKER_TARGETS; i++)
		detach(tracker, slots[i]);
	for (int i = 0; i <= TRACKER_TARGETS; i++)
		close(parts[i].loop.fd);
	lab_loop_close(&disk);
	tracker_close(tracker);
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
		cmocka_unit_test(attach_and_detach),
		cmocka_unit_test(refusals),
		cmocka_unit_test(stand_in),
		cmocka_unit_test(beyond_the_end),
		cmocka_unit_test(lost_marks),
		cmocka_unit_test(partitions),
		cmocka_unit_test(partition_moved),
		cmocka_unit_test(too_many_on_one_disk),
	};

	return cmocka_run_group_tests_name("bpf_volumes", list, NULL, NULL);
}

int main(void)
{
	return lab_run(tests);
}
