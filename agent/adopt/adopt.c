/* adopt and release, step by step; undone when a step fails. */
#include "agent/adopt/adopt_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Messages of what could not be undone come after the one that matters. */
static void undo(const struct adoption *adoption, const struct device_facts *beneath)
{
	struct error err = ERROR_INIT;

	if (adopted_close(adoption->name, &err) || rule_remove(adoption->name, &err) ||
	    udev_reload(&err) || udev_look_again(beneath, &err))
		log_warning("undoing it failed: %s; `clawback release %s` does the rest",
			    err.message, adoption->name);
}

/* udev has to lead to the adopted device whoever asks for what lies on it. */
static int check_links(const struct adoption *adoption, const struct udev_facts *facts,
		       struct error *err)
{
	struct device_facts device, beneath;
	char path[PATH_MAX];
	struct stat st;
	int ret = adopted_find(adoption->name, &device, &beneath, err);

	if (ret || !facts->fs_uuid[0])
		return ret;
	snprintf(path, sizeof(path), "/dev/disk/by-uuid/%s", facts->fs_uuid);
	if (stat(path, &st) == 0 && tracker_device(st.st_rdev) == device.device)
		return 0;
	return error_set(err, -EIO, "udev does not let %s lead to /dev/mapper/%s; does another "
			 "rule of this machine?", path, adoption->name);
}

/* The rule first: killed behind it, the next boot adopts. */
static int adopt_now(const struct device_facts *beneath, const struct udev_facts *facts,
		     const struct adoption *adoption, struct error *err)
{
	int ret = rule_write(adoption, err);

	if (!ret)
		ret = udev_reload(err);
	if (!ret)
		ret = adopted_open(beneath, adoption->name, adoption->identity, false, err);
	if (!ret)
		ret = udev_look_again(beneath, err);
	return ret ? ret : check_links(adoption, facts, err);
}

/* What bears the name is this device's, by a killed run or long ago, or another's. */
static int check_name(const struct device_facts *beneath, const char *name, bool *already,
		      struct error *err)
{
	struct error missing = ERROR_INIT;
	struct device_facts device, there;
	int ret = adopted_find(name, &device, &there, &missing);

	*already = !ret && there.device == beneath->device;
	if (ret == -ENODEV || *already)
		return 0;
	if (!ret || ret == -EEXIST)
		return error_set(err, -EEXIST, "there is another device-mapper device called %s; "
				 "choose another name", name);
	*err = missing;
	return ret;
}

int adopt(const char *path, const char *name, const struct adopt_options *options,
	  struct adoption *adoption, struct error *err)
{
	struct device_facts device;
	struct udev_facts facts;
	bool already;
	int ret;

	memset(adoption, 0, sizeof(*adoption));
	if (!adoption_name_valid(name))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no name for an adopted device: "
				      "letters, digits, _ and -, up to %d", name, ADOPTION_NAME_MAX);
	strcpy(adoption->name, name);
	ret = device_facts(path, &device, err);
	if (!ret)
		ret = udev_facts(&device, &facts, err);
	if (!ret)
		ret = check_name(&device, name, &already, err);
	if (ret)
		return ret;
	ret = check_device(&device, &facts, already || options->next_boot, adoption, err);
	if (!ret)
		ret = rule_check(adoption, err);
	if (ret || options->dry_run)
		return ret;
	if (options->next_boot && !already) {
		ret = rule_write(adoption, err);
		return ret ? ret : udev_reload(err);
	}
	ret = adopt_now(&device, &facts, adoption, err);
	if (ret && !already)
		undo(adoption, &device);
	return ret;
}

int adopt_event(const char *path, const char *name, const char *identity, struct error *err)
{
	struct device_facts device;
	int ret;

	if (!adoption_name_valid(name))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no name for an adopted device",
				      name);
	ret = device_facts(path, &device, err);
	return ret ? ret : adopted_open(&device, name, identity, true, err);
}

/* ---- release ---------------------------------------------------------------- */

static int check_untracked(const struct device_facts *device, const char *name,
			   struct error *err)
{
	struct error missing = ERROR_INIT;
	struct tracker *tracker = NULL;
	uint32_t slot;
	int ret = tracker_open(false, &tracker, &missing);

	if (ret == -ENOENT)
		return 0;
	if (ret) {
		*err = missing;
		return ret;
	}
	ret = tracker_find(tracker, device->device, &slot);
	tracker_close(tracker);
	if (ret)
		return 0;
	return error_set(err, -EBUSY, "/dev/mapper/%s is tracked; `clawback detach` its volume first",
			 name);
}

int release(const char *name, bool dry_run, struct error *err)
{
	struct device_facts device, beneath;
	char where[PATH_MAX];
	bool stands;
	int ret;

	if (!adoption_name_valid(name))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no name of an adopted device",
				      name);
	ret = adopted_find(name, &device, &beneath, err);
	stands = !ret;
	if (ret == -ENODEV && !rule_exists(name))
		return error_set(err, -ENOENT, "no device was adopted as %s; `clawback adopt` lists "
				 "those that were", name);
	if (ret == -ENODEV) {
		*err = (struct error)ERROR_INIT;
		ret = 0;
	}
	if (!ret && stands)
		ret = device_usage(device.device, where, sizeof(where), err);
	if (!ret && stands && *where)
		return error_set(err, -EBUSY, "/dev/mapper/%s is in use: %s; unmount it first", name,
				 where);
	if (!ret && stands)
		ret = check_untracked(&device, name, err);
	if (ret || dry_run)
		return ret;
	/* The rule first: a look of udev's in between would adopt it again. */
	ret = rule_remove(name, err);
	if (!ret)
		ret = udev_reload(err);
	if (!ret && stands)
		ret = adopted_close(name, err);
	return ret || !stands || !beneath.path[0] ? ret : udev_look_again(&beneath, err);
}

/* ---- list --------------------------------------------------------------------- */

struct list {
	int (*visit)(const char *name, const struct device_facts *device,
		     const struct device_facts *beneath, void *context);
	void *context;
};

static int list_one(const char *name, void *context)
{
	struct error missing = ERROR_INIT;
	struct device_facts device, beneath;
	struct list *list = context;
	bool stands = !adopted_find(name, &device, &beneath, &missing);

	return list->visit(name, stands ? &device : NULL, stands ? &beneath : NULL, list->context);
}

int adopt_each(int (*visit)(const char *name, const struct device_facts *device,
			    const struct device_facts *beneath, void *context),
	       void *context, struct error *err)
{
	struct list list = { visit, context };

	return rule_each(list_one, &list, err);
}
