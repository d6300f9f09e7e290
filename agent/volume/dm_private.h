/* What dm.c and dm_change.c share; nobody else includes it. */
#ifndef CLAWBACK_VOLUME_DM_PRIVATE_H
#define CLAWBACK_VOLUME_DM_PRIVATE_H

#include "agent/base/cleanup.h"
#include "agent/volume/dm.h"

#include <libdevmapper.h>

#define DMDEV_UDEV_WAIT_MS 10000

void dmdev_task_free(struct dm_task **task);
#define CLEANUP_TASK CLEANUP(dmdev_task_free)

/* "253:4" */
void dmdev_number(uint32_t device, char text[static 24]);

/* A task on an existing device by its number, or by name; NULL: out of memory. */
struct dm_task *dmdev_task(int type, uint32_t device);
struct dm_task *dmdev_task_name(int type, const char *name);

/* Whether udevd will see to events, and may be waited for. */
bool dmdev_udev_runs(void);

/* Puts the table's lines into the task. */
int dmtable_set(struct dm_task *task, const struct dmtable *table);

/* Fills `err` with the failure of a task (NULL: out of memory). */
int dmdev_fail(struct dm_task *task, struct error *err, const char *what,
	       const char *name);

#endif
