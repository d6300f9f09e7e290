/*
 * Layouts of disks: what is written down is read back, to the byte, and what makes no
 * sense is neither written nor read.
 */
#include "tests/unit/layout_lab.h"

#include "agent/base/file.h"

#define GOLDEN "tests/fuzz/corpus/disk_layout/every_part"

static char *encoded(const struct disk_layout *layout)
{
	struct error err = ERROR_INIT;
	char *text = NULL;

	if (disk_layout_encode(layout, &text, &err))
		fail_msg("%s", err.message);
	return text;
}

static void decoded(const char *text, struct disk_layout *layout)
{
	struct error err = ERROR_INIT;

	if (disk_layout_decode(text, strlen(text), layout, &err))
		fail_msg("%s: %.2000s", err.message, text);
}

static void refused(const char *text, int code)
{
	struct error err = ERROR_INIT;
	struct disk_layout layout;

	if (!disk_layout_decode(text, strlen(text), &layout, &err))
		fail_msg("accepted: %.4000s", text);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.message, "layout of a disk"));
}

static void there_and_back(void **state)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *again = NULL;
	struct disk_layout layout, back;

	(void)state;
	lab_layout(&layout);
	text = encoded(&layout);
	decoded(text, &back);
	again = encoded(&back);
	assert_string_equal(text, again);
	assert_int_equal(back.partitions[1].flags, 1ull << 63 | 1);
	assert_string_equal(back.partitions[1].name, "EFI \"ä\"");
	assert_string_equal(back.groups[0].metadata, layout.groups[0].metadata);
	assert_int_equal(back.groups[0].pvs[1].place.on, DISK_ON_CRYPT);
	assert_int_equal(back.ranges[2].how, DISK_LIVE);
	assert_ptr_equal(disk_partition_numbered(&back, 14), &back.partitions[0]);
	assert_null(disk_partition_numbered(&back, 5));
	disk_layout_fini(&layout);
	disk_layout_fini(&back);
}

/* Points of earlier versions stay readable. */
static void as_version_1_wrote_it(void **state)
{
	CLEANUP_FREE char *golden = NULL;
	CLEANUP_FREE char *text = NULL;
	struct disk_layout layout;

	(void)state;
	assert_return_code(file_read(GOLDEN, 1 << 20, &golden, NULL), 0);
	lab_layout(&layout);
	text = encoded(&layout);
	assert_string_equal(text, golden);
	disk_layout_fini(&layout);
}

/* The first `from` of the text replaced. */
static char *replaced(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	char *other = malloc(strlen(text) + strlen(to) + 1);

	assert_non_null(other);
	if (!at)
		fail_msg("there is no %s", from);
	sprintf(other, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	return other;
}

static void text_that_makes_no_sense(void **state)
{
	static const struct { const char *from, *to; } changes[] = {
		{ "\"version\":1", "\"version\":0" }, { "\"version\":1", "\"version\":\"1\"" },
		{ "\"version\":1,", "" }, { "\"bytes\":1073741824", "\"bytes\":-1" },
		{ "\"bytes\":1073741824", "\"bytes\":1073741823" },
		{ "\"bytes\":1073741824", "\"bytes\":1e9" },
		{ "\"bytes\":1073741824", "\"bytes\":1073741824,\"bytes\":1" },
		{ "\"table\":\"gpt\"", "\"table\":\"mbr\"" },
		{ "\"table\":\"gpt\"", "\"table\":\"dos\"" },
		{ "\"firmware\":\"uefi\"", "\"firmware\":7" },
		{ "\"boot_code\":true", "\"boot_code\":1" },
		{ "\"host\":\"db1\"", "\"host\":\"a\\u0001b\"" },
		{ "\"host\":\"db1\"", "\"host\":null" },
		{ "\"logical_block_bytes\":512", "\"logical_block_bytes\":513" },
		{ "\"table_entries\":128", "\"table_entries\":0" },
		{ "\"partitions\":[", "\"partitions\":[1," },
		{ "\"partitions\":[", "\"partitions\":7,\"x\":[" },
		{ "\"number\":1,", "\"number\":2," }, { "\"number\":1,", "\"number\":0," },
		{ "\"number\":1,", "" },
		{ "\"offset\":2097152", "\"offset\":2097151" },
		{ "\"offset\":2097152", "\"offset\":1048576" },
		{ "\"bytes\":65011712", "\"bytes\":65012224" },
		{ "\"bytes\":65011712", "\"bytes\":0" },
		{ "\"bytes\":65011712", "\"bytes\":4611686018427387904" },
		{ "\"type\":\"c12a", "\"type\":\"-c12a" }, { "\"type\":\"c12a", "\"type\":\"c12a;" },
		{ "\"flags\":\"0x8", "\"flags\":\"8" }, { "\"flags\":\"0x0\"", "\"flags\":\"0x\"" },
		{ "\"flags\":\"0x8", "\"flags\":\"0x18" }, { "\"flags\":\"0x8", "\"flags\":\"0x-8" },
		{ "\"logical\":false", "\"logical\":true" },
		{ "\"extended\":false", "\"extended\":true" },
		{ "\"kept\":\"volume\"", "\"kept\":\"here\"" },
		{ "\"volume\":\"root\"", "\"volume\":\"../root\"" },
		{ "\"volume\":\"root\"", "\"volume\":\"\"" },
		{ "\"volume_id\":\"2222", "\"volume_id\":\"x222" },
		{ "\"name\":\"vg0\"", "\"name\":\"..\"" }, { "\"name\":\"vg0\"", "\"name\":\"a/b\"" },
		{ "\"extent_bytes\":4194304", "\"extent_bytes\":0" },
		{ "\"metadata\":\"contents", "\"metadata\":\"\\u0000" },
		{ "\"place\":{\"on\":\"crypt\",\"index\":0", "\"place\":{\"on\":\"crypt\",\"index\":1" },
		{ "\"place\":{\"on\":\"partition\",\"index\":4,\"lv\":0}", "\"place\":{}" },
		{ "\"place\":{\"on\":\"partition\",\"index\":4", "\"place\":{\"on\":\"disk\",\"index\":0" },
		/* The crypt on the group's LV, and the group on the crypt. */
		{ "\"place\":{\"on\":\"partition\",\"index\":4", "\"place\":{\"on\":\"lv\",\"index\":0" },
		{ "\"ranges\":[{\"offset\":0", "\"ranges\":[{\"offset\":512" },
		{ "\"offset\":1073724928,\"bytes\":16896", "\"offset\":1073724928,\"bytes\":17408" },
		{ "\"how\":\"frozen\"", "\"how\":\"cold\"" },
		{ "\"partition\":14}", "\"partition\":15}" },
		{ "{", "[" }, { "\"ranges\":", "\"rangers\":" },
	};
	CLEANUP_FREE char *text = NULL;
	struct disk_layout layout;

	(void)state;
	lab_layout(&layout);
	text = encoded(&layout);
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		char *other = replaced(text, changes[i].from, changes[i].to);

		refused(other, -EBADMSG);
		free(other);
	}
	/* Cut off anywhere. */
	for (size_t length = 0; length < strlen(text); length += 7) {
		struct error err = ERROR_INIT;
		struct disk_layout none;

		assert_int_equal(disk_layout_decode(text, length, &none, &err), -EBADMSG);
	}
	disk_layout_fini(&layout);
}

static void what_later_versions_add(void **state)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *more = NULL;
	CLEANUP_FREE char *later = NULL;
	struct disk_layout layout, back;

	(void)state;
	lab_layout(&layout);
	text = encoded(&layout);
	more = replaced(text, "\"version\":1,", "\"version\":1,\"moons\":[2],");
	decoded(more, &back);
	disk_layout_fini(&back);
	later = replaced(text, "\"version\":1,", "\"version\":2,");
	refused(later, -EOPNOTSUPP);
	disk_layout_fini(&layout);
}

static void more_than_the_bounds(void **state)
{
	struct error err = ERROR_INIT;
	struct disk_layout layout;
	char *text = NULL;

	(void)state;
	lab_layout(&layout);
	layout.range_count = DISK_RANGES_MAX + 1;
	assert_int_equal(disk_layout_encode(&layout, &text, &err), -EBADMSG);
	layout.range_count = 6;
	free(layout.groups[0].metadata);
	layout.groups[0].metadata = malloc(DISK_METADATA_BYTES_MAX + 2);
	memset(layout.groups[0].metadata, 'x', DISK_METADATA_BYTES_MAX + 1);
	layout.groups[0].metadata[DISK_METADATA_BYTES_MAX + 1] = '\0';
	assert_int_equal(disk_layout_encode(&layout, &text, &err), -EBADMSG);
	layout.groups[0].metadata[DISK_METADATA_BYTES_MAX] = '\0';
	free(encoded(&layout));
	/* A name that is no UTF-8 would get lost. */
	strcpy(layout.partitions[1].name, "\xff");
	assert_int_not_equal(disk_layout_encode(&layout, &text, &err), 0);
	assert_null(text);
	disk_layout_fini(&layout);
}

/* Extended partitions: logical ones lie in them, and nothing else does. */
static void logical_partitions(void **state)
{
	struct error err = ERROR_INIT;
	struct disk_layout layout = { .bytes = 100 * MIB, .logical_block_bytes = 512,
				      .physical_block_bytes = 512, .table = DISK_TABLE_DOS };
	struct disk_partition partitions[4] = {
		{ .number = 1, .offset = MIB, .bytes = MIB, .type = "0x83" },
		{ .number = 2, .offset = 10 * MIB, .bytes = 50 * MIB, .type = "0x5",
		  .extended = true },
		{ .number = 5, .offset = 11 * MIB, .bytes = 49 * MIB, .type = "0x83",
		  .logical = true },
		{ .number = 3, .offset = 60 * MIB, .bytes = MIB, .type = "0x83" },
	};
	char *text = NULL;

	(void)state;
	layout.partitions = partitions;
	layout.partition_count = 4;
	free(encoded(&layout));
	partitions[2].bytes += 512;
	assert_int_equal(disk_layout_encode(&layout, &text, &err), -EBADMSG);
	partitions[2].bytes -= 512;
	partitions[2].offset = 9 * MIB;
	assert_int_equal(disk_layout_encode(&layout, &text, &err), -EBADMSG);
	partitions[2].offset = 11 * MIB;
	partitions[2].logical = false;
	assert_int_equal(disk_layout_encode(&layout, &text, &err), -EBADMSG);
	partitions[2].logical = true;
	partitions[3].offset -= 512;
	assert_int_equal(disk_layout_encode(&layout, &text, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(as_version_1_wrote_it),
		cmocka_unit_test(text_that_makes_no_sense),
		cmocka_unit_test(what_later_versions_add),
		cmocka_unit_test(more_than_the_bounds),
		cmocka_unit_test(logical_partitions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
