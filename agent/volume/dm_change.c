/* libdevmapper: making, changing and removing devices; udev's part in it. */
#include "agent/volume/dm_private.h"

#include "agent/base/log.h"

#include <errno.h>
#include <time.h>

#define DMDEV_UDEV_WAIT_MS 10000

/* What keeps other programs' hands off a helper device. */
#define DMDEV_HELPER_FLAGS (DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | \
			    DM_UDEV_DISABLE_DISK_RULES_FLAG | \
			    DM_UDEV_DISABLE_OTHER_RULES_FLAG)

void dmdev_wait(uint32_t cookie)
{
	struct timespec nap = { 0, 2000000 };
	int ready = 0;

	if (!cookie)
		return;
	/* dm_udev_wait itself would wait for ever for an udevd that died. */
	for (int i = 0; i < DMDEV_UDEV_WAIT_MS / 2; i++) {
		if (!dm_udev_wait_immediate(cookie, &ready) || ready) {
			dm_task_update_nodes();
			return;
		}
		nanosleep(&nap, NULL);
	}
	log_warning("udev has not handled a device-mapper event within %d s; is systemd-udevd well?",
		    DMDEV_UDEV_WAIT_MS / 1000);
}

/*
 * Runs a task that makes udev events. Without a cookie libdevmapper would tell
 * udev to forget the device's links. Flags 0 on a device that is not ours make
 * an event like any other program's.
 */
static int dmdev_run(struct dm_task *task, uint16_t flags, uint32_t *cookie)
{
	int done;

	*cookie = 0;
	if (!dm_task_set_cookie(task, cookie, flags))
		return 0;
	done = dm_task_run(task);
	/* With sync off no cookie was made, but nodes may be due. */
	if (!*cookie)
		dm_task_update_nodes();
	return done;
}

static int dmdev_run_waiting(struct dm_task *task, uint16_t flags)
{
	uint32_t cookie;
	int done = dmdev_run(task, flags, &cookie);

	dmdev_wait(cookie);
	return done;
}

static int create(const char *name, const char *uuid, const struct dmtable *table,
		  bool read_only, uint16_t flags, uint32_t *device, struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task_name(DM_DEVICE_CREATE, name);
	struct dmdev_info info;
	int ret;

	if (!task || !dm_task_set_uuid(task, uuid) || !dm_task_secure_data(task) ||
	    (read_only && !dm_task_set_ro(task)) || dmtable_set(task, table) ||
	    !dmdev_run_waiting(task, flags))
		return dmdev_fail(task, err, "create", name);
	ret = dmdev_info_name(name, &info, err);
	if (ret)
		return ret;
	*device = info.device;
	return 0;
}

int dmdev_create(const char *name, const char *uuid, const struct dmtable *table,
		 bool read_only, uint32_t *device, struct error *err)
{
	return create(name, uuid, table, read_only, DMDEV_HELPER_FLAGS, device, err);
}

int dmdev_create_public(const char *name, const char *uuid, const struct dmtable *table,
			uint32_t *device, struct error *err)
{
	/* Where udev runs, its rules make the nodes. */
	return create(name, uuid, table, false, DM_UDEV_DISABLE_LIBRARY_FALLBACK, device,
		      err);
}

int dmdev_remove(const char *name, struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task_name(DM_DEVICE_REMOVE, name);
	struct error ignored = ERROR_INIT;
	struct dmdev_info info;

	/* The library tries 25 times, 200 ms apart, while it is busy. */
	if (task && dm_task_retry_remove(task) && dmdev_run_waiting(task, DMDEV_HELPER_FLAGS))
		return 0;
	dmdev_fail(task, err, "remove", name);
	if (dmdev_info_name(name, &info, &ignored) == -ENODEV) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	return err->code;
}

int dmdev_load(uint32_t device, const struct dmtable *table, bool read_only,
	       struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task(DM_DEVICE_RELOAD, device);
	char number[24];

	dmdev_number(device, number);
	if (!task || !dm_task_secure_data(task) ||
	    (read_only && !dm_task_set_ro(task)) || dmtable_set(task, table) ||
	    !dm_task_run(task))
		return dmdev_fail(task, err, "load a table into", number);
	return 0;
}

/* A handled signal cuts the wait for I/O in flight short: EINTR, try again. */
static bool dmdev_again(struct dm_task *task, int attempt)
{
	return task && dm_task_get_errno(task) == EINTR && attempt < 10;
}

static int dmdev_simple(int type, uint32_t device, const char *what,
			struct error *err)
{
	char number[24];

	dmdev_number(device, number);
	for (int attempt = 0;; attempt++) {
		CLEANUP_TASK struct dm_task *task = dmdev_task(type, device);

		if (task && dm_task_run(task))
			return 0;
		if (!dmdev_again(task, attempt))
			return dmdev_fail(task, err, what, number);
	}
}

int dmdev_clear(uint32_t device, struct error *err)
{
	return dmdev_simple(DM_DEVICE_CLEAR, device, "clear the inactive table of", err);
}

int dmdev_suspend(uint32_t device, struct error *err)
{
	return dmdev_simple(DM_DEVICE_SUSPEND, device, "suspend", err);
}

int dmdev_resume(uint32_t device, uint32_t *cookie, struct error *err)
{
	char number[24];

	dmdev_number(device, number);
	for (int attempt = 0;; attempt++) {
		CLEANUP_TASK struct dm_task *task = dmdev_task(DM_DEVICE_RESUME, device);

		/* Its node is there already and not ours to make. */
		if (task && dm_task_set_add_node(task, DM_ADD_NODE_ON_CREATE) &&
		    dmdev_run(task, 0, cookie))
			return 0;
		dmdev_wait(*cookie);
		*cookie = 0;
		if (!dmdev_again(task, attempt))
			return dmdev_fail(task, err, "resume", number);
	}
}

void dmdev_release(void)
{
	dm_lib_release();
}
