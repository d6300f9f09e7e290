/*
 * Saving the root file system's volume at the very end of a boot, when systemd has made
 * its file system read-only and no other process is left. Held with its mount, it is
 * judged and read like any other; but its state folder cannot be written to, so what is
 * saved goes into the slot, beneath the file system. That changes the volume: by blocks
 * that are marked before the marks are put into words, and by a number of sectors that
 * the counters must show, no more and no fewer.
 */
#include "agent/protect/saving.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <string.h>

static int root_check(struct saving *saving, struct error *err)
{
	struct rootfs fs;
	int ret = rootfs_look(&saving->device, saving->config->agent.state, &fs, err);

	if (ret)
		return ret;
	if (!fs.here)
		return error_set(err, -ENOENT, "volume %s does not carry the root file system",
				 saving->state.name);
	if (fs.unfit[0])
		return error_set(err, -EOPNOTSUPP, "it carries the root file system and cannot be handed over: %s",
				 fs.unfit);
	if (fs.writable)
		return error_set(err, -EBUSY, "its file system, which is the root, can still be written to");
	return 0;
}

/* What the tracker has collected is all in what was saved. */
static int marks_within(struct saving *saving, const struct bitmap *saved, struct error *err)
{
	CLEANUP(bitmap_fini) struct bitmap now = { 0 };
	int ret = saving_marks(saving, &now, err);

	if (ret)
		return ret;
	for (size_t i = 0; i < bitmap_words(now.bits); i++)
		if (now.words[i] & ~saved->words[i])
			return error_set(err, -EBUSY, "%s was written to meanwhile",
					 saving->device.path);
	return 0;
}

/* Since `before` so many sectors were written, which are ours, and nothing else. */
static int root_still(struct saving *saving, const struct tracker_ledger *before,
		      uint64_t sectors, const struct bitmap *saved, struct error *err)
{
	struct tracker_ledger now;
	int ret = device_hold_check(&saving->device, true, err);

	if (!ret)
		ret = root_check(saving, err);
	if (!ret)
		ret = tracker_ledger(saving->tracker, saving->device.device, &now, err);
	if (!ret && (now.kernel_write_sectors != before->kernel_write_sectors + sectors ||
		     now.traced_write_sectors != before->traced_write_sectors + sectors ||
		     now.kernel_discard_sectors != before->kernel_discard_sectors ||
		     now.traced_discard_sectors != before->traced_discard_sectors))
		ret = error_set(err, -EBUSY, "%s was written to meanwhile", saving->device.path);
	if (!ret)
		ret = saving_judge(saving, &now, err);
	return ret ? ret : marks_within(saving, saved, err);
}

/* The only moment at which the device can be written to, by us. */
static int root_write(struct saving *saving, const struct handover *handover,
		      uint64_t *sectors, struct error *err)
{
	struct error closing = ERROR_INIT;
	int ret = device_hold_open(&saving->device, saving->fd, true, err);

	if (!ret)
		ret = slot_write(saving->config->agent.state, saving->state.name, saving->fd,
				 &saving->place, handover, sectors, err);
	if (device_hold_open(&saving->device, saving->fd, false, &closing) && !ret) {
		*err = closing;
		ret = closing.code;
	}
	return ret;
}

/* Doubtful: nobody is to find it. */
static void root_unwrite(struct saving *saving)
{
	struct error err = ERROR_INIT;
	int ret = device_hold_open(&saving->device, saving->fd, true, &err);

	if (!ret)
		ret = slot_unwrite(saving->fd, &saving->place, &err);
	if (ret)
		log_warning("volume %s: %s; run 'clawback detach' in the next boot, before a backup",
			    saving->state.name, err.message);
}

static int root_held(struct saving *saving, struct error *err)
{
	CLEANUP(handover_fini) struct handover handover = { 0 };
	struct tracker_ledger ledger;
	uint64_t sectors = 0;
	int ret = tracker_ledger(saving->tracker, saving->device.device, &ledger, err);

	if (!ret)
		ret = saving_judge(saving, &ledger, err);
	if (!ret)
		ret = rootfs_at_rest(saving->fd, err);
	if (!ret)
		ret = slot_find(saving->config->agent.state, saving->state.name,
				&saving->place, err);
	if (!ret)
		ret = saving_fill(saving, &handover, err);
	if (!ret)
		ret = root_still(saving, &ledger, 0, &handover.marks, err);
	if (ret)
		return ret;
	ret = root_write(saving, &handover, &sectors, err);
	if (!ret)
		ret = root_still(saving, &ledger, sectors, &handover.marks, err);
	if (ret)
		root_unwrite(saving);
	return ret;
}

static int root_locked(struct saving *saving, struct error *err)
{
	struct error undo = ERROR_INIT;
	int ret = root_check(saving, err);

	if (!ret)
		ret = device_hold_mounted(ROOT_FOLDER, saving->state.name, &saving->device,
					  &saving->fd, err);
	if (ret)
		return ret;
	ret = root_held(saving, err);
	if (ret && device_free(ROOT_FOLDER, saving->state.name, &saving->device, &undo))
		log_warning("volume %s: %s", saving->state.name, undo.message);
	return ret;
}

int protect_handover_root(const struct config *config, const struct config_volume *volume,
			  struct error *err)
{
	if (!volume_is_root(config, volume))
		return error_set(err, -ENOENT, "volume %s does not carry the root file system",
				 volume->name);
	return saving_run(config, volume, true, root_locked, err);
}
