/*
 * Routes and ledger entries, the two hash maps the program looks up by dev_t.
 *
 * Both are preallocated: a hash map that allocates on the fly may fail where a
 * loader cannot see it, and takes memory in the program's context. The price is
 * that the kernel reuses an element at once, under the eyes of a program that
 * still reads it, and would then send its marks elsewhere. So nothing is written
 * into either map before every run that may hold an element freed earlier has
 * ended: route_fence() comes first, whatever happened before in this process or
 * in one that died. Callers hold the tracker's lock.
 */
#include "bpf/tracker_private.h"

#include "agent/base/cleanup.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

/*
 * The kernel returns from an update of a map of maps only after an RCU grace
 * period: when all programs that could have seen the old entry have ended. The
 * entry behind the last slot exists for this alone.
 */
int route_fence(struct tracker *tracker)
{
	CLEANUP_CLOSE int fd = -1;
	uint32_t spare = TRACKER_SLOTS;
	int ret = bitmap_map_create(1, &fd);

	if (ret)
		return ret;
	return bpf_map_update_elem(tracker->bitmaps_fd, &spare, &fd, BPF_ANY) < 0 ?
	       -errno : 0;
}

/* An absent route reads as one without targets. */
static int route_read(struct tracker *tracker, uint32_t device,
		      struct route *route)
{
	memset(route, 0, sizeof(*route));
	if (bpf_map_lookup_elem(tracker->routes_fd, &device, route) < 0)
		return errno == ENOENT ? 0 : -errno;
	return route->target_count > TRACKER_TARGETS ? -EPROTO : 0;
}

/* Index of the slot's target; target_count when there is none. */
static uint32_t route_index(const struct route *route, uint32_t slot)
{
	uint32_t i = 0;

	while (i < route->target_count && route->targets[i].slot != slot)
		i++;
	return i;
}

bool route_leads(struct tracker *tracker, uint32_t device, uint32_t slot)
{
	struct route route;

	return !route_read(tracker, device, &route) &&
	       route_index(&route, slot) < route.target_count;
}

static int route_failed(struct error *err, int code, const char *what,
			uint32_t device)
{
	error_set(err, code, "cannot %s the route of device %u:%u: %s", what,
		  DEVICE_MAJOR(device), DEVICE_MINOR(device), error_text(code));
	if (code == -E2BIG)
		error_hint(err, "at most %u devices can be tracked",
			   TRACKER_DEVICES);
	return err->code;
}

int route_add(struct tracker *tracker, uint32_t device,
	      const struct route_target *target, struct error *err)
{
	const struct ledger empty = { 0 };
	struct route route;
	uint32_t i;
	int ret = route_read(tracker, device, &route);

	if (ret)
		return route_failed(err, ret, "read", device);
	i = route_index(&route, target->slot);
	if (i == TRACKER_TARGETS)
		return error_set(err, -ENOSPC, "cannot track one more volume on "
				 "device %u:%u: at most %u may share it",
				 DEVICE_MAJOR(device), DEVICE_MINOR(device),
				 TRACKER_TARGETS);
	route.targets[i] = *target;
	if (i == route.target_count)
		route.target_count++;
	ret = route_fence(tracker);
	if (!ret && bpf_map_update_elem(tracker->ledger_fd, &device, &empty,
					BPF_NOEXIST) < 0 && errno != EEXIST)
		ret = -errno;
	if (!ret && bpf_map_update_elem(tracker->routes_fd, &device, &route,
					BPF_ANY) < 0)
		ret = -errno;
	return ret ? route_failed(err, ret, "make", device) : 0;
}

/* The ledger entry goes after the last run that may still look for it. */
static int route_delete(struct tracker *tracker, uint32_t device)
{
	int ret;

	if (bpf_map_delete_elem(tracker->routes_fd, &device) < 0 &&
	    errno != ENOENT)
		return -errno;
	ret = route_fence(tracker);
	if (!ret && bpf_map_delete_elem(tracker->ledger_fd, &device) < 0 &&
	    errno != ENOENT)
		ret = -errno;
	return ret;
}

int route_remove(struct tracker *tracker, uint32_t device, uint32_t slot,
		 struct error *err)
{
	struct route route;
	uint32_t i;
	int ret = route_read(tracker, device, &route);

	if (ret)
		return route_failed(err, ret, "read", device);
	i = route_index(&route, slot);
	if (i == route.target_count)
		return 0;
	route.targets[i] = route.targets[--route.target_count];
	memset(&route.targets[route.target_count], 0, sizeof(*route.targets));
	if (!route.target_count) {
		ret = route_delete(tracker, device);
	} else {
		ret = route_fence(tracker);
		if (!ret && bpf_map_update_elem(tracker->routes_fd, &device,
						&route, BPF_EXIST) < 0)
			ret = -errno;
	}
	return ret ? route_failed(err, ret, "remove", device) : 0;
}

int route_remove_slot(struct tracker *tracker, uint32_t slot,
		      struct error *err)
{
	uint32_t devices[TRACKER_DEVICES], count = 0;
	uint32_t *former = NULL;
	int ret = route_remove(tracker, tracker->slots[slot].device, slot, err);

	/* First all keys: removing while walking starts the walk anew. */
	while (count < TRACKER_DEVICES &&
	       !bpf_map_get_next_key(tracker->routes_fd, former, &devices[count]))
		former = &devices[count++];
	for (uint32_t i = 0; i < count && !ret; i++)
		ret = route_remove(tracker, devices[i], slot, err);
	return ret;
}
