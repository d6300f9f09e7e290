/*
 * Slots: giving a volume one, taking it back, further dev_ts for it.
 *
 * A slot comes into being with the route from the volume's own dev_t, which is
 * made last and removed first. A slot in use without it is what a killed process
 * left; the next attach takes it back.
 */
#include "bpf/tracker_private.h"

#include "agent/base/cleanup.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

/* Frees a slot. Its bitmaps go after the last route to them. */
static int slot_clear(struct tracker *tracker, uint32_t slot, struct error *err)
{
	struct slot_state *state = &tracker->slots[slot];
	int ret = route_remove_slot(tracker, slot, err);

	if (ret)
		return ret;
	ret = route_fence(tracker);
	if (!ret)
		ret = bitmap_map_drop(tracker->bitmaps_fd, slot);
	if (!ret)
		ret = bitmap_map_drop(tracker->retired_fd, slot);
	if (ret)
		return error_set(err, ret, "cannot free slot %u: %s", slot,
				 error_text(ret));
	__atomic_store_n(&state->device, 0, __ATOMIC_SEQ_CST);
	memset(state, 0, sizeof(*state));
	return 0;
}

static int slots_reclaim(struct tracker *tracker, struct error *err)
{
	int ret = 0;

	for (uint32_t slot = 0; slot < TRACKER_SLOTS && !ret; slot++) {
		uint32_t device = tracker->slots[slot].device;

		if (device && !route_leads(tracker, device, slot))
			ret = slot_clear(tracker, slot, err);
	}
	return ret;
}

/* All of a new slot but its routes. */
static int slot_fill(struct tracker *tracker, uint32_t slot,
		     const struct tracker_volume *volume, struct error *err)
{
	uint64_t block_sectors = volume->block_bytes / 512;
	struct slot_state *state = &tracker->slots[slot];
	CLEANUP_CLOSE int fd = -1;
	int ret;

	*state = (struct slot_state){
		.sector_shift = (uint32_t)__builtin_ctz(volume->block_bytes) - 9,
		.blocks = (volume->sectors - 1) / block_sectors + 1,
		.start_sector = volume->start_sector,
		.sectors = volume->sectors,
		.disk = volume->disk,
	};
	memcpy(state->owner, volume->owner, sizeof(state->owner));
	__atomic_store_n(&state->device, volume->device, __ATOMIC_SEQ_CST);
	ret = bitmap_map_create(state->blocks, &fd);
	if (!ret && bpf_map_update_elem(tracker->bitmaps_fd, &slot, &fd,
					BPF_ANY) < 0)
		ret = -errno;
	if (ret)
		error_set(err, ret, "cannot make a bitmap of %llu bits: %s",
			  (unsigned long long)state->blocks, error_text(ret));
	if (ret == -ENOMEM)
		error_hint(err, "track the volume in larger blocks");
	return ret;
}

static int slot_route(struct tracker *tracker, uint32_t slot,
		      const struct tracker_volume *volume, struct error *err)
{
	struct route_target target = {
		.start_sector = volume->start_sector,
		.sectors = volume->sectors,
		.slot = slot,
	};
	int ret = 0;

	if (volume->disk)
		ret = route_add(tracker, volume->disk, &target, err);
	target.strict = 1;
	return ret ? ret : route_add(tracker, volume->device, &target, err);
}

static int slot_attach(struct tracker *tracker,
		       const struct tracker_volume *volume, uint32_t *slot,
		       struct error *err)
{
	struct error undo = ERROR_INIT;
	uint32_t at = 0;
	int ret = slots_reclaim(tracker, err);

	if (ret)
		return ret;
	if (!tracker_find(tracker, volume->device, &at))
		return error_set(err, -EEXIST, "device %u:%u is tracked already",
				 DEVICE_MAJOR(volume->device),
				 DEVICE_MINOR(volume->device));
	while (at < TRACKER_SLOTS && tracker->slots[at].device)
		at++;
	if (at == TRACKER_SLOTS)
		return error_set(err, -ENOSPC, "all %u slots of the tracker are "
				 "in use; detach a volume first", TRACKER_SLOTS);
	ret = slot_fill(tracker, at, volume, err);
	if (!ret)
		ret = slot_route(tracker, at, volume, err);
	if (ret)
		slot_clear(tracker, at, &undo);
	else
		*slot = at;
	return ret;
}

int tracker_attach(struct tracker *tracker, const struct tracker_volume *volume,
		   uint32_t *slot, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	int ret = tracker_device_check(volume, err);

	if (!ret)
		ret = tracker_lock(tracker, &lock, err);
	return ret ? ret : slot_attach(tracker, volume, slot, err);
}

int tracker_detach(struct tracker *tracker, uint32_t slot, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	int ret = tracker_lock(tracker, &lock, err);

	if (!ret)
		ret = slot_check(tracker, slot, err);
	return ret ? ret : slot_clear(tracker, slot, err);
}

/* Strict: a write beyond the volume through its stand-in is one to it. */
int tracker_alias_add(struct tracker *tracker, uint32_t slot, uint32_t device,
		      struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	struct route_target target = { .slot = slot, .strict = 1 };
	int ret = tracker_lock(tracker, &lock, err);

	if (!ret)
		ret = slot_check(tracker, slot, err);
	if (ret)
		return ret;
	if (!device || device == tracker->slots[slot].device)
		return error_set(err, -EINVAL, "device %u:%u cannot stand in for "
				 "the volume in slot %u", DEVICE_MAJOR(device),
				 DEVICE_MINOR(device), slot);
	target.sectors = tracker->slots[slot].sectors;
	return route_add(tracker, device, &target, err);
}

/* An alias is a strict target of a slot with another dev_t of its own. */
int tracker_alias_remove(struct tracker *tracker, uint32_t device,
			 struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	struct route route = { 0 };
	int ret = tracker_lock(tracker, &lock, err);

	if (ret)
		return ret;
	if (bpf_map_lookup_elem(tracker->routes_fd, &device, &route) < 0) {
		if (errno == ENOENT)
			return 0;
		return error_set(err, -errno, "cannot read the route of device "
				 "%u:%u: %s", DEVICE_MAJOR(device),
				 DEVICE_MINOR(device), error_text(errno));
	}
	for (uint32_t i = 0; i < route.target_count && i < TRACKER_TARGETS; i++) {
		uint32_t slot = route.targets[i].slot;

		if (!ret && route.targets[i].strict &&
		    tracker->slots[slot % TRACKER_SLOTS].device != device)
			ret = route_remove(tracker, device, slot, err);
	}
	return ret;
}

int tracker_clear_flags(struct tracker *tracker, uint32_t slot,
			struct error *err)
{
	int ret = slot_check(tracker, slot, err);

	if (!ret)
		__atomic_store_n(&tracker->slots[slot].flags, 0,
				 __ATOMIC_SEQ_CST);
	return ret;
}

/* Half written it is nobody's, and so untrusted by all. */
int tracker_set_owner(struct tracker *tracker, uint32_t slot,
		      const uint8_t owner[static TRACKER_OWNER_BYTES], struct error *err)
{
	int ret = slot_check(tracker, slot, err);

	if (ret)
		return ret;
	memcpy(tracker->slots[slot].owner, owner, TRACKER_OWNER_BYTES);
	/* Before any rotation of ours. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return 0;
}
