/*
 * Taking helper devices away again: at the end of a run, when one fails, and
 * after one that died. All three are the same walk, and it may itself be killed
 * anywhere: each step leaves something from which a rerun finds its way.
 *
 *   1. V back on its own table, which V-real still holds
 *   2. V-snap, its COW store, V-origin
 *   3. the tracker's route for V-real, then V-real: in this order no route
 *      outlives its device, whose number the kernel may give to another one
 */
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/volume/boundary_test.h"
#include "agent/volume/dm.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/sysfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEFTOVERS_NAME_PREFIX "clawback-"
#define LEFTOVERS_USERS_MAX 8

void leftovers_device_name(const char *volume, const char *kind, char name[static 128])
{
	snprintf(name, 128, LEFTOVERS_NAME_PREFIX "%s-%s", volume, kind);
}

void leftovers_device_uuid(const struct uuid *id, const char *kind,
			   char uuid[static 130])
{
	char text[UUID_TEXT_SIZE];

	uuid_format(id, text);
	snprintf(uuid, 130, HELPER_UUID_PREFIX "%s-%s", text, kind);
}

/* ---- 1: the volume ---------------------------------------------------------- */

struct leftovers_users {
	uint32_t devices[LEFTOVERS_USERS_MAX];
	size_t count;
};

static int leftovers_add_user(uint32_t device, void *context)
{
	struct leftovers_users *users = context;

	if (users->count == LEFTOVERS_USERS_MAX)
		return -E2BIG;
	users->devices[users->count++] = device;
	return 0;
}

static int leftovers_has_window(uint32_t device, bool inactive, uint32_t origin,
				bool *has, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable table = { NULL, 0 };
	int ret = dmdev_table(device, inactive, &table, err);

	*has = !ret && dmtable_is_window(&table, origin);
	return ret;
}

/*
 * The volume runs on V-origin: loads and starts its own table. What udev does about
 * it goes on meanwhile: it looks at the volume, which has no more to do with the
 * helpers by then.
 */
static int leftovers_restore(uint32_t device, uint32_t real, bool read_only,
			     uint32_t *cookie, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable own = { NULL, 0 };
	int ret = dmdev_table(real, false, &own, err);

	if (!ret && !own.count)
		ret = error_set(err, -ENODATA, "the stand-in device %u:%u has no table",
				DEVICE_MAJOR(real), DEVICE_MINOR(real));
	if (!ret)
		ret = dmdev_load(device, &own, read_only, err);
	if (!ret) {
		boundary_stage("own-loaded");
		ret = dmdev_resume(device, cookie, err);
	}
	boundary_stage("own-live");
	return ret;
}

/* To be suspended once more: udev has to be done with it first. */
static int leftovers_resume(uint32_t device, struct error *err)
{
	uint32_t cookie = 0;
	int ret = dmdev_resume(device, &cookie, err);

	dmdev_wait(cookie);
	return ret;
}

static int leftovers_free_user(uint32_t device, const struct leftovers *left,
			       uint32_t *cookie, struct error *err)
{
	uint32_t origin = left->origin_device;
	struct dmdev_info info;
	bool waiting, live;
	int ret = dmdev_info(device, &info, err);

	if (ret)
		return ret == -ENODEV ? 0 : ret;
	ret = leftovers_has_window(device, true, origin, &waiting, err);
	/*
	 * Suspended with our table waiting: died between suspend and resume of a
	 * group. Starting that table first keeps it findable if we are killed;
	 * cleared and suspended it would be nobody's.
	 */
	if (!ret && waiting)
		ret = info.suspended ? leftovers_resume(device, err) :
				       dmdev_clear(device, err);
	if (!ret)
		ret = leftovers_has_window(device, false, origin, &live, err);
	if (!ret && live)
		ret = leftovers_restore(device, left->real_device, info.read_only, cookie,
					err);
	if (ret) {
		error_prefix(err, "cannot give volume %s its own table back", info.name);
		error_hint(err, "the volume works on; run clawback again to retry");
	}
	return ret;
}

static int leftovers_free_volume(const struct leftovers *left, uint32_t *cookie,
				 struct error *err)
{
	struct leftovers_users users = { .count = 0 };
	uint32_t origin = left->origin_device;
	int ret = sysfs_each(origin, "holders", leftovers_add_user, &users);

	if (ret)
		return error_set(err, ret, "cannot find who uses device %u:%u: %s",
				 DEVICE_MAJOR(origin), DEVICE_MINOR(origin),
				 error_text(ret));
	for (size_t i = 0; i < users.count && !ret; i++)
		ret = leftovers_free_user(users.devices[i], left, cookie, err);
	return ret;
}

/* ---- 2, 3: the helpers -------------------------------------------------------- */

static int leftovers_remove_device(const char *name, unsigned *removed,
				   struct error *err)
{
	int ret;

	if (!name[0])
		return 0;
	ret = dmdev_remove(name, err);
	if (ret)
		return ret;
	(*removed)++;
	boundary_stage(name + strlen(LEFTOVERS_NAME_PREFIX));
	return 0;
}

/*
 * A route that stays can only add marks, so it does not keep V-real here. -ESTALE:
 * the whole tracker was replaced, routes and all.
 */
static void leftovers_remove_route(const struct leftovers *left,
				   struct tracker *tracker)
{
	struct error err = ERROR_INIT;
	int ret = tracker ? tracker_alias_remove(tracker, left->real_device, &err) : 0;

	if (ret && ret != -ENOENT && ret != -ESTALE)
		log_warning("%s", err.message);
}

int leftovers_remove(const struct leftovers *left, struct tracker *tracker,
		     uint32_t *cookie, unsigned *removed, struct error *err)
{
	int ret = 0;

	if (left->origin[0])
		ret = leftovers_free_volume(left, cookie, err);
	if (!ret)
		ret = leftovers_remove_device(left->snap, removed, err);
	if (!ret)
		ret = leftovers_remove_device(left->cow, removed, err);
	if (!ret)
		ret = leftovers_remove_device(left->origin, removed, err);
	if (!ret && left->real[0])
		leftovers_remove_route(left, tracker);
	if (!ret)
		ret = leftovers_remove_device(left->real, removed, err);
	return ret;
}

/* ---- finding them --------------------------------------------------------------- */

struct leftovers_list {
	struct leftovers *items;
	size_t count;
	struct error *err;
};

static struct leftovers *leftovers_entry(struct leftovers_list *list,
					 const struct uuid *id)
{
	struct leftovers *items;

	for (size_t i = 0; i < list->count; i++)
		if (uuid_equal(&list->items[i].id, id))
			return &list->items[i];
	items = reallocarray(list->items, list->count + 1, sizeof(*items));
	if (!items)
		return NULL;
	list->items = items;
	memset(&items[list->count], 0, sizeof(*items));
	items[list->count].id = *id;
	return &items[list->count++];
}

/* "clawback-NAME-kind" tells the volume's name, hence its lock. */
static void leftovers_parse_name(const char *device, const char *kind,
				 char name[static VOLUME_NAME_MAX + 1])
{
	size_t prefix = strlen(LEFTOVERS_NAME_PREFIX), all = strlen(device);
	size_t suffix = strlen(kind) + 1;

	if (all <= prefix + suffix || all - prefix - suffix > VOLUME_NAME_MAX ||
	    strncmp(device, LEFTOVERS_NAME_PREFIX, prefix))
		return;
	memcpy(name, device + prefix, all - prefix - suffix);
	name[all - prefix - suffix] = '\0';
	if (!volume_name_valid(name))
		name[0] = '\0';
}

static int leftovers_visit(const char *name, uint32_t device, void *context)
{
	static const size_t kind_at = sizeof(HELPER_UUID_PREFIX) + 36;
	struct leftovers_list *list = context;
	struct error err = ERROR_INIT;
	char text[UUID_TEXT_SIZE];
	struct leftovers *entry;
	struct dmdev_info info;
	const char *uuid, *kind;
	struct uuid id;
	int ret;

	/* Not from sysfs: a device whose maker died before it had a table is not there. */
	ret = dmdev_info(device, &info, &err);
	if (ret == -ENODEV)
		return 0;	/* gone since it was listed */
	if (ret) {
		*list->err = err;
		return ret;
	}
	uuid = info.uuid;
	if (strncmp(uuid, HELPER_UUID_PREFIX, strlen(HELPER_UUID_PREFIX)) ||
	    strlen(uuid) <= kind_at || uuid[kind_at - 1] != '-')
		return 0;
	snprintf(text, sizeof(text), "%.36s", uuid + strlen(HELPER_UUID_PREFIX));
	if (uuid_parse(text, &id))
		return 0;
	entry = leftovers_entry(list, &id);
	if (!entry)
		return -ENOMEM;
	kind = uuid + kind_at;
	leftovers_parse_name(name, kind, entry->name);
	if (strcmp(kind, "real") == 0) {
		snprintf(entry->real, sizeof(entry->real), "%s", name);
		entry->real_device = device;
	} else if (strcmp(kind, "origin") == 0) {
		snprintf(entry->origin, sizeof(entry->origin), "%s", name);
		entry->origin_device = device;
	} else if (strcmp(kind, "snap") == 0) {
		snprintf(entry->snap, sizeof(entry->snap), "%s", name);
	} else if (strcmp(kind, "cow") == 0) {
		snprintf(entry->cow, sizeof(entry->cow), "%s", name);
	}
	return 0;
}

static int leftovers_find(struct leftovers_list *list, struct error *err)
{
	int ret;

	/* A kernel without device-mapper has no leftovers. */
	if (access("/sys/class/misc/device-mapper", F_OK) < 0)
		return 0;
	ret = dmdev_each(leftovers_visit, list, err);
	if (ret && !err->code)
		error_set(err, ret, "cannot list helper devices: %s", error_text(ret));
	return ret;
}

int leftovers_remove_of(const struct uuid *id, struct tracker *tracker,
			uint32_t *cookie, unsigned *removed, struct error *err)
{
	struct leftovers_list list = { NULL, 0, err };
	int ret = leftovers_find(&list, err);

	for (size_t i = 0; i < list.count && !ret; i++)
		if (uuid_equal(&list.items[i].id, id))
			ret = leftovers_remove(&list.items[i], tracker, cookie, removed,
					       err);
	free(list.items);
	return ret;
}

/* One volume's, under its lock; a held lock means a living run: not touched. */
static int leftovers_recover(const char *state_folder, const struct leftovers *left,
			     struct tracker *tracker, unsigned *removed,
			     struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	char path[PATH_MAX];
	uint32_t cookie = 0;
	int ret;

	/* A volume that this state folder does not know has no lock in it. */
	if (left->name[0] && !volume_path(state_folder, left->name, NULL, path, err) &&
	    access(path, F_OK) == 0) {
		ret = volume_lock(state_folder, left->name, "recover", &lock, err);
		if (ret == -EWOULDBLOCK) {
			log_detail("volume %s: its helper devices are in use", left->name);
			*err = (struct error)ERROR_INIT;
			return 0;
		}
		if (ret)
			return ret;
	}
	/* Listed anew: before we had the lock, a run may just have ended. */
	ret = leftovers_remove_of(&left->id, tracker, &cookie, removed, err);
	/* Under the lock: the next run suspends the volume. */
	dmdev_wait(cookie);
	return ret;
}

int boundary_recover(const char *state_folder, unsigned *removed,
		     struct error *err)
{
	struct leftovers_list list = { NULL, 0, err };
	struct tracker *tracker = NULL;
	struct error first = ERROR_INIT;
	int ret;

	*removed = 0;
	ret = leftovers_find(&list, err);
	if (!ret && list.count) {
		ret = tracker_open(false, &tracker, err);
		/* Nothing loaded: no routes to take away. Anything else wrong
		 * with the tracker must not keep a volume on our table. */
		if (ret && ret != -ENOENT)
			log_warning("recover: %s", err->message);
		*err = (struct error)ERROR_INIT;
		ret = 0;
	}
	for (size_t i = 0; i < list.count; i++) {
		if (!leftovers_recover(state_folder, &list.items[i], tracker,
				       removed, err))
			continue;
		if (!first.code)
			first = *err;
	}
	if (first.code) {
		*err = first;
		ret = first.code;
	}
	tracker_close(tracker);
	free(list.items);
	dmdev_release();
	return ret;
}
