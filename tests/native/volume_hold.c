/*
 * A held device cannot be written to, and one that somebody could still write to
 * cannot be held: what a hand-over stands on.
 */
#include "tests/native/volume_lab.h"

#define BYTES (4u << 20)

static struct lab_loop loop;
static struct device_facts facts;
static char block[4096] __attribute__((aligned(4096)));

static int setup(void **state)
{
	struct error err = ERROR_INIT;
	char path[PATH_MAX];

	if (scratch_setup(state))
		return -1;
	snprintf(path, sizeof(path), "%s/volumes/v", (char *)*state);
	lab_loop(&loop, BYTES, -1);
	return file_make_folders(path, 0700) || device_facts(loop.path, &facts, &err);
}

/* The loop device was opened to be made: as far as it matters, for writing. */
static void let_go(void)
{
	int reader = open(loop.path, O_RDONLY | O_CLOEXEC);

	close(loop.fd);
	loop.fd = reader;
}

/* The flag would stay with the device's number, for whoever gets that next. */
static int teardown(void **state)
{
	int writable = 0;

	if (ioctl(loop.fd, BLKROSET, &writable) < 0)
		return -1;
	close(loop.fd);
	return scratch_teardown(state);
}

static bool read_only(void)
{
	int value = 0;

	assert_int_equal(ioctl(loop.fd, BLKROGET, &value), 0);
	return value != 0;
}

static void held_and_freed(void **state)
{
	struct device_facts now;
	int fd, writer;

	let_go();
	ASSERT_OK(device_hold(*state, "v", &facts, &fd, &err));
	assert_true(fd >= 0 && read_only());
	assert_int_equal(pread(fd, block, sizeof(block), 0), sizeof(block));
	ASSERT_OK(device_hold_check(&facts, false, &err));
	/* Claimed. */
	assert_true(open(loop.path, O_RDONLY | O_EXCL | O_CLOEXEC) < 0);
	close(fd);
	/* And still read-only, also for the next one who asks. */
	writer = open(loop.path, O_RDWR | O_CLOEXEC);
	assert_true(writer < 0 || pwrite(writer, block, sizeof(block), 0) < 0);
	if (writer >= 0)
		close(writer);
	ASSERT_OK(device_facts(loop.path, &now, &err));
	assert_true(now.read_only);
	ASSERT_OK(device_hold(*state, "v", &now, &fd, &err));
	close(fd);
	ASSERT_OK(device_free(*state, "v", &facts, &err));
	assert_false(read_only());
	ASSERT_OK(device_free(*state, "v", &facts, &err));
}

/* Its descriptor is enough; and it goes on writing after the refusal. */
static void open_for_writing(void **state)
{
	int fd;

	ASSERT_FAILS(-EBUSY, device_hold(*state, "v", &facts, &fd, &err));
	assert_int_equal(fd, -1);
	assert_false(read_only());
	assert_int_equal(pwrite(loop.fd, block, sizeof(block), 0), sizeof(block));
}

/* Without a descriptor, but with the device's pages in its memory. */
static void mapped(void **state)
{
	int fd, writer = open(loop.path, O_RDWR | O_CLOEXEC);
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);

	assert_true(page != MAP_FAILED);
	close(writer);
	let_go();
	page[0] = 'x';
	ASSERT_FAILS(-EBUSY, device_hold(*state, "v", &facts, &fd, &err));
	assert_false(read_only());
	munmap(page, 4096);
	/* What it wrote is on the device as soon as it is held. */
	ASSERT_OK(device_hold(*state, "v", &facts, &fd, &err));
	assert_int_equal(pread(fd, block, sizeof(block), 0), sizeof(block));
	assert_int_equal(block[0], 'x');
	close(fd);
	ASSERT_OK(device_free(*state, "v", &facts, &err));
}

static void claimed(void **state)
{
	int fd, other;

	let_go();
	other = open(loop.path, O_RDONLY | O_EXCL | O_CLOEXEC);
	assert_true(other >= 0);
	ASSERT_FAILS(-EBUSY, device_hold(*state, "v", &facts, &fd, &err));
	assert_false(read_only());
	close(other);
}

/* Not ours to make writable: it was read-only before, or another boot held it. */
static void not_ours(void **state)
{
	char note[PATH_MAX];
	int fd, one = 1;

	let_go();
	assert_int_equal(ioctl(loop.fd, BLKROSET, &one), 0);
	ASSERT_OK(device_facts(loop.path, &facts, &err));
	ASSERT_OK(device_hold(*state, "v", &facts, &fd, &err));
	close(fd);
	ASSERT_OK(device_free(*state, "v", &facts, &err));
	assert_true(read_only());

	snprintf(note, sizeof(note), "%s/volumes/v/held", (char *)*state);
	assert_int_equal(file_replace(note, "another boot\n", 13, 0600), 0);
	ASSERT_OK(device_free(*state, "v", &facts, &err));
	assert_true(read_only());
	assert_int_equal(access(note, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(held_and_freed, setup, teardown),
		cmocka_unit_test_setup_teardown(open_for_writing, setup, teardown),
		cmocka_unit_test_setup_teardown(mapped, setup, teardown),
		cmocka_unit_test_setup_teardown(claimed, setup, teardown),
		cmocka_unit_test_setup_teardown(not_ours, setup, teardown),
	};
	int skip = lab_need_root();

	return skip ? skip : cmocka_run_group_tests(tests, NULL, NULL);
}
