/* A retention record as JSON, and back: ranges, pins, what serves, rebased maps, packs. */
#include "agent/repo/retention_format.h"

#include "agent/repo/pack_format.h"
#include "agent/repo/point_format.h"

#include <errno.h>
#include <string.h>

#define RETENTION_FORMAT "clawback retention"

/* ---- writing ----------------------------------------------------------- */

static json_t *extents_json(const struct extent_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < list->count; i++)
		if (json_array_append_new(array, json_pack("[I, I]",
				(json_int_t)list->items[i].first,
				(json_int_t)list->items[i].count))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static json_t *serving_json(const struct retention *retention)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < retention->serving_count; i++) {
		const struct retention_serving *serving = &retention->serving[i];

		if (json_array_append_new(array, json_pack("{s:I, s:o}", "number",
				(json_int_t)serving->number, "segments",
				extents_json(&serving->segments)))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *wraps_json(const struct retention_map *map)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < map->wrap_count; i++)
		if (json_array_append_new(array, json_pack("{s:o, s:o}", "recipient",
				json_hex(map->wraps[i].recipient.key, CRYPTO_KEY_SIZE), "wrap",
				json_hex(map->wraps[i].wrap, CRYPTO_WRAP_SIZE)))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static json_t *map_json(const struct retention_map *map)
{
	char run[UUID_TEXT_SIZE];

	uuid_format(&map->run, run);
	return json_pack("{s:I, s:s, s:I, s:I, s:o, s:I, s:o, s:o}",
			 "number", (json_int_t)map->number, "run", run,
			 "sequence", (json_int_t)map->sequence,
			 "parent", (json_int_t)map->parent,
			 "parent_hash", json_hex(map->parent_hash, CRYPTO_DIGEST_SIZE),
			 "bytes", (json_int_t)map->bytes,
			 "sha256", json_hex(map->sha256, CRYPTO_DIGEST_SIZE),
			 "keys", wraps_json(map));
}

static json_t *maps_json(const struct retention *retention)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < retention->map_count; i++)
		if (json_array_append_new(array, map_json(&retention->maps[i]))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static json_t *pack_json(const struct retention_pack *pack)
{
	char run[UUID_TEXT_SIZE];

	uuid_format(&pack->run, run);
	return json_pack("{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:o, s:o}",
			 "sequence", (json_int_t)pack->sequence,
			 "number", (json_int_t)pack->number, "run", run,
			 "first", (json_int_t)pack->first, "last", (json_int_t)pack->last,
			 "bytes", (json_int_t)pack->bytes, "items", (json_int_t)pack->items,
			 "sha256", json_hex(pack->sha256, CRYPTO_DIGEST_SIZE),
			 "index_sha256", json_hex(pack->index_sha256, CRYPTO_DIGEST_SIZE));
}

static json_t *packs_json(const struct retention *retention)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < retention->pack_count; i++)
		if (json_array_append_new(array, pack_json(&retention->packs[i]))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

char *retention_text(const struct retention *retention, const struct retention_place *place)
{
	char repository[UUID_TEXT_SIZE], volume[UUID_TEXT_SIZE];
	json_t *object;
	char *text;

	uuid_format(&place->repository, repository);
	uuid_format(&place->volume, volume);
	object = json_pack("{s:s, s:i, s:s, s:s, s:I, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o}",
			   "format", RETENTION_FORMAT, "version", RETENTION_VERSION,
			   "repository", repository, "volume", volume,
			   "sequence", (json_int_t)retention->sequence,
			   "previous", json_hex(retention->previous, CRYPTO_DIGEST_SIZE),
			   "created_ns", (json_int_t)retention->created_ns,
			   "marked_ns", (json_int_t)retention->marked_ns,
			   "through", (json_int_t)retention->through,
			   "forgotten", extents_json(&retention->forgotten),
			   "pruned", extents_json(&retention->pruned),
			   "pinned", extents_json(&retention->pinned),
			   "serving", serving_json(retention), "maps", maps_json(retention),
			   "packs", packs_json(retention),
			   "dead_bytes", (json_int_t)retention->dead_bytes,
			   "signer", json_hex(retention->signer.key, CRYPTO_KEY_SIZE));
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return text;
}

/* ---- and back ---------------------------------------------------------- */

/* Rising, disjoint, from `low` on, below `end`. */
static int extents_parse(const json_t *object, const char *key, uint64_t low, uint64_t end,
			 struct extent_list *list)
{
	const json_t *array = json_object_get(object, key), *item;
	size_t i;

	if (!json_is_array(array))
		return -EBADMSG;
	json_array_foreach(array, i, item) {
		const json_t *first = json_array_get(item, 0), *count = json_array_get(item, 1);
		json_int_t from = json_integer_value(first), n = json_integer_value(count);
		int ret;

		if (json_array_size(item) != 2 || !json_is_integer(first) ||
		    !json_is_integer(count) || from < 0 || n <= 0 || (uint64_t)from < low ||
		    (uint64_t)from >= end || (uint64_t)n > end - (uint64_t)from)
			return -EBADMSG;
		ret = extent_list_append(list, (uint64_t)from, (uint64_t)n);
		if (ret)
			return ret == -ENOMEM ? ret : -EBADMSG;
	}
	return 0;
}

static int take_uuid(const json_t *object, const char *key, struct uuid *uuid)
{
	char text[UUID_TEXT_SIZE];

	return json_take_text(object, key, text, sizeof(text)) || uuid_parse(text, uuid) ?
	       -EBADMSG : 0;
}

static int facts_parse(const json_t *o, const struct retention_place *place,
		       struct retention *retention)
{
	struct uuid repository, volume;
	char format[32];
	uint64_t version;

	if (json_take_text(o, "format", format, sizeof(format)) ||
	    strcmp(format, RETENTION_FORMAT) || json_take_u64(o, "version", &version) ||
	    !version || version > RETENTION_VERSION || take_uuid(o, "repository", &repository) ||
	    take_uuid(o, "volume", &volume) || !uuid_equal(&repository, &place->repository) ||
	    !uuid_equal(&volume, &place->volume) ||
	    json_take_u64(o, "sequence", &retention->sequence) || !retention->sequence ||
	    json_take_hex(o, "previous", retention->previous, CRYPTO_DIGEST_SIZE) ||
	    json_take_u64(o, "created_ns", &retention->created_ns) ||
	    json_take_u64(o, "marked_ns", &retention->marked_ns) ||
	    json_take_u64(o, "through", &retention->through) || !retention->through ||
	    json_take_hex(o, "signer", retention->signer.key, CRYPTO_KEY_SIZE))
		return -EBADMSG;
	retention->version = (uint32_t)version;
	return 0;
}

/* Whether two sets of numbers have none in common. */
static int apart(const struct extent_list *a, const struct extent_list *b)
{
	struct extent_list both = EXTENT_LIST_INIT;
	int ret = extent_list_intersect(a, b, &both);

	if (!ret && both.count)
		ret = -EBADMSG;
	extent_list_fini(&both);
	return ret;
}

static int numbers_parse(const json_t *o, struct retention *r)
{
	int ret = extents_parse(o, "forgotten", 1, r->through, &r->forgotten);

	if (!ret)
		ret = extents_parse(o, "pruned", 1, r->through, &r->pruned);
	if (!ret)
		ret = extents_parse(o, "pinned", 1, r->through + 1, &r->pinned);
	if (!ret)
		ret = apart(&r->forgotten, &r->pruned);
	if (!ret)
		ret = apart(&r->forgotten, &r->pinned);
	return ret ? ret : apart(&r->pruned, &r->pinned);
}

static int serving_parse(const json_t *o, struct retention *retention)
{
	const json_t *array = json_object_get(o, "serving"), *item;
	uint64_t before = 0;
	size_t i;

	if (!json_is_array(array))
		return -EBADMSG;
	retention->serving = calloc(json_array_size(array) + 1, sizeof(*retention->serving));
	if (!retention->serving)
		return -ENOMEM;
	json_array_foreach(array, i, item) {
		struct retention_serving *serving = &retention->serving[i];
		int ret;

		retention->serving_count++;
		if (json_take_u64(item, "number", &serving->number) ||
		    serving->number <= before ||
		    !extent_list_contains(&retention->pruned, serving->number))
			return -EBADMSG;
		before = serving->number;
		ret = extents_parse(item, "segments", 0, RETENTION_SEGMENTS_MAX,
				    &serving->segments);
		if (ret || !serving->segments.count)
			return ret ?: -EBADMSG;
	}
	return 0;
}

static int wraps_parse(const json_t *o, struct retention_map *map)
{
	const json_t *array = json_object_get(o, "keys"), *item;
	size_t i;

	if (!json_is_array(array) || json_array_size(array) > REPO_RECIPIENTS_MAX)
		return -EBADMSG;
	map->wraps = calloc(json_array_size(array) + 1, sizeof(*map->wraps));
	if (!map->wraps)
		return -ENOMEM;
	map->wrap_count = json_array_size(array);
	json_array_foreach(array, i, item)
		if (json_take_hex(item, "recipient", map->wraps[i].recipient.key,
				  CRYPTO_KEY_SIZE) ||
		    json_take_hex(item, "wrap", map->wraps[i].wrap, CRYPTO_WRAP_SIZE))
			return -EBADMSG;
	return 0;
}

static int map_parse(const json_t *o, const struct retention *retention,
		     struct retention_map *map)
{
	if (json_take_u64(o, "number", &map->number) || !map->number ||
	    map->number > retention->through ||
	    extent_list_contains(&retention->pruned, map->number) ||
	    take_uuid(o, "run", &map->run) ||
	    json_take_u64(o, "sequence", &map->sequence) ||
	    !map->sequence || map->sequence > retention->sequence ||
	    json_take_u64(o, "parent", &map->parent) || map->parent >= map->number ||
	    extent_list_contains(&retention->pruned, map->parent) ||
	    json_take_hex(o, "parent_hash", map->parent_hash, CRYPTO_DIGEST_SIZE) ||
	    json_take_u64(o, "bytes", &map->bytes) || map->bytes > POINT_MAP_MAX ||
	    json_take_hex(o, "sha256", map->sha256, CRYPTO_DIGEST_SIZE))
		return -EBADMSG;
	return wraps_parse(o, map);
}

static int maps_parse(const json_t *o, struct retention *retention)
{
	const json_t *array = json_object_get(o, "maps"), *item;
	uint64_t before = 0;
	size_t i;

	if (!json_is_array(array))
		return -EBADMSG;
	retention->maps = calloc(json_array_size(array) + 1, sizeof(*retention->maps));
	if (!retention->maps)
		return -ENOMEM;
	json_array_foreach(array, i, item) {
		struct retention_map *map = &retention->maps[retention->map_count++];
		int ret = map_parse(item, retention, map);

		if (ret || map->number <= before)
			return ret ?: -EBADMSG;
		before = map->number;
	}
	return 0;
}

static int pack_parse(const json_t *o, const struct retention *retention,
		      struct retention_pack *pack)
{
	uint64_t number;

	if (json_take_u64(o, "sequence", &pack->sequence) || !pack->sequence ||
	    pack->sequence > retention->sequence || json_take_u64(o, "number", &number) ||
	    number >= RETENTION_PACKS_MAX || take_uuid(o, "run", &pack->run) ||
	    json_take_u64(o, "first", &pack->first) || !pack->first ||
	    json_take_u64(o, "last", &pack->last) || pack->last < pack->first ||
	    pack->last >= retention->through || json_take_u64(o, "bytes", &pack->bytes) ||
	    json_take_u64(o, "items", &pack->items) || !pack_sane(pack) ||
	    json_take_hex(o, "sha256", pack->sha256, CRYPTO_DIGEST_SIZE) ||
	    json_take_hex(o, "index_sha256", pack->index_sha256, CRYPTO_DIGEST_SIZE))
		return -EBADMSG;
	pack->number = (uint32_t)number;
	return 0;
}

/* Rising by sequence, then number. */
static int packs_parse(const json_t *o, struct retention *retention)
{
	const json_t *array = json_object_get(o, "packs"), *item;
	size_t i;

	if (retention->version < 2)
		return 0;
	if (!json_is_array(array) || json_take_u64(o, "dead_bytes", &retention->dead_bytes))
		return -EBADMSG;
	retention->packs = calloc(json_array_size(array) + 1, sizeof(*retention->packs));
	if (!retention->packs)
		return -ENOMEM;
	json_array_foreach(array, i, item) {
		struct retention_pack *pack = &retention->packs[retention->pack_count++];

		if (pack_parse(item, retention, pack) ||
		    (i && (pack->sequence < pack[-1].sequence ||
			   (pack->sequence == pack[-1].sequence &&
			    pack->number <= pack[-1].number))))
			return -EBADMSG;
	}
	return 0;
}

int retention_parse(const char *text, size_t length, const struct retention_place *place,
		    struct retention *retention, struct error *err)
{
	json_t *object;
	int ret = json_read(text, length, &object);

	memset(retention, 0, sizeof(*retention));
	if (!ret)
		ret = facts_parse(object, place, retention);
	if (!ret)
		ret = numbers_parse(object, retention);
	if (!ret)
		ret = serving_parse(object, retention);
	if (!ret)
		ret = maps_parse(object, retention);
	if (!ret)
		ret = packs_parse(object, retention);
	json_decref(object);
	if (!ret)
		return 0;
	retention_fini(retention);
	return error_set_exit(err, ret == -ENOMEM ? EXIT_FAILED : EXIT_UNTRUSTWORTHY, ret,
			      ret == -ENOMEM ? "reading a retention record: out of memory"
					     : "the retention record holds something no "
					       "clawback wrote");
}
