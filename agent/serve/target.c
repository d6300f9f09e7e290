/* Which target it is that an overlay was left in, and whether another may be taken. */
#include "agent/serve/serve_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/memory.h"
#include "agent/volume/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define EMPTY_BYTES (1u << 20)

/* What the kernel says of a disk that stays the same from boot to boot. */
static const char *const identities[] = {
	"dm/uuid", "wwid", "device/wwid", "device/serial", "serial", "loop/backing_file",
};

/* The first of those that the disk has, as text. */
static bool disk_identity(uint32_t device, char *text, size_t room)
{
	for (size_t i = 0; i < sizeof(identities) / sizeof(identities[0]); i++) {
		CLEANUP_FREE char *data = NULL;
		char path[128];

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", device >> 20,
			 device & 0xfffff, identities[i]);
		if (file_read(path, 4096, &data, NULL) || !strcspn(data, "\n"))
			continue;
		snprintf(text, room, "%s %s", identities[i], data);
		return true;
	}
	return false;
}

static int device_identity(const char *path, uint64_t *identity, struct error *err)
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	struct device_facts facts;
	char text[4300], whole[4400];
	int ret = device_facts(path, &facts, err);

	if (ret)
		return ret;
	*identity = 0;
	if (!disk_identity(facts.disk ? facts.disk : facts.device, text, sizeof(text)))
		return 0;
	snprintf(whole, sizeof(whole), "%" PRIu64 " %s", facts.start_sector, text);
	digest_of(whole, strlen(whole), digest);
	memcpy(identity, digest, sizeof(*identity));
	return 0;
}

int target_identity(const char *path, uint64_t *identity, struct error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_set(err, -errno, "looking at %s: %s", path, error_text(errno));
	if (S_ISBLK(st.st_mode))
		return device_identity(path, identity, err);
	*identity = st.st_ino;
	return 0;
}

int target_check_empty(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE uint8_t *data = calloc(1, EMPTY_BYTES);
	int ret = fd < 0 ? -errno : !data ? -ENOMEM : file_pread_all(fd, data, EMPTY_BYTES, 0);

	if (ret && ret != -ENODATA)
		return error_set(err, ret, "reading %s: %s", path, error_text(ret));
	if (memory_is_zero(data, EMPTY_BYTES))
		return 0;
	return error_set(err, -EEXIST, "%s has something on it, and no list says that it is of this "
			 "volume: all of it would be overwritten; name the list with --present, "
			 "or give --force", path);
}
