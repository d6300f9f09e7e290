/*
 * Facts about devices, who uses them, and COW stores: made, found to be on the
 * very volume that is being snapshotted, gone without a trace.
 */
#include "agent/volume/cow.h"
#include "agent/volume/stack.h"
#include "agent/volume/sysfs.h"
#include "tests/native/volume_lab.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#define BYTES (24u << 20)

/* A loop device, perhaps with a mounted ext4, perhaps a second loop on a file there. */
struct lab {
	struct lab_loop loop, upper;
	char folder[64];
	bool mounted;
};

static int lab_setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	*state = lab;
	lab_loop(&lab->loop, BYTES, -1);
	lab->upper.fd = -1;
	strcpy(lab->folder, "/tmp/volume-device-XXXXXX");
	return mkdtemp(lab->folder) ? 0 : -1;
}

static int lab_teardown(void **state)
{
	struct lab *lab = *state;

	if (lab->upper.fd >= 0)
		close(lab->upper.fd);
	/* The upper loop device lets its file go a moment later. */
	for (int i = 0; lab->mounted && umount(lab->folder) < 0 && i < 100; i++)
		usleep(20000);
	rmdir(lab->folder);
	close(lab->loop.fd);
	free(lab);
	return 0;
}

static void lab_mount(struct lab *lab)
{
	char command[128];

	snprintf(command, sizeof(command), "mkfs.ext4 -q %s", lab->loop.path);
	assert_int_equal(system(command), 0);
	assert_int_equal(mount(lab->loop.path, lab->folder, "ext4", 0, NULL), 0);
	lab->mounted = true;
}

static void test_facts(void **state)
{
	struct lab *lab = *state;
	struct device_facts facts;
	struct stat st;
	char where[256];

	ASSERT_OK(device_facts(lab->loop.path, &facts, &err));
	assert_int_equal(stat(lab->loop.path, &st), 0);
	assert_int_equal(facts.device, tracker_device(st.st_rdev));
	assert_int_equal(facts.bytes, BYTES);
	assert_int_equal(facts.logical_block_bytes, 512);
	assert_true(facts.diskseq > 0);
	assert_false(facts.is_dm || facts.read_only || facts.mounted_rw);
	assert_string_equal(facts.dm_uuid, "");
	assert_int_equal(facts.disk, 0);
	ASSERT_OK(device_usage(facts.device, where, sizeof(where), &err));
	assert_string_equal(where, "");
	lab_mount(lab);
	ASSERT_OK(device_facts(lab->loop.path, &facts, &err));
	assert_true(facts.mounted_rw);
	ASSERT_OK(device_usage(facts.device, where, sizeof(where), &err));
	assert_non_null(strstr(where, lab->folder));
	assert_non_null(strstr(where, "ext4, rw"));
}

static void test_no_device(void **state)
{
	struct device_facts facts;

	(void)state;
	ASSERT_FAILS(-ENOENT, device_facts("/dev/no-such", &facts, &err));
	ASSERT_FAILS(-ENOTBLK, device_facts("/dev/null", &facts, &err));
	ASSERT_FAILS(-ENOTBLK, device_facts("/tmp", &facts, &err));
}

static void test_find(void **state)
{
	struct lab *lab = *state;
	struct device_facts facts;
	struct error gone = ERROR_INIT;

	ASSERT_OK(device_find(lab->loop.path, "", &facts, &err));
	assert_int_equal(facts.bytes, BYTES);
	/* What stands at the path has another uuid, and none has ours. */
	assert_int_equal(device_find(lab->loop.path, "LVM-gone", &facts, &gone), -ENODEV);
	assert_non_null(strstr(gone.message, lab->loop.path));
	assert_non_null(strstr(gone.message, "another one"));
	ASSERT_FAILS(-ENODEV, device_find("/dev/no-such", "LVM-gone", &facts, &err));
}

/* ---- COW stores -------------------------------------------------------------- */

static struct boundary_volume cow_volume(const struct lab *lab)
{
	struct boundary_volume volume = { .name = "labcow" };

	ASSERT_OK(device_facts(lab->loop.path, &volume.device, &err));
	return volume;
}

static unsigned cow_loops(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 64; i++) {
		char text[256] = "";

		if (!sysfs_text(7u << 20 | i, "loop/backing_file", text, sizeof(text)) &&
		    strstr(text, "clawback-cow"))
			count++;
	}
	return count;
}

static void cow_check(struct boundary_volume *volume, uint64_t bytes)
{
	struct device_facts facts;
	struct cow cow;
	char path[64];

	ASSERT_OK(cow_open(volume, volume, 1, &cow, &err));
	assert_int_equal(cow.sectors * 512, bytes);
	assert_int_equal(cow.start_sector, COW_MARGIN_SECTORS);
	snprintf(path, sizeof(path), "/dev/loop%u", DEVICE_MINOR(cow.device));
	ASSERT_OK(device_facts(path, &facts, &err));
	assert_int_equal(facts.bytes, bytes + 2 * COW_MARGIN_SECTORS * 512);
	cow_release(&cow);
}

static void test_cow_ram(void **state)
{
	struct boundary_volume volume = cow_volume(*state);

	volume.cow.bytes = 1 << 20;
	cow_check(&volume, 1 << 20);
	/* Never more than every block once. */
	volume.cow.bytes = 1ull << 40;
	cow_check(&volume, BYTES + (64 << 10));
	for (int i = 0; cow_loops() && i < 100; i++)
		usleep(20000);
	assert_int_equal(cow_loops(), 0);
}

static void test_cow_file(void **state)
{
	struct boundary_volume volume = cow_volume(*state);
	struct dirent **names;
	struct lab *lab = *state;
	int count;

	volume.cow.kind = COW_FILE;
	volume.cow.bytes = 1 << 20;
	strcpy(volume.cow.path, lab->folder);
	cow_check(&volume, 1 << 20);
	count = scandir(lab->folder, &names, NULL, NULL);
	assert_int_equal(count, 2);
	while (count-- > 0)
		free(names[count]);
	free(names);
	strcpy(volume.cow.path, "/no/such/folder");
	ASSERT_FAILS(-ENOENT, cow_open(&volume, &volume, 1, &(struct cow){ .fd = -1 }, &err));
}

/* A folder on the volume itself, and one on a loop device on a file on it. */
static void test_cow_on_volume(void **state)
{
	struct lab *lab = *state;
	struct boundary_volume volume = cow_volume(lab);
	uint32_t target = volume.device.device, upper;
	struct error unsaid = ERROR_INIT;
	struct cow cow;
	struct stat st;
	char path[96];
	size_t which;
	int file;

	lab_mount(lab);
	volume.cow.kind = COW_FILE;
	strcpy(volume.cow.path, lab->folder);
	ASSERT_FAILS(-EDEADLK, cow_open(&volume, &volume, 1, &cow, &err));
	snprintf(path, sizeof(path), "%s/disk", lab->folder);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	lab_loop(&lab->upper, 4 << 20, file);
	close(file);
	assert_int_equal(stat(lab->upper.path, &st), 0);
	upper = tracker_device(st.st_rdev);
	assert_int_equal(stack_device_reaches(upper, &target, 1, &which, &unsaid), 1);
	assert_int_equal(stack_device_reaches(target, &upper, 1, &which, &unsaid), 0);
	volume.cow.kind = COW_DEVICE;
	strcpy(volume.cow.path, lab->upper.path);
	ASSERT_FAILS(-EDEADLK, cow_open(&volume, &volume, 1, &cow, &err));
}

/* Devices with contents or users are not overwritten. */
static void test_cow_device(void **state)
{
	struct lab *lab = *state;
	struct boundary_volume volume = cow_volume(lab);
	char command[128];
	struct cow cow;

	lab_loop(&lab->upper, 8 << 20, -1);
	volume.cow.kind = COW_DEVICE;
	strcpy(volume.cow.path, lab->upper.path);
	ASSERT_OK(cow_open(&volume, &volume, 1, &cow, &err));
	assert_int_equal(cow.sectors, (8 << 20) / 512 - 2 * COW_MARGIN_SECTORS);
	cow_release(&cow);
	snprintf(command, sizeof(command), "mkfs.ext4 -q %s", lab->upper.path);
	assert_int_equal(system(command), 0);
	ASSERT_FAILS(-EEXIST, cow_open(&volume, &volume, 1, &cow, &err));
}

/* A file system whose device cannot be told is not guessed about. */
static void test_stack_unknown(void **state)
{
	struct error err = ERROR_INIT;
	uint32_t target = 1;
	size_t which;

	(void)state;
	assert_int_equal(stack_path_reaches("/proc", &target, 1, &which, &err), -ENOTSUP);
	assert_int_equal(stack_path_reaches("/dev/shm", &target, 1, &which, &err), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_facts), TEST(test_no_device), TEST(test_find),
		TEST(test_cow_ram), TEST(test_cow_file), TEST(test_cow_on_volume),
		TEST(test_cow_device), TEST(test_stack_unknown),
	};
	int ret = lab_need_root();

	return ret ? ret : cmocka_run_group_tests(tests, NULL, NULL);
}
