/*
 * A file system's whole life on a tracked volume: mkfs, mount, buffered and
 * direct writers, fsync, fstrim, unmount. The ledger is exact all along, and
 * every block whose content changed is marked.
 */
#include "tests/native/bpf_lab.h"

#include <sys/mman.h>

#define BYTES (192ull << 20)
#define FOLDER "/mnt"		/* private: the lab has its own mount namespace */

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
	char command[512];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	status = system(command);
	if (status)
		fail_msg("%s: status %d", command, status);
}

struct life {
	struct tracker *tracker;
	struct lab_loop loop;
	uint32_t slot;
	uint8_t *image;			/* the loop device's file */
	uint8_t *former;		/* its content at the last boundary */
	struct tracker_ledger base;
};

/* No more is in flight: the kernel has counted all it was given. */
static void settle(struct life *life)
{
	struct error err = ERROR_INIT;
	uint64_t requests = 1;

	for (int i = 0; requests; i++) {
		assert_done(tracker_inflight(life->loop.device, &requests, &err),
			    &err);
		assert_true(i < 1000);
		if (requests)
			lab_sleep_ms(10);
	}
}

/* Rotates and compares what changed since the last time with the marks. */
static void boundary(struct life *life, const char *what)
{
	struct error err = ERROR_INIT;
	uint64_t changed = 0;
	struct bitmap set;

	assert_int_equal(fsync(life->loop.buffered_fd), 0);
	settle(life);
	lab_ledger_exact(life->tracker, life->loop.device, &life->base);
	assert_done(tracker_rotate(life->tracker, life->slot, &err), &err);
	assert_int_equal(bitmap_init(&set, BYTES / 4096), 0);
	assert_done(tracker_read_retired(life->tracker, life->slot, &set, &err),
		    &err);
	assert_done(tracker_drop_retired(life->tracker, life->slot, &err), &err);
	for (uint64_t block = 0; block < BYTES / 4096; block++) {
		if (!memcmp(life->image + block * 4096,
			    life->former + block * 4096, 4096))
			continue;
		changed++;
		if (!bitmap_test(&set, block))
			fail_msg("%s changed block %llu, which is not marked",
				 what, (unsigned long long)block);
		memcpy(life->former + block * 4096, life->image + block * 4096,
		       4096);
	}
	printf("%s: %llu blocks changed, %llu marked\n", what,
	       (unsigned long long)changed,
	       (unsigned long long)bitmap_count(&set));
	assert_int_equal(lab_slot(life->tracker, life->slot).flags, 0);
	bitmap_fini(&set);
}

static void write_files(int round)
{
	run("fio --name=b --directory=" FOLDER " --rw=randwrite --bs=3k-70k "
	    "--bs_unaligned --size=16M --io_size=12M --fsync=100 "
	    "--filename=buffered%d --randseed=%d >/dev/null", round, round + 1);
	run("fio --name=d --directory=" FOLDER " --rw=randwrite --bs=4k-256k "
	    "--size=24M --io_size=24M --direct=1 --iodepth=8 "
	    "--ioengine=libaio --filename=direct%d --randseed=%d >/dev/null",
	    round, round + 1);
	run("cp -a /usr/share/doc/libc6 " FOLDER "/tree%d", round);
	if (round)
		run("rm -rf " FOLDER "/tree%d " FOLDER "/direct%d", round - 1,
		    round - 1);
	run("sync -f " FOLDER);
	run("fstrim " FOLDER);
}

static void filesystem_life(void **state)
{
	struct error err = ERROR_INIT;
	struct tracker_facts facts;
	struct life life = {
		.tracker = lab_tracker(),
		.loop = lab_loop_open(BYTES),
		.former = calloc(1, BYTES),
	};

	(void)state;
	life.slot = lab_attach(life.tracker, &life.loop, 4096);
	life.image = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, life.loop.file_fd,
			  0);
	assert_true(life.image != MAP_FAILED && life.former);
	life.base = lab_ledger(life.tracker, life.loop.device);
	run("mkfs.ext4 -q -E lazy_itable_init=1 %s", life.loop.path);
	boundary(&life, "mkfs");
	run("mount -o discard %s " FOLDER, life.loop.path);
	for (int round = 0; round < 3; round++) {
		write_files(round);
		boundary(&life, "files");
	}
	run("umount " FOLDER);
	boundary(&life, "umount");
	run("e2fsck -fn %s >/dev/null 2>&1", life.loop.path);
	run("blkdiscard -f %s 2>/dev/null", life.loop.path);
	boundary(&life, "blkdiscard");
	assert_done(tracker_facts(life.tracker, &facts, &err), &err);
	printf("runs skipped: %llu\n",
	       (unsigned long long)facts.recursion_misses);
	assert_done(tracker_detach(life.tracker, life.slot, &err), &err);
	munmap(life.image, BYTES);
	free(life.former);
	lab_loop_close(&life.loop);
	tracker_close(life.tracker);
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
		cmocka_unit_test(filesystem_life),
	};

	return cmocka_run_group_tests_name("bpf_filesystem", list, NULL, NULL);
}

int main(void)
{
	if (system("command -v fio mkfs.ext4 e2fsck fstrim >/dev/null"))
		return lab_skip("needs fio, mkfs.ext4, e2fsck and fstrim");
	return lab_run(tests);
}
