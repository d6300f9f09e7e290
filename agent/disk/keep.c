/*
 * Where the bytes of each part are kept. What is in no volume and cannot be read as it
 * is must be named by whoever wants to do without it: a machine that comes back without
 * a file system has lost it, however small the print was.
 */
#include "agent/disk/disk_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WORDS " ,\t"

/* ---- leave_out ------------------------------------------------------------------ */

/* The word that begins at or after *at, which moves behind it; 0: none is left. */
static size_t next_word(const char **at, const char **word)
{
	size_t length;

	*word = *at + strspn(*at, WORDS);
	length = strcspn(*word, WORDS);
	*at = *word + length;
	return length;
}

bool keep_left_out(struct capture *capture, const char *name)
{
	const char *at = capture->options->leave_out, *word;
	bool found = false;
	size_t length;

	for (size_t i = 0; at && i < 64 && (length = next_word(&at, &word)); i++)
		if (strlen(name) == length && !memcmp(word, name, length))
			found = capture->left[i] = true;
	return found;
}

/* A word that was misspelt must not look as if it had been heeded. */
static int check_words(const struct capture *capture, struct error *err)
{
	const char *at = capture->options->leave_out, *word;
	size_t length;

	for (size_t i = 0; at && (length = next_word(&at, &word)); i++) {
		if (i == 64)
			return error_set_exit(err, EXIT_USAGE, -E2BIG, "leave_out has more than 64 "
					      "words");
		if (!capture->left[i])
			return error_set_exit(err, EXIT_USAGE, -ENOENT, "leave_out names %.*s, and "
					      "there is no such partition, LV or open LUKS on %s",
					      (int)length, word, capture->disk->path);
	}
	return 0;
}

/* ---- volumes ---------------------------------------------------------------------- */

static int same_device(uint32_t device, void *context)
{
	return device == *(const uint32_t *)context;
}

/* An adopted partition's volume is the device over it, which is as large. */
static bool is_over(uint32_t volume, uint32_t device)
{
	char uuid[256];

	return !device_attribute(volume, "dm/uuid", uuid, sizeof(uuid)) &&
	       !strncmp(uuid, ADOPTED_UUID_PREFIX, strlen(ADOPTED_UUID_PREFIX)) &&
	       device_kin(volume, "slaves", same_device, &device) == 1;
}

void keep_volume(const struct capture *capture, uint32_t device,
		 struct disk_content *content)
{
	for (size_t i = 0; device && i < capture->options->volume_count; i++) {
		const struct disk_volume *volume = &capture->options->volumes[i];

		if (volume->device != device && !is_over(volume->device, device))
			continue;
		content->kept = DISK_KEPT_VOLUME;
		snprintf(content->volume, sizeof(content->volume), "%s", volume->name);
		content->has_volume_id = volume->has_id;
		content->volume_id = volume->id;
		if (!*content->mount && volume->device != device) {
			struct device_mount mount;

			if (device_mounted(volume->device, &mount))
				text_take(content->mount, sizeof(content->mount), mount.where);
		}
		return;
	}
}

/* ---- one part --------------------------------------------------------------------- */

static void problem(struct capture *capture, const struct disk_content *content,
		    const char *why, const char *name)
{
	size_t used = strlen(capture->problems);

	snprintf(capture->problems + used, sizeof(capture->problems) - used,
		 "%s%s (%s%s%s)", used ? ", " : "", name,
		 *content->type ? content->type : "nothing known", *why ? ", " : "", why);
}

/*
 * On the disk itself, or on a partition. What nobody uses can be read as it is; and so,
 * while nobody writes to it, can a small file system.
 */
static int keep_block(struct capture *capture, uint32_t device, uint64_t bytes,
		      struct disk_content *content, const char *name, struct error *err)
{
	struct device_mount mount = { .where = "" };
	char use[512] = "";
	int ret;

	keep_volume(capture, device, content);
	if (content->kept == DISK_KEPT_VOLUME || content->left_out ||
	    content->kind == DISK_SWAP)
		return 0;
	ret = device ? device_usage(device, use, sizeof(use), err) : 0;
	if (ret)
		return ret;
	if (content->kind == DISK_PV || (content->kind == DISK_LUKS && *use)) {
		content->kept = DISK_KEPT_HEADER;
		return 0;
	}
	if (*use && !device_mounted(device, &mount))
		problem(capture, content, use, name);
	else if (*use && mount.writable && (!strcmp(mount.where, "/") ||
					    bytes > DISK_LIVE_BYTES_MAX))
		problem(capture, content, use, name);
	else
		content->kept = DISK_KEPT_HERE;
	return 0;
}

/* Whether nothing that lies on this is needed: all of it is kept, or is not wanted. */
static bool settled(const struct disk_content *content)
{
	return content->left_out || content->kept == DISK_KEPT_VOLUME;
}

static const struct disk_content *content_at(const struct disk_layout *layout,
					     const struct disk_place *place)
{
	switch (place->on) {
	case DISK_ON_PARTITION:
		return &layout->partitions[place->index].content;
	case DISK_ON_CRYPT:
		return &layout->crypts[place->index].content;
	case DISK_ON_LV:
		return &layout->groups[place->index].lvs[place->lv].content;
	default:
		return &layout->content;
	}
}

/* In a LUKS or a group: only volumes can read that. */
static void keep_upper(struct capture *capture, struct disk_content *content, bool needed,
		       const char *name)
{
	content->left_out |= keep_left_out(capture, name);
	if (settled(content) || !needed || content->kind == DISK_SWAP)
		return;
	problem(capture, content, content->mount, name);
}

/* ---- all of them ------------------------------------------------------------------- */

static int keep_partitions(struct capture *capture, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	int ret = 0;

	for (size_t i = 0; !ret && i < layout->partition_count; i++) {
		struct disk_partition *partition = &layout->partitions[i];
		char number[16], name[32];

		snprintf(number, sizeof(number), "%" PRIu32, partition->number);
		snprintf(name, sizeof(name), "partition %s", number);
		if (partition->extended)
			continue;
		partition->content.left_out = keep_left_out(capture, number);
		ret = keep_block(capture, capture->partition_devices[i], partition->bytes,
				 &partition->content, name, err);
	}
	return ret;
}

/* Those on LVs, or the others. */
static void keep_crypts(struct capture *capture, bool on_lvs)
{
	struct disk_layout *layout = capture->layout;

	for (size_t i = 0; i < layout->crypt_count; i++) {
		struct disk_crypt *crypt = &layout->crypts[i];
		bool needed = !settled(content_at(layout, &crypt->place));

		if ((crypt->place.on == DISK_ON_LV) != on_lvs)
			continue;
		keep_volume(capture, capture->crypt_devices[i], &crypt->content);
		if (crypt->content.kind == DISK_PV) {
			crypt->content.left_out |= keep_left_out(capture, crypt->name) || !needed;
			continue;
		}
		keep_upper(capture, &crypt->content, needed, crypt->name);
	}
}

static bool group_needed(const struct capture *capture, const struct disk_group *group)
{
	for (size_t i = 0; i < group->pv_count; i++)
		if (group->pvs[i].place.on != DISK_ON_ELSEWHERE &&
		    !settled(content_at(capture->layout, &group->pvs[i].place)))
			return true;
	return false;
}

/* Pools hold other LVs; of a snapshot, its origin is what a machine needs. */
static bool lv_is_data(const struct disk_lv *lv)
{
	return !strstr(lv->type, "-pool") && strcmp(lv->type, "snapshot");
}

static void keep_lvs(struct capture *capture)
{
	for (size_t g = 0; g < capture->layout->group_count; g++) {
		struct disk_group *group = &capture->layout->groups[g];
		bool needed = group_needed(capture, group);

		for (size_t i = 0; i < group->lv_count; i++) {
			char name[2 * DISK_NAME_ROOM];

			snprintf(name, sizeof(name), "%s/%s", group->name, group->lvs[i].name);
			keep_upper(capture, &group->lvs[i].content,
				   needed && lv_is_data(&group->lvs[i]), name);
		}
	}
}

int capture_keep(struct capture *capture, struct error *err)
{
	struct disk_layout *layout = capture->layout;
	int ret = keep_partitions(capture, err);

	if (!ret && layout->table == DISK_TABLE_NONE) {
		ret = keep_block(capture, capture->disk->device, layout->bytes, &layout->content,
				 "the disk itself", err);
		/* All of it would be read each time; a volume is read by what changed. */
		if (!ret && layout->content.kept == DISK_KEPT_HERE)
			problem(capture, &layout->content, "no partition table", "the disk itself");
	}
	if (ret)
		return ret;
	keep_crypts(capture, false);
	keep_lvs(capture);
	keep_crypts(capture, true);
	ret = check_words(capture, err);
	if (ret || !*capture->problems)
		return ret;
	error_set_exit(err, EXIT_USAGE, -ENOENT, "nothing keeps what is in %s",
		       capture->problems);
	return error_hint(err, "add a [volume] for each, or name it in leave_out");
}
