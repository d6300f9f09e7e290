/*
 * What the loader's files share; nobody outside bpf/ includes it.
 *
 *   pin.c      bpffs, the pin folder, its lock
 *   load.c     loading, attaching, pinning; libbpf's talk
 *   tracker.c  handles, facts, looking slots up
 *   route.c    routes and ledger entries: who may be rewritten when
 *   slot.c     attach, detach, alias
 *   rotate.c   bitmaps: creating, mapping, rotating, reading
 *   ledger.c   the kernel's counters and the traced ones
 *   device.c   sysfs: what a device is, whether it can be tracked
 */
#ifndef CLAWBACK_BPF_TRACKER_PRIVATE_H
#define CLAWBACK_BPF_TRACKER_PRIVATE_H

#include "bpf/tracker.h"

#include <limits.h>
#include <linux/types.h>

#include "bpf/tracker_abi.h"

struct tracker {
	int routes_fd, ledger_fd, slots_fd, bitmaps_fd, retired_fd;
	int program_fd;
	uint32_t program_id;
	struct slot_state *slots;	/* the slots map itself, TRACKER_SLOTS */
};

/* ---- pin.c ---- */

/* Path of a pin; `room` bytes at `path`. -ENAMETOOLONG. */
int pin_path(const char *name, char *path, size_t room);

/* Mounts bpffs on /sys/fs/bpf unless it is there. */
int pin_mount(struct error *err);

/*
 * Takes the folder's lock (flock on the folder itself), making the folder when
 * `create`. -ENOENT without the folder, -ETIMEDOUT when somebody keeps the lock.
 * Closing *fd lets go.
 */
int pin_lock(bool create, int *fd, struct error *err);

/* Unlinks every pin, the link first. Under the lock. */
int pin_clear(struct error *err);

/* The same, then removes the folder and waits until the program is detached. */
int pin_remove_all(struct error *err);

/* Id of the pinned link and of its program; -ENOENT when no link is pinned. */
int pin_link_ids(uint32_t *link_id, uint32_t *program_id);

/* ---- load.c ---- */

/* Loads, attaches and pins, the link last. Under the lock. */
int load_and_pin(struct error *err);

/* Can struct `structure` have a member `member` in the running kernel? */
bool kernel_has_member(const char *structure, const char *member);

/* ---- tracker.c ---- */

/*
 * -ESTALE unless `tracker` is still what is pinned: the maps of one that was
 * removed or replaced collect nothing any more.
 */
int tracker_check(struct tracker *tracker, struct error *err);

/* Takes the lock for a change of routes, then the same. */
int tracker_lock(struct tracker *tracker, int *fd, struct error *err);

/* -ENOENT with a message unless `slot` is in use. */
int slot_check(struct tracker *tracker, uint32_t slot, struct error *err);

/* ---- route.c ---- */

/* Waits until no run of the program that began before this call goes on. */
int route_fence(struct tracker *tracker);

/* Adds a target (replacing one for the same slot) and makes a ledger entry. */
int route_add(struct tracker *tracker, uint32_t device,
	      const struct route_target *target, struct error *err);

/* Removes the slot's target, if any; route and ledger entry go with the last. */
int route_remove(struct tracker *tracker, uint32_t device, uint32_t slot,
		 struct error *err);

/* Removes the slot's target from every device; the slot's own dev_t first. */
int route_remove_slot(struct tracker *tracker, uint32_t slot,
		      struct error *err);

/* Does `device` lead to `slot`? */
bool route_leads(struct tracker *tracker, uint32_t device, uint32_t slot);

/* ---- rotate.c ---- */

int bitmap_map_create(uint64_t blocks, int *fd);

/* The map in outer[slot]; -ENOENT when there is none. `id` may be NULL. */
int bitmap_map_open(int outer_fd, uint32_t slot, int *fd, uint32_t *id);

/* Takes the map out of outer[slot]; none is fine. */
int bitmap_map_drop(int outer_fd, uint32_t slot);

/* Bits set in the slot's bitmaps, collecting and retired together. */
int bitmap_map_count(struct tracker *tracker, uint32_t slot, uint64_t *count);

/* ---- device.c ---- */

/*
 * Refuses a volume whose geometry is not the device's, and devices whose writes
 * can pass by the block layer (DAX, RAM disks of old kernels).
 */
int tracker_device_check(const struct tracker_volume *volume, struct error *err);

/* Reads /sys/dev/block/M:m/NAME as one line; returns length or -errno. */
int tracker_device_attribute(uint32_t device, const char *name, char *text,
			     size_t room);

#define DEVICE_MAJOR(device) ((device) >> 20)
#define DEVICE_MINOR(device) ((device) & 0xfffffu)

#endif
