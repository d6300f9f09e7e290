/*
 * Was anything written? Asked every few seconds, so the counters are asked first: a
 * bitmap of a large volume is megabytes. They alone would not do, for marks that a
 * hand-over brought, or of a write held back by a snapshot, move none of them.
 */
#include "agent/protect/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <string.h>

static void doubt(struct look *look, const char *why)
{
	if (look->trusted)
		snprintf(look->why, sizeof(look->why), "%.255s", why);
	look->trusted = look->clean = false;
}

static bool counters_moved(const struct volume_state *state, const struct tracker_ledger *now)
{
	return now->traced_write_sectors != state->base.traced_write_sectors ||
	       now->traced_discard_sectors != state->base.traced_discard_sectors;
}

/* 0: tracked, trusted, and `look->clean` stays what it is or becomes false. */
static int look_marks(struct tracker *tracker, const struct volume_state *state,
		      const struct device_facts *device, struct look *look, struct error *err)
{
	struct tracker_ledger ledger;
	struct tracker_marks marks;
	uint32_t slot;
	int ret = tracker_find(tracker, device->device, &slot);

	if (ret)
		return error_set(err, ret, "it is not tracked");
	ret = tracker_ledger(tracker, device->device, &ledger, err);
	if (ret || counters_moved(state, &ledger)) {
		look->clean = false;
		return ret;
	}
	ret = tracker_marks(tracker, slot, &marks, err);
	if (ret || marks.dirty_blocks)
		look->clean = false;
	return ret;
}

/* What a full did, a synthetic one need not do, nor that a differential. */
static void look_kinds(const struct volume_state *state, struct look *look)
{
	uint64_t last = 0, of[CALENDARS] = {
		[CALENDAR_FULL] = state->full_time_ns,
		[CALENDAR_SYNTHETIC] = state->synthetic_time_ns,
		[CALENDAR_DIFFERENTIAL] = state->differential_time_ns,
	};

	for (int k = 0; k < CALENDARS; k++) {
		last = of[k] > last ? of[k] : last;
		look->last_ns[k] = last < look->last_ns[k] ? last : look->last_ns[k];
	}
}

static void look_volume(const struct config *config, const struct config_volume *volume,
			struct tracker *tracker, struct look *look)
{
	struct volume_state state;
	struct device_facts device;
	struct error err = ERROR_INIT;
	char reason[256];
	int ret = volume_state_load(config->agent.state, volume->name, &state, &err);

	if (ret || !state.head_point) {
		look->has_point = false;
		doubt(look, ret && ret != -ENOENT ? err.message : "there is no point yet");
		return;
	}
	look->points += state.head_point;
	if (state.head_time_ns < look->point_ns)
		look->point_ns = state.head_time_ns;
	look_kinds(&state, look);
	if (pending_exists(config->agent.state, volume->name))
		look->clean = false;
	/* Nothing tells whether anything was written; that is no cause for doubt. */
	if (volume->disk) {
		look->clean = false;
		return;
	}
	ret = tracker ? device_find(volume->device, state.dm_uuid, &device, &err)
		      : error_set(&err, -ENOENT, "the tracker is not loaded");
	if (!ret)
		ret = look_marks(tracker, &state, &device, look, &err);
	if (ret)
		doubt(look, err.message);
	/* Last: what was missed until now must show. */
	else if (volume_judge(tracker, &state, &device, NULL, reason, sizeof(reason)) !=
		 TRUST_TRACKED)
		doubt(look, reason);
}

void unit_look(const struct config *config, const struct unit *unit, struct look *look)
{
	struct tracker *tracker = NULL;
	struct error err = ERROR_INIT;

	*look = (struct look){
		.has_point = true, .trusted = true, .clean = true,
		.point_ns = UINT64_MAX,
	};
	memset(look->last_ns, 0xff, sizeof(look->last_ns));
	/* Without one, every volume is in doubt; a run says what is the matter. */
	if (tracker_open(false, &tracker, &err))
		tracker = NULL;
	for (size_t i = 0; i < unit->count; i++)
		look_volume(config, unit->volumes[i], tracker, look);
	tracker_close(tracker);
	for (int k = 0; k < CALENDARS; k++)
		if (look->last_ns[k] == UINT64_MAX)	/* no volume has a point */
			look->last_ns[k] = 0;
}
