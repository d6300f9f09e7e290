/*
 * Where a drill's copy lies: what a dead one left goes, what another works with and what
 * is somebody else's stays; whether there is room; which point a random drill takes.
 */
#include "agent/drill/drill_private.h"
#include "tests/unit/volume_scratch.h"

#include <fcntl.h>

static void put(const char *folder, const char *name, mode_t mode, bool file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(0, mkdir(path, 0700));
	assert_int_equal(0, chmod(path, mode));
	strcat(path, "/volume");
	if (file)
		assert_int_equal(0, file_create(path, "x", 1, 0600));
}

static bool there(const char *folder, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return access(path, F_OK) == 0;
}

static void sweeps_the_dead(void **state)
{
	const char *folder = *state;
	struct scratch living, own;

	ASSERT_OK(scratch_make(folder, &living, &err));
	assert_int_equal(0, file_create(living.file, "y", 1, 0600));
	put(folder, "clawback-drill-aBcDeF", 0700, true);
	put(folder, "clawback-drill-empty0", 0700, false);
	put(folder, "clawback-drill-others", 0755, true);	/* none that we make */
	put(folder, "clawback-drill-long-name", 0700, true);
	ASSERT_OK(scratch_make(folder, &own, &err));
	assert_false(there(folder, "clawback-drill-aBcDeF"));
	assert_false(there(folder, "clawback-drill-empty0"));
	assert_true(there(folder, "clawback-drill-others/volume"));
	assert_true(there(folder, "clawback-drill-long-name/volume"));
	assert_int_equal(0, access(living.file, F_OK));
	assert_string_not_equal(living.folder, own.folder);
	ASSERT_OK(scratch_remove(&living, &err));
	ASSERT_OK(scratch_remove(&own, &err));
	ASSERT_OK(scratch_remove(&own, &err));	/* once more: nothing */
	assert_true(there(folder, "clawback-drill-others/volume"));
}

static void refuses(void **state)
{
	const char *folder = *state;
	struct error err = ERROR_INIT;
	struct scratch scratch;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/none", folder);
	assert_int_equal(-ENOENT, scratch_make(path, &scratch, &err));
	assert_int_equal(0, file_create(path, "x", 1, 0600));
	assert_int_equal(-ENOTDIR, scratch_make(path, &scratch, &err));
	assert_int_equal(0, chmod(folder, 0777));
	assert_int_equal(-EPERM, scratch_make(folder, &scratch, &err));
	assert_int_equal(0, chmod(folder, 01777));
	assert_int_equal(0, scratch_make(folder, &scratch, &err));
	assert_int_equal(0, scratch_remove(&scratch, &err));
	assert_int_equal(-ENOSPC, scratch_room(folder, UINT64_C(1) << 60, &err));
	assert_non_null(strstr(err.message, "free there"));
	assert_int_equal(0, scratch_room(folder, 1 << 20, &err));
}

/* Half of all drills take one of the newest quarter, and none never comes. */
static void picks(void **state)
{
	struct random_state random = random_start("picks");
	unsigned newest = 0, seen[20] = { 0 };

	(void)state;
	for (int i = 0; i < 20000; i++) {
		size_t at = drill_pick(20, random_next(&random));

		assert_true(at < 20);
		seen[at]++;
		newest += at < 5;
	}
	assert_in_range(newest, 9500, 10500);
	for (int i = 0; i < 20; i++)
		assert_true(seen[i] > 200);
	assert_true(seen[0] > seen[10] && seen[10] > seen[19] / 2);
	assert_int_equal(0, drill_pick(1, UINT64_MAX));
	assert_int_equal(1, drill_pick(2, UINT64_MAX));
	assert_int_equal(0, drill_pick(1000000, 0));
}

/* As libblkid knows them by their magic: the superblock of btrfs, at 64 KiB, and a swap's. */
static void refuses_twins(void **state)
{
	static const struct { const char *magic; uint64_t at; int ret; const char *type; } kinds[] = {
		{ "_BHRfS_M", 65536 + 64, -ENOTSUP, "btrfs" },
		{ "SWAPSPACE2", 4096 - 10, 0, "" },	/* without the rest no swap */
	};
	const char *folder = *state;
	struct error err = ERROR_INIT;
	char path[PATH_MAX], type[32];

	snprintf(path, sizeof(path), "%s/image", folder);
	for (size_t i = 0; i < 2; i++) {
		int fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_TRUNC, 0600);

		assert_int_equal(0, ftruncate(fd, 64 << 20));
		assert_int_equal(0, file_pwrite_all(fd, kinds[i].magic, strlen(kinds[i].magic),
						    kinds[i].at));
		close(fd);
		assert_int_equal(kinds[i].ret, file_system_probe(path, type, &err));
		assert_string_equal(kinds[i].type, type);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sweeps_the_dead, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(refuses, scratch_setup, scratch_teardown),
		cmocka_unit_test(picks),
		cmocka_unit_test_setup_teardown(refuses_twins, scratch_setup, scratch_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
