/* libdevmapper: making, changing and removing devices; udev's part in it. */
#include "agent/volume/dm_private.h"

#include "agent/base/log.h"

#include <errno.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <time.h>

/* What keeps other programs' hands off a helper device. */
#define DMDEV_HELPER_FLAGS (DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | \
			    DM_UDEV_DISABLE_DISK_RULES_FLAG | \
			    DM_UDEV_DISABLE_OTHER_RULES_FLAG)

static void dmdev_forget(uint32_t cookie)
{
	int semaphore = semget((key_t)cookie, 1, 0);

	if (semaphore >= 0)
		semctl(semaphore, 0, IPC_RMID);
}

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
	dmdev_forget(cookie);
	log_warning("udev has not handled a device-mapper event within %d s; is systemd-udevd well?",
		    DMDEV_UDEV_WAIT_MS / 1000);
}

/* One more event under this cookie, or under a new one when it is 0 or was lost. */
static int dmdev_cookie(struct dm_task *task, uint16_t flags, uint32_t *cookie)
{
	if (*cookie && dm_task_set_cookie(task, cookie, flags))
		return 1;
	*cookie = 0;
	return dm_task_set_cookie(task, cookie, flags);
}

/*
 * Runs a task that makes udev events. Without a cookie libdevmapper would tell
 * udev to forget the device's links. Flags 0 on a device that is not ours make
 * an event like any other program's.
 */
static int dmdev_run(struct dm_task *task, uint16_t flags, uint32_t *cookie)
{
	int done;

	if (!dmdev_cookie(task, flags, cookie))
		return 0;
	done = dm_task_run(task);
	/* With sync off no cookie was made, but nodes may be due. */
	if (!*cookie)
		dm_task_update_nodes();
	return done;
}

static int dmdev_run_waiting(struct dm_task *task, uint16_t flags)
{
	uint32_t cookie = 0;
	int done = dmdev_run(task, flags, &cookie);

	dmdev_wait(cookie);
	return done;
}

/*
 * For helper devices: udev gets the flags but no semaphore to report to, so there
 * is nothing to wait for and nothing that a kill could leave behind. Their links
 * are udev's alone, and come and go when it finds the time: were a node made or
 * removed here as well, the two would be in each other's way. Nothing needs the links;
 * the kernel makes /dev/dm-N itself, and has made it when this returns.
 */
static int dmdev_run_helper(struct dm_task *task)
{
	uint16_t flags = DMDEV_HELPER_FLAGS;
	uint32_t none = 0;
	int done;

	if (dmdev_udev_runs())
		flags |= DM_UDEV_DISABLE_LIBRARY_FALLBACK;
	dm_udev_set_sync_support(0);
	done = dm_task_set_cookie(task, &none, flags) && dm_task_run(task);
	dm_udev_set_sync_support(dmdev_udev_runs());
	dm_task_update_nodes();
	return done;
}

static int dmdev_run_public(struct dm_task *task)
{
	/* Where udev runs, its rules make the nodes. */
	return dmdev_run_waiting(task, DM_UDEV_DISABLE_LIBRARY_FALLBACK);
}

static int create(const char *name, const char *uuid, const struct dmtable *table,
		  bool read_only, int (*run)(struct dm_task *), uint32_t *device,
		  struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task_name(DM_DEVICE_CREATE, name);
	struct dmdev_info info;
	int ret;

	if (!task || !dm_task_set_uuid(task, uuid) || !dm_task_secure_data(task) ||
	    (read_only && !dm_task_set_ro(task)) || dmtable_set(task, table) ||
	    !run(task))
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
	return create(name, uuid, table, read_only, dmdev_run_helper, device, err);
}

int dmdev_create_public(const char *name, const char *uuid, const struct dmtable *table,
			uint32_t *device, struct error *err)
{
	return create(name, uuid, table, false, dmdev_run_public, device, err);
}

static int dmdev_remove_by(const char *name, int (*run)(struct dm_task *),
			   struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task_name(DM_DEVICE_REMOVE, name);
	struct error ignored = ERROR_INIT;
	struct dmdev_info info;

	/* The library tries 25 times, 200 ms apart, while it is busy. */
	if (task && dm_task_retry_remove(task) && run(task))
		return 0;
	dmdev_fail(task, err, "remove", name);
	if (dmdev_info_name(name, &info, &ignored) == -ENODEV) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	return err->code;
}

int dmdev_remove(const char *name, struct error *err)
{
	return dmdev_remove_by(name, dmdev_run_helper, err);
}

static int dmdev_run_farewell(struct dm_task *task)
{
	return dmdev_run_waiting(task, DMDEV_HELPER_FLAGS);
}

int dmdev_remove_public(const char *name, struct error *err)
{
	return dmdev_remove_by(name, dmdev_run_farewell, err);
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

int dmdev_expect(uint32_t device, uint32_t *cookie, struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task(DM_DEVICE_RESUME, device);
	char number[24];

	dmdev_number(device, number);
	/* Never run: it only counts. */
	if (!task || !dmdev_cookie(task, 0, cookie))
		return dmdev_fail(task, err, "prepare udev's answer for", number);
	return 0;
}

void dmdev_unexpect(uint32_t *cookie)
{
	if (*cookie)
		dmdev_forget(*cookie);
	*cookie = 0;
}

void dmdev_release(void)
{
	dm_lib_release();
}
