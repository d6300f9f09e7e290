/* What the parts of a layout are called, and giving one up. */
#include "agent/disk/disk_private.h"

#include <stdlib.h>
#include <string.h>

const char *disk_kind_name(enum disk_kind kind)
{
	static const char *const names[DISK_KINDS] = {
		"empty", "filesystem", "swap", "pv", "luks", "other",
	};

	return names[kind];
}

const char *disk_kept_name(enum disk_kept kept)
{
	static const char *const names[DISK_KEPTS] = { "not", "here", "header", "volume" };

	return names[kept];
}

const char *disk_table_name(enum disk_table table)
{
	static const char *const names[DISK_TABLES] = { "none", "dos", "gpt" };

	return names[table];
}

const char *disk_what_name(enum disk_what what)
{
	static const char *const names[DISK_WHATS] = {
		"table", "table-end", "gap", "partition", "luks-header", "lvm-header",
	};

	return names[what];
}

const char *disk_how_name(enum disk_how how)
{
	static const char *const names[DISK_HOWS] = { "still", "frozen", "live" };

	return names[how];
}

const char *disk_firmware_name(enum disk_firmware firmware)
{
	static const char *const names[DISK_FIRMWARES] = { "unknown", "bios", "uefi" };

	return names[firmware];
}

const char *disk_on_name(enum disk_on on)
{
	static const char *const names[DISK_ONS] = {
		"disk", "partition", "crypt", "lv", "elsewhere",
	};

	return names[on];
}

const struct disk_partition *disk_partition_numbered(const struct disk_layout *layout,
						     uint32_t number)
{
	for (size_t i = 0; i < layout->partition_count; i++)
		if (layout->partitions[i].number == number)
			return &layout->partitions[i];
	return NULL;
}

void disk_layout_fini(struct disk_layout *layout)
{
	for (size_t i = 0; layout->groups && i < layout->group_count; i++) {
		free(layout->groups[i].metadata);
		free(layout->groups[i].pvs);
		free(layout->groups[i].lvs);
	}
	free(layout->groups);
	free(layout->partitions);
	free(layout->crypts);
	free(layout->ranges);
	memset(layout, 0, sizeof(*layout));
}
