/*
 * A file:// store on a disk that is full, or cannot be written: a clear error,
 * nothing half-written to be seen, and work again once there is room. In a mount
 * namespace of its own, so that nothing is left behind however it ends.
 */
#include "agent/store/store.h"
#include "tests/store/store_suite.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISK_BYTES (4u << 20)

static char folder[] = "/tmp/clawback-full.XXXXXX";

static uint64_t bytes_free(void)
{
	struct statvfs st;

	assert_int_equal(statvfs(folder, &st), 0);
	return (uint64_t)st.f_bfree * st.f_bsize;
}

static void test_put_full(void **state)
{
	struct store *store = *state;
	uint8_t *data = suite_data(1, DISK_BYTES + 1);
	struct error err = ERROR_INIT;
	uint64_t before;

	suite_put(store, "a/kept", 2, 100000);
	before = bytes_free();
	suite_failed(store_put(store, "a/x", data, DISK_BYTES + 1, 0, &err), -ENOSPC, &err);
	assert_non_null(strstr(err.message, "free space"));
	assert_non_null(strstr(err.message, "/a/x"));
	assert_int_equal(bytes_free(), before);
	suite_absent(store, "a/x");
	/* An object that was there stays as it was. */
	suite_failed(store_put(store, "a/kept", data, DISK_BYTES + 1, 0, &err), -ENOSPC, &err);
	suite_expect(store, "a/kept", 2, 100000);
	suite_put(store, "a/x", 3, 200000);
	suite_expect(store, "a/x", 3, 200000);
	suite_ok(store_delete(store, "a/x", &err), &err);
	suite_ok(store_delete(store, "a/kept", &err), &err);
	free(data);
}

static void test_upload_full(void **state)
{
	struct store *store = *state;
	uint8_t *data = suite_data(1, 1 << 20);
	struct error err = ERROR_INIT;
	struct store_upload *upload;
	uint64_t before = bytes_free();
	int ret = 0;

	suite_ok(store_upload_start(store, "a/x", &upload, &err), &err);
	for (unsigned i = 0; i < 8 && !ret; i++)
		ret = store_upload_write(upload, data, 1 << 20, &err);
	suite_failed(ret, -ENOSPC, &err);
	store_upload_abort(upload);
	assert_int_equal(bytes_free(), before);
	/* Finishing in spite of the failure publishes nothing either. */
	suite_ok(store_upload_start(store, "a/x", &upload, &err), &err);
	for (ret = 0; !ret;)
		ret = store_upload_write(upload, data, 1 << 20, &err);
	assert_true(store_upload_finish(upload, &err) < 0);
	suite_absent(store, "a/x");
	assert_int_equal(bytes_free(), before);
	free(data);
}

static void test_read_only(void **state)
{
	struct store *store = *state;
	struct error err = ERROR_INIT;

	suite_put(store, "a/x", 1, 100);
	assert_int_equal(mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	suite_failed(store_put(store, "a/y", "y", 1, 0, &err), -EROFS, &err);
	suite_failed(store_delete(store, "a/x", &err), -EROFS, &err);
	suite_expect(store, "a/x", 1, 100);
	assert_int_equal(mount(NULL, folder, NULL, MS_REMOUNT, NULL), 0);
	suite_ok(store_delete(store, "a/x", &err), &err);
}

static int lab_start(void **state)
{
	struct error err = ERROR_INIT;
	char url[64], size[32];

	snprintf(url, sizeof(url), "file://%s", folder);
	snprintf(size, sizeof(size), "size=%u", DISK_BYTES);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", folder, "tmpfs", 0, size))
		return -1;
	return store_open(url, NULL, false, (struct store **)state, &err);
}

static int lab_end(void **state)
{
	store_close(*state);
	return umount(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_full), cmocka_unit_test(test_upload_full),
		cmocka_unit_test(test_read_only),
	};
	int ret;

	if (unshare(CLONE_NEWNS)) {
		printf("skipped: no mount namespace of our own (not root?)\n");
		return 77;
	}
	if (!mkdtemp(folder))
		return 1;
	ret = cmocka_run_group_tests(tests, lab_start, lab_end);
	rmdir(folder);
	return ret;
}
