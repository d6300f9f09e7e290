/* attach and detach as acts of their own. */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"

#include <errno.h>
#include <string.h>
#include <time.h>

int protect_attach(const struct config *config, const struct config_volume *config_volume,
		   struct attach_result *result, struct error *err)
{
	struct run_volume volume = { .config = config_volume, .lock_fd = -1 };
	struct tracker *tracker = NULL;
	int ret;

	ret = volume_lock(config->agent.state, config_volume->name, "attach",
			  &volume.lock_fd, err);
	if (!ret)
		ret = tracker_open(true, &tracker, err);
	if (!ret)
		ret = volume_prepare(config, tracker, &volume, err);
	if (!ret) {
		struct tracker_slot slot;

		result->device = volume.device;
		result->slot = volume.slot;
		result->was_attached = !volume.attached_now;
		result->handed_over = volume.handed_over;
		result->trust = volume_judge(tracker, &volume.state, &volume.device, NULL,
					     result->reason, sizeof(result->reason));
		ret = tracker_slot(tracker, volume.slot, &slot, err);
		result->granularity_bytes = slot.block_bytes;
	}
	tracker_close(tracker);
	cleanup_close(&volume.lock_fd);
	return ret;
}

int protect_attach_boot(const struct config *config, const struct config_volume *config_volume,
			uint64_t deadline_ns, struct attach_result *result,
			struct error *err)
{
	struct timespec nap = { 0, 100 * 1000000L };
	struct volume_state state;
	int ret;

	if (!volume_state_exists(config->agent.state, config_volume->name))
		return error_set(err, -ENOENT, "volume %s was never attached",
				 config_volume->name);
	ret = volume_state_load(config->agent.state, config_volume->name, &state, err);
	while (!ret) {
		struct error missing = ERROR_INIT;
		struct device_facts device;

		if (!device_find(config_volume->device, state.dm_uuid, &device, &missing) ||
		    elapsed_ns() >= deadline_ns)
			break;
		nanosleep(&nap, NULL);
		ret = interrupt_check(err);
	}
	if (!ret)
		ret = protect_attach(config, config_volume, result, err);
	/* That it was never attached is the only thing that is no trouble. */
	return ret == -ENOENT ? (err->code = -ENODEV) : ret;
}

/* Untrusted first, durably; then the marks may go. */
static int detach_locked(const struct config *config, const struct config_volume *volume,
			 struct tracker *tracker, struct error *err)
{
	struct volume_state state;
	struct device_facts device;
	uint32_t slot;
	bool found;
	int ret = volume_state_load(config->agent.state, volume->name, &state, err);

	if (ret == -ENOENT)
		return error_set(err, ret, "volume %s is not attached", volume->name);
	if (ret)
		return ret;
	/* The device may be gone; its last number still names the slot. */
	found = !device_find(volume->device, state.dm_uuid, &device, err);
	if (found)
		state.device = device.device;
	ret = tracker_find(tracker, state.device, &slot);
	if (ret)
		return error_set(err, ret, "volume %s is not attached", volume->name);
	state_distrust(&state, "it was detached");
	ret = volume_state_save(config->agent.state, &state, err);
	if (!ret)
		ret = handover_remove(config->agent.state, volume->name, err);
	if (!ret)
		ret = volume_forget_root(config, volume->name, err);
	if (!ret && found)
		ret = device_free(ROOT_FOLDER, volume->name, &device, err);
	if (!ret && found)
		ret = device_free(config->agent.state, volume->name, &device, err);
	return ret ? ret : tracker_detach(tracker, slot, err);
}

int protect_detach(const struct config *config, const struct config_volume *volume,
		   struct error *err)
{
	CLEANUP_CLOSE int lock_fd = -1;
	struct tracker *tracker = NULL;
	struct tracker_facts facts;
	bool last = false;
	int ret = volume_lock(config->agent.state, volume->name, "detach", &lock_fd, err);

	if (ret)
		return ret;
	ret = tracker_open(false, &tracker, err);
	if (ret == -ENOENT)
		return error_set(err, ret, "volume %s is not attached", volume->name);
	if (!ret)
		ret = detach_locked(config, volume, tracker, err);
	if (!ret && !tracker_facts(tracker, &facts, err))
		last = facts.slots_used == 0;
	tracker_close(tracker);
	/* The last one takes the program with it. */
	return ret || !last ? ret : tracker_remove(err);
}
