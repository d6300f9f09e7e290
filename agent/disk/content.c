/* What lies on a device, as libblkid tells, and how it is used. */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static void probe_free(blkid_probe *probe)
{
	blkid_free_probe(*probe);
}

/* The length of the UTF-8 character at `at`, 0 when there is none. */
static size_t character(const char *at)
{
	const unsigned char *b = (const unsigned char *)at;
	size_t length = *b < 0x80 ? 1 : *b >= 0xc2 && *b < 0xe0 ? 2 :
			*b >= 0xe0 && *b < 0xf0 ? 3 : *b >= 0xf0 && *b < 0xf5 ? 4 : 0;

	if (*b < ' ' || *b == 0x7f)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((b[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than need be, surrogates, beyond the last. */
	if ((*b == 0xe0 && b[1] < 0xa0) || (*b == 0xed && b[1] > 0x9f) ||
	    (*b == 0xf0 && b[1] < 0x90) || (*b == 0xf4 && b[1] > 0x8f))
		return 0;
	return length;
}

void text_take(char *to, size_t room, const char *from)
{
	while (*from) {
		size_t length = character(from);

		if ((length ? length : 1) >= room)
			break;
		if (length) {
			memcpy(to, from, length);
		} else {
			*to = '?';
			length = 1;
			while (((unsigned char)from[length] & 0xc0) == 0x80)
				from++;
		}
		from += length;
		to += length;
		room -= length;
	}
	*to = '\0';
}

static void take_value(blkid_probe probe, const char *name, char *to, size_t room)
{
	const char *value;

	if (!blkid_probe_lookup_value(probe, name, &value, NULL))
		text_take(to, room, value);
}

/* Words go into other programs' arguments: what has other characters is not kept. */
static void take_word(blkid_probe probe, const char *name, char *to, size_t room)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789._:+-";

	take_value(probe, name, to, room);
	if (*to == '-' || strspn(to, good) != strlen(to))
		*to = '\0';
}

static enum disk_kind kind_of(const char *type, const char *usage)
{
	if (!strcmp(type, "LVM2_member"))
		return DISK_PV;
	if (!strcmp(type, "crypto_LUKS"))
		return DISK_LUKS;
	if (!strcmp(type, "swap"))
		return DISK_SWAP;
	return !strcmp(usage, "filesystem") ? DISK_FILE_SYSTEM : DISK_OTHER;
}

static int take_signature(blkid_probe probe, struct disk_content *content)
{
	char usage[32] = "";
	int found;

	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID |
					  BLKID_SUBLKS_LABEL | BLKID_SUBLKS_USAGE);
	found = blkid_do_safeprobe(probe);
	if (found == -2) {
		/* Several at once: none of them is to be believed. */
		content->kind = DISK_OTHER;
		strcpy(content->type, "ambiguous");
		return 0;
	}
	if (found < 0)
		return -EIO;
	if (found > 0)
		return 0;
	take_word(probe, "TYPE", content->type, sizeof(content->type));
	take_word(probe, "UUID", content->uuid, sizeof(content->uuid));
	take_value(probe, "LABEL", content->label, sizeof(content->label));
	take_value(probe, "USAGE", usage, sizeof(usage));
	content->kind = kind_of(content->type, usage);
	return 0;
}

int content_look(int fd, uint64_t offset, uint64_t bytes, uint32_t device,
		 struct disk_content *content, struct error *err)
{
	CLEANUP(probe_free) blkid_probe probe = blkid_new_probe();
	struct device_mount mount;

	memset(content, 0, sizeof(*content));
	if (!probe)
		return error_set(err, -ENOMEM, "looking for signatures: out of memory");
	if (blkid_probe_set_device(probe, fd, (blkid_loff_t)offset, (blkid_loff_t)bytes) ||
	    take_signature(probe, content))
		return error_set(err, -EIO, "cannot look for signatures: reading failed");
	if (!device || !device_mounted(device, &mount))
		return 0;
	text_take(content->mount, sizeof(content->mount), mount.swap ? "swap" : mount.where);
	return 0;
}

int device_node(uint32_t device, char *path, size_t room)
{
	char name[256];
	int ret = device_name(device, name, sizeof(name));

	if (ret)
		return ret;
	/* "cciss!c0d0" is a file in a folder. */
	for (char *at = name; (at = strchr(at, '!')); )
		*at = '/';
	return (size_t)snprintf(path, room, "/dev/%s", name) < room ? 0 : -ENAMETOOLONG;
}

int content_look_at(uint32_t device, struct disk_content *content, struct error *err)
{
	char path[PATH_MAX] = "";
	CLEANUP_CLOSE int fd = -1;
	int ret = device_node(device, path, sizeof(path));

	if (!ret)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, ret ? ret : -errno, "cannot look at what is on %s: %s", path,
				 error_text(ret ? ret : errno));
	ret = content_look(fd, 0, 0, device, content, err);
	return ret ? error_prefix(err, "%s", path) : 0;
}
