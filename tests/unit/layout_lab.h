/* A layout with a part of every kind, and as it is written down. */
#ifndef CLAWBACK_TESTS_LAYOUT_LAB_H
#define CLAWBACK_TESTS_LAYOUT_LAB_H

#include "agent/base/cleanup.h"
#include "agent/disk/disk.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#define MIB (1ull << 20)

static inline void *lab_items(size_t count, size_t size)
{
	void *items = calloc(count, size);

	assert_non_null(items);
	return items;
}

static inline void lab_content(struct disk_content *content, enum disk_kind kind,
			       enum disk_kept kept, const char *type, const char *uuid)
{
	content->kind = kind;
	content->kept = kept;
	strcpy(content->type, type);
	strcpy(content->uuid, uuid);
}

static inline void lab_partitions(struct disk_layout *layout)
{
	static const struct { uint64_t offset, bytes; const char *type, *name; } table[] = {
		{ 1 * MIB, 1 * MIB, "21686148-6449-6e6f-744e-656564454649", "bios" },
		{ 2 * MIB, 62 * MIB, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI \"ä\"" },
		{ 64 * MIB, 64 * MIB, "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "" },
		{ 128 * MIB, 512 * MIB, "e6d6d379-f507-44c2-a23c-238f2a3df928", "lvm" },
		{ 640 * MIB, 256 * MIB, "ca7d7ccb-63ed-4c53-861c-1742536059cc", "crypt" },
	};

	layout->partition_count = 5;
	layout->partitions = lab_items(5, sizeof(*layout->partitions));
	for (size_t i = 0; i < 5; i++) {
		struct disk_partition *partition = &layout->partitions[i];

		partition->number = i == 0 ? 14 : (uint32_t)i;
		partition->offset = table[i].offset;
		partition->bytes = table[i].bytes;
		strcpy(partition->type, table[i].type);
		strcpy(partition->name, table[i].name);
		snprintf(partition->uuid, sizeof(partition->uuid),
			 "00000000-0000-4000-8000-00000000000%zu", i);
	}
	layout->partitions[1].flags = 1ull << 63 | 1;
	lab_content(&layout->partitions[0].content, DISK_EMPTY, DISK_KEPT_HERE, "", "");
	lab_content(&layout->partitions[1].content, DISK_FILE_SYSTEM, DISK_KEPT_HERE, "vfat",
		    "12AB-34CD");
	strcpy(layout->partitions[1].content.label, "ESP");
	strcpy(layout->partitions[1].content.mount, "/boot/efi");
	lab_content(&layout->partitions[2].content, DISK_SWAP, DISK_KEPT_NOT, "swap",
		    "6b1c4e4e-0000-4000-8000-000000000000");
	lab_content(&layout->partitions[3].content, DISK_PV, DISK_KEPT_HEADER, "LVM2_member",
		    "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg");
	lab_content(&layout->partitions[4].content, DISK_LUKS, DISK_KEPT_HEADER, "crypto_LUKS",
		    "7c1c4e4e-0000-4000-8000-000000000000");
}

static inline void lab_group(struct disk_layout *layout)
{
	struct disk_group *group = layout->groups = lab_items(1, sizeof(*group));

	layout->group_count = 1;
	strcpy(group->name, "vg0");
	strcpy(group->uuid, "vvvvvv-bbbb-cccc-dddd-eeee-ffff-gggggg");
	group->extent_bytes = 4 * MIB;
	group->metadata = strdup("contents = \"Text Format Volume Group\"\n");
	assert_non_null(group->metadata);
	group->pv_count = 2;
	group->pvs = lab_items(2, sizeof(*group->pvs));
	strcpy(group->pvs[0].uuid, "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg");
	group->pvs[0].place = (struct disk_place){ DISK_ON_PARTITION, 3, 0 };
	group->pvs[0].bytes = 512 * MIB;
	group->pvs[0].data_offset = MIB;
	strcpy(group->pvs[1].uuid, "bbbbbb-bbbb-cccc-dddd-eeee-ffff-gggggg");
	group->pvs[1].place = (struct disk_place){ DISK_ON_CRYPT, 0, 0 };
	group->lv_count = 1;
	group->lvs = lab_items(1, sizeof(*group->lvs));
	strcpy(group->lvs[0].name, "root");
	strcpy(group->lvs[0].uuid, "llllll-bbbb-cccc-dddd-eeee-ffff-gggggg");
	strcpy(group->lvs[0].type, "linear");
	group->lvs[0].bytes = 400 * MIB;
	group->lvs[0].segments = 1;
	lab_content(&group->lvs[0].content, DISK_FILE_SYSTEM, DISK_KEPT_VOLUME, "ext4",
		    "8d1c4e4e-0000-4000-8000-000000000000");
	strcpy(group->lvs[0].content.mount, "/");
	strcpy(group->lvs[0].content.volume, "root");
	group->lvs[0].content.has_volume_id = true;
	memset(group->lvs[0].content.volume_id.b, 0x22, 16);
}

static inline void lab_layout(struct disk_layout *layout)
{
	static const struct disk_range ranges[] = {
		{ 0, MIB, DISK_TABLE_START, DISK_STILL, 0 },
		{ MIB, MIB, DISK_PARTITION, DISK_STILL, 14 },
		{ 2 * MIB, 62 * MIB, DISK_PARTITION, DISK_LIVE, 1 },
		{ 128 * MIB, MIB, DISK_LVM_HEADER, DISK_STILL, 3 },
		{ 640 * MIB, 16 * MIB, DISK_LUKS_HEADER, DISK_FROZEN, 4 },
		{ 1024 * MIB - 33 * 512, 33 * 512, DISK_TABLE_END, DISK_STILL, 0 },
	};

	memset(layout, 0, sizeof(*layout));
	strcpy(layout->host, "db1");
	strcpy(layout->kernel, "6.12.1");
	layout->firmware = DISK_FIRMWARE_UEFI;
	layout->time_ns = 1700000000123456789;
	strcpy(layout->device, "/dev/sda");
	strcpy(layout->model, "QEMU HARDDISK");
	strcpy(layout->serial, "S1");
	layout->bytes = 1024 * MIB;
	layout->logical_block_bytes = 512;
	layout->physical_block_bytes = 4096;
	layout->boot_code = layout->boot_grub = true;
	layout->table = DISK_TABLE_GPT;
	strcpy(layout->table_uuid, "00000000-0000-4000-8000-0000000000ff");
	layout->usable_offset = 34 * 512;
	layout->usable_bytes = 1024 * MIB - 67 * 512;
	layout->table_entries = 128;
	lab_partitions(layout);
	lab_group(layout);
	layout->crypt_count = 1;
	layout->crypts = lab_items(1, sizeof(*layout->crypts));
	strcpy(layout->crypts[0].name, "sda5_crypt");
	layout->crypts[0].place = (struct disk_place){ DISK_ON_PARTITION, 4, 0 };
	layout->crypts[0].header_bytes = 16 * MIB;
	layout->crypts[0].bytes = 240 * MIB;
	lab_content(&layout->crypts[0].content, DISK_PV, DISK_KEPT_NOT, "LVM2_member",
		    "bbbbbb-bbbb-cccc-dddd-eeee-ffff-gggggg");
	layout->range_count = sizeof(ranges) / sizeof(*ranges);
	layout->ranges = lab_items(layout->range_count, sizeof(ranges[0]));
	memcpy(layout->ranges, ranges, sizeof(ranges));
}

#endif
