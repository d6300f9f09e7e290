/* Gathers what the judgement needs from the tracker as it is now. */
#include "agent/volume/judge.h"

#include "agent/base/cleanup.h"
#include "agent/volume/dm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PROBE_BYTES 4096u	/* a sector of any device of ours */

/*
 * What is switched off may be counted all the same; whether it is shows by a read. A
 * suspended device would keep us waiting.
 */
static bool is_counted(const struct device_facts *device)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE void *probe = NULL;
	struct error ignored = ERROR_INIT;
	struct dmdev_info info;
	uint64_t before, after;

	if (!device->iostats_off)
		return true;
	if (device->is_dm && !dmdev_info(device->device, &info, &ignored) && info.suspended)
		return true;
	fd = open(device->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || posix_memalign(&probe, PROBE_BYTES, PROBE_BYTES)) {
		probe = NULL;
		return false;
	}
	return !device_sectors_read(device, &before, &ignored) &&
	       pread(fd, probe, PROBE_BYTES, 0) == PROBE_BYTES &&
	       !device_sectors_read(device, &after, &ignored) && after > before;
}

enum volume_trust volume_judge(struct tracker *tracker,
			       const struct volume_state *state,
			       const struct device_facts *device,
			       const struct tracker_ledger *ledger,
			       char *reason, size_t room)
{
	struct judge_facts facts = { .state = state, .device = device };
	struct error err = ERROR_INIT;
	uint32_t slot;
	int ret;

	if (!tracker) {
		snprintf(reason, room, "the tracker is not loaded");
		return TRUST_UNTRUSTED;
	}
	ret = tracker_find(tracker, device->device, &slot);
	if (ret == -ENOENT) {
		snprintf(reason, room, "the volume is not tracked");
		return TRUST_UNTRUSTED;
	}
	if (ret)
		error_set(&err, ret, "cannot look the volume up in the tracker: %s",
			  error_text(ret));
	/* The ledger last, but for a read: what is traced until then counts. */
	if (!ret)
		ret = tracker_facts(tracker, &facts.tracker, &err);
	if (!ret)
		ret = tracker_slot(tracker, slot, &facts.slot, &err);
	if (!ret && ledger)
		facts.ledger = *ledger;
	else if (!ret)
		ret = tracker_ledger(tracker, device->device, &facts.ledger, &err);
	facts.uncounted = !ret && !is_counted(device);
	if (!ret)
		return judge_decide(&facts, reason, room);
	snprintf(reason, room, "%s", err.message);
	return TRUST_UNTRUSTED;
}
