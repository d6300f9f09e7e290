/*
 * The manifest: a point's facts as one JSON object. JSON because people and
 * other tools read it, and because it grows by adding members; it is signed as
 * bytes and parsed only after its signature held.
 */
#include "agent/repo/point_format.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <string.h>

#define MANIFEST_FORMAT "clawback point"

#define TAKE_TEXT(o, k, field) json_take_text(o, k, field, sizeof(field))

static json_t *wraps_json(const struct point *point)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < point->wrap_count; i++) {
		const struct point_wrap *wrap = &point->wraps[i];

		json_array_append_new(list, json_pack("{s:o, s:o}",
			"recipient", json_hex(wrap->recipient.key, CRYPTO_KEY_SIZE),
			"wrap", json_hex(wrap->wrap, sizeof(wrap->wrap))));
	}
	return list;
}

static json_t *segments_json(const struct point *point)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < point->segment_count; i++) {
		const struct pipeline_segment *segment = &point->segments[i];

		json_array_append_new(list, json_pack("{s:I, s:I, s:o}",
			"bytes", (json_int_t)segment->bytes,
			"frames", (json_int_t)segment->frames,
			"sha256", json_hex(segment->sha256, CRYPTO_DIGEST_SIZE)));
	}
	return list;
}

static json_t *uuid_json(const struct uuid *uuid)
{
	char text[UUID_TEXT_SIZE];

	uuid_format(uuid, text);
	return json_string(text);
}

static json_t *identity_json(const struct point *point)
{
	return json_pack("{s:s, s:i, s:o, s:o, s:s, s:o, s:I, s:s, s:I, s:o, s:I, s:I}",
		"format", MANIFEST_FORMAT, "version", POINT_VERSION,
		"repository", uuid_json(&point->repository),
		"volume", uuid_json(&point->volume), "volume_name", point->volume_name,
		"run", uuid_json(&point->run), "number", (json_int_t)point->number,
		"kind", point_kind_name(point->kind), "parent", (json_int_t)point->parent,
		"parent_hash", json_hex(point->parent_hash, CRYPTO_DIGEST_SIZE),
		"base", (json_int_t)point->base, "depth", (json_int_t)point->depth);
}

static json_t *moment_json(const struct point *point)
{
	return json_pack("{s:I, s:I, s:s, s:s}",
		"time_ns", (json_int_t)point->time_ns,
		"committed_ns", (json_int_t)point->committed_ns,
		"consistency", point_consistency_name(point->consistency),
		"reason", point->reason);
}

static json_t *volume_json(const struct point *point)
{
	return json_pack("{s:I, s:i, s:I, s:s, s:s, s:s, s:s, s:s}",
		"volume_bytes", (json_int_t)point->volume_bytes,
		"block_bytes", (int)BLOCK_BYTES,
		"logical_block_bytes", (json_int_t)point->logical_block_bytes,
		"host", point->host, "device", point->device,
		"dm_name", point->dm_name, "dm_uuid", point->dm_uuid,
		"dm_targets", point->dm_targets);
}

static json_t *steps_json(const struct point *point)
{
	json_t *array = json_array();

	for (size_t i = 0; i < point->clock_step_count; i++)
		json_array_append_new(array, json_integer((json_int_t)point->clock_steps[i]));
	return array;
}

static json_t *contents_json(const struct point *point)
{
	json_t *object = json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:I, s:o, s:o, s:o, s:o}",
		"marked_bytes", (json_int_t)point->marked_bytes,
		"read_bytes", (json_int_t)point->read_bytes,
		"data_bytes", (json_int_t)point->data_bytes,
		"zero_bytes", (json_int_t)point->zero_bytes,
		"stored_bytes", (json_int_t)point->stored_bytes,
		"map_kind", point->map_kind == MAP_FULL ? "full" : "delta",
		"map_inline", (int)point->map_inline,
		"frames_inline", (int)point->frames_inline,
		"map_bytes", (json_int_t)point->map_bytes,
		"map_sha256", json_hex(point->map_sha256, CRYPTO_DIGEST_SIZE),
		"segments", segments_json(point), "keys", wraps_json(point),
		"signer", json_hex(point->signer.key, CRYPTO_KEY_SIZE));

	if (object && point->clock_step_count)
		json_object_set_new(object, "clock_steps", steps_json(point));
	if (object && point->has_image_sha256)
		json_object_set_new(object, "image_sha256",
				    json_hex(point->image_sha256, CRYPTO_DIGEST_SIZE));
	if (object && point->full)
		json_object_set_new(object, "full", json_integer((json_int_t)point->full));
	return object;
}

/* As an object, for whoever reads the manifest; what it means is the disk room's. */
static int add_layout(const struct point *point, json_t *object)
{
	json_error_t ignored;

	return !point->disk_layout || !object ? 0 :
	       json_object_set_new(object, "disk", json_loads(point->disk_layout, 0, &ignored));
}

char *point_manifest_text(const struct point *point)
{
	json_t *object = identity_json(point);
	json_t *parts[] = {
		moment_json(point), volume_json(point), contents_json(point),
	};
	char *text = NULL;
	int bad = !object;

	for (size_t i = 0; i < 3; i++) {
		bad |= !parts[i] || (object && json_object_update(object, parts[i]));
		json_decref(parts[i]);
	}
	bad |= add_layout(point, object);
	if (!bad)
		text = json_dumps(object, JSON_INDENT(1));
	json_decref(object);
	return text;
}

/* ---- and back ---------------------------------------------------------- */

static int take_uuid(const json_t *object, const char *key, struct uuid *uuid)
{
	char text[UUID_TEXT_SIZE];

	return TAKE_TEXT(object, key, text) || uuid_parse(text, uuid) ? -EBADMSG : 0;
}

static int take_u32(const json_t *object, const char *key, uint32_t *value)
{
	uint64_t wide;

	if (json_take_u64(object, key, &wide) || wide > UINT32_MAX)
		return -EBADMSG;
	*value = (uint32_t)wide;
	return 0;
}

static int take_bool(const json_t *object, const char *key, bool *value)
{
	const json_t *item = json_object_get(object, key);

	if (!json_is_boolean(item))
		return -EBADMSG;
	*value = json_is_true(item);
	return 0;
}

/* An index into the words that `name` knows, 0 … count - 1. */
static int take_word(const json_t *object, const char *key,
		     const char *(*name)(int), int count, int *value)
{
	char text[32];

	if (TAKE_TEXT(object, key, text))
		return -EBADMSG;
	for (*value = 0; *value < count; (*value)++)
		if (!strcmp(text, name(*value)))
			return 0;
	return -EBADMSG;
}

static const char *kind_word(int i)
{
	return point_kind_name((enum point_kind)i);
}

static const char *consistency_word(int i)
{
	return point_consistency_name((enum point_consistency)i);
}

static const char *map_word(int i)
{
	return i ? "delta" : "full";
}

static int identity_parse(const json_t *o, struct point *point)
{
	char format[32];
	uint64_t version;
	int kind;

	if (TAKE_TEXT(o, "format", format) || strcmp(format, MANIFEST_FORMAT) ||
	    json_take_u64(o, "version", &version) || version != POINT_VERSION ||
	    take_uuid(o, "repository", &point->repository) ||
	    take_uuid(o, "volume", &point->volume) ||
	    TAKE_TEXT(o, "volume_name", point->volume_name) ||
	    take_uuid(o, "run", &point->run) ||
	    json_take_u64(o, "number", &point->number) || !point->number ||
	    take_word(o, "kind", kind_word, 4, &kind) ||
	    json_take_u64(o, "parent", &point->parent) || point->parent >= point->number ||
	    json_take_hex(o, "parent_hash", point->parent_hash, CRYPTO_DIGEST_SIZE) ||
	    json_take_u64(o, "base", &point->base) || !point->base ||
	    point->base > point->number ||
	    take_u32(o, "depth", &point->depth) || point->depth > POINT_DEPTH_MAX)
		return -EBADMSG;
	point->kind = (enum point_kind)kind;
	return 0;
}

static int moment_parse(const json_t *o, struct point *point)
{
	int consistency;

	if (json_take_u64(o, "time_ns", &point->time_ns) ||
	    json_take_u64(o, "committed_ns", &point->committed_ns) ||
	    take_word(o, "consistency", consistency_word, 4, &consistency) ||
	    TAKE_TEXT(o, "reason", point->reason))
		return -EBADMSG;
	point->consistency = (enum point_consistency)consistency;
	return 0;
}

static int volume_parse(const json_t *o, struct point *point)
{
	uint64_t block;

	if (json_take_u64(o, "volume_bytes", &point->volume_bytes) ||
	    !point->volume_bytes || point->volume_bytes > 1ull << 62 ||
	    json_take_u64(o, "block_bytes", &block) || block != BLOCK_BYTES ||
	    take_u32(o, "logical_block_bytes", &point->logical_block_bytes) ||
	    TAKE_TEXT(o, "host", point->host) || TAKE_TEXT(o, "device", point->device) ||
	    TAKE_TEXT(o, "dm_name", point->dm_name) ||
	    TAKE_TEXT(o, "dm_uuid", point->dm_uuid) ||
	    TAKE_TEXT(o, "dm_targets", point->dm_targets))
		return -EBADMSG;
	return 0;
}

static int wraps_parse(const json_t *o, struct point *point)
{
	const json_t *list = json_object_get(o, "keys"), *item;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > REPO_RECIPIENTS_MAX)
		return -EBADMSG;
	json_array_foreach(list, i, item) {
		struct point_wrap *wrap = &point->wraps[i];

		if (json_take_hex(item, "recipient", wrap->recipient.key, CRYPTO_KEY_SIZE) ||
		    json_take_hex(item, "wrap", wrap->wrap, sizeof(wrap->wrap)))
			return -EBADMSG;
	}
	point->wrap_count = json_array_size(list);
	return 0;
}

static int segments_parse(const json_t *o, struct point *point)
{
	const json_t *list = json_object_get(o, "segments"), *item;
	size_t count = json_is_array(list) ? json_array_size(list) : SIZE_MAX, i;

	if (count > UINT32_MAX || (point->frames_inline && count > 1))
		return -EBADMSG;
	point->segments = calloc(count ? count : 1, sizeof(*point->segments));
	if (!point->segments)
		return -ENOMEM;
	json_array_foreach(list, i, item) {
		struct pipeline_segment *segment = &point->segments[i];

		if (json_take_u64(item, "bytes", &segment->bytes) ||
		    take_u32(item, "frames", &segment->frames) ||
		    json_take_hex(item, "sha256", segment->sha256, CRYPTO_DIGEST_SIZE))
			return -EBADMSG;
	}
	point->segment_count = count;
	return 0;
}

/* May be missing. */
static int steps_parse(const json_t *o, struct point *point)
{
	const json_t *array = json_object_get(o, "clock_steps"), *item;
	uint64_t before = 1;
	size_t i;

	if (!array)
		return 0;
	if (!json_is_array(array) || json_array_size(array) > POINT_CLOCK_STEPS_MAX)
		return -EBADMSG;
	json_array_foreach(array, i, item) {
		json_int_t number = json_integer_value(item);

		if (!json_is_integer(item) || number <= (json_int_t)before ||
		    (uint64_t)number > point->number)
			return -EBADMSG;
		point->clock_steps[i] = before = (uint64_t)number;
	}
	point->clock_step_count = json_array_size(array);
	return 0;
}

/* May be missing. */
static int layout_parse(const json_t *o, struct point *point)
{
	const json_t *layout = json_object_get(o, "disk");

	if (!layout)
		return 0;
	if (!json_is_object(layout))
		return -EBADMSG;
	point->disk_layout = json_dumps(layout, JSON_COMPACT);
	return point->disk_layout ? 0 : -ENOMEM;
}

static int contents_parse(const json_t *o, struct point *point)
{
	int delta;

	if (json_take_u64(o, "marked_bytes", &point->marked_bytes) ||
	    json_take_u64(o, "read_bytes", &point->read_bytes) ||
	    json_take_u64(o, "data_bytes", &point->data_bytes) ||
	    json_take_u64(o, "zero_bytes", &point->zero_bytes) ||
	    json_take_u64(o, "stored_bytes", &point->stored_bytes) ||
	    take_word(o, "map_kind", map_word, 2, &delta) ||
	    take_bool(o, "map_inline", &point->map_inline) ||
	    take_bool(o, "frames_inline", &point->frames_inline) ||
	    json_take_u64(o, "map_bytes", &point->map_bytes) ||
	    point->map_bytes > POINT_MAP_MAX ||
	    json_take_hex(o, "map_sha256", point->map_sha256, CRYPTO_DIGEST_SIZE) ||
	    json_take_hex(o, "signer", point->signer.key, CRYPTO_KEY_SIZE))
		return -EBADMSG;
	point->map_kind = delta ? MAP_DELTA : MAP_FULL;
	point->has_image_sha256 = json_object_get(o, "image_sha256");
	if (point->has_image_sha256 &&
	    json_take_hex(o, "image_sha256", point->image_sha256, CRYPTO_DIGEST_SIZE))
		return -EBADMSG;
	if (steps_parse(o, point))
		return -EBADMSG;
	if (json_object_get(o, "full") &&
	    (json_take_u64(o, "full", &point->full) || !point->full ||
	     point->full >= point->number))
		return -EBADMSG;
	/* A full map is its own base; a delta's base is further up. */
	if ((point->map_kind == MAP_FULL) != (point->base == point->number) ||
	    (point->map_kind == MAP_DELTA && (!point->parent || !point->depth)))
		return -EBADMSG;
	return 0;
}

int point_manifest_parse(const char *text, size_t length, struct point *point,
			 struct error *err)
{
	json_t *object;
	int ret = json_read(text, length, &object);

	memset(point, 0, sizeof(*point));
	if (!ret)
		ret = identity_parse(object, point);
	if (!ret)
		ret = moment_parse(object, point);
	if (!ret)
		ret = volume_parse(object, point);
	if (!ret)
		ret = contents_parse(object, point);
	if (!ret)
		ret = wraps_parse(object, point);
	if (!ret)
		ret = segments_parse(object, point);
	if (!ret)
		ret = layout_parse(object, point);
	json_decref(object);
	if (!ret)
		return 0;
	point_fini(point);
	return error_set_exit(err, ret == -ENOMEM ? EXIT_FAILED : EXIT_UNTRUSTWORTHY, ret,
			      ret == -ENOMEM ? "reading a manifest: out of memory"
					     : "the manifest holds something no clawback wrote");
}
