/*
 * The boundary protocol: from volumes that are being written to, one point in
 * time and the set of blocks that may differ from the point before. Why the set
 * is complete is told in docs/tracking.md; the order of the steps
 * here is that argument, so none may be moved:
 *
 *   helpers made, V-real known to the tracker   nothing visible yet
 *   ledger `before`, then rotate                marks so far are in `retired`
 *   switch                                      the instant
 *   kernel part of the next ledger base
 *   the caller is told                          nothing is suspended any more
 *   read set = retired | collecting | pending   collecting copied *after* the
 *                                               switch: writes traced between
 *                                               rotation and switch are there
 *   save, then drop `retired`                   a mark is always in one place
 */
#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/volume/boundary_test.h"
#include "agent/volume/dm.h"
#include "agent/volume/guardian.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const struct boundary_test_hooks *boundary_test_hooks;

struct boundary {
	size_t count;
	bool dropped;
	struct snapshot snapshots[];
};

void boundary_stage(const char *name)
{
#ifdef CLAWBACK_FAULTS
	char point[160];

	snprintf(point, sizeof(point), "boundary.%s", name);
	(void)FAULT(point);		/* what has happened cannot fail any more */
#endif
	if (boundary_test_hooks && boundary_test_hooks->stage)
		boundary_test_hooks->stage(name, boundary_test_hooks->context);
}

static uint64_t boundary_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- before the instant ----------------------------------------------------- */

static int boundary_check_slot(struct tracker *tracker,
			       const struct boundary_volume *volume,
			       struct error *err)
{
	struct tracker_slot slot;
	int ret;

	if (!tracker)
		return error_set(err, -EINVAL, "volume %s is said to be tracked, but there is no tracker",
				 volume->name);
	ret = tracker_slot(tracker, volume->slot, &slot, err);
	if (ret)
		return error_prefix(err, "volume %s", volume->name);
	if (slot.device != volume->device.device ||
	    slot.sectors != volume->device.bytes / 512)
		return error_set(err, -ESTALE, "volume %s: its tracker slot %u was made for another device or size; detach and attach it again",
				 volume->name, volume->slot);
	if (volume->pending && volume->pending->bits != slot.blocks)
		return error_set(err, -EINVAL, "volume %s: %llu pending marks do not fit %llu tracked blocks",
				 volume->name, (unsigned long long)volume->pending->bits,
				 (unsigned long long)slot.blocks);
	return 0;
}

static int boundary_check_volumes(struct tracker *tracker,
				  struct boundary_volume *volumes, size_t count,
				  struct error *err)
{
	if (count < 1 || count > VOLUME_GROUP_MAX)
		return error_set(err, -EINVAL, "a group has 1 to %d volumes, not %zu",
				 VOLUME_GROUP_MAX, count);
	for (size_t i = 0; i < count; i++) {
		int ret = 0;

		if (!volume_name_valid(volumes[i].name))
			return error_set(err, -EINVAL, "'%s' is no name for a volume",
					 volumes[i].name);
		for (size_t j = 0; j < i; j++)
			if (volumes[j].device.device == volumes[i].device.device ||
			    uuid_equal(&volumes[j].id, &volumes[i].id) ||
			    strcmp(volumes[j].name, volumes[i].name) == 0)
				return error_set(err, -EINVAL, "volumes %s and %s of one group are the same",
						 volumes[j].name, volumes[i].name);
		if (volumes[i].tracked)
			ret = boundary_check_slot(tracker, &volumes[i], err);
		if (ret)
			return ret;
	}
	return 0;
}

static void boundary_init_snapshot(struct snapshot *snapshot, struct tracker *tracker,
				   struct boundary_volume *volumes, size_t count,
				   size_t index)
{
	struct boundary_volume *volume = &volumes[index];
	bool dm = volume->provider == PROVIDER_DM ||
		  (volume->provider == PROVIDER_AUTO && volume->device.is_dm);

	snapshot->ops = dm ? &snapshot_dm_ops : &snapshot_none_ops;
	snapshot->volume = volume;
	snapshot->tracker = tracker;
	snapshot->volumes = volumes;
	snapshot->count = count;
	volume->used = snapshot->ops->provider;
	volume->read_path[0] = '\0';
	memset(&volume->read_set, 0, sizeof(volume->read_set));
	memset(&volume->before, 0, sizeof(volume->before));
	memset(&volume->base, 0, sizeof(volume->base));
	volume->time_ns = 0;
	volume->frozen_fs = false;
}

static int boundary_rotate(struct boundary *boundary, struct error *err)
{
	for (size_t i = 0; i < boundary->count; i++) {
		struct snapshot *snapshot = &boundary->snapshots[i];
		struct boundary_volume *volume = snapshot->volume;
		int ret;

		if (!volume->tracked)
			continue;
		ret = tracker_ledger(snapshot->tracker, volume->device.device,
				     &volume->before, err);
		if (!ret)
			ret = tracker_rotate(snapshot->tracker, volume->slot, err);
		if (ret)
			return error_prefix(err, "volume %s", volume->name);
	}
	boundary_stage("rotated");
	return 0;
}

/* ---- the instant ------------------------------------------------------------- */

static int boundary_switch_one(struct snapshot *snapshot, struct error *err)
{
	struct boundary_volume *volume = snapshot->volume;
	int ret;

	/* All that was written before this time is in the point. */
	volume->time_ns = boundary_now_ns();
	ret = dmdev_resume(volume->device.device, &snapshot->cookie, err);
	return ret ? error_prefix(err, "volume %s", volume->name) : 0;
}

/* Each volume's resume is waited for before that volume is suspended once more. */
static int boundary_expect(struct boundary *boundary, const size_t *members,
			   size_t count, uint32_t *devices, uint32_t *cookies,
			   struct error *err)
{
	int ret = 0;

	for (size_t i = 0; i < count && !ret; i++) {
		struct snapshot *snapshot = &boundary->snapshots[members[i]];

		devices[i] = snapshot->volume->device.device;
		ret = dmdev_expect(devices[i], &snapshot->cookie, err);
		cookies[i] = snapshot->cookie;
	}
	return ret;
}

static int boundary_switch_group(struct boundary *boundary, const size_t *members,
				 size_t count, struct error *err)
{
	unsigned limit_ms = boundary_test_hooks ? boundary_test_hooks->window_limit_ms : 0;
	uint32_t devices[VOLUME_GROUP_MAX], cookies[VOLUME_GROUP_MAX];
	struct guardian *guardian = NULL;
	uint64_t time_ns = 0;
	size_t failed = 0;
	int ret = boundary_expect(boundary, members, count, devices, cookies, err);

	if (!ret)
		ret = guardian_start(devices, cookies, count, limit_ms, &guardian, err);
	if (!ret)
		ret = guardian_switch(guardian, &time_ns, &failed);
	/* Nobody can tell which of them were resumed, by whom. */
	for (size_t i = 0; i < count && ret; i++)
		dmdev_unexpect(&boundary->snapshots[members[i]].cookie);
	if (!guardian)
		return ret;
	guardian_stop(guardian);
	for (size_t i = 0; i < count; i++)
		boundary->snapshots[members[i]].volume->time_ns = time_ns;
	if (ret == -ETIMEDOUT)
		return error_set(err, ret, "suspending the group's volumes together took too long, so they were resumed; is one of them under heavy load, or a file of one the device of another?");
	if (ret)
		return error_set(err, ret, "cannot suspend and switch volume %s: %s",
				 boundary->snapshots[members[failed]].volume->name,
				 error_text(ret));
	return 0;
}

static int boundary_switch(struct boundary *boundary, struct error *err)
{
	size_t members[VOLUME_GROUP_MAX], count = 0;
	int ret = 0;

	for (size_t i = 0; i < boundary->count; i++)
		if (boundary->snapshots[i].ops == &snapshot_dm_ops)
			members[count++] = i;
	if (count == 1 || (boundary_test_hooks && boundary_test_hooks->split_group))
		for (size_t i = 0; i < count && !ret; i++)
			ret = boundary_switch_one(&boundary->snapshots[members[i]], err);
	else if (count > 1)
		ret = boundary_switch_group(boundary, members, count, err);
	if (ret)
		return ret;
	boundary_stage("switched");
	/* Those that nobody writes to show any instant, so this one too. */
	for (size_t i = 0; i < boundary->count; i++) {
		struct boundary_volume *volume = boundary->snapshots[i].volume;

		if (boundary->snapshots[i].ops != &snapshot_dm_ops)
			volume->time_ns = count ?
				boundary->snapshots[members[0]].volume->time_ns :
				boundary_now_ns();
	}
	return 0;
}

/* Tests only: the volumes stand still for a while, with writes queueing up. */
static int boundary_hold(struct boundary *boundary, struct error *err)
{
	struct timespec nap = { 0, 0 };
	int ret = 0;

	if (!boundary_test_hooks || !boundary_test_hooks->hold_ms)
		return 0;
	for (size_t i = 0; i < boundary->count && !ret; i++)
		if (boundary->snapshots[i].ops == &snapshot_dm_ops)
			ret = dmdev_suspend(boundary->snapshots[i].volume->device.device,
					    err);
	nap.tv_nsec = boundary_test_hooks->hold_ms * 1000000L;
	nanosleep(&nap, NULL);
	return ret;
}

/* ---- after the instant ------------------------------------------------------- */

static int boundary_collect(struct snapshot *snapshot, struct error *err)
{
	struct boundary_volume *volume = snapshot->volume;
	struct tracker *tracker = snapshot->tracker;
	struct tracker_slot slot;
	int ret = tracker_slot(tracker, volume->slot, &slot, err);

	if (ret)
		return ret;
	ret = bitmap_init(&volume->read_set, slot.blocks);
	if (ret)
		return error_set(err, ret, "cannot hold %llu marks in memory: %s",
				 (unsigned long long)slot.blocks, error_text(ret));
	ret = tracker_read_retired(tracker, volume->slot, &volume->read_set, err);
	if (!ret && !(boundary_test_hooks && boundary_test_hooks->skip_copy))
		ret = tracker_read_current(tracker, volume->slot, &volume->read_set, err);
	if (!ret && volume->pending) {
		ret = bitmap_or(&volume->read_set, volume->pending);
		if (ret)
			error_set(err, ret, "cannot add the pending marks: %s",
				  error_text(ret));
	}
	return ret;
}

static int boundary_ledger_base(struct snapshot *snapshot, struct error *err)
{
	struct boundary_volume *volume = snapshot->volume;
	int ret = tracker_ledger(snapshot->tracker, volume->device.device,
				 &volume->base, err);

	volume->base.traced_write_sectors = volume->before.traced_write_sectors;
	volume->base.traced_discard_sectors = volume->before.traced_discard_sectors;
	return ret;
}

static int boundary_save(struct snapshot *snapshot,
			 const struct boundary_options *options, struct error *err)
{
	int ret;

	if (!options || !options->save)
		return 0;
	ret = options->save(options->context, snapshot->volume, err);
	boundary_stage("saved");
	if (!ret && snapshot->volume->tracked)
		ret = tracker_drop_retired(snapshot->tracker, snapshot->volume->slot,
					   err);
	return ret;
}

static int boundary_each_tracked(struct boundary *boundary,
				 int (*step)(struct snapshot *, struct error *),
				 struct error *err)
{
	int ret = 0;

	for (size_t i = 0; i < boundary->count && !ret; i++)
		if (boundary->snapshots[i].volume->tracked)
			ret = step(&boundary->snapshots[i], err);
	return ret;
}

/* Each step for all volumes before the next: the ledger first, it is the one
 * that time makes less exact. */
static int boundary_finish(struct boundary *boundary,
			   const struct boundary_options *options, struct error *err)
{
	struct laps *laps = options ? options->laps : NULL;
	int ret = boundary_each_tracked(boundary, boundary_ledger_base, err);

	if (options && options->switched)
		options->switched(options->context);
	if (!ret)
		ret = boundary_each_tracked(boundary, boundary_collect, err);
	boundary_stage("collected");
	laps_end(laps, "collect");
	for (size_t i = 0; i < boundary->count && !ret; i++) {
		struct snapshot *snapshot = &boundary->snapshots[i];

		ret = snapshot->ops->switched(snapshot, err);
	}
	laps_end(laps, "snapshot_open");
	for (size_t i = 0; i < boundary->count && !ret; i++)
		ret = boundary_save(&boundary->snapshots[i], options, err);
	laps_end(laps, "save_marks");
	return ret;
}

/* ---- the whole ------------------------------------------------------------------ */

static int boundary_run(struct boundary *boundary,
			const struct boundary_options *options, struct error *err)
{
	bool late = boundary_test_hooks && boundary_test_hooks->late_rotate;
	struct laps *laps = options ? options->laps : NULL;
	int ret = 0;

	for (size_t i = 0; i < boundary->count && !ret; i++)
		ret = boundary->snapshots[i].ops->prepare(&boundary->snapshots[i], err);
	if (!ret)
		ret = boundary_hold(boundary, err);
	laps_end(laps, "snapshot_make");
	if (!ret && !late)
		ret = boundary_rotate(boundary, err);
	laps_end(laps, "rotate");
	if (!ret)
		ret = boundary_switch(boundary, err);
	laps_end(laps, "switch");
	if (!ret && late)
		ret = boundary_rotate(boundary, err);
	if (!ret)
		ret = boundary_finish(boundary, options, err);
	return ret;
}

int boundary_open(struct tracker *tracker, struct boundary_volume *volumes,
		  size_t count, const struct boundary_options *options,
		  struct boundary **out, struct error *err)
{
	struct error ignored = ERROR_INIT;
	struct boundary *boundary;
	int ret = boundary_check_volumes(tracker, volumes, count, err);

	*out = NULL;
	if (ret)
		return ret;
	boundary = calloc(1, sizeof(*boundary) + count * sizeof(boundary->snapshots[0]));
	if (!boundary)
		return error_set(err, -ENOMEM, "out of memory");
	boundary->count = count;
	for (size_t i = 0; i < count; i++)
		boundary_init_snapshot(&boundary->snapshots[i], tracker, volumes,
				       count, i);
	ret = boundary_run(boundary, options, err);
	if (!ret) {
		*out = boundary;
		return 0;
	}
	/* What failed is what is told; what could not be undone is added. */
	if (boundary_close(boundary, &ignored))
		error_hint(err, "moreover, %s", ignored.message);
	return ret;
}

int boundary_check(struct boundary *boundary, struct error *err)
{
	for (size_t i = 0; i < boundary->count; i++) {
		struct snapshot *snapshot = &boundary->snapshots[i];
		int ret = snapshot->ops->check(snapshot, err);

		if (ret)
			return ret;
	}
	return 0;
}

int boundary_fill(struct boundary *boundary, unsigned *percent, struct error *err)
{
	*percent = 0;
	for (size_t i = 0; i < boundary->count; i++) {
		struct snapshot *snapshot = &boundary->snapshots[i];
		unsigned one = 0;
		int ret = snapshot->ops->fill(snapshot, &one, err);

		if (ret)
			return ret;
		if (one > *percent)
			*percent = one;
	}
	return 0;
}

void boundary_settle(struct boundary *boundary)
{
	for (size_t i = 0; i < boundary->count; i++)
		boundary->snapshots[i].ops->settle(&boundary->snapshots[i]);
}

int boundary_drop(struct boundary *boundary, struct error *err)
{
	struct error one = ERROR_INIT;
	int ret = 0;

	for (size_t i = boundary->count; i-- > 0;) {
		struct snapshot *snapshot = &boundary->snapshots[i];

		/* Each on its own: one that fails does not hold the others. */
		if (snapshot->ops->release(snapshot, &one) && !ret) {
			*err = one;
			ret = one.code;
		}
		bitmap_fini(&snapshot->volume->read_set);
	}
	boundary->dropped = true;
	return ret;
}

int boundary_close(struct boundary *boundary, struct error *err)
{
	int ret = 0;

	if (!boundary)
		return 0;
	if (!boundary->dropped)
		ret = boundary_drop(boundary, err);
	boundary_settle(boundary);
	dmdev_release();
	free(boundary);
	return ret;
}
