/*
 * LUKS: which are to be opened, and opening them. The header comes back with the boot
 * parts, so that keys and UUID stay; what is inside is then made like anything else.
 */
#include "agent/recover/recover_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SIGNATURES_BYTES (1ull << 20)	/* what lies at the start of what was there before */

const struct disk_crypt *crypt_of(const struct recovery *recovery, size_t index)
{
	const struct recover_crypt *crypt = &recovery->crypts[index];

	return &recovery->disks[crypt->disk].layout.crypts[crypt->index];
}

void crypt_mapping(const struct disk_crypt *crypt, char name[static 128])
{
	snprintf(name, 128, "recover-%.100s", crypt->name);
}

/* ---- which ------------------------------------------------------------------------------ */

static const struct disk_content *content_at(const struct disk_layout *layout,
					     const struct disk_place *place)
{
	switch (place->on) {
	case DISK_ON_PARTITION:
		return &layout->partitions[place->index].content;
	case DISK_ON_LV:
		return &layout->groups[place->index].lvs[place->lv].content;
	default:
		return &layout->content;
	}
}

bool place_covered(const struct disk_layout *layout, const struct disk_place *place)
{
	if (place->on == DISK_ON_ELSEWHERE)
		return false;
	if (place->on != DISK_ON_CRYPT)
		return content_at(layout, place)->kept == DISK_KEPT_VOLUME;
	place = &layout->crypts[place->index].place;
	return content_at(layout, place)->kept != DISK_KEPT_HEADER;
}

/* Whether anything is to be made in it. */
static bool crypt_needed(const struct disk_layout *layout, uint32_t index)
{
	const struct disk_content *content = &layout->crypts[index].content;

	if (place_covered(layout, &(struct disk_place){ DISK_ON_CRYPT, index, 0 }))
		return false;
	return content->kept == DISK_KEPT_VOLUME ||
	       (!content->left_out && (content->kind == DISK_PV || content->kind == DISK_SWAP));
}

static int crypt_load(struct recovery *recovery, size_t disk, uint32_t index, struct error *err)
{
	const struct disk_crypt *crypt = &recovery->disks[disk].layout.crypts[index];
	struct recover_crypt *grown;

	if (crypt->place.on != DISK_ON_PARTITION && crypt->place.on != DISK_ON_DISK)
		return error_set(err, -EOPNOTSUPP, "the LUKS %s of disk %s lies neither on a "
				 "partition nor on the disk itself; restore the disk's point to the "
				 "device, open it by hand, and restore the volumes with clawback "
				 "restore", crypt->name, recovery->disks[disk].name);
	grown = reallocarray(recovery->crypts, recovery->crypt_count + 1, sizeof(*grown));
	if (!grown)
		return error_set(err, -ENOMEM, "reading the layout: out of memory");
	recovery->crypts = grown;
	recovery->crypts[recovery->crypt_count++] = (struct recover_crypt){ .disk = disk,
									    .index = index };
	return 0;
}

int crypts_load(struct recovery *recovery, struct error *err)
{
	size_t disk = recovery->disk_count - 1;
	const struct disk_layout *layout = &recovery->disks[disk].layout;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < layout->crypt_count; i++)
		if (crypt_needed(layout, i))
			ret = crypt_load(recovery, disk, i, err);
	return ret;
}

/* ---- cryptsetup ---------------------------------------------------------------------------- */

int cryptsetup(const char *const command[], const struct recover_secret *secret,
	       char output[static COMMAND_OUTPUT_ROOM], struct error *err)
{
	return command_code_fed(command, secret ? secret->bytes : NULL,
				secret ? secret->length : 0, output, err);
}

int cryptsetup_error(struct error *err, int code, const char *what, const char *output)
{
	if (code < 0)
		return error_prefix(err, "%s", what);
	if (code == 2)
		return error_set_exit(err, EXIT_WRONG_KEY, -EACCES, "%s: no key slot of it is opened "
				      "by that; give what opened it at that time", what);
	if (code == 3)
		return error_set(err, -ENOMEM, "%s: this machine has too little memory; a key slot "
				 "wants as much as the lost machine gave it, often 1 GiB", what);
	return error_set(err, -EIO, "%s: cryptsetup failed with exit code %d: %.300s", what, code,
			 output);
}

static int crypt_open(struct recovery *recovery, size_t index, struct error *err)
{
	const struct recover_crypt *at = &recovery->crypts[index];
	const struct disk_crypt *crypt = crypt_of(recovery, index);
	char path[PATH_MAX], name[128], mapped[PATH_MAX], what[DISK_NAME_ROOM + PATH_MAX + 32];
	const char *command[] = { "cryptsetup", "open", "--type", "luks", "--key-file", "-", path,
				  name, NULL };
	struct disk_place inside = { DISK_ON_CRYPT, at->index, 0 };
	char output[COMMAND_OUTPUT_ROOM];
	uint64_t room, bytes;
	int ret = recover_path(recovery, at->disk, &crypt->place, path, err);

	if (!ret)
		ret = device_bytes(path, &room, err);
	if (ret)
		return ret;
	/* Under the same key what was there before could be read again, and be made use of. */
	if (crypt->header_bytes + SIGNATURES_BYTES <= room)
		ret = device_zero(path, crypt->header_bytes, SIGNATURES_BYTES, err);
	if (ret)
		return ret;
	crypt_mapping(crypt, name);
	snprintf(what, sizeof(what), "opening the LUKS %s on %s", crypt->name, path);
	ret = cryptsetup(command, &at->secret, output, err);
	if (ret)
		return cryptsetup_error(err, ret, what, output);
	device_settle();
	ret = recover_path(recovery, at->disk, &inside, mapped, err);
	if (!ret)
		ret = device_bytes(mapped, &bytes, err);
	if (!ret && bytes < crypt->bytes)
		ret = error_set(err, -EIO, "%s: it shows %" PRIu64 " bytes, and had %" PRIu64, what,
				bytes, crypt->bytes);
	return ret;
}

int crypts_open(struct recovery *recovery, const struct recover_options *options,
		struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < recovery->crypt_count; i++) {
		char text[DISK_NAME_ROOM + 32];

		snprintf(text, sizeof(text), "LUKS %s", crypt_of(recovery, i)->name);
		if (options->step)
			options->step(options->context, text);
		ret = crypt_open(recovery, i, err);
	}
	return ret;
}

/* ---- closing ----------------------------------------------------------------------------------- */

static const char *luks_uuid(const struct recovery *recovery, size_t index)
{
	const struct disk_layout *layout = &recovery->disks[recovery->crypts[index].disk].layout;

	return content_at(layout, &crypt_of(recovery, index)->place)->uuid;
}

/* Whether a mapping of that name is there, and is that LUKS: "CRYPT-LUKS2-UUID-NAME". */
static bool mapping_is(const char *name, const char *uuid)
{
	const char *command[] = { "dmsetup", "info", "-c", "--noheadings", "-o", "uuid", name, NULL };
	char output[COMMAND_OUTPUT_ROOM], wanted[DISK_WORD_ROOM];
	struct error ignored = ERROR_INIT;
	size_t length = 0;

	for (const char *at = uuid; *at; at++)
		if (*at != '-')
			wanted[length++] = *at;
	wanted[length] = '\0';
	return length && !command_code(command, NULL, output, &ignored) &&
	       !strncmp(output, "CRYPT-LUKS", 10) && strcasestr(output, wanted);
}

static void crypt_close(const struct recovery *recovery, size_t index)
{
	char name[128], output[COMMAND_OUTPUT_ROOM];
	const char *command[] = { "cryptsetup", "close", name, NULL };
	struct error ignored = ERROR_INIT;

	crypt_mapping(crypt_of(recovery, index), name);
	if (mapping_is(name, luks_uuid(recovery, index)))
		command_code(command, NULL, output, &ignored);
}

void crypts_close(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->crypt_count; i++)
		crypt_close(recovery, i);
}

void crypts_release(struct recovery *recovery, const char *target)
{
	const char *command[] = { "lsblk", "-nro", "NAME", target, NULL };
	char output[COMMAND_OUTPUT_ROOM], name[128], *line, *rest;
	struct error ignored = ERROR_INIT;

	if (!recovery->crypt_count || command_code(command, NULL, output, &ignored))
		return;
	for (line = strtok_r(output, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		for (size_t i = 0; i < recovery->crypt_count; i++) {
			crypt_mapping(crypt_of(recovery, i), name);
			if (!strcmp(line, name))
				crypt_close(recovery, i);
		}
}
