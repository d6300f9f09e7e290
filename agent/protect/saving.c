/* What both kinds of hand-over do when they save. */
#include "agent/protect/saving.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <string.h>

static int saving_find(struct saving *saving, const struct config_volume *volume,
		       struct error *err)
{
	uint32_t slot;
	int ret = volume_state_load(saving->config->agent.state, volume->name, &saving->state,
				    err);

	if (!ret)
		ret = device_find(volume->device, saving->state.dm_uuid, &saving->device, err);
	if (ret)
		return ret == -ENOENT ? (err->code = -ENODEV) : ret;
	ret = tracker_find(saving->tracker, saving->device.device, &slot);
	if (ret)
		return error_set(err, ret, "volume %s is not attached", volume->name);
	return tracker_slot(saving->tracker, slot, &saving->slot, err);
}

int saving_judge(struct saving *saving, const struct tracker_ledger *ledger,
		 struct error *err)
{
	char reason[256];

	if (volume_judge(saving->tracker, &saving->state, &saving->device, ledger, reason,
			 sizeof(reason)) == TRUST_TRACKED)
		return 0;
	return error_set(err, -ESTALE, "it is untrusted, so there is nothing to hand over: %s",
			 reason);
}

int saving_marks(struct saving *saving, struct bitmap *marks, struct error *err)
{
	int ret = bitmap_init(marks, saving->slot.blocks);

	if (ret)
		return error_set(err, ret, "keeping the marks in memory: %s", error_text(ret));
	ret = tracker_read_retired(saving->tracker, saving->slot.slot, marks, err);
	if (ret == -ENOENT)
		ret = 0;
	return ret ? ret : tracker_read_current(saving->tracker, saving->slot.slot, marks, err);
}

static int saving_witness(struct saving *saving, struct handover *handover, struct error *err)
{
	struct witness_plan plan = {
		.marks = &handover->marks,
		.granularity_bytes = handover->granularity_bytes,
		.seed = handover->seed,
		.hidden = &saving->place,
	};

	return witness_read(saving->fd, saving->device.bytes, &plan, &handover->witness, err);
}

int saving_fill(struct saving *saving, struct handover *handover, struct error *err)
{
	const struct device_facts *device = &saving->device;
	struct tracker_facts facts;
	int ret = tracker_facts(saving->tracker, &facts, err);

	if (ret)
		return ret;
	handover->volume = saving->state.id;
	strcpy(handover->boot_id, facts.identity.boot_id);
	handover->time_ns = clock_ns();
	handover->bytes = device->bytes;
	handover->granularity_bytes = saving->slot.block_bytes;
	memcpy(handover->dm_uuid, device->dm_uuid, sizeof(handover->dm_uuid));
	ret = crypto_random(&handover->seed, sizeof(handover->seed), err);
	if (!ret)
		ret = device_place_digest(device, handover->place, err);
	if (!ret)
		ret = volume_state_digest(saving->config->agent.state, saving->state.name,
					  handover->state, err);
	if (!ret)
		ret = saving_marks(saving, &handover->marks, err);
	if (ret)
		return ret;
	ret = slot_place_mark(&saving->place, handover->granularity_bytes, &handover->marks);
	if (ret)
		return error_set(err, ret, "marking the blocks of the hand-over slot: %s",
				 error_text(ret));
	return saving_witness(saving, handover, err);
}

static int saving_hint(int ret, const struct config_volume *volume, struct error *err)
{
	if (ret == -EBUSY)
		error_hint(err, "unmount it and end what uses it, then repeat this; else the "
			   "next boot finds it untrusted");
	if (ret == -ESTALE)
		error_hint(err, "a backup makes it tracked again");
	return ret && ret != -ENOENT ? error_prefix(err, "volume %s", volume->name) : ret;
}

int saving_run(const struct config *config, const struct config_volume *volume,
	       bool read_only, saving_fn act, struct error *err)
{
	CLEANUP_CLOSE int lock_fd = -1;
	struct saving saving = { .config = config, .fd = -1 };
	unsigned removed;
	int ret;

	if (!volume_state_exists(config->agent.state, volume->name))
		return error_set(err, -ENOENT, "volume %s is not attached", volume->name);
	/* A dead run's helpers would have the volume open, and its table not its own. */
	ret = boundary_recover(config->agent.state, &removed, err);
	if (!ret)
		ret = read_only ? volume_lock_read_only(config->agent.state, volume->name,
							&lock_fd, err)
				: volume_lock(config->agent.state, volume->name, "handover",
					      &lock_fd, err);
	if (ret)
		return ret;
	ret = tracker_open(false, &saving.tracker, err);
	if (ret == -ENOENT)
		return error_set(err, ret, "volume %s is not attached", volume->name);
	if (!ret)
		ret = saving_find(&saving, volume, err);
	if (!ret)
		ret = act(&saving, err);
	cleanup_close(&saving.fd);
	slot_place_fini(&saving.place);
	tracker_close(saving.tracker);
	return saving_hint(ret, volume, err);
}
