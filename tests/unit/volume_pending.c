/* The pending file: what is saved is loaded; no damage passes. */
#include "tests/unit/volume_scratch.h"

static struct random_state random_source;
static const struct uuid some_run = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } };
static struct uuid run;		/* as loaded last */

static void random_marks(struct bitmap *bitmap, uint64_t bits)
{
	assert_int_equal(bitmap_init(bitmap, bits), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(bitmap_set(bitmap, random_below(&random_source, bits), 1), 0);
}

static void test_round_trip(void **context)
{
	static const uint64_t sizes[] = { 1, 63, 64, 65, 4096, 100003 };
	struct bitmap saved, empty, filled;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t bits = sizes[i], other = random_below(&random_source, bits);

		random_marks(&saved, bits);
		ASSERT_OK(pending_save(*context, "v", 4096, &some_run, &saved, &err));
		/* Zeroed: made by the load. */
		empty = (struct bitmap){ 0, NULL };
		run = (struct uuid){ 0 };
		ASSERT_OK(pending_load(*context, "v", 4096, &run, &empty, &err));
		assert_int_equal(empty.bits, bits);
		assert_true(uuid_equal(&run, &some_run));
		assert_memory_equal(empty.words, saved.words, bitmap_words(bits) * 8);
		/* With bits: added to. */
		assert_int_equal(bitmap_init(&filled, bits), 0);
		assert_int_equal(bitmap_set(&filled, other, 1), 0);
		ASSERT_OK(pending_load(*context, "v", 4096, &run, &filled, &err));
		assert_int_equal(bitmap_set(&saved, other, 1), 0);
		assert_memory_equal(filled.words, saved.words, bitmap_words(bits) * 8);
		bitmap_fini(&saved);
		bitmap_fini(&empty);
		bitmap_fini(&filled);
	}
}

static void test_none(void **context)
{
	struct bitmap bitmap = { 0, NULL };

	ASSERT_FAILS(-ENOENT, pending_load(*context, "v", 4096, &run, &bitmap, &err));
	random_marks(&bitmap, 100);
	ASSERT_OK(pending_save(*context, "v", 4096, &some_run, &bitmap, &err));
	ASSERT_OK(pending_remove(*context, "v", &err));
	ASSERT_OK(pending_remove(*context, "v", &err));
	ASSERT_FAILS(-ENOENT, pending_load(*context, "v", 4096, &run, &bitmap, &err));
	bitmap_fini(&bitmap);
}

/* Of another size or granularity: its marks mean other blocks. */
static void test_other_shape(void **context)
{
	struct bitmap saved, wider;

	random_marks(&saved, 1000);
	ASSERT_OK(pending_save(*context, "v", 4096, &some_run, &saved, &err));
	ASSERT_FAILS(-EBADMSG, pending_load(*context, "v", 8192, &run, &saved, &err));
	assert_int_equal(bitmap_init(&wider, 1001), 0);
	ASSERT_FAILS(-EBADMSG, pending_load(*context, "v", 4096, &run, &wider, &err));
	assert_int_equal(bitmap_count(&wider), 0);
	bitmap_fini(&saved);
	bitmap_fini(&wider);
}

static void write_file(const char *path, const char *data, size_t length)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, length, file), length);
	fclose(file);
}

/* Every single bit of the file, and every length. */
static void test_damage(void **context)
{
	struct bitmap saved, loaded;
	char path[PATH_MAX], *data;
	size_t length;

	random_marks(&saved, 1000);
	ASSERT_OK(pending_save(*context, "v", 4096, &some_run, &saved, &err));
	snprintf(path, sizeof(path), "%s/volumes/v/pending", (char *)*context);
	assert_int_equal(file_read(path, 1 << 20, &data, &length), 0);
	assert_int_equal(length, 80 + 16 * 8);
	for (size_t bit = 0; bit < length * 8; bit++) {
		struct error err = ERROR_INIT;
		int ret;

		data[bit / 8] ^= (char)(1 << bit % 8);
		write_file(path, data, length);
		data[bit / 8] ^= (char)(1 << bit % 8);
		loaded = (struct bitmap){ 0, NULL };
		ret = pending_load(*context, "v", 4096, &run, &loaded, &err);
		assert_int_equal(ret, bit / 32 == 2 ? -EPROTONOSUPPORT : -EBADMSG);
		assert_null(loaded.words);
	}
	for (size_t cut = 0; cut < length; cut++) {
		write_file(path, data, cut);
		loaded = (struct bitmap){ 0, NULL };
		ASSERT_FAILS(-EBADMSG, pending_load(*context, "v", 4096, &run, &loaded, &err));
	}
	bitmap_fini(&saved);
	free(data);
}

/* As docs/format.md lays it out, byte for byte. */
static void test_golden(void **context)
{
	static const uint8_t golden[] = {
		'C', 'L', 'A', 'W', 'P', 'E', 'N', 'D', 2, 0, 0, 0, 0, 16, 0, 0,
		70, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
		9, 10, 11, 12, 13, 14, 15, 16, 0, 0, 0, 0, 0, 0, 0, 0,
	};
	static const uint8_t words[] = { 2, 0, 0, 0, 0, 0, 0, 128, 32, 0, 0, 0, 0, 0, 0, 0 };
	static const uint8_t digest[] = {
		/* sha256sum of the 64 bytes above */
		0xc6, 0x3a, 0xa5, 0x93, 0x37, 0xee, 0x6f, 0x26,
		0x47, 0xcc, 0x42, 0xdf, 0x04, 0x30, 0x7e, 0xd6,
		0x92, 0xfb, 0x28, 0xa6, 0x5b, 0x2a, 0x64, 0xde,
		0x84, 0x6c, 0xad, 0x2b, 0xb8, 0x90, 0xc8, 0x30,
	};
	char path[PATH_MAX], *data;
	struct bitmap bitmap;
	size_t length;

	assert_int_equal(bitmap_init(&bitmap, 70), 0);
	bitmap_set(&bitmap, 1, 1);
	bitmap_set(&bitmap, 63, 1);
	bitmap_set(&bitmap, 69, 1);
	ASSERT_OK(pending_save(*context, "v", 4096, &some_run, &bitmap, &err));
	snprintf(path, sizeof(path), "%s/volumes/v/pending", (char *)*context);
	assert_int_equal(file_read(path, 1 << 20, &data, &length), 0);
	assert_int_equal(length, 96);
	assert_memory_equal(data, golden, 48);
	assert_memory_equal(data + 48, digest, 32);
	assert_memory_equal(data + 80, words, 16);
	bitmap_fini(&bitmap);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_none, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_other_shape, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_damage, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_golden, scratch_setup, scratch_teardown),
	};

	random_source = random_start("volume_pending");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
