/* The units of a configuration. */
#include "agent/protect/daemon.h"
#include "agent/protect/tune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct instant instant_now(void)
{
	struct timespec boot, real;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &real);
	return (struct instant){
		.boot_ns = (int64_t)boot.tv_sec * 1000000000 + boot.tv_nsec,
		.real_ns = (uint64_t)real.tv_sec * 1000000000u + (uint64_t)real.tv_nsec,
	};
}

int64_t instant_of_real(struct instant now, uint64_t real_ns)
{
	return now.boot_ns + (int64_t)(real_ns - now.real_ns);
}

uint64_t instant_to_real(struct instant now, int64_t boot_ns)
{
	return now.real_ns + (uint64_t)(boot_ns - now.boot_ns);
}

uint64_t unit_due_ns(const struct unit_list *list, size_t i, struct instant now)
{
	const struct schedule_unit *plan = &list->schedules[i];
	int64_t due = schedule_due(list->schedules, list->count, i);

	if (!plan->open && plan->opens_ns > due)
		due = plan->opens_ns;
	return due == SCHEDULE_NEVER ? 0 : instant_to_real(now, due);
}

ssize_t units_find(const struct unit_list *list, const char *name, bool group)
{
	for (size_t i = 0; list && i < list->count; i++)
		if (list->units[i].group == group && !strcmp(list->units[i].name, name))
			return (ssize_t)i;
	return -1;
}

void units_fini(struct unit_list *list)
{
	free(list->units);
	free(list->schedules);
	memset(list, 0, sizeof(*list));
}

static int unit_members(const struct config *config, const char *name, struct unit *unit,
			struct error *err)
{
	for (size_t i = 0; i < config->volume_count; i++) {
		if (strcmp(unit->group ? config->volumes[i].group : config->volumes[i].name, name))
			continue;
		if (unit->count == VOLUME_GROUP_MAX)
			return error_set_exit(err, EXIT_USAGE, -E2BIG, "group %s has more than "
					      "%d volumes", name, VOLUME_GROUP_MAX);
		unit->volumes[unit->count++] = &config->volumes[i];
	}
	return 0;
}

static int unit_add(const struct config *config, const char *name, bool group,
		    const struct config_schedule *schedule, const struct unit_list *old,
		    struct instant now, bool delays, struct unit_list *list, struct error *err)
{
	struct unit *unit = &list->units[list->count];
	struct schedule_unit *plan = &list->schedules[list->count];
	ssize_t before = units_find(old, name, group);
	int ret;

	if (!schedule->rpo_ns)
		return 0;
	unit->seen_ns = now.real_ns;
	unit->level = TUNE_LEVEL_START;
	if (before >= 0) {
		*plan = old->schedules[before];
		plan->wanted = false;	/* by what was wanted then */
		plan->calendar_ns = SCHEDULE_NEVER;
		*unit = old->units[before];
	}
	unit->count = 0;
	unit->group = group;
	unit->schedule = *schedule;
	strcpy(unit->name, name);
	ret = unit_calendars_make(unit, now, err);
	if (before < 0)
		schedule_init(plan, now.boot_ns + (delays ? (int64_t)unit->jitter_ns : 0), 0);
	plan->rpo_ns = (int64_t)schedule->rpo_ns;
	plan->idle_ns = (int64_t)schedule->idle_point_ns;
	list->count++;
	if (!ret)
		ret = unit_members(config, name, unit, err);
	return ret ? error_prefix(err, "%s %s", group ? "group" : "volume", name) : 0;
}

int units_make(const struct config *config, const struct unit_list *old, struct instant now,
	       bool delays, struct unit_list *list, struct error *err)
{
	size_t most = config->volume_count + config->group_count;
	int ret = 0;

	memset(list, 0, sizeof(*list));
	list->units = calloc(most ? most : 1, sizeof(*list->units));
	list->schedules = calloc(most ? most : 1, sizeof(*list->schedules));
	if (!list->units || !list->schedules)
		ret = error_set(err, -ENOMEM, "listing what to protect: out of memory");
	for (size_t i = 0; !ret && i < config->volume_count; i++) {
		const struct config_volume *volume = &config->volumes[i];

		if (!*volume->group)
			ret = unit_add(config, volume->name, false, &volume->schedule, old, now,
				       delays, list, err);
	}
	for (size_t i = 0; !ret && i < config->group_count; i++)
		ret = unit_add(config, config->groups[i].name, true, &config->groups[i].schedule,
			       old, now, delays, list, err);
	if (!ret && !list->count)
		ret = error_set_exit(err, EXIT_USAGE, -ENOENT, "no volume or group has an rpo, "
				     "so there is nothing to protect; add \"rpo = 1min\" to its "
				     "section, or to [agent] for all");
	if (ret)
		units_fini(list);
	return ret;
}
