/* How a [disk] is laid out, and which of the configuration's volumes lie on it. */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is not there now has nothing to lie on. */
static size_t volumes_found(const struct config *config, struct disk_volume *volumes)
{
	size_t count = 0;

	for (size_t i = 0; i < config->volume_count; i++) {
		const struct config_volume *volume = &config->volumes[i];
		struct error ignored = ERROR_INIT;
		struct volume_state state = { .dm_uuid = "" };
		struct device_facts facts;
		bool known;

		if (volume->disk)
			continue;
		known = !volume_state_load(config->agent.state, volume->name, &state, &ignored);
		if (device_find(volume->device, state.dm_uuid, &facts, &ignored))
			continue;
		volumes[count++] = (struct disk_volume){
			.name = volume->name, .device = facts.device,
			.has_id = known && state.head_point, .id = state.id,
		};
	}
	return count;
}

int disk_layout_of(const struct config *config, const struct config_volume *disk,
		     const struct device_facts *device, struct disk_layout *layout,
		     struct error *err)
{
	CLEANUP_FREE struct disk_volume *volumes = calloc(config->volume_count,
							  sizeof(*volumes));
	struct disk_options options = { .volumes = volumes, .leave_out = disk->leave_out };
	int ret;

	if (!volumes)
		return error_set(err, -ENOMEM, "looking at disk %s: out of memory", disk->name);
	options.volume_count = volumes_found(config, volumes);
	ret = disk_capture(device, &options, layout, err);
	return ret ? error_prefix(err, "disk %s", disk->name) : 0;
}

int protect_disk_layout(const struct config *config, const struct config_volume *disk,
			struct disk_layout *layout, struct error *err)
{
	struct device_facts device;
	int ret = device_facts(disk->device, &device, err);

	return ret ? error_prefix(err, "disk %s", disk->name)
		   : disk_layout_of(config, disk, &device, layout, err);
}

/* What LVM writes above a group tells when and by whom that was written. */
int disk_layout_text(struct disk_layout *layout, char **text, struct error *err)
{
	char *whole[DISK_GROUPS_MAX];
	int ret;

	for (size_t i = 0; i < layout->group_count; i++) {
		char *metadata = whole[i] = layout->groups[i].metadata, *at;
		char begin[DISK_NAME_ROOM + 8];

		snprintf(begin, sizeof(begin), "\n%s {", layout->groups[i].name);
		at = strstr(metadata, begin);
		layout->groups[i].metadata = at ? at : metadata;
	}
	ret = disk_layout_encode(layout, text, err);
	for (size_t i = 0; i < layout->group_count; i++)
		layout->groups[i].metadata = whole[i];
	return ret;
}
