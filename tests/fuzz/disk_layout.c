/*
 * The layout of a disk in a manifest: what is believed lies within the disk, is bounded,
 * and written and read again says the same.
 */
#include "agent/disk/disk.h"
#include "tests/fuzz/fuzz.h"

static void check_content(const struct disk_content *content)
{
	FUZZ_CHECK_TEXT(content->type);
	FUZZ_CHECK_TEXT(content->uuid);
	FUZZ_CHECK_TEXT(content->label);
	FUZZ_CHECK_TEXT(content->mount);
	FUZZ_CHECK_TEXT(content->volume);
	FUZZ_CHECK(!strchr(content->volume, '/') && *content->type != '-');
	FUZZ_CHECK((content->kept == DISK_KEPT_VOLUME) == (*content->volume != '\0'));
}

static void check_layout(const struct disk_layout *layout)
{
	FUZZ_CHECK(layout->bytes && layout->bytes <= 1ull << 62);
	FUZZ_CHECK(layout->partition_count <= DISK_PARTITIONS_MAX);
	FUZZ_CHECK(layout->range_count <= DISK_RANGES_MAX);
	check_content(&layout->content);
	for (size_t i = 0; i < layout->partition_count; i++) {
		const struct disk_partition *partition = &layout->partitions[i];

		FUZZ_CHECK(partition->bytes &&
			   partition->offset + partition->bytes <= layout->bytes);
		FUZZ_CHECK(disk_partition_numbered(layout, partition->number) == partition);
		check_content(&partition->content);
	}
	for (size_t i = 0; i < layout->range_count; i++) {
		const struct disk_range *range = &layout->ranges[i];

		FUZZ_CHECK(range->offset + range->bytes <= layout->bytes);
		FUZZ_CHECK(!i || range->offset >= range[-1].offset + range[-1].bytes);
	}
	for (size_t i = 0; i < layout->group_count; i++) {
		FUZZ_CHECK(layout->groups[i].lv_count <= DISK_LVS_MAX);
		FUZZ_CHECK(!strchr(layout->groups[i].name, '/'));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = fuzz_copy(data, length), *once, *twice;
	struct error err = ERROR_INIT;
	struct disk_layout layout, again;
	int ret = disk_layout_decode(text, length, &layout, &err);

	free(text);
	if (ret) {
		fuzz_refused(ret, &err);
		return 0;
	}
	check_layout(&layout);
	FUZZ_CHECK(!disk_layout_encode(&layout, &once, &err));
	FUZZ_CHECK(!disk_layout_decode(once, strlen(once), &again, &err));
	FUZZ_CHECK(!disk_layout_encode(&again, &twice, &err));
	FUZZ_CHECK(!strcmp(once, twice));
	free(once);
	free(twice);
	disk_layout_fini(&layout);
	disk_layout_fini(&again);
	return 0;
}
