/* What is known about a volume, changing nothing. */
#include "agent/protect/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int status_tracker(struct tracker *tracker, struct volume_status *status,
			  struct error *err)
{
	int ret = tracker_find(tracker, status->device.device, &status->slot.slot);

	if (ret == -ENOENT)
		return 0;
	if (ret)
		return error_set(err, ret, "asking the tracker: %s", error_text(ret));
	ret = tracker_slot(tracker, status->slot.slot, &status->slot, err);
	if (!ret)
		ret = tracker_marks(tracker, status->slot.slot, &status->marks, err);
	if (!ret)
		ret = tracker_ledger(tracker, status->device.device, &status->ledger, err);
	status->attached = !ret;
	return ret;
}

int protect_status(const struct config *config, const struct config_volume *volume,
		   struct tracker *tracker, struct volume_status *status,
		   struct error *err)
{
	struct error problem = ERROR_INIT;
	int ret;

	memset(status, 0, sizeof(*status));
	ret = volume_state_load(config->agent.state, volume->name, &status->state, err);
	status->known = ret == 0;
	if (ret && ret != -ENOENT)
		return ret;
	if (status->known) {
		ret = fingerprints_look(config->agent.state, &status->state,
					&status->fingerprints, err);
		if (ret)
			return ret;
	}
	status->pending = pending_exists(config->agent.state, volume->name);
	status->trust = TRUST_UNTRUSTED;
	status->device_found = !device_find(volume->device, status->state.dm_uuid,
					    &status->device, &problem);
	if (!status->device_found) {
		snprintf(status->problem, sizeof(status->problem), "%.255s", problem.message);
		snprintf(status->reason, sizeof(status->reason), "its device is not there");
		return 0;
	}
	/* Of another size, nothing can be compared. */
	status->fingerprints.current &= status->device.bytes == status->state.bytes;
	if (volume->disk) {
		snprintf(status->reason, sizeof(status->reason), "disks are not tracked");
		return 0;
	}
	ret = tracker ? status_tracker(tracker, status, err) : 0;
	if (ret)
		return error_prefix(err, "volume %s", volume->name);
	if (!status->known)
		snprintf(status->reason, sizeof(status->reason), "it was never backed up");
	else if (!status->attached)
		snprintf(status->reason, sizeof(status->reason), "it is not attached");
	else
		status->trust = volume_judge(tracker, &status->state, &status->device,
					     &status->ledger, status->reason,
					     sizeof(status->reason));
	return 0;
}

uint64_t protect_age_ns(const struct volume_status *status, const struct protect_unit *unit,
			uint64_t now_ns)
{
	bool trusted = status->trust == TRUST_TRACKED;
	uint64_t covered = status->state.head_time_ns;

	if (!status->state.head_point)
		return UINT64_MAX;
	if (trusted && !status->marks.dirty_blocks && !status->pending)
		return 0;
	/* What a tracker in doubt once said is in doubt too. */
	if (trusted && unit && unit->covered_ns > covered)
		covered = unit->covered_ns;
	return now_ns > covered ? now_ns - covered : 0;
}
