/* How a disk is laid out, for people: of a point of it, or of a run that was not made. */
#include "agent/cli/show_disk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void content_print(const struct disk_content *content)
{
	printf("%s", *content->type ? content->type : "nothing known");
	if (*content->label)
		printf(" \"%s\"", content->label);
	if (*content->mount && strcmp(content->mount, "swap"))
		printf(" on %s", content->mount);
	switch (content->kept) {
	case DISK_KEPT_HERE:
		printf("; kept here");
		break;
	case DISK_KEPT_HEADER:
		printf("; its header is kept here");
		break;
	case DISK_KEPT_VOLUME:
		printf("; in the points of volume %s", content->volume);
		break;
	default:
		printf("%s", content->left_out ? "; LEFT OUT" : content->kind == DISK_SWAP
		       ? "; is made anew" : "");
	}
	printf("\n");
}

static void place_print(const struct disk_layout *layout, const struct disk_place *place)
{
	switch (place->on) {
	case DISK_ON_DISK:
		printf("the disk itself");
		break;
	case DISK_ON_PARTITION:
		printf("partition %" PRIu32, layout->partitions[place->index].number);
		break;
	case DISK_ON_CRYPT:
		printf("%s", layout->crypts[place->index].name);
		break;
	case DISK_ON_LV:
		printf("%s/%s", layout->groups[place->index].name,
		       layout->groups[place->index].lvs[place->lv].name);
		break;
	default:
		printf("another disk");
	}
}

static void group_print(const struct disk_layout *layout, const struct disk_group *group)
{
	printf("  group        %s on ", group->name);
	for (size_t i = 0; i < group->pv_count; i++) {
		printf("%s", i ? ", " : "");
		place_print(layout, &group->pvs[i].place);
	}
	printf("\n");
	for (size_t i = 0; i < group->lv_count; i++) {
		const struct disk_lv *lv = &group->lvs[i];

		printf("    %-16s %10s %s, ", lv->name, text_bytes(lv->bytes), lv->type);
		content_print(&lv->content);
	}
}

static void ranges_print(const struct disk_layout *layout)
{
	uint64_t bytes = 0;
	size_t live = 0;

	for (size_t i = 0; i < layout->range_count; i++) {
		bytes += layout->ranges[i].bytes;
		live += layout->ranges[i].how == DISK_LIVE;
	}
	printf("  kept here    %s in %zu ranges", text_bytes(bytes), layout->range_count);
	if (!live)
		printf("\n");
	else
		printf("; WRITTEN TO WHILE THEY WERE READ:\n");
	for (size_t i = 0; live && i < layout->range_count; i++)
		if (layout->ranges[i].how == DISK_LIVE)
			printf("    %s of partition %" PRIu32 ", %s\n",
			       disk_what_name(layout->ranges[i].what),
			       layout->ranges[i].partition, text_bytes(layout->ranges[i].bytes));
}

void show_disk(const struct disk_layout *layout)
{
	printf("  disk         %s%s%s%s%s, %s, blocks of %" PRIu32 " bytes\n", layout->device,
	       *layout->model ? ", " : "", layout->model, *layout->serial ? ", serial " : "",
	       layout->serial, text_bytes(layout->bytes), layout->logical_block_bytes);
	printf("  started by   %s%s\n", disk_firmware_name(layout->firmware),
	       layout->boot_grub ? "; GRUB in its first sector" :
	       layout->boot_code ? "; boot code in its first sector" : "");
	printf("  table        %s %s\n", disk_table_name(layout->table), layout->table_uuid);
	if (layout->table == DISK_TABLE_NONE) {
		printf("  holds        ");
		content_print(&layout->content);
	}
	for (size_t i = 0; i < layout->partition_count; i++) {
		const struct disk_partition *partition = &layout->partitions[i];

		printf("    %3" PRIu32 " %12s at %12s  ", partition->number,
		       text_bytes(partition->bytes), text_bytes(partition->offset));
		if (partition->extended)
			printf("extended\n");
		else
			content_print(&partition->content);
	}
	for (size_t i = 0; i < layout->crypt_count; i++) {
		printf("  LUKS         %s on ", layout->crypts[i].name);
		place_print(layout, &layout->crypts[i].place);
		printf(": ");
		content_print(&layout->crypts[i].content);
	}
	for (size_t i = 0; i < layout->group_count; i++)
		group_print(layout, &layout->groups[i]);
	ranges_print(layout);
}
