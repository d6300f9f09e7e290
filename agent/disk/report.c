/* LVM's reports, which are JSON in which every number is a text. */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A row; the first thing wrong with it is all there is to know. */
struct row { const json_t *object; bool bad; };

static void row_text(struct row *row, const char *key, char *to, size_t room)
{
	const json_t *value = json_object_get(row->object, key);
	const char *text = json_string_value(value);

	if (!text || json_string_length(value) >= room ||
	    strlen(text) != json_string_length(value))
		row->bad = true;
	else
		strcpy(to, text);
}

/* "-1" is for what is not there. */
static uint64_t row_number(struct row *row, const char *key, uint64_t limit, bool *missing)
{
	char text[32] = "", *end;
	unsigned long long number;

	row_text(row, key, text, sizeof(text));
	if (missing && !strcmp(text, "-1")) {
		*missing = true;
		return 0;
	}
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || number > limit)
		row->bad = true;
	return number;
}

static uint32_t row_device(struct row *row, const char *major_key, const char *minor_key)
{
	bool missing = false;
	uint32_t major_number = (uint32_t)row_number(row, major_key, 0xfff, &missing);
	uint32_t minor_number = (uint32_t)row_number(row, minor_key, 0xfffff, &missing);

	return missing ? 0 : major_number << 20 | minor_number;
}

static void pv_take(struct row *row, void *item)
{
	struct report_pv *pv = item;

	row_text(row, "pv_uuid", pv->uuid, sizeof(pv->uuid));
	row_text(row, "vg_name", pv->group, sizeof(pv->group));
	row_text(row, "vg_uuid", pv->group_uuid, sizeof(pv->group_uuid));
	pv->extent_bytes = row_number(row, "vg_extent_size", 1ull << 62, NULL);
	pv->bytes = row_number(row, "dev_size", 1ull << 62, NULL);
	pv->data_offset = row_number(row, "pe_start", 1ull << 62, NULL);
	pv->device = row_device(row, "pv_major", "pv_minor");
}

static void lv_take(struct row *row, void *item)
{
	struct report_lv *lv = item;

	row_text(row, "vg_name", lv->group, sizeof(lv->group));
	row_text(row, "lv_name", lv->name, sizeof(lv->name));
	row_text(row, "lv_uuid", lv->uuid, sizeof(lv->uuid));
	row_text(row, "lv_attr", lv->attributes, sizeof(lv->attributes));
	row_text(row, "segtype", lv->type, sizeof(lv->type));
	lv->bytes = row_number(row, "lv_size", 1ull << 62, NULL);
	lv->segments = (uint32_t)row_number(row, "seg_count", UINT32_MAX, NULL);
	lv->device = row_device(row, "lv_kernel_major", "lv_kernel_minor");
}

static void json_drop(json_t **value)
{
	json_decref(*value);
}

/* {"report": [{"pv": [row, …]}]} */
static int report_read(const char *text, size_t length, const char *key, size_t size,
		       void (*take)(struct row *row, void *item), void *items, size_t *count)
{
	json_error_t why;
	CLEANUP(json_drop) json_t *object = NULL;
	const json_t *rows, *entry;
	void **to = items;
	size_t i;

	*to = NULL;
	errno = 0;
	object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
	if (!object && (errno == ENOMEM || json_error_code(&why) == json_error_out_of_memory))
		return -ENOMEM;
	rows = json_object_get(json_array_get(json_object_get(object, "report"), 0), key);
	if (!json_is_array(rows))
		return -EBADMSG;
	*to = calloc(json_array_size(rows) + 1, size);
	if (!*to)
		return -ENOMEM;
	json_array_foreach(rows, i, entry) {
		struct row row = { .object = entry };

		take(&row, (char *)*to + i * size);
		if (row.bad) {
			free(*to);
			*to = NULL;
			return -EBADMSG;
		}
	}
	*count = json_array_size(rows);
	return 0;
}

int report_pvs(const char *text, size_t length, struct report_pv **pvs, size_t *count)
{
	return report_read(text, length, "pv", sizeof(**pvs), pv_take, pvs, count);
}

int report_lvs(const char *text, size_t length, struct report_lv **lvs, size_t *count)
{
	return report_read(text, length, "lv", sizeof(**lvs), lv_take, lvs, count);
}
