/*
 * What a target that is known can differ in: the blocks that the maps of what it holds
 * and of the wanted point place differently, and those that changed since. A comparison
 * of maps is right whatever lies between the two points (fulls, rescans, differentials,
 * points forgotten and pruned), for a frame is written once and never changed.
 */
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

int restore_target_settle(struct restore_target *target, struct error *err)
{
	if (!target->is_device)
		return 0;
	/* Blocks that were read through the device's own cache while a file system wrote
	 * past it are stale there; in place, they would be taken for what is on it. */
	if (ioctl(target->fd, BLKFLSBUF) < 0)
		return error_set(err, -errno, "flushing %s: %s", target->path,
				 error_text(errno));
	return target_sync(target, err);
}

/* Blocks behind the wanted volume's end are not restored. */
static int changed_within(const struct extent_list *changed, uint64_t blocks,
			  struct extent_list *within)
{
	struct extent_list volume = EXTENT_LIST_INIT;
	int ret = blocks ? extent_list_append(&volume, 0, blocks) : 0;

	if (!ret)
		ret = extent_list_intersect(changed, &volume, within);
	extent_list_fini(&volume);
	return ret;
}

int plan_narrow(struct plan *plan, const struct restore_known *known)
{
	struct extent_list placed = EXTENT_LIST_INIT, changed = EXTENT_LIST_INIT;
	struct extent_list differ = EXTENT_LIST_INIT;
	struct map narrow;
	int ret = map_differ(&plan->map, known->map, &placed);

	if (!ret)
		ret = changed_within(known->changed, plan->map.volume_blocks, &changed);
	if (!ret)
		ret = extent_list_union(&placed, &changed, &differ);
	if (!ret)
		ret = map_cut(&plan->map, &differ, &narrow);
	if (!ret) {
		map_fini(&plan->map);
		plan->map = narrow;
	}
	extent_list_fini(&placed);
	extent_list_fini(&changed);
	extent_list_fini(&differ);
	return ret;
}
