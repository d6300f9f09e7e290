/*
 * Handles on the pinned tracker: opening, identity and facts, looking up slots.
 */
#include "bpf/tracker_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS_BYTES (TRACKER_SLOTS * sizeof(struct slot_state))

struct map_shape {
	const char *name;
	uint32_t type, value_bytes, entries;
};

static struct tracker *tracker_new(void)
{
	struct tracker *tracker = calloc(1, sizeof(*tracker));

	if (!tracker)
		return NULL;
	tracker->routes_fd = tracker->ledger_fd = tracker->slots_fd = -1;
	tracker->bitmaps_fd = tracker->retired_fd = tracker->program_fd = -1;
	return tracker;
}

void tracker_close(struct tracker *tracker)
{
	if (!tracker)
		return;
	if (tracker->slots)
		munmap(tracker->slots, SLOTS_BYTES);
	cleanup_close(&tracker->routes_fd);
	cleanup_close(&tracker->ledger_fd);
	cleanup_close(&tracker->slots_fd);
	cleanup_close(&tracker->bitmaps_fd);
	cleanup_close(&tracker->retired_fd);
	cleanup_close(&tracker->program_fd);
	free(tracker);
}

static int abi_mismatch(struct error *err, const char *what)
{
	return error_set(err, -EPROTO, "the tracker that is loaded comes from "
			 "another version of clawback (%s); detach all volumes "
			 "with that version, or remove the tracker, and attach "
			 "again: the next run then compares whole volumes", what);
}

static int map_open(const struct map_shape *shape, int *fd, struct error *err)
{
	struct bpf_map_info info = { 0 };
	__u32 length = sizeof(info);
	char path[PATH_MAX];
	int ret = pin_path(shape->name, path, sizeof(path));

	if (!ret) {
		*fd = bpf_obj_get(path);
		ret = *fd < 0 || bpf_obj_get_info_by_fd(*fd, &info, &length) < 0 ?
		      -errno : 0;
	}
	if (ret)
		return error_set(err, ret, "cannot open the tracker's map %s: %s",
				 shape->name, error_text(ret));
	if (info.type != shape->type || info.key_size != sizeof(uint32_t) ||
	    info.value_size != shape->value_bytes ||
	    info.max_entries != shape->entries)
		return abi_mismatch(err, "a map has another layout");
	return 0;
}

static int maps_open(struct tracker *tracker, struct error *err)
{
	const struct {
		struct map_shape shape;
		int *fd;
	} maps[] = {
		{ { "routes", BPF_MAP_TYPE_HASH, sizeof(struct route),
		    TRACKER_DEVICES }, &tracker->routes_fd },
		{ { "ledger", BPF_MAP_TYPE_HASH, sizeof(struct ledger),
		    TRACKER_DEVICES }, &tracker->ledger_fd },
		{ { "slots", BPF_MAP_TYPE_ARRAY, sizeof(struct slot_state),
		    TRACKER_SLOTS }, &tracker->slots_fd },
		{ { "bitmaps", BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(uint32_t),
		    TRACKER_SLOTS + 1 }, &tracker->bitmaps_fd },
		{ { "retired", BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(uint32_t),
		    TRACKER_SLOTS }, &tracker->retired_fd },
	};
	int ret = 0;

	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps) && !ret; i++)
		ret = map_open(&maps[i].shape, maps[i].fd, err);
	if (ret)
		return ret;
	tracker->slots = mmap(NULL, SLOTS_BYTES, PROT_READ | PROT_WRITE,
			      MAP_SHARED, tracker->slots_fd, 0);
	if (tracker->slots == MAP_FAILED) {
		tracker->slots = NULL;
		return error_set(err, -errno, "cannot map the tracker's slots: "
				 "%s", error_text(errno));
	}
	return 0;
}

/* The name carries the ABI version, so it is looked at before any map. */
static int program_open(struct tracker *tracker, struct error *err)
{
	struct bpf_prog_info info = { 0 };
	__u32 length = sizeof(info);

	tracker->program_fd = bpf_prog_get_fd_by_id(tracker->program_id);
	if (tracker->program_fd < 0 ||
	    bpf_obj_get_info_by_fd(tracker->program_fd, &info, &length) < 0)
		return error_set(err, -errno, "cannot open the tracker's program "
				 "%u: %s", tracker->program_id, error_text(errno));
	if (strcmp(info.name, TRACKER_PROGRAM_NAME))
		return abi_mismatch(err, info.name);
	return 0;
}

static int tracker_open_pinned(struct tracker **tracker, struct error *err)
{
	struct tracker *opened = tracker_new();
	uint32_t link_id;
	int ret;

	if (!opened)
		return error_set(err, -ENOMEM, "cannot open the tracker: "
				 "out of memory");
	ret = pin_link_ids(&link_id, &opened->program_id);
	if (ret)
		error_set(err, ret, ret == -ENOENT ? "no tracker is loaded" :
			  "cannot open the tracker's link: %s", error_text(ret));
	else
		ret = program_open(opened, err);
	if (!ret)
		ret = maps_open(opened, err);
	if (ret)
		tracker_close(opened);
	else
		*tracker = opened;
	return ret;
}

int tracker_open(bool create, struct tracker **tracker, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	uint32_t link_id, program_id;
	struct error undo = ERROR_INIT;
	int ret;

	*tracker = NULL;
	ret = create ? pin_mount(err) : 0;
	if (!ret)
		ret = pin_lock(create, &lock, err);
	if (ret)
		return ret;
	if (pin_link_ids(&link_id, &program_id) != -ENOENT || !create)
		return tracker_open_pinned(tracker, err);
	ret = pin_clear(err);		/* what a killed loader left */
	if (ret)
		return ret;
	ret = load_and_pin(err);
	if (!ret)
		ret = tracker_open_pinned(tracker, err);
	if (ret)
		pin_remove_all(&undo);
	return ret;
}

static int tracker_stale(struct error *err)
{
	return error_set(err, -ESTALE, "the tracker was removed or replaced since "
			 "this process opened it");
}

int tracker_check(struct tracker *tracker, struct error *err)
{
	uint32_t link_id, program_id;
	int ret = pin_link_ids(&link_id, &program_id);

	if (ret == -ENOENT || (!ret && program_id != tracker->program_id))
		return tracker_stale(err);
	return ret ? error_set(err, ret, "cannot read the tracker's link: %s",
			       error_text(ret)) : 0;
}

int tracker_lock(struct tracker *tracker, int *fd, struct error *err)
{
	int ret = pin_lock(false, fd, err);

	if (ret == -ENOENT)
		return tracker_stale(err);
	if (!ret)
		ret = tracker_check(tracker, err);
	if (ret && *fd >= 0)
		close(STEAL_FD(*fd));
	return ret;
}

int slot_check(struct tracker *tracker, uint32_t slot, struct error *err)
{
	if (slot < TRACKER_SLOTS && tracker->slots[slot].device)
		return 0;
	return error_set(err, -ENOENT, "no volume is tracked in slot %u", slot);
}

int tracker_find(struct tracker *tracker, uint32_t device, uint32_t *slot)
{
	struct route route;

	if (bpf_map_lookup_elem(tracker->routes_fd, &device, &route) < 0)
		return -errno;
	for (uint32_t i = 0; i < route.target_count && i < TRACKER_TARGETS; i++) {
		uint32_t found = route.targets[i].slot;

		if (found < TRACKER_SLOTS &&
		    tracker->slots[found].device == device) {
			*slot = found;
			return 0;
		}
	}
	return -ENOENT;
}

/* Reads shared memory only: no map is asked for, see slot_bytes(). */
int tracker_slot(struct tracker *tracker, uint32_t slot,
		 struct tracker_slot *info, struct error *err)
{
	const struct slot_state *state;
	int ret = slot_check(tracker, slot, err);

	if (ret)
		return ret;
	state = &tracker->slots[slot];
	*info = (struct tracker_slot){
		.slot = slot,
		.device = state->device,
		.sectors = state->sectors,
		.block_bytes = 512u << state->sector_shift,
		.blocks = state->blocks,
		.flags = __atomic_load_n(&state->flags, __ATOMIC_SEQ_CST),
	};
	memcpy(info->owner, state->owner, sizeof(info->owner));
	return 0;
}

int tracker_marks(struct tracker *tracker, uint32_t slot,
		  struct tracker_marks *marks, struct error *err)
{
	int fd, ret = slot_check(tracker, slot, err);

	if (ret)
		return ret;
	memset(marks, 0, sizeof(*marks));
	ret = bitmap_map_open(tracker->bitmaps_fd, slot, &fd, &marks->bitmap_id);
	if (!ret) {
		close(fd);
		ret = bitmap_map_open(tracker->retired_fd, slot, &fd, NULL);
		marks->retired = !ret;
		if (!ret)
			close(fd);
		if (!ret || ret == -ENOENT)
			ret = bitmap_map_count(tracker, slot, &marks->dirty_blocks);
	}
	return ret ? error_set(err, ret, "cannot read the bitmaps of slot %u: %s",
			       slot, error_text(ret)) : 0;
}

/* Kernel memory of a map, as its descriptor's /proc entry has it; 0 unknown. */
static uint64_t map_bytes(int fd)
{
	CLEANUP_FREE char *text = NULL;
	unsigned long long bytes = 0;
	char path[64];
	char *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (file_read(path, 65536, &text, NULL))
		return 0;
	at = strstr(text, "memlock:");
	if (at)
		sscanf(at, "memlock: %llu", &bytes);
	return bytes;
}

/*
 * By its size, not by asking for the maps: a look-up in a map of maps waits for an
 * RCU grace period on kernels up to 6.7 or so, and one for each of 512 would make
 * every run take seconds. A retired bitmap, there for moments, is not counted.
 */
static uint64_t slot_bytes(const struct slot_state *state)
{
	uint64_t pages = (state->blocks + TRACKER_PAGE_BITS - 1) / TRACKER_PAGE_BITS;

	return pages * TRACKER_PAGE_BYTES;
}

static int map_id(int fd, uint32_t *id)
{
	struct bpf_map_info info = { 0 };
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		return -errno;
	*id = info.id;
	return 0;
}

static int identity_read(struct tracker *tracker,
			 struct tracker_identity *identity)
{
	CLEANUP_FREE char *boot = NULL;
	int ret = file_read("/proc/sys/kernel/random/boot_id", 4096, &boot, NULL);

	if (!ret)
		snprintf(identity->boot_id, sizeof(identity->boot_id), "%.36s",
			 boot);
	if (!ret)
		ret = map_id(tracker->bitmaps_fd, &identity->bitmaps_id);
	if (!ret)
		ret = map_id(tracker->routes_fd, &identity->routes_id);
	if (!ret)
		ret = map_id(tracker->ledger_fd, &identity->ledger_id);
	if (!ret)
		ret = map_id(tracker->slots_fd, &identity->slots_id);
	if (!ret)
		ret = map_id(tracker->retired_fd, &identity->retired_id);
	if (!ret)
		ret = pin_link_ids(&identity->link_id, &identity->program_id);
	return ret;
}

int tracker_facts(struct tracker *tracker, struct tracker_facts *facts,
		  struct error *err)
{
	struct bpf_prog_info info = { 0 };
	__u32 length = sizeof(info);
	const int fds[] = { tracker->routes_fd, tracker->ledger_fd,
			    tracker->slots_fd, tracker->bitmaps_fd,
			    tracker->retired_fd };
	int ret;

	memset(facts, 0, sizeof(*facts));
	ret = tracker_check(tracker, err);
	if (ret)
		return ret;
	ret = identity_read(tracker, &facts->identity);
	if (!ret && bpf_obj_get_info_by_fd(tracker->program_fd, &info,
					   &length) < 0)
		ret = -errno;
	if (ret)
		return error_set(err, ret, "cannot read the tracker's facts: %s",
				 error_text(ret));
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(facts->identity.program_tag + 2 * i, 3, "%02x",
			 info.tag[i]);
	facts->recursion_misses = info.recursion_misses;
	facts->run_count = info.run_cnt;
	facts->run_ns = info.run_time_ns;
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		facts->map_bytes += map_bytes(fds[i]);
	for (uint32_t slot = 0; slot < TRACKER_SLOTS; slot++) {
		uint32_t device = tracker->slots[slot].device;

		if (!device)
			continue;
		facts->map_bytes += slot_bytes(&tracker->slots[slot]);
		facts->slots_used += device && route_leads(tracker, device, slot);
	}
	return 0;
}

bool tracker_identity_equal(const struct tracker_identity *a,
			    const struct tracker_identity *b)
{
	return !strcmp(a->boot_id, b->boot_id) &&
	       !strcmp(a->program_tag, b->program_tag) &&
	       a->program_id == b->program_id && a->link_id == b->link_id &&
	       a->bitmaps_id == b->bitmaps_id && a->routes_id == b->routes_id &&
	       a->ledger_id == b->ledger_id && a->slots_id == b->slots_id &&
	       a->retired_id == b->retired_id;
}
