/*
 * The keys of [disk NAME]: those of a volume that mean something for a disk, which is
 * never tracked, has no snapshot and no fellows in a group.
 */
#include "agent/config/config_keys.h"

#include <string.h>

static int assign_room(const char *key, const char *value, char *to, size_t room,
		       struct error *err)
{
	if (strlen(value) >= room)
		return config_bad_value(err, key, value, "is too long");
	strcpy(to, value);
	return 0;
}

int disk_assign(struct config *config, const char *name, const char *key, const char *value,
		struct error *err)
{
	struct config_volume *disk = config_volume_make(config, name, true, err);

	if (!disk)
		return err->code;
	if (!strcmp(key, "device"))
		return *value == '/'
			? assign_room(key, value, disk->device, sizeof(disk->device), err)
			: config_bad_value(err, key, value, "give an absolute path");
	if (!strcmp(key, "leave_out"))
		return assign_room(key, value, disk->leave_out, sizeof(disk->leave_out), err);
	if (!strcmp(key, "keep"))
		return config_assign_keep(&disk->keep, value, err);
	/* These are of what is tracked. */
	if (!strcmp(key, "idle_point") || !strcmp(key, "differential") ||
	    !strcmp(key, "synthetic"))
		return 1;
	return schedule_assign(&disk->schedule, key, value, err);
}
