/* Whether this kernel can freeze a point in time at all. */
#include "agent/volume/volume.h"

#include <errno.h>
#include <libdevmapper.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define DM_CONTROL "/dev/mapper/control"

/* What libdevmapper would print is said by the caller, in its own words. */
static void dm_check_log(int level, const char *file, int line, int dm_errno,
			 const char *format, ...)
{
	(void)level;
	(void)file;
	(void)line;
	(void)dm_errno;
	(void)format;
}

/* The list is chained by byte offsets; the last has none. */
static bool dm_check_has(struct dm_task *task, const char *wanted)
{
	struct dm_versions *at = dm_task_get_versions(task);

	while (at) {
		if (!strcmp(at->name, wanted))
			return true;
		at = at->next ? (struct dm_versions *)((char *)at + at->next) : NULL;
	}
	return false;
}

int volume_dm_check(struct error *err)
{
	struct dm_task *task;
	const char *missing = NULL;
	int ret = 0;

	if (access(DM_CONTROL, F_OK))
		return error_set(err, -ENODEV, "%s is not there: the kernel has no "
				 "device-mapper", DM_CONTROL);
	dm_log_with_errno_init(dm_check_log);
	task = dm_task_create(DM_DEVICE_LIST_VERSIONS);
	if (!task || !dm_task_run(task))
		ret = error_set(err, task ? -dm_task_get_errno(task) : -ENOMEM,
				"asking device-mapper for its targets: %s",
				error_text(task ? dm_task_get_errno(task) : ENOMEM));
	else if (!dm_check_has(task, "snapshot"))
		missing = "snapshot";
	else if (!dm_check_has(task, "snapshot-origin"))
		missing = "snapshot-origin";
	if (missing)
		ret = error_set(err, -ENOTSUP, "device-mapper has no target %s loaded", missing);
	if (task)
		dm_task_destroy(task);
	return ret;
}
