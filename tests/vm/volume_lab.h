/*
 * What the programs that test volumes on real device-mapper share: volumes on
 * loop devices in memory, writers that never rest, runs that read what the
 * boundary says and compare all there is. Each program uses a part of it.
 *
 * Nothing outlives the program, however it ends: loop devices clear themselves
 * with their last user; the dm devices are removed by lab_end, which is also
 * called when a check fails.
 */
#ifndef CLAWBACK_TESTS_VM_VOLUME_LAB_H
#define CLAWBACK_TESTS_VM_VOLUME_LAB_H

#include "agent/volume/boundary_test.h"
#include "agent/volume/dm.h"
#include "agent/volume/volume.h"
#include "tests/unit/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LAB __attribute__((unused)) static
#define LAB_BLOCK 4096u
#define LAB_VOLUMES 4
#define LAB_STATE "/run/clawback-volume-lab"

struct lab_volume {
	char name[32], path[64];
	struct uuid id;
	uint64_t bytes;
	int lower_fd;			/* the loop device beneath */
	char lower_path[32];
	struct device_facts facts;
	uint32_t slot;
	uint8_t *image;			/* MAP_SHARED: survives a killed child */
	bool whole;			/* nothing read yet: read all */
};

static struct tracker *lab_tracker;
static struct lab_volume lab_volumes[LAB_VOLUMES];
static size_t lab_count;
static pid_t lab_main_pid;

LAB void lab_stop_writers(void);

LAB void lab_nap_ms(unsigned ms)
{
	struct timespec nap = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&nap, NULL);
}

/* ---- beginning and end ------------------------------------------------------- */

static bool lab_ending;

LAB void lab_end(void)
{
	struct error err = ERROR_INIT;
	unsigned removed;

	if (getpid() != lab_main_pid || lab_ending)
		return;
	lab_ending = true;
	boundary_test_hooks = NULL;
	/* Never leave a volume suspended: writers could not be joined. */
	boundary_recover(LAB_STATE, &removed, &err);
	lab_stop_writers();
	for (size_t i = 0; i < lab_count; i++) {
		if (dmdev_remove_public(lab_volumes[i].name, &err))
			fprintf(stderr, "lab: %s\n", err.message);
		close(lab_volumes[i].lower_fd);
	}
	tracker_close(lab_tracker);
	tracker_remove(&err);
	if (system("rm -rf " LAB_STATE))
		fprintf(stderr, "lab: cannot remove " LAB_STATE "\n");
}

__attribute__((noreturn, format(printf, 1, 2)))
static void lab_fail(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "FAILED: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	lab_end();
	_exit(1);
}

#define LAB_CHECK(condition, ...) \
	do { if (!(condition)) lab_fail(__VA_ARGS__); } while (0)
/* For calls that take a struct error. */
#define LAB_TRY(call) \
	do { \
		struct error err = ERROR_INIT; \
		if (call) lab_fail("%s:%d: %s", __FILE__, __LINE__, err.message); \
	} while (0)

LAB void lab_begin(void)
{
	lab_main_pid = getpid();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (access("/dev/mapper/control", F_OK) < 0 &&
	    access("/sys/class/misc/device-mapper", F_OK) < 0 &&
	    system("modprobe dm-snapshot 2>/dev/null")) {
		printf("skipped: this kernel has no device-mapper\n");
		exit(77);
	}
	if (system("modprobe dm-snapshot 2>/dev/null; modprobe loop 2>/dev/null"))
		printf("note: no modprobe here\n");
	LAB_TRY(tracker_open(true, &lab_tracker, &err));
}

LAB uint32_t lab_loop(uint64_t bytes, int *fd, char path[static 32])
{
	int memory = memfd_create("volume-lab", MFD_CLOEXEC);
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	struct loop_config config = { .fd = (uint32_t)memory };
	struct stat st;

	LAB_CHECK(memory >= 0 && number >= 0 && !ftruncate(memory, (off_t)bytes),
		  "no loop device");
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	snprintf(path, 32, "/dev/loop%d", number);
	*fd = open(path, O_RDWR | O_CLOEXEC);
	LAB_CHECK(*fd >= 0 && !ioctl(*fd, LOOP_CONFIGURE, &config) && !fstat(*fd, &st),
		  "cannot set up %s: %s", path, strerror(errno));
	close(memory);
	close(control);
	return tracker_device(st.st_rdev);
}

/* `table` with DEVICE and SECTORS replaced. */
static void lab_table(const char *table, const char *device, uint64_t sectors,
		      char *lines, size_t room)
{
	size_t used = 0;

	while (*table && used + 32 < room) {
		if (strncmp(table, "DEVICE", 6) == 0) {
			used += (size_t)sprintf(lines + used, "%s", device);
			table += 6;
		} else if (strncmp(table, "SECTORS", 7) == 0) {
			used += (size_t)sprintf(lines + used, "%llu",
						(unsigned long long)sectors);
			table += 7;
		} else {
			lines[used++] = *table++;
		}
	}
	lines[used] = '\0';
}

/*
 * A volume with lines of dmsetup's as its table, DEVICE standing for the loop
 * device beneath, SECTORS for its size. NULL: linear.
 */
LAB struct lab_volume *lab_volume(const char *name, uint64_t bytes, const char *table)
{
	struct lab_volume *volume = &lab_volumes[lab_count];
	char lines[1024], command[1400];
	struct tracker_volume track;

	snprintf(volume->name, sizeof(volume->name), "%s", name);
	LAB_CHECK(!uuid_new(&volume->id), "no random numbers");
	volume->bytes = bytes;
	lab_loop(bytes, &volume->lower_fd, volume->lower_path);
	lab_table(table ? table : "0 SECTORS linear DEVICE 0", volume->lower_path,
		  bytes / 512, lines, sizeof(lines));
	/* mknodes: without udevd nobody else makes the node. */
	snprintf(command, sizeof(command),
		 "dmsetup create %s -u LAB-%s <<'END' && dmsetup mknodes\n%s\nEND",
		 name, name, lines);
	lab_count++;
	LAB_CHECK(system(command) == 0, "cannot create %s", name);
	snprintf(volume->path, sizeof(volume->path), "/dev/mapper/%s", name);
	LAB_TRY(device_facts(volume->path, &volume->facts, &err));
	track = (struct tracker_volume){ .device = volume->facts.device,
					 .sectors = bytes / 512,
					 .block_bytes = LAB_BLOCK };
	LAB_TRY(tracker_attach(lab_tracker, &track, &volume->slot, &err));
	volume->image = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	LAB_CHECK(volume->image != MAP_FAILED, "no memory");
	volume->whole = true;
	return volume;
}

/* ---- writers ------------------------------------------------------------------- */

struct lab_writers {
	atomic_bool stop;
	atomic_bool calm;		/* leave most blocks clean, to see misses */
	atomic_uint_fast64_t writes, discards;
	bool untraced_discards;		/* a mutation: behind the volume's back */
	struct lab_volume *volume;
	uint64_t seed;
};

#define LAB_WRITERS 4
static pthread_t lab_threads[LAB_WRITERS];
static struct lab_writers lab_work;
static bool lab_writing;

static void lab_write_one(struct random_state *random, int fd, uint8_t *buffer)
{
	uint64_t blocks = lab_work.volume->bytes / LAB_BLOCK;
	uint64_t count = 1 + random_below(random, 16);
	uint64_t first = random_below(random, blocks - count + 1);
	uint64_t range[2] = { first * LAB_BLOCK, count * LAB_BLOCK };
	uint64_t kind = random_below(random, 16), stamp = random_next(random);
	ssize_t n = (ssize_t)range[1];

	/* Refused while a snapshot is open: EOPNOTSUPP is as good. */
	if (kind == 0) {
		int target = lab_work.untraced_discards ? lab_work.volume->lower_fd : fd;

		if (ioctl(target, BLKDISCARD, range) == 0)
			atomic_fetch_add(&lab_work.discards, 1);
		return;
	}
	if (kind == 1) {
		LAB_CHECK(!ioctl(fd, BLKZEROOUT, range) || errno == EOPNOTSUPP,
			  "zeroout: %s", strerror(errno));
		return;
	}
	for (uint64_t i = 0; i < range[1]; i += 512)
		memcpy(buffer + i, &stamp, sizeof(stamp));
	n = pwrite(fd, buffer, range[1], (off_t)range[0]);
	LAB_CHECK(n == (ssize_t)range[1], "write to the volume failed: %s",
		  strerror(errno));
	atomic_fetch_add(&lab_work.writes, 1);
}

static void *lab_writer(void *argument)
{
	struct random_state random = { lab_work.seed + (uintptr_t)argument };
	int fd = open(lab_work.volume->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint8_t *buffer = aligned_alloc(LAB_BLOCK, 16 * LAB_BLOCK);

	LAB_CHECK(fd >= 0 && buffer, "cannot open %s", lab_work.volume->path);
	memset(buffer, 0, 16 * LAB_BLOCK);
	while (!atomic_load(&lab_work.stop)) {
		lab_write_one(&random, fd, buffer);
		if (atomic_load(&lab_work.calm))
			lab_nap_ms(20);
	}
	free(buffer);
	close(fd);
	return NULL;
}

LAB void lab_start_writers(struct lab_volume *volume, uint64_t seed)
{
	lab_work.volume = volume;
	lab_work.seed = seed;
	atomic_store(&lab_work.stop, false);
	lab_writing = true;
	for (uintptr_t i = 0; i < LAB_WRITERS; i++)
		LAB_CHECK(!pthread_create(&lab_threads[i], NULL, lab_writer, (void *)i),
			  "no thread");
}

LAB void lab_stop_writers(void)
{
	if (!lab_writing)
		return;
	lab_writing = false;
	atomic_store(&lab_work.stop, true);
	for (size_t i = 0; i < LAB_WRITERS; i++)
		if (!pthread_equal(lab_threads[i], pthread_self()))
			pthread_join(lab_threads[i], NULL);
}

/* ---- runs ------------------------------------------------------------------------ */

LAB void lab_fill(struct boundary_volume *volume, const struct lab_volume *from)
{
	memset(volume, 0, sizeof(*volume));
	volume->name = from->name;
	volume->id = from->id;
	volume->device = from->facts;
	volume->tracked = true;
	volume->slot = from->slot;
}

LAB int lab_save_pending(void *context, const struct boundary_volume *volume,
			 struct error *err)
{
	(void)context;
	return pending_save(LAB_STATE, volume->name, LAB_BLOCK, &(struct uuid){ 0 },
			    &volume->read_set, err);
}

static void lab_read(int fd, void *buffer, uint64_t offset, uint64_t length,
		     const char *path)
{
	ssize_t n = pread(fd, buffer, length, (off_t)offset);

	LAB_CHECK(n == (ssize_t)length, "cannot read %s at %llu: %s", path,
		  (unsigned long long)offset, n < 0 ? strerror(errno) : "short");
}

/* Reads the read set (the first time everything) into the image. */
LAB uint64_t lab_copy(struct lab_volume *volume, const struct boundary_volume *open)
{
	int fd = openat(AT_FDCWD, open->read_path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	struct extent run = { 0, 0 };
	uint64_t blocks = 0;

	LAB_CHECK(fd >= 0, "cannot open %s: %s", open->read_path, strerror(errno));
	atomic_store(&lab_work.calm, true);
	if (volume->whole) {
		lab_read(fd, volume->image, 0, volume->bytes, open->read_path);
		blocks = volume->bytes / LAB_BLOCK;
	} else {
		while (bitmap_next_run(&open->read_set, run.first + run.count, &run)) {
			lab_read(fd, volume->image + run.first * LAB_BLOCK,
				 run.first * LAB_BLOCK, run.count * LAB_BLOCK,
				 open->read_path);
			blocks += run.count;
		}
	}
	volume->whole = false;
	close(fd);
	return blocks;
}

/* Blocks of the snapshot that differ from the image: missed by the read set. */
LAB uint64_t lab_compare(const struct lab_volume *volume,
			 const struct boundary_volume *open)
{
	static const uint64_t step = 1 << 20;
	int fd = openat(AT_FDCWD, open->read_path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint8_t *buffer = aligned_alloc(LAB_BLOCK, step);
	uint64_t differences = 0;

	LAB_CHECK(fd >= 0 && buffer, "cannot open %s", open->read_path);
	for (uint64_t at = 0; at < volume->bytes; at += step) {
		lab_read(fd, buffer, at, step, open->read_path);
		if (memcmp(buffer, volume->image + at, step) == 0)
			continue;
		for (uint64_t in = 0; in < step; in += LAB_BLOCK)
			differences += memcmp(buffer + in, volume->image + at + in,
					      LAB_BLOCK) != 0;
	}
	free(buffer);
	close(fd);
	return differences;
}

/*
 * One whole run: marks of dead runs included, read, compared, closed, committed.
 * Returns the number of blocks that were missed.
 */
LAB uint64_t lab_run(struct tracker *tracker, struct lab_volume *volume,
		     uint64_t *blocks)
{
	const struct boundary_options options = { .save = lab_save_pending };
	struct bitmap pending = { 0, NULL };
	struct boundary_volume open;
	struct error err = ERROR_INIT;
	struct boundary *boundary;
	uint64_t differences;
	struct uuid run;
	int ret = pending_load(LAB_STATE, volume->name, LAB_BLOCK, &run, &pending, &err);

	LAB_CHECK(!ret || ret == -ENOENT, "%s", err.message);
	lab_fill(&open, volume);
	open.pending = ret ? NULL : &pending;
	LAB_CHECK(!boundary_open(tracker, &open, 1, &options, &boundary, &err), "%s",
		  err.message);
	*blocks = lab_copy(volume, &open);
	differences = lab_compare(volume, &open);
	LAB_CHECK(!boundary_check(boundary, &err), "%s", err.message);
	LAB_CHECK(!boundary_close(boundary, &err), "%s", err.message);
	boundary_stage("closed");
	LAB_CHECK(!pending_remove(LAB_STATE, volume->name, &err), "%s", err.message);
	bitmap_fini(&pending);
	return differences;
}

/* ---- what must be so afterwards ---------------------------------------------------- */

static int lab_is_helper(const char *name, uint32_t device, void *context)
{
	(void)device;
	(void)context;
	if (strncmp(name, "clawback-", 9) == 0) {
		printf("helper device left: %s\n", name);
		return 1;
	}
	return 0;
}

/* No helper device, no COW store, every volume alive on its own table. */
LAB void lab_check_clean(void)
{
	struct error listing = ERROR_INIT;
	struct dmdev_info info;
	char types[128], backing[256];

	LAB_CHECK(dmdev_each(lab_is_helper, NULL, &listing) == 0,
		  "helper devices remain");
	for (size_t i = 0; i < lab_count; i++) {
		LAB_TRY(dmdev_info(lab_volumes[i].facts.device, &info, &err));
		LAB_TRY(dmdev_targets(lab_volumes[i].facts.device, types,
				      sizeof(types), &err));
		LAB_CHECK(!info.suspended && !info.inactive && info.live &&
			  strcmp(types, lab_volumes[i].facts.dm_targets) == 0,
			  "%s is not as it was: suspended %d, inactive table %d, targets %s",
			  lab_volumes[i].name, info.suspended, info.inactive, types);
	}
	/* Loop devices clear themselves a moment after their last user. */
	for (int attempt = 0; attempt < 100; attempt++) {
		bool found = false;

		for (int i = 0; i < 64 && !found; i++) {
			char path[64];
			FILE *file;

			snprintf(path, sizeof(path), "/sys/block/loop%d/loop/backing_file", i);
			file = fopen(path, "re");
			found = file && fgets(backing, sizeof(backing), file) &&
				strstr(backing, "clawback-cow");
			if (file)
				fclose(file);
		}
		if (!found)
			return;
		lab_nap_ms(20);
	}
	lab_fail("a COW store remains: %s", backing);
}

#endif
