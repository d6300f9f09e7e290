/* Before a boundary: state, device, tracking. */
#include "agent/protect/run.h"

#include "agent/base/fault.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t elapsed_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int state_new(const struct config_volume *volume, struct volume_state *state,
	      struct error *err)
{
	int ret;

	memset(state, 0, sizeof(*state));
	ret = uuid_new(&state->id);
	if (ret)
		return error_set(err, ret, "making an identity for volume %s: %s",
				 volume->name, error_text(ret));
	snprintf(state->name, sizeof(state->name), "%s", volume->name);
	state->trust = TRUST_UNTRUSTED;
	state->since_ns = clock_ns();
	strcpy(state->reason, "it was never backed up");
	return 0;
}

void state_distrust(struct volume_state *state, const char *format, ...)
{
	va_list args;

	if (state->trust == TRUST_UNTRUSTED)
		return;
	va_start(args, format);
	vsnprintf(state->reason, sizeof(state->reason), format, args);
	va_end(args);
	state->trust = TRUST_UNTRUSTED;
	state->since_ns = clock_ns();
}

/*
 * The slot of the number that the volume had before it came back under another. By
 * now the number may be another device's; the owner tells whose marks these are.
 */
static void drop_stale_slot(struct tracker *tracker, const struct volume_state *state,
			    uint32_t device)
{
	struct error ignored = ERROR_INIT;
	struct tracker_slot slot;
	uint32_t number;

	if (!state->device || state->device == device ||
	    tracker_find(tracker, state->device, &number) ||
	    tracker_slot(tracker, number, &slot, &ignored) ||
	    memcmp(slot.owner, state->id.b, sizeof(slot.owner)))
		return;
	if (tracker_detach(tracker, number, &ignored))
		log_warning("leaving a stale slot behind: %s", ignored.message);
}

static void state_follow(struct volume_state *state, const struct device_facts *device,
			 const struct config_volume *config)
{
	snprintf(state->device_path, sizeof(state->device_path), "%s", config->device);
	memcpy(state->dm_uuid, device->dm_uuid, sizeof(state->dm_uuid));
	memcpy(state->dm_name, device->dm_name, sizeof(state->dm_name));
	memcpy(state->table, device->table, sizeof(state->table));
	state->device = device->device;
	state->diskseq = device->diskseq;
	state->bytes = device->bytes;
}

int volume_begin_tracking(const struct config *config, struct tracker *tracker,
			  struct run_volume *volume, const char *state_folder,
			  struct error *err)
{
	struct tracker_volume wanted = {
		.device = volume->device.device,
		.start_sector = volume->device.start_sector,
		.sectors = volume->device.bytes / 512,
		.disk = volume->device.disk,
	};
	int ret;

	wanted.block_bytes = tracker_granularity(wanted.sectors,
						 volume->config->granularity_bytes,
						 config->agent.bitmap_limit_bytes);
	memcpy(wanted.owner, volume->state.id.b, sizeof(wanted.owner));
	drop_stale_slot(tracker, &volume->state, volume->device.device);
	volume->granularity_bytes = wanted.block_bytes;
	ret = FAULT_ERR("attach.slot", err);
	if (!ret && volume->has_handover)
		ret = volume_attach_handed_over(config, tracker, &wanted, volume, err);
	else if (!ret)
		ret = tracker_attach(tracker, &wanted, &volume->slot, err);
	if (ret)
		return ret;
	volume->attached_now = true;
	volume->state.granularity_bytes = wanted.block_bytes;
	state_follow(&volume->state, &volume->device, volume->config);
	return volume_state_save(state_folder, &volume->state, err);
}

/*
 * Another configuration, another state folder, or this one before it was lost: the
 * marks that it took are not here, and from now on it does not have ours.
 */
static int slot_take_over(const struct config *config, struct tracker *tracker,
			  struct run_volume *volume, struct error *err)
{
	int ret;

	state_distrust(&volume->state, "another configuration or state folder backed the "
		       "device up and took its marks");
	ret = volume_state_save(config->agent.state, &volume->state, err);
	return ret ? ret : tracker_set_owner(tracker, volume->slot, volume->state.id.b, err);
}

/* The slot that is there: does it still fit, did it lose anything? */
static int slot_check(const struct config *config, struct tracker *tracker,
		      struct run_volume *volume, bool *fits, struct error *err)
{
	struct volume_state *state = &volume->state;
	struct tracker_slot slot;
	uint32_t wanted = tracker_granularity(volume->device.bytes / 512,
					      volume->config->granularity_bytes,
					      config->agent.bitmap_limit_bytes);
	int ret = tracker_slot(tracker, volume->slot, &slot, err);

	if (ret)
		return ret;
	volume->granularity_bytes = wanted;
	*fits = slot.sectors == volume->device.bytes / 512 && slot.block_bytes == wanted;
	if (slot.sectors != volume->device.bytes / 512)
		state_distrust(state, "its size changed from %llu to %llu bytes",
			       (unsigned long long)slot.sectors * 512,
			       (unsigned long long)volume->device.bytes);
	else if (!*fits)
		state_distrust(state, "its granularity was changed to %u bytes", wanted);
	else if (slot.flags)
		state_distrust(state, "the tracker lost a mark (flags 0x%x)", slot.flags);
	if (*fits && !slot.flags)
		return memcmp(slot.owner, state->id.b, sizeof(slot.owner))
			? slot_take_over(config, tracker, volume, err) : 0;
	ret = volume_state_save(config->agent.state, state, err);
	if (!ret && *fits)
		ret = tracker_clear_flags(tracker, volume->slot, err);
	if (!ret && !*fits)
		ret = tracker_detach(tracker, volume->slot, err);
	return ret;
}

/*
 * Not tracked until now, or not as it has to be. A new slot has forgotten what an old
 * one collected: the volume is untrusted, durably, unless the last boot handed it over.
 */
static int slot_renew(const struct config *config, struct tracker *tracker,
		      struct run_volume *volume, struct error *err)
{
	if (!volume->has_handover)
		state_distrust(&volume->state, "it was not tracked");
	return volume_begin_tracking(config, tracker, volume, config->agent.state, err);
}

int volume_prepare(const struct config *config, struct tracker *tracker,
		   struct run_volume *volume, struct error *err)
{
	struct volume_state *state = &volume->state;
	bool fits = false, tracked;
	int ret = volume_state_load(config->agent.state, volume->config->name, state, err);

	if (ret == -ENOENT)
		ret = state_new(volume->config, state, err);
	if (!ret)
		ret = device_find(volume->config->device, state->dm_uuid, &volume->device, err);
	if (ret)
		return error_prefix(err, "volume %s", volume->config->name);
	ret = tracker_find(tracker, volume->device.device, &volume->slot);
	tracked = ret == 0;
	if (ret && ret != -ENOENT)
		error_set(err, ret, "asking the tracker: %s", error_text(ret));
	else
		ret = volume_take_handover(config, tracker, tracked, volume, err);
	if (!ret)
		ret = volume_take_root(config, tracker, tracked, volume, err);
	if (!ret && tracked)
		ret = slot_check(config, tracker, volume, &fits, err);
	if (!ret && !fits)
		ret = slot_renew(config, tracker, volume, err);
	handover_fini(&volume->handover);
	if (!ret)
		volume_keep_slot(config, volume);
	return ret ? error_prefix(err, "volume %s", volume->config->name) : 0;
}
