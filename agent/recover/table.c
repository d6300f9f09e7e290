/*
 * The partition table on a device of another size. On one of the same size, and for a dos
 * table that nothing grows in, the bytes of the disk's point are the table already.
 */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define BOOT_CODE_BYTES 440	/* of the first sector; what follows is the table's */

static uint64_t partition_bytes(const struct recover_disk *disk, size_t index)
{
	return disk->grown == index + 1 ? disk->grown_bytes : disk->layout.partitions[index].bytes;
}

/* sfdisk's words for a GPT's attributes. */
static void print_attributes(FILE *to, uint64_t flags)
{
	static const char *const names[] = { "RequiredPartition", "NoBlockIOProtocol",
					     "LegacyBIOSBootable" };
	const char *between = ", attrs=\"";

	for (unsigned bit = 0; bit < 64; bit++) {
		if (!(flags >> bit & 1) || (bit > 2 && bit < 48))
			continue;
		if (bit <= 2)
			fprintf(to, "%s%s", between, names[bit]);
		else
			fprintf(to, "%sGUID:%u", between, bit);
		between = " ";
	}
	if (*between == ' ')
		fputc('"', to);
}

/* sfdisk takes what is no letter or digit by its code. */
static void print_name(FILE *to, const char *name)
{
	if (!*name)
		return;
	fputs(", name=\"", to);
	for (; *name; name++)
		if (*name == '"' || *name == '\\')
			fprintf(to, "\\x%02x", (unsigned char)*name);
		else
			fputc(*name, to);
	fputc('"', to);
}

char *recover_table_script(const struct recover_disk *disk)
{
	const struct disk_layout *layout = &disk->layout;
	uint64_t block = layout->logical_block_bytes;
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	if (!to)
		return NULL;
	fprintf(to, "label: gpt\nlabel-id: %s\nunit: sectors\n", layout->table_uuid);
	if (layout->usable_offset)
		fprintf(to, "first-lba: %" PRIu64 "\n", layout->usable_offset / block);
	if (layout->table_entries)
		fprintf(to, "table-length: %u\n", layout->table_entries);
	for (size_t i = 0; i < layout->partition_count; i++) {
		const struct disk_partition *partition = &layout->partitions[i];

		fprintf(to, "%u : start=%" PRIu64 ", size=%" PRIu64 ", type=%s, uuid=%s",
			partition->number, partition->offset / block,
			partition_bytes(disk, i) / block, partition->type, partition->uuid);
		print_name(to, partition->name);
		print_attributes(to, partition->flags);
		fputc('\n', to);
	}
	if (fclose(to)) {
		free(text);
		return NULL;
	}
	return text;
}

static int run_sfdisk(const struct recover_disk *disk, struct error *err)
{
	const char *command[] = { "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe",
				  "never", "--wipe-partitions", "never", disk->target, NULL };
	CLEANUP_FREE char *script = recover_table_script(disk);

	if (!script)
		return error_set(err, -ENOMEM, "writing the partition table: out of memory");
	return command_ok(command, script, err);
}

/* One entry of a dos table gets another size; all else of it is as it was. */
static int grow_dos(const struct recover_disk *disk, struct error *err)
{
	char number[16], script[64];
	const char *command[] = { "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe",
				  "never", "-N", number, disk->target, NULL };

	snprintf(number, sizeof(number), "%u", disk->layout.partitions[disk->grown - 1].number);
	snprintf(script, sizeof(script), ", %" PRIu64 "\n",
		 disk->grown_bytes / disk->layout.logical_block_bytes);
	return command_ok(command, script, err);
}

/* The old second copy of a GPT would lie in the midst of a larger device. */
static int clear_second_copy(const struct recover_disk *disk, struct error *err)
{
	const struct disk_layout *layout = &disk->layout;
	int ret = 0;

	for (size_t i = 0; !ret && i < layout->range_count; i++) {
		const struct disk_range *range = &layout->ranges[i];

		if (range->what == DISK_TABLE_END && range->offset + range->bytes <= disk->target_bytes)
			ret = device_zero(disk->target, range->offset, range->bytes, err);
	}
	return ret;
}

static int boot_code(const char *path, uint8_t code[static BOOT_CODE_BYTES], bool write,
		     struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	int ret = fd < 0 ? -errno : 0;

	if (!ret)
		ret = write ? file_pwrite_all(fd, code, BOOT_CODE_BYTES, 0) :
			      file_pread_all(fd, code, BOOT_CODE_BYTES, 0);
	if (!ret && write && fsync(fd) < 0)
		ret = -errno;
	return ret ? error_set(err, ret, "%s the boot code of %s: %s", write ? "writing" : "reading",
			       path, error_text(ret)) : 0;
}

int table_write(const struct recover_disk *disk, struct error *err)
{
	uint8_t code[BOOT_CODE_BYTES];
	int ret;

	if (disk->layout.table == DISK_TABLE_DOS && disk->grown)
		return grow_dos(disk, err);
	if (disk->layout.table != DISK_TABLE_GPT || !disk->resized)
		return 0;
	ret = boot_code(disk->target, code, false, err);
	if (!ret)
		ret = clear_second_copy(disk, err);
	if (!ret)
		ret = run_sfdisk(disk, err);
	if (!ret)
		ret = boot_code(disk->target, code, true, err);
	return ret;
}
