/* libdevmapper: tables, and asking about devices. */
#include "agent/volume/dm_private.h"

#include "agent/base/cleanup.h"
#include "agent/volume/sysfs.h"
#include "bpf/tracker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* libdevmapper's last complaint, for the struct error of the failing call. */
static _Thread_local char dmdev_said[256];

__attribute__((format(printf, 5, 6)))
static void dmdev_log(int level, const char *file, int line, int dm_errno,
		      const char *format, ...)
{
	va_list args;

	(void)file;
	(void)line;
	(void)dm_errno;
	/* The low bits are syslog's levels: errors only, and the first of a
	 * call, which is the cause. Debug lines may quote tables: never kept. */
	if ((level & 7) > 3 || dmdev_said[0])
		return;
	va_start(args, format);
	vsnprintf(dmdev_said, sizeof(dmdev_said), format, args);
	va_end(args);
}

static bool dmdev_in_udev, dmdev_has_udev;

void dmdev_inside_udev(void)
{
	dmdev_in_udev = true;
}

static void dmdev_init(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	dm_log_with_errno_init(dmdev_log);
	/* Names as the kernel has them: ours need no escapes, others' are only
	 * compared. */
	dm_set_name_mangling_mode(DM_STRING_MANGLING_NONE);
	/* Without udevd nobody would answer the cookies: we make nodes then. */
	dmdev_has_udev = !dmdev_in_udev && access("/run/udev/control", F_OK) == 0;
	dm_udev_set_sync_support(dmdev_has_udev);
}

bool dmdev_udev_runs(void)
{
	dmdev_init();
	return dmdev_has_udev;
}

void dmdev_task_free(struct dm_task **task)
{
	if (*task)
		dm_task_destroy(*task);
}

int dmdev_fail(struct dm_task *task, struct error *err, const char *what,
	       const char *name)
{
	/* Without a task: no memory, or no device-mapper, which the library tells. */
	int code = task ? -dm_task_get_errno(task) : dmdev_said[0] ? -ENOTSUP : -ENOMEM;

	if (code == -ENXIO)
		code = -ENODEV;
	error_set(err, code, "cannot %s device-mapper device %s: %s", what, name,
		  error_text(code ? code : -EIO));
	if (dmdev_said[0])
		error_hint(err, "libdevmapper says: %s", dmdev_said);
	return err->code;
}

void dmdev_number(uint32_t device, char text[static 24])
{
	snprintf(text, 24, "%u:%u", DEVICE_MAJOR(device), DEVICE_MINOR(device));
}

struct dm_task *dmdev_task(int type, uint32_t device)
{
	struct dm_task *task;

	dmdev_init();
	dmdev_said[0] = '\0';
	task = dm_task_create(type);
	if (task && (!dm_task_set_major_minor(task, (int)DEVICE_MAJOR(device),
					      (int)DEVICE_MINOR(device), 1) ||
		     !dm_task_no_open_count(task))) {
		dm_task_destroy(task);
		return NULL;
	}
	return task;
}

/* ---- tables ------------------------------------------------------------- */

void dmtable_fini(struct dmtable *table)
{
	for (size_t i = 0; i < table->count; i++) {
		struct dmtable_line *line = &table->lines[i];

		if (line->parameters)
			explicit_bzero(line->parameters, strlen(line->parameters));
		free(line->parameters);
		free(line->type);
	}
	free(table->lines);
	memset(table, 0, sizeof(*table));
}

int dmtable_append(struct dmtable *table, uint64_t start_sector, uint64_t sectors,
		   const char *type, const char *parameters)
{
	struct dmtable_line *lines = reallocarray(table->lines, table->count + 1,
						  sizeof(*lines));
	struct dmtable_line *line;

	if (!lines)
		return -ENOMEM;
	table->lines = lines;
	line = &lines[table->count];
	line->start_sector = start_sector;
	line->sectors = sectors;
	line->type = strdup(type);
	line->parameters = strdup(parameters);
	table->count++;
	return line->type && line->parameters ? 0 : -ENOMEM;
}

uint64_t dmtable_sectors(const struct dmtable *table)
{
	const struct dmtable_line *last;

	if (!table->count)
		return 0;
	last = &table->lines[table->count - 1];
	return last->start_sector + last->sectors;
}

static void window_parameters(uint32_t device, uint64_t start_sector,
			      char text[static 64])
{
	snprintf(text, 64, "%u:%u %llu", DEVICE_MAJOR(device), DEVICE_MINOR(device),
		 (unsigned long long)start_sector);
}

int dmtable_window(struct dmtable *window, const struct dmtable *like,
		   uint32_t device)
{
	char parameters[64];
	int ret = 0;

	for (size_t i = 0; i < like->count && !ret; i++) {
		const struct dmtable_line *line = &like->lines[i];

		window_parameters(device, line->start_sector, parameters);
		ret = dmtable_append(window, line->start_sector, line->sectors,
				     "linear", parameters);
	}
	return ret;
}

bool dmtable_is_window(const struct dmtable *table, uint32_t device)
{
	char parameters[64];

	for (size_t i = 0; i < table->count; i++) {
		window_parameters(device, table->lines[i].start_sector, parameters);
		if (strcmp(table->lines[i].type, "linear") ||
		    strcmp(table->lines[i].parameters, parameters))
			return false;
	}
	return table->count > 0;
}

int dmtable_set(struct dm_task *task, const struct dmtable *table)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct dmtable_line *line = &table->lines[i];

		if (!dm_task_add_target(task, line->start_sector, line->sectors,
					line->type, line->parameters))
			return -ENOMEM;
	}
	return 0;
}

int dmdev_table(uint32_t device, bool inactive, struct dmtable *table,
		struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task(DM_DEVICE_TABLE, device);
	char number[24], *type, *parameters;
	uint64_t start, length;
	void *next = NULL;
	int ret = 0;

	memset(table, 0, sizeof(*table));
	dmdev_number(device, number);
	if (!task || !dm_task_secure_data(task) ||
	    (inactive && !dm_task_query_inactive_table(task)) ||
	    !dm_task_run(task))
		return dmdev_fail(task, err, "read the table of", number);
	do {
		next = dm_get_next_target(task, next, &start, &length, &type,
					  &parameters);
		if (type)
			ret = dmtable_append(table, start, length, type,
					     parameters ? parameters : "");
	} while (next && !ret);
	if (ret) {
		dmtable_fini(table);
		return error_set(err, ret, "cannot keep the table of device-mapper device %s: %s",
				 number, error_text(ret));
	}
	return 0;
}

/* ---- asking -------------------------------------------------------------- */

static int dmdev_info_run(struct dm_task *task, const char *what,
			  struct dmdev_info *info, struct error *err)
{
	const char *name, *uuid;
	struct dm_info dmi;

	memset(info, 0, sizeof(*info));
	if (!task || !dm_task_run(task) || !dm_task_get_info(task, &dmi))
		return dmdev_fail(task, err, "look at", what);
	if (!dmi.exists)
		return error_set(err, -ENODEV, "there is no device-mapper device %s",
				 what);
	name = dm_task_get_name(task);
	uuid = dm_task_get_uuid(task);
	snprintf(info->name, sizeof(info->name), "%s", name ? name : "");
	snprintf(info->uuid, sizeof(info->uuid), "%s", uuid ? uuid : "");
	info->device = dmi.major << 20 | dmi.minor;
	info->suspended = dmi.suspended;
	info->live = dmi.live_table;
	info->inactive = dmi.inactive_table;
	info->read_only = dmi.read_only;
	info->open_count = dmi.open_count;
	return 0;
}

int dmdev_info(uint32_t device, struct dmdev_info *info, struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task(DM_DEVICE_INFO, device);
	char number[24];

	dmdev_number(device, number);
	return dmdev_info_run(task, number, info, err);
}

struct dm_task *dmdev_task_name(int type, const char *name)
{
	struct dm_task *task;

	dmdev_init();
	dmdev_said[0] = '\0';
	task = dm_task_create(type);
	if (task && !dm_task_set_name(task, name)) {
		dm_task_destroy(task);
		return NULL;
	}
	return task;
}

int dmdev_info_name(const char *name, struct dmdev_info *info, struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task_name(DM_DEVICE_INFO, name);

	return dmdev_info_run(task, name, info, err);
}

int dmdev_targets(uint32_t device, char *types, size_t room, struct error *err)
{
	/* Status, not table: no secret passes through. */
	CLEANUP_TASK struct dm_task *task = dmdev_task(DM_DEVICE_STATUS, device);
	char number[24], *type, *parameters;
	uint64_t start, length;
	void *next = NULL;

	types[0] = '\0';
	dmdev_number(device, number);
	if (!task || !dm_task_no_flush(task) || !dm_task_run(task))
		return dmdev_fail(task, err, "read the targets of", number);
	do {
		size_t used = strlen(types);
		char *seen;

		next = dm_get_next_target(task, next, &start, &length, &type,
					  &parameters);
		if (!type)
			continue;
		seen = strstr(types, type);
		/* A type that is part of another's name may be listed twice. */
		if (seen && (seen == types || seen[-1] == ',') &&
		    (seen[strlen(type)] == ',' || !seen[strlen(type)]))
			continue;
		snprintf(types + used, room - used, "%s%s", used ? "," : "", type);
	} while (next);
	return 0;
}

int dmdev_status(uint32_t device, char *status, size_t room, struct error *err)
{
	CLEANUP_TASK struct dm_task *task = dmdev_task(DM_DEVICE_STATUS, device);
	char number[24], *type, *parameters;
	uint64_t start, length;

	dmdev_number(device, number);
	if (!task || !dm_task_no_flush(task) || !dm_task_run(task))
		return dmdev_fail(task, err, "read the status of", number);
	dm_get_next_target(task, NULL, &start, &length, &type, &parameters);
	snprintf(status, room, "%s", type && parameters ? parameters : "");
	return 0;
}

int dmdev_each(int (*visit)(const char *name, uint32_t device, void *context),
	       void *context, struct error *err)
{
	CLEANUP_TASK struct dm_task *task = NULL;
	struct dm_names *names;
	int ret = 0;

	dmdev_init();
	dmdev_said[0] = '\0';
	task = dm_task_create(DM_DEVICE_LIST);
	if (!task || !dm_task_run(task))
		return dmdev_fail(task, err, "list", "(all)");
	names = dm_task_get_names(task);
	while (names && names->dev && !ret) {
		ret = visit(names->name, tracker_device((dev_t)names->dev), context);
		if (!names->next)
			break;
		names = (struct dm_names *)((char *)names + names->next);
	}
	return ret;
}

static bool dmdev_is_node(const char *path, uint32_t device)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISBLK(st.st_mode) &&
	       st.st_rdev == device_rdev(device);
}

int dmdev_node(const char *name, uint32_t device, char *path, size_t room,
	       struct error *err)
{
	snprintf(path, room, "/dev/mapper/%s", name);
	if (dmdev_is_node(path, device))
		return 0;
	snprintf(path, room, "/dev/dm-%u", DEVICE_MINOR(device));
	if (dmdev_is_node(path, device))
		return 0;
	return error_set(err, -ENODEV, "neither /dev/mapper/%s nor %s leads to device %u:%u; is /dev a devtmpfs, is udevd well?",
			 name, path, DEVICE_MAJOR(device), DEVICE_MINOR(device));
}

int dmdev_node_now(const char *name, uint32_t device, char *path, size_t room,
		   struct error *err)
{
	struct timespec nap = { 0, 5000000 };
	int ret;

	snprintf(path, room, "/dev/dm-%u", DEVICE_MINOR(device));
	if (dmdev_is_node(path, device))
		return 0;
	for (int i = 0; (ret = dmdev_node(name, device, path, room, err)) &&
			dmdev_udev_runs() && i < DMDEV_UDEV_WAIT_MS / 5; i++)
		nanosleep(&nap, NULL);
	if (!ret)
		*err = (struct error)ERROR_INIT;
	return ret;
}
