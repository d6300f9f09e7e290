/*
 * A layout from JSON text, of which nothing is believed. Members that are not known are
 * passed over: a later clawback may have added them.
 */
#include "agent/disk/disk_private.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* An object that is taken apart; the first member that is not as it must be is kept. */
struct take {
	const json_t *object;
	const char *bad;
	struct error *err;
};

static void take_failed(struct take *take, const char *key)
{
	if (!take->bad)
		take->bad = key;
}

static int take_end(const struct take *take, const char *what, size_t index)
{
	return !take->bad ? 0 :
	       error_set_exit(take->err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s %zu has no \"%s\", or "
			      "one that no clawback wrote", what, index, take->bad);
}

static void take_text(struct take *take, const char *key, char *to, size_t room)
{
	const json_t *value = json_object_get(take->object, key);
	const char *text = json_string_value(value);

	if (!text || json_string_length(value) >= room ||
	    strlen(text) != json_string_length(value))
		take_failed(take, key);
	else
		strcpy(to, text);
}

#define TAKE_TEXT(take, item, member) \
	take_text(take, #member, (item)->member, sizeof((item)->member))

static uint64_t take_number(struct take *take, const char *key, uint64_t limit)
{
	const json_t *value = json_object_get(take->object, key);
	json_int_t number = json_integer_value(value);

	if (json_is_integer(value) && number >= 0 && (uint64_t)number <= limit)
		return (uint64_t)number;
	take_failed(take, key);
	return 0;
}

#define TAKE_U64(take, item, member) \
	((item)->member = take_number(take, #member, 1ull << 62))
#define TAKE_U32(take, item, member) \
	((item)->member = (uint32_t)take_number(take, #member, UINT32_MAX))

static bool take_bool(struct take *take, const char *key)
{
	const json_t *value = json_object_get(take->object, key);

	if (!json_is_boolean(value))
		take_failed(take, key);
	return json_is_true(value);
}

static int take_word(struct take *take, const char *key, const char *(*name)(int), int count)
{
	const char *text = json_string_value(json_object_get(take->object, key));

	for (int i = 0; text && i < count; i++)
		if (!strcmp(text, name(i)))
			return i;
	take_failed(take, key);
	return 0;
}

#define WORD(function, type) \
	static const char *word_##function(int i) { return disk_##function##_name((type)i); }
WORD(kind, enum disk_kind)
WORD(kept, enum disk_kept)
WORD(table, enum disk_table)
WORD(what, enum disk_what)
WORD(how, enum disk_how)
WORD(firmware, enum disk_firmware)
WORD(on, enum disk_on)

/* ---- parts ----------------------------------------------------------------- */

static void take_content(struct take *outer, struct disk_content *content)
{
	struct take take = { .object = json_object_get(outer->object, "content") };
	char id[UUID_TEXT_SIZE];

	content->kind = (enum disk_kind)take_word(&take, "kind", word_kind, DISK_KINDS);
	content->kept = (enum disk_kept)take_word(&take, "kept", word_kept, DISK_KEPTS);
	TAKE_TEXT(&take, content, type);
	TAKE_TEXT(&take, content, uuid);
	TAKE_TEXT(&take, content, label);
	TAKE_TEXT(&take, content, mount);
	content->left_out = take_bool(&take, "left_out");
	if (json_object_get(take.object, "volume"))
		TAKE_TEXT(&take, content, volume);
	if (json_object_get(take.object, "volume_id")) {
		take_text(&take, "volume_id", id, sizeof(id));
		content->has_volume_id = !take.bad && !uuid_parse(id, &content->volume_id);
		if (!content->has_volume_id)
			take_failed(&take, "volume_id");
	}
	if (take.bad)
		take_failed(outer, take.bad);
}

static void take_place(struct take *outer, struct disk_place *place)
{
	struct take take = { .object = json_object_get(outer->object, "place") };

	place->on = (enum disk_on)take_word(&take, "on", word_on, DISK_ONS);
	TAKE_U32(&take, place, index);
	TAKE_U32(&take, place, lv);
	if (take.bad)
		take_failed(outer, "place");
}

static void take_flags(struct take *take, uint64_t *flags)
{
	char text[24] = "", *end = text;

	take_text(take, "flags", text, sizeof(text));
	errno = 0;
	if (!strncmp(text, "0x", 2))
		*flags = strtoull(text + 2, &end, 16);
	if (errno || end == text || end == text + 2 || *end ||
	    strspn(text + 2, "0123456789abcdef") != strlen(text + 2))
		take_failed(take, "flags");
}

static int partition_decode(struct take *take, void *item)
{
	struct disk_partition *partition = item;

	TAKE_U32(take, partition, number);
	TAKE_U64(take, partition, offset);
	TAKE_U64(take, partition, bytes);
	TAKE_TEXT(take, partition, type);
	TAKE_TEXT(take, partition, uuid);
	TAKE_TEXT(take, partition, name);
	take_flags(take, &partition->flags);
	partition->extended = take_bool(take, "extended");
	partition->logical = take_bool(take, "logical");
	take_content(take, &partition->content);
	return 0;
}

static int crypt_decode(struct take *take, void *item)
{
	struct disk_crypt *crypt = item;

	TAKE_TEXT(take, crypt, name);
	take_place(take, &crypt->place);
	TAKE_U64(take, crypt, header_bytes);
	TAKE_U64(take, crypt, bytes);
	take_content(take, &crypt->content);
	return 0;
}

static int pv_decode(struct take *take, void *item)
{
	struct disk_pv *pv = item;

	TAKE_TEXT(take, pv, uuid);
	take_place(take, &pv->place);
	TAKE_U64(take, pv, bytes);
	TAKE_U64(take, pv, data_offset);
	return 0;
}

static int lv_decode(struct take *take, void *item)
{
	struct disk_lv *lv = item;

	TAKE_TEXT(take, lv, name);
	TAKE_TEXT(take, lv, uuid);
	TAKE_U64(take, lv, bytes);
	TAKE_TEXT(take, lv, type);
	TAKE_U32(take, lv, segments);
	take_content(take, &lv->content);
	return 0;
}

static int range_decode(struct take *take, void *item)
{
	struct disk_range *range = item;

	TAKE_U64(take, range, offset);
	TAKE_U64(take, range, bytes);
	range->what = (enum disk_what)take_word(take, "what", word_what, DISK_WHATS);
	range->how = (enum disk_how)take_word(take, "how", word_how, DISK_HOWS);
	TAKE_U32(take, range, partition);
	return 0;
}

static int group_decode(struct take *take, void *item);

/* ---- lists ----------------------------------------------------------------- */

static const struct list {
	const char *key, *item;
	size_t size, limit;
	int (*decode)(struct take *take, void *item);
} partitions_list = { "partitions", "partition", sizeof(struct disk_partition),
		      DISK_PARTITIONS_MAX, partition_decode },
  crypts_list = { "crypts", "crypt", sizeof(struct disk_crypt), DISK_CRYPTS_MAX,
		  crypt_decode },
  groups_list = { "groups", "group", sizeof(struct disk_group), DISK_GROUPS_MAX,
		  group_decode },
  ranges_list = { "ranges", "range", sizeof(struct disk_range), DISK_RANGES_MAX,
		  range_decode },
  pvs_list = { "pvs", "pv", sizeof(struct disk_pv), DISK_PVS_MAX, pv_decode },
  lvs_list = { "lvs", "lv", sizeof(struct disk_lv), DISK_LVS_MAX, lv_decode };

/* *items belongs to the layout at once: what was decoded by then is given up with it. */
static int take_list(const json_t *object, const struct list *list, void *items,
		     size_t *count, struct error *err)
{
	const json_t *array = json_object_get(object, list->key), *entry;
	void **to = items;
	size_t i;
	int ret = 0;

	if (!json_is_array(array) || json_array_size(array) > list->limit)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "there are no \"%s\", or "
				      "more than %zu", list->key, list->limit);
	*to = calloc(json_array_size(array) + 1, list->size);
	if (!*to)
		return error_set(err, -ENOMEM, "reading a layout: out of memory");
	*count = json_array_size(array);
	json_array_foreach(array, i, entry) {
		struct take take = { .object = entry, .err = err };

		ret = list->decode(&take, (char *)*to + i * list->size);
		if (!ret)
			ret = take_end(&take, list->item, i);
		if (ret)
			return ret;
	}
	return 0;
}

static int group_decode(struct take *take, void *item)
{
	const json_t *metadata = json_object_get(take->object, "metadata");
	struct disk_group *group = item;
	int ret;

	TAKE_TEXT(take, group, name);
	TAKE_TEXT(take, group, uuid);
	TAKE_U64(take, group, extent_bytes);
	if (!json_is_string(metadata) ||
	    json_string_length(metadata) > DISK_METADATA_BYTES_MAX ||
	    strlen(json_string_value(metadata)) != json_string_length(metadata)) {
		take_failed(take, "metadata");
		return 0;
	}
	group->metadata = strdup(json_string_value(metadata));
	if (!group->metadata)
		return error_set(take->err, -ENOMEM, "reading a layout: out of memory");
	ret = take_list(take->object, &pvs_list, &group->pvs, &group->pv_count, take->err);
	return ret ? ret : take_list(take->object, &lvs_list, &group->lvs, &group->lv_count,
				     take->err);
}

/* ---- all of it -------------------------------------------------------------- */

static int head_decode(const json_t *object, struct disk_layout *layout, struct error *err)
{
	struct take take = { .object = object, .err = err };

	TAKE_TEXT(&take, layout, host);
	TAKE_TEXT(&take, layout, kernel);
	layout->firmware = (enum disk_firmware)take_word(&take, "firmware", word_firmware,
							 DISK_FIRMWARES);
	TAKE_U64(&take, layout, time_ns);
	TAKE_TEXT(&take, layout, device);
	TAKE_TEXT(&take, layout, model);
	TAKE_TEXT(&take, layout, serial);
	TAKE_U64(&take, layout, bytes);
	TAKE_U32(&take, layout, logical_block_bytes);
	TAKE_U32(&take, layout, physical_block_bytes);
	layout->boot_code = take_bool(&take, "boot_code");
	layout->boot_grub = take_bool(&take, "boot_grub");
	layout->table = (enum disk_table)take_word(&take, "table", word_table, DISK_TABLES);
	TAKE_TEXT(&take, layout, table_uuid);
	TAKE_U64(&take, layout, usable_offset);
	TAKE_U64(&take, layout, usable_bytes);
	TAKE_U32(&take, layout, table_entries);
	take_content(&take, &layout->content);
	return take_end(&take, "layout", 0);
}

static int layout_decode(const json_t *object, struct disk_layout *layout, struct error *err)
{
	const json_t *version = json_object_get(object, "version");
	int ret;

	if (json_is_integer(version) && json_integer_value(version) > DISK_VERSION)
		return error_set(err, -EOPNOTSUPP, "it has version %lld and this program knows %d; "
				 "use a newer clawback", (long long)json_integer_value(version),
				 DISK_VERSION);
	if (!json_is_integer(version) || json_integer_value(version) != DISK_VERSION)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "it is none");
	ret = head_decode(object, layout, err);
	if (!ret)
		ret = take_list(object, &partitions_list, &layout->partitions,
				&layout->partition_count, err);
	if (!ret)
		ret = take_list(object, &crypts_list, &layout->crypts, &layout->crypt_count, err);
	if (!ret)
		ret = take_list(object, &groups_list, &layout->groups, &layout->group_count, err);
	if (!ret)
		ret = take_list(object, &ranges_list, &layout->ranges, &layout->range_count, err);
	return ret ? ret : disk_layout_check(layout, err);
}

int disk_layout_decode(const char *text, size_t length, struct disk_layout *layout,
		       struct error *err)
{
	struct disk_layout decoded = { .bytes = 0 };
	json_error_t why;
	json_t *object;
	int ret;

	if (length > DISK_LAYOUT_BYTES_MAX)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "the layout takes more "
				      "than %u bytes", DISK_LAYOUT_BYTES_MAX);
	errno = 0;
	object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
	if (!object && (errno == ENOMEM || json_error_code(&why) == json_error_out_of_memory))
		return error_set(err, -ENOMEM, "reading a layout: out of memory");
	ret = object ? layout_decode(object, &decoded, err) :
	      error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "it is no JSON text");
	json_decref(object);
	if (ret) {
		disk_layout_fini(&decoded);
		return error_prefix(err, "the layout of a disk");
	}
	*layout = decoded;
	return 0;
}
