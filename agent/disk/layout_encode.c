/*
 * A layout as JSON text. What jansson cannot take (text that is no UTF-8) must not get
 * lost: every NULL on the way fails the whole.
 */
#include "agent/disk/disk_private.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int set(json_t *object, const char *key, json_t *value)
{
	return object && value ? json_object_set_new(object, key, value)
			       : (json_decref(value), -1);
}

static json_t *content_json(const struct disk_content *content)
{
	json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b}",
		"kind", disk_kind_name(content->kind), "kept", disk_kept_name(content->kept),
		"type", content->type, "uuid", content->uuid, "label", content->label,
		"mount", content->mount, "left_out", (int)content->left_out);
	int bad = !object;

	if (*content->volume)
		bad |= set(object, "volume", json_string(content->volume));
	if (content->has_volume_id) {
		char id[UUID_TEXT_SIZE];

		uuid_format(&content->volume_id, id);
		bad |= set(object, "volume_id", json_string(id));
	}
	if (!bad)
		return object;
	json_decref(object);
	return NULL;
}

static json_t *place_json(const struct disk_place *place)
{
	return json_pack("{s:s, s:I, s:I}", "on", disk_on_name(place->on),
			 "index", (json_int_t)place->index, "lv", (json_int_t)place->lv);
}

static json_t *partition_json(const void *item)
{
	const struct disk_partition *partition = item;
	char flags[24];

	/* All 64 bits of it are used, and JSON's numbers have 63. */
	snprintf(flags, sizeof(flags), "0x%" PRIx64, partition->flags);
	return json_pack("{s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:b, s:b, s:o}",
		"number", (json_int_t)partition->number,
		"offset", (json_int_t)partition->offset, "bytes", (json_int_t)partition->bytes,
		"type", partition->type, "uuid", partition->uuid, "name", partition->name,
		"flags", flags, "extended", (int)partition->extended,
		"logical", (int)partition->logical,
		"content", content_json(&partition->content));
}

static json_t *crypt_json(const void *item)
{
	const struct disk_crypt *crypt = item;

	return json_pack("{s:s, s:o, s:I, s:I, s:o}", "name", crypt->name,
		"place", place_json(&crypt->place),
		"header_bytes", (json_int_t)crypt->header_bytes,
		"bytes", (json_int_t)crypt->bytes,
		"content", content_json(&crypt->content));
}

static json_t *pv_json(const void *item)
{
	const struct disk_pv *pv = item;

	return json_pack("{s:s, s:o, s:I, s:I}", "uuid", pv->uuid,
		"place", place_json(&pv->place), "bytes", (json_int_t)pv->bytes,
		"data_offset", (json_int_t)pv->data_offset);
}

static json_t *lv_json(const void *item)
{
	const struct disk_lv *lv = item;

	return json_pack("{s:s, s:s, s:I, s:s, s:I, s:o}", "name", lv->name, "uuid", lv->uuid,
		"bytes", (json_int_t)lv->bytes, "type", lv->type,
		"segments", (json_int_t)lv->segments, "content", content_json(&lv->content));
}

static json_t *range_json(const void *item)
{
	const struct disk_range *range = item;

	return json_pack("{s:I, s:I, s:s, s:s, s:I}",
		"offset", (json_int_t)range->offset, "bytes", (json_int_t)range->bytes,
		"what", disk_what_name(range->what), "how", disk_how_name(range->how),
		"partition", (json_int_t)range->partition);
}

/* NULL when one of them cannot be told. */
static json_t *array_json(const void *items, size_t count, size_t size,
			  json_t *(*item_json)(const void *item))
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < count; i++) {
		json_t *item = item_json((const char *)items + i * size);

		if (item && !json_array_append_new(array, item))
			continue;
		json_decref(array);
		array = NULL;
	}
	return array;
}

static json_t *group_json(const void *item)
{
	const struct disk_group *group = item;

	return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "name", group->name,
		"uuid", group->uuid, "extent_bytes", (json_int_t)group->extent_bytes,
		"metadata", group->metadata ? group->metadata : "",
		"pvs", array_json(group->pvs, group->pv_count, sizeof(*group->pvs), pv_json),
		"lvs", array_json(group->lvs, group->lv_count, sizeof(*group->lvs), lv_json));
}

static json_t *layout_json(const struct disk_layout *l)
{
	return json_pack("{s:i, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:b, "
			 "s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}",
		"version", DISK_VERSION, "host", l->host, "kernel", l->kernel,
		"firmware", disk_firmware_name(l->firmware), "time_ns", (json_int_t)l->time_ns,
		"device", l->device, "model", l->model, "serial", l->serial,
		"bytes", (json_int_t)l->bytes,
		"logical_block_bytes", (json_int_t)l->logical_block_bytes,
		"physical_block_bytes", (json_int_t)l->physical_block_bytes,
		"boot_code", (int)l->boot_code, "boot_grub", (int)l->boot_grub,
		"table", disk_table_name(l->table), "table_uuid", l->table_uuid,
		"usable_offset", (json_int_t)l->usable_offset,
		"usable_bytes", (json_int_t)l->usable_bytes,
		"table_entries", (json_int_t)l->table_entries,
		"content", content_json(&l->content),
		"partitions", array_json(l->partitions, l->partition_count,
					 sizeof(*l->partitions), partition_json),
		"crypts", array_json(l->crypts, l->crypt_count, sizeof(*l->crypts), crypt_json),
		"groups", array_json(l->groups, l->group_count, sizeof(*l->groups), group_json),
		"ranges", array_json(l->ranges, l->range_count, sizeof(*l->ranges), range_json));
}

int disk_layout_encode(const struct disk_layout *layout, char **text, struct error *err)
{
	int ret = disk_layout_check(layout, err);
	json_t *object;

	if (ret)
		return error_prefix(err, "the layout of %s", layout->device);
	object = layout_json(layout);
	*text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (!*text)
		return error_set(err, -ENOMEM, "writing down the layout of %s: out of memory, or a "
				 "name in it is no UTF-8", layout->device);
	if (strlen(*text) <= DISK_LAYOUT_BYTES_MAX)
		return 0;
	free(*text);
	*text = NULL;
	return error_set(err, -E2BIG, "the layout of %s takes more than %u bytes",
			 layout->device, DISK_LAYOUT_BYTES_MAX);
}
