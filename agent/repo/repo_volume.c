/*
 * Volume objects: volumes/ID.json, one small JSON a volume, so that a name can be
 * found without listing every object. They are hints: the name that counts is in
 * each signed manifest. A digest tells damage; the text is canonical, so that a
 * reader accepts exactly what a writer wrote.
 */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"

#include <errno.h>
#include <string.h>

#define VOLUME_PREFIX "volumes/"
#define VOLUME_OBJECT_MAX 4096u

static void volume_key(const struct uuid *uuid, char key[static STORE_KEY_MAX])
{
	char id[UUID_TEXT_SIZE];

	uuid_format(uuid, id);
	snprintf(key, STORE_KEY_MAX, VOLUME_PREFIX "%s.json", id);
}

static char *volume_text(const struct repo_volume *volume)
{
	char id[UUID_TEXT_SIZE], check[2 * CRYPTO_DIGEST_SIZE + 1];
	char named[UUID_TEXT_SIZE + REPO_NAME_MAX + 2];
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	json_t *object;
	char *text;

	uuid_format(&volume->id, id);
	snprintf(named, sizeof(named), "%s %s", id, volume->name);
	digest_of(named, strlen(named), digest);
	hex_encode(digest, sizeof(digest), check);
	object = json_pack("{s:s, s:i, s:s, s:s, s:s}", "format", "clawback volume",
			   "version", 1, "id", id, "name", volume->name, "sha256", check);
	text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
	json_decref(object);
	return text;
}

int repo_volume_add(struct repo *repo, const struct repo_volume *volume,
		    struct error *err)
{
	CLEANUP_FREE char *text = volume_text(volume);
	char key[STORE_KEY_MAX];
	int ret;

	volume_key(&volume->id, key);
	if (!text)
		return error_set(err, -ENOMEM, "registering volume %s: out of memory",
				 volume->name);
	ret = store_put(repo->store, key, text, strlen(text), STORE_IF_ABSENT, err);
	if (ret == -EEXIST)
		return 0;
	return ret ? error_prefix(err, "registering volume %s", volume->name) : 0;
}

struct volume_list {
	struct repo_volume *items;
	size_t count, room;
};

static int volume_seen(void *context, const char *key, uint64_t bytes)
{
	struct volume_list *list = context;
	char id[UUID_TEXT_SIZE], own[STORE_KEY_MAX];
	struct uuid uuid;

	(void)bytes;
	snprintf(id, sizeof(id), "%s", key + strlen(VOLUME_PREFIX));
	if (uuid_parse(id, &uuid))
		return 0;
	volume_key(&uuid, own);
	if (strcmp(key, own))
		return 0;	/* a stranger's, a copy, an id in capitals */
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 16;
		struct repo_volume *items = reallocarray(list->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = (struct repo_volume){ .id = uuid };
	return 0;
}

static int volume_load(struct repo *repo, struct repo_volume *volume,
		       struct error *err)
{
	char id[UUID_TEXT_SIZE], key[STORE_KEY_MAX];
	CLEANUP_FREE uint8_t *text = NULL;
	CLEANUP_FREE char *wanted = NULL;
	json_t *object;
	size_t length;
	bool good;
	int ret;

	uuid_format(&volume->id, id);
	volume_key(&volume->id, key);
	ret = store_get_all(repo->store, key, VOLUME_OBJECT_MAX, &text, &length, err);
	if (ret)
		return error_prefix(err, "reading what volume %s is", id);
	ret = json_read((const char *)text, length, &object);
	if (ret == -ENOMEM)
		return error_set(err, ret, "reading what volume %s is: out of memory", id);
	good = object && !json_take_text(object, "name", volume->name, sizeof(volume->name));
	json_decref(object);
	wanted = good ? volume_text(volume) : NULL;
	if (good && !wanted)
		return error_set(err, -ENOMEM, "reading what volume %s is: out of memory", id);
	good = wanted && strlen(wanted) == length && !memcmp(wanted, text, length);
	return good ? 0 : error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s is damaged; "
					 "its points can still be named by the volume's id",
					 store_url(repo->store), key);
}

static int volume_order(const void *a, const void *b)
{
	return strcmp(((const struct repo_volume *)a)->name,
		      ((const struct repo_volume *)b)->name);
}

int repo_volumes(struct repo *repo, struct repo_volume **volumes, size_t *count,
		 struct error *err)
{
	struct volume_list list = { NULL, 0, 0 };
	int ret;

	*volumes = NULL;
	*count = 0;
	ret = store_list(repo->store, VOLUME_PREFIX, volume_seen, &list, err);
	if (ret == -ENOMEM && !err->code)
		error_set(err, ret, "listing volumes: out of memory");
	for (size_t i = 0; !ret && i < list.count; i++)
		ret = volume_load(repo, &list.items[i], err);
	if (ret) {
		free(list.items);
		return ret;
	}
	if (list.count)
		qsort(list.items, list.count, sizeof(*list.items), volume_order);
	*volumes = list.items;
	*count = list.count;
	return 0;
}

static int volume_unknown(struct repo *repo, const char *name,
			  const struct repo_volume *volumes, size_t count,
			  struct error *err)
{
	error_set(err, -ENOENT, "%s has no volume \"%s\"", store_url(repo->store), name);
	if (!count)
		return error_hint(err, "it has none yet");
	error_hint(err, "it has");
	for (size_t i = 0; i < count; i++) {
		size_t used = strlen(err->message);

		snprintf(err->message + used, sizeof(err->message) - used, "%s %s",
			 i ? "," : "", volumes[i].name);
	}
	return err->code;
}

int repo_volume_find(struct repo *repo, const char *name,
		     struct repo_volume *volume, struct error *err)
{
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	const struct repo_volume *found = NULL;
	struct uuid id;
	size_t count;
	int ret;

	/* An id needs no looking up, and so works when a volume object is damaged. */
	if (!uuid_parse(name, &id)) {
		memset(volume, 0, sizeof(*volume));
		volume->id = id;
		uuid_format(&id, volume->name);
		return 0;
	}
	ret = repo_volumes(repo, &volumes, &count, err);
	if (ret)
		return ret;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(volumes[i].name, name) != 0)
			continue;
		if (found)
			return error_set_exit(err, EXIT_USAGE, -EEXIST,
					      "two volumes are called \"%s\"; name one "
					      "by its id", name);
		found = &volumes[i];
	}
	if (!found)
		return volume_unknown(repo, name, volumes, count, err);
	*volume = *found;
	return 0;
}
