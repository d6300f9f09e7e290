/*
 * LUKS that is open. Where the data begins the mapping tells by its size, and no key is
 * ever asked for (the kernel would tell it along with the mapping's table).
 */
#include "agent/disk/disk_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CRYPT_UUID_PREFIX "CRYPT-LUKS"

struct crypt_search {
	struct capture *capture;
	const struct disk_place *place;
	uint64_t bytes;
	struct error *err;
};

static int crypt_take(struct crypt_search *search, uint32_t device, const char *name)
{
	struct disk_layout *layout = search->capture->layout;
	struct disk_crypt *crypts, *crypt;
	char sectors[32];

	if (layout->crypt_count == DISK_CRYPTS_MAX)
		return error_set(search->err, -E2BIG, "there are more than %d open LUKS",
				 DISK_CRYPTS_MAX);
	crypts = reallocarray(layout->crypts, layout->crypt_count + 1, sizeof(*crypts));
	if (!crypts)
		return error_set(search->err, -ENOMEM, "out of memory");
	layout->crypts = crypts;
	crypt = &crypts[layout->crypt_count];
	memset(crypt, 0, sizeof(*crypt));
	text_take(crypt->name, sizeof(crypt->name), name);
	crypt->place = *search->place;
	if (device_attribute(device, "size", sectors, sizeof(sectors)))
		return error_set(search->err, -ENODEV, "%s is gone", name);
	crypt->bytes = strtoull(sectors, NULL, 10) * 512;
	if (crypt->bytes >= search->bytes)
		return error_set(search->err, -ENOTSUP, "%s is as large as the LUKS beneath it: its "
				 "header is elsewhere, which is not supported", name);
	crypt->header_bytes = search->bytes - crypt->bytes;
	search->capture->crypt_devices[layout->crypt_count++] = device;
	return content_look_at(device, &crypt->content, search->err);
}

static int crypt_visit(uint32_t device, void *context)
{
	char uuid[256], name[256];

	if (device_attribute(device, "dm/uuid", uuid, sizeof(uuid)) ||
	    device_attribute(device, "dm/name", name, sizeof(name)) ||
	    strncmp(uuid, CRYPT_UUID_PREFIX, strlen(CRYPT_UUID_PREFIX)))
		return 0;
	return crypt_take(context, device, name);
}

int capture_crypts(struct capture *capture, uint32_t device, uint64_t bytes,
		   const struct disk_place *place, struct error *err)
{
	struct crypt_search search = { capture, place, bytes, err };
	int ret;

	err->code = 0;
	ret = device_kin(device, "holders", crypt_visit, &search);
	return ret && !err->code ? error_set(err, ret, "cannot tell what lies on LUKS: %s",
					     error_text(ret)) : ret;
}
