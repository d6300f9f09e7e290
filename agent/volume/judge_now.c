/* Gathers what the judgement needs from the tracker as it is now. */
#include "agent/volume/judge.h"

#include <errno.h>
#include <stdio.h>

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
	/* The ledger last: what is traced until then counts. */
	if (!ret)
		ret = tracker_facts(tracker, &facts.tracker, &err);
	if (!ret)
		ret = tracker_slot(tracker, slot, &facts.slot, &err);
	if (!ret && ledger)
		facts.ledger = *ledger;
	else if (!ret)
		ret = tracker_ledger(tracker, device->device, &facts.ledger, &err);
	if (!ret)
		return judge_decide(&facts, reason, room);
	snprintf(reason, room, "%s", err.message);
	return TRUST_UNTRUSTED;
}
