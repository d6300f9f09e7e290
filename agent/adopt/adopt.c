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
	else if (adoption->root && initramfs_update(&err))
		log_warning("nothing was adopted, but the initramfs may do it: mend that and run "
			    "`update-initramfs -u -k all`: %s", err.message);
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

/* It is in use: udev adopts it when it meets it unused. */
static int adopt_later(const struct adoption *adoption, struct error *err)
{
	int ret = rule_write(adoption, err);

	return ret ? ret : udev_reload(err);
}

/*
 * What bears the name is this device's, by a killed run or long ago, or another's.
 * `standing` is the adopted device that is there already, or 0.
 */
static int check_name(const struct device_facts *beneath, const char *name, uint32_t *standing,
		      struct error *err)
{
	struct error missing = ERROR_INIT;
	struct device_facts device, there;
	int ret = adopted_find(name, &device, &there, &missing);

	*standing = !ret && there.device == beneath->device ? device.device : 0;
	if (ret == -ENODEV || *standing)
		return 0;
	if (!ret || ret == -EEXIST)
		return error_set(err, -EEXIST, "there is another device-mapper device called %s; "
				 "choose another name", name);
	*err = missing;
	return ret;
}

/* Checked. */
static int adopt_checked(const struct device_facts *device, const struct udev_facts *facts,
			 const struct adoption *adoption, bool later, bool keep, struct error *err)
{
	int ret = later ? adopt_later(adoption, err) : adopt_now(device, facts, adoption, err);

	if (!ret && adoption->root)
		ret = initramfs_update(err);
	if (ret && !keep)
		undo(adoption, device);
	return ret;
}

int adopt(const char *path, const char *name, const struct adopt_options *options,
	  struct adoption *adoption, struct error *err)
{
	struct device_facts device;
	struct udev_facts facts;
	uint32_t standing;
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
		ret = check_name(&device, name, &standing, err);
	if (ret)
		return ret;
	adoption->root = root_lies_on(standing ? standing : device.device);
	ret = check_device(&device, &facts, standing || options->next_boot, adoption, err);
	if (!ret)
		ret = rule_check(adoption, err);
	if (ret || options->dry_run)
		return ret;
	return adopt_checked(&device, &facts, adoption, options->next_boot && !standing, standing,
			     err);
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

/* Whatever still names the device must be there to tell, before it goes. */
static int check_release(const char *name, const struct device_facts *device, bool root,
			 struct error *err)
{
	char where[PATH_MAX];
	int ret = root ? root_check_name(err)
		       : device_usage(device->device, where, sizeof(where), err);

	if (!ret && !root && *where)
		ret = error_set(err, -EBUSY, "/dev/mapper/%s is in use: %s; unmount it first", name,
				where);
	if (!ret)
		ret = check_fstab(device, err);
	return ret ? ret : check_untracked(device, name, err);
}

/* The rule first: a look of udev's in between would adopt it again. */
static int release_rule(const char *name, bool in_initramfs, struct error *err)
{
	int ret = rule_remove(name, err);

	if (!ret)
		ret = udev_reload(err);
	if (ret || !in_initramfs)
		return ret;
	ret = initramfs_update(err);
	return ret ? error_hint(err, "its rules are gone, but the initramfs may have them still: "
				"mend that and run `update-initramfs -u -k all`") : 0;
}

static int release_find(const char *name, struct device_facts *device,
			struct device_facts *beneath, bool *stands, struct error *err)
{
	int ret = adopted_find(name, device, beneath, err);

	*stands = !ret;
	if (ret != -ENODEV)
		return ret;
	if (!rule_exists(name))
		return error_set(err, -ENOENT, "no device was adopted as %s; `clawback adopt` lists "
				 "those that were", name);
	*err = (struct error)ERROR_INIT;
	return 0;
}

int release(const char *name, bool dry_run, bool *next_boot, struct error *err)
{
	struct device_facts device, beneath;
	bool stands, root, in_initramfs;
	int ret;

	if (!adoption_name_valid(name))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no name of an adopted device",
				      name);
	ret = release_find(name, &device, &beneath, &stands, err);
	if (ret)
		return ret;
	root = *next_boot = stands && root_lies_on(device.device);
	in_initramfs = root || rule_in_initramfs(name);
	if (stands)
		ret = check_release(name, &device, root, err);
	if (!ret && in_initramfs)
		ret = initramfs_check(err);
	if (ret || dry_run)
		return ret;
	ret = release_rule(name, in_initramfs, err);
	if (!ret && stands && !root)
		ret = adopted_close(name, err);
	return ret || !stands || root || !beneath.path[0] ? ret : udev_look_again(&beneath, err);
}

/* ---- list --------------------------------------------------------------------- */

struct list {
	int (*visit)(const struct adopt_entry *entry, void *context);
	void *context;
};

static int list_one(const char *name, void *context)
{
	struct error missing = ERROR_INIT;
	struct device_facts device, beneath;
	struct list *list = context;
	bool stands = !adopted_find(name, &device, &beneath, &missing);
	struct adopt_entry entry = {
		.name = name,
		.ruled = rule_exists(name),
		.root = rule_in_initramfs(name),
		.device = stands ? &device : NULL,
		.beneath = stands ? &beneath : NULL,
	};

	return list->visit(&entry, list->context);
}

static int list_released(const char *name, void *context)
{
	return rule_exists(name) ? 0 : list_one(name, context);
}

int adopt_each(int (*visit)(const struct adopt_entry *entry, void *context), void *context,
	       struct error *err)
{
	struct list list = { visit, context };
	struct error none = ERROR_INIT;
	int ret = rule_each(list_one, &list, err);

	if (ret)
		return ret;
	/* Where device-mapper cannot be asked there are none. */
	adopted_each(list_released, &list, &none);
	return 0;
}
