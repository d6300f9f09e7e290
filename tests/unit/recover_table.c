/*
 * The table of a lost disk on a device of another size: whether it fits, what grows, and
 * that sfdisk makes of our text the table that was lost.
 */
#include "tests/unit/layout_lab.h"

#include "agent/base/file.h"
#include "agent/recover/recover_private.h"

#include <jansson.h>
#include <unistd.h>

#define END_BYTES (33 * 512ull)	/* a GPT's second copy */

static void lab_disk(struct recover_disk *disk, uint64_t target_bytes)
{
	memset(disk, 0, sizeof(*disk));
	lab_layout(&disk->layout);
	strcpy(disk->name, "sda");
	strcpy(disk->target, "/dev/sdz");
	disk->target_bytes = target_bytes;
}

static int fit(uint64_t target_bytes, bool grow, struct recover_disk *disk)
{
	static struct recovery recovery;
	struct error err = ERROR_INIT;
	int ret;

	memset(&recovery, 0, sizeof(recovery));
	lab_disk(disk, target_bytes);
	ret = recover_disk_fit(&recovery, disk, grow, &err);
	if (ret)
		assert_non_null(strstr(err.message, "disk sda onto /dev/sdz"));
	recovery_fini(&recovery);
	return ret;
}

static void fits(void **state)
{
	/* The last partition ends at 896 MiB. */
	static const struct { uint64_t bytes; bool grow; int code; uint64_t grown; bool resized; } of[] = {
		{ 1024 * MIB, false, 0, 0, false },
		{ 1024 * MIB, true, 0, 0, false },
		{ 2048 * MIB, false, 0, 0, true },
		{ 2048 * MIB, true, 0, 2048 * MIB - 640 * MIB - MIB, true },
		{ 1024 * MIB + 512, true, 0, 1024 * MIB - 640 * MIB - MIB, true },
		{ 900 * MIB, true, 0, 0, true },
		{ 896 * MIB + END_BYTES, false, 0, 0, true },
		{ 896 * MIB + END_BYTES - 512, false, -ENOSPC, 0, true },
		{ 896 * MIB, false, -ENOSPC, 0, true },
		{ 4096, false, -ENOSPC, 0, true },
	};
	struct recover_disk disk;

	(void)state;
	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		print_message("case %zu\n", i);
		assert_int_equal(fit(of[i].bytes, of[i].grow, &disk), of[i].code);
		assert_int_equal(disk.resized, of[i].resized);
		assert_int_equal(disk.grown ? disk.grown_bytes : 0, of[i].grown);
		if (disk.grown)
			assert_int_equal(disk.grown - 1, 4);
		disk_layout_fini(&disk.layout);
	}
}

/* Of a dos table nothing lies at the end. */
static void fits_dos(void **state)
{
	static struct recovery recovery;
	struct error err = ERROR_INIT;
	struct recover_disk disk;

	(void)state;
	lab_disk(&disk, 896 * MIB);
	disk.layout.table = DISK_TABLE_DOS;
	disk.layout.table_entries = 0;
	assert_int_equal(recover_disk_fit(&recovery, &disk, false, &err), 0);
	disk.target_bytes = 896 * MIB - 512;
	assert_int_equal(recover_disk_fit(&recovery, &disk, false, &err), -ENOSPC);
	/* A logical partition does not grow: its extended one would have to. */
	disk.target_bytes = 2048 * MIB;
	disk.layout.partitions[4].logical = true;
	assert_int_equal(recover_disk_fit(&recovery, &disk, true, &err), 0);
	assert_int_equal(disk.grown, 0);
	assert_int_equal(recovery.note_count, 1);
	/* It starts, and has a length, of 32 bits of sectors; together they are more. */
	disk.layout.partitions[4].logical = false;
	disk.layout.partitions[4].offset = 2040ull * 1024 * MIB;
	disk.layout.partitions[4].bytes = 100ull * 1024 * MIB;
	disk.layout.bytes = 3000ull * 1024 * MIB;
	disk.target_bytes = disk.layout.bytes;
	assert_int_equal(recover_disk_fit(&recovery, &disk, true, &err), 0);
	assert_int_equal(disk.grown, 0);
	disk.target_bytes = 9000ull * 1024 * MIB;
	assert_int_equal(recover_disk_fit(&recovery, &disk, true, &err), 0);
	assert_int_equal(disk.grown, 5);
	assert_int_equal(disk.grown_bytes, 2048ull * 1024 * MIB - MIB);
	disk_layout_fini(&disk.layout);
	recovery_fini(&recovery);
}

/* ---- what sfdisk makes of it ---------------------------------------------------------- */

static json_t *table_of(const char *file)
{
	char command[256], text[8192];
	FILE *pipe;
	size_t length;
	json_t *json;

	snprintf(command, sizeof(command), "PATH=$PATH:/sbin:/usr/sbin sfdisk --json %s", file);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	length = fread(text, 1, sizeof(text) - 1, pipe);
	assert_int_equal(pclose(pipe), 0);
	text[length] = '\0';
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	return json;
}

static json_t *sfdisk(const char *file, const char *script)
{
	char command[256];
	FILE *pipe;

	snprintf(command, sizeof(command), "PATH=$PATH:/sbin:/usr/sbin sfdisk --quiet --no-reread %s", file);
	pipe = popen(command, "w");
	assert_non_null(pipe);
	fputs(script, pipe);
	assert_int_equal(pclose(pipe), 0);
	return table_of(file);
}

static void same_text(json_t *object, const char *key, const char *wanted)
{
	const char *got = json_string_value(json_object_get(object, key));

	if (strcasecmp(got ? got : "", wanted))
		fail_msg("%s: wanted \"%s\", got \"%s\"", key, wanted, got ? got : "");
}

static void table_as_lost(uint64_t target_bytes, bool grow)
{
	char file[] = "/tmp/clawback-recover-table.XXXXXX";
	struct recover_disk disk;
	int fd = mkstemp(file);
	CLEANUP_FREE char *script = NULL;
	json_t *json, *table, *list;

	assert_true(fd >= 0);
	assert_int_equal(fit(target_bytes, grow, &disk), 0);
	assert_int_equal(ftruncate(fd, (off_t)target_bytes), 0);
	script = recover_table_script(&disk);
	assert_non_null(script);
	json = sfdisk(file, script);
	table = json_object_get(json, "partitiontable");
	same_text(table, "id", disk.layout.table_uuid);
	assert_int_equal(json_integer_value(json_object_get(table, "firstlba")), 34);
	assert_int_equal(json_integer_value(json_object_get(table, "lastlba")),
			 (target_bytes - END_BYTES) / 512 - 1);
	list = json_object_get(table, "partitions");
	assert_int_equal(json_array_size(list), disk.layout.partition_count);
	for (size_t i = 0; i < disk.layout.partition_count; i++) {
		/* sfdisk lists them by number, the layout by offset */
		json_t *object = json_array_get(list, i == 0 ? 4 : i - 1);
		struct disk_partition *partition = &disk.layout.partitions[i];
		uint64_t bytes = disk.grown == i + 1 ? disk.grown_bytes : partition->bytes;

		same_text(object, "uuid", partition->uuid);
		same_text(object, "type", partition->type);
		same_text(object, "name", partition->name);
		same_text(object, "attrs", partition->flags ? "RequiredPartition GUID:63" : "");
		assert_int_equal(json_integer_value(json_object_get(object, "start")),
				 partition->offset / 512);
		assert_int_equal(json_integer_value(json_object_get(object, "size")), bytes / 512);
	}
	json_decref(json);
	disk_layout_fini(&disk.layout);
	close(fd);
	unlink(file);
}

static void tables(void **state)
{
	(void)state;
	table_as_lost(2048 * MIB, false);
	table_as_lost(2048 * MIB, true);
	table_as_lost(900 * MIB, false);
}

/* All that lies before the first partition stays, but for one entry. */
static void grows_dos(void **state)
{
	static const char script[] = "label: dos\nlabel-id: 0xcafe0001\n"
		"start=2048, size=16384, type=83, bootable\nstart=20480, size=8192, type=82\n";
	char file[] = "/tmp/clawback-recover-table.XXXXXX";
	static uint8_t before[MIB], after[MIB];
	struct recover_disk disk = { .resized = true, .grown = 2, .grown_bytes = 100 * MIB };
	struct disk_partition partitions[2] = { { .number = 1 }, { .number = 2 } };
	struct error err = ERROR_INIT;
	int fd = mkstemp(file);
	json_t *json, *list;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 128 * MIB), 0);
	json_decref(sfdisk(file, script));
	assert_int_equal(file_pread_all(fd, before, sizeof(before), 0), 0);
	memset(before, 'b', 440);
	memset(before + 512, 'c', sizeof(before) - 512);
	assert_int_equal(file_pwrite_all(fd, before, sizeof(before), 0), 0);
	disk.layout.table = DISK_TABLE_DOS;
	disk.layout.logical_block_bytes = 512;
	disk.layout.partitions = partitions;
	disk.layout.partition_count = 2;
	strcpy(disk.target, file);
	if (table_write(&disk, &err))
		fail_msg("%s", err.message);
	json = table_of(file);
	same_text(json_object_get(json, "partitiontable"), "id", "0xcafe0001");
	list = json_object_get(json_object_get(json, "partitiontable"), "partitions");
	assert_int_equal(json_array_size(list), 2);
	list = json_array_get(list, 1);
	assert_int_equal(json_integer_value(json_object_get(list, "start")), 20480);
	assert_int_equal(json_integer_value(json_object_get(list, "size")), 100 * MIB / 512);
	same_text(list, "type", "82");
	json_decref(json);
	assert_int_equal(file_pread_all(fd, after, sizeof(after), 0), 0);
	/* The second of four entries of 16 bytes. */
	assert_memory_equal(before, after, 446 + 16);
	assert_memory_equal(before + 446 + 32, after + 446 + 32, sizeof(after) - 446 - 32);
	close(fd);
	unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fits), cmocka_unit_test(fits_dos), cmocka_unit_test(tables),
		cmocka_unit_test(grows_dos),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
