/*
 * Taking the hand-over of the root file system's volume, in two steps.
 *
 * Early: the root file system is still read-only, as the initramfs mounted it. Tracking
 * begins, the comparison is made, and what came of it is noted in /run, which ends with
 * the boot. Then the slot is emptied, durably, in the way in which it was filled. So it
 * is out of use before anything can be written to the file system.
 *
 * Late: the root file system can be written to. A slot that is not empty is emptied; and
 * only then the note is believed. Should power fail before the early step came to its
 * end, the next boot takes the slot again, for nothing was written; if it was, the
 * superblock tells so before anything else is on the device (rootfs.c).
 */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int volume_root_busy(const struct config *config, const struct config_volume *volume,
		     struct error *err)
{
	struct error ignored = ERROR_INIT;
	struct device_facts device;
	struct volume_state state;
	struct rootfs fs;

	if (volume_state_load(config->agent.state, volume->name, &state, &ignored) ||
	    device_find(volume->device, state.dm_uuid, &device, &ignored) ||
	    rootfs_look(&device, config->agent.state, &fs, &ignored) || !fs.here)
		return 0;
	if (fs.unfit[0])
		return error_set(err, -EOPNOTSUPP, "volume %s carries the root file system and cannot be handed over: %s; "
				 "after the reboot its next backup reads and compares all of it",
				 volume->name, fs.unfit);
	return error_set(err, -ETXTBSY, "volume %s carries the root file system: 'handover --root' saves it at the very end",
			 volume->name);
}

bool volume_is_root(const struct config *config, const struct config_volume *volume)
{
	struct error ignored = ERROR_INIT;

	return volume_root_busy(config, volume, &ignored) != 0;
}

/* ---- early ---------------------------------------------------------------- */

static int early_find(const struct config *config, struct run_volume *volume,
		      struct error *err)
{
	const char *folder = config->agent.state, *name = volume->config->name;
	struct rootfs fs;
	int ret = volume_state_load(folder, name, &volume->state, err);

	if (!ret)
		ret = device_find(volume->config->device, volume->state.dm_uuid, &volume->device,
				  err);
	if (!ret)
		ret = rootfs_look(&volume->device, folder, &fs, err);
	if (!ret && fs.unfit[0])
		ret = error_set(err, -ENOENT, "it is never handed over: %s", fs.unfit);
	if (!ret && fs.writable)
		ret = error_set(err, -EBUSY, "the root file system can be written to already; the kernel's command line must say 'ro'");
	if (!ret)
		ret = slot_load(folder, name, &volume->handover, err);
	return ret ? ret : slot_find(folder, name, &volume->slot_place, err);
}

/* Through the device; and the file system, which reads past its cache, shows it. */
static int early_empty(const struct config *config, const struct run_volume *volume,
		       struct error *err)
{
	CLEANUP(handover_fini) struct handover left = { 0 };
	CLEANUP_CLOSE int fd = open(volume->device.path, O_RDWR | O_DIRECT | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return error_set(err, -errno, "cannot open %s: %s", volume->device.path,
				 error_text(errno));
	ret = slot_unwrite(fd, &volume->slot_place, err);
	if (ret)
		return ret;
	ret = slot_load(config->agent.state, volume->config->name, &left, err);
	return ret == -ENOENT ? 0 : error_set(err, -EIO, "the hand-over slot could not be put out of use");
}

static int early_locked(const struct config *config, struct tracker *tracker,
			struct run_volume *volume, struct attach_result *result,
			struct error *err)
{
	struct error problem = ERROR_INIT;
	int ret = early_find(config, volume, err);

	if (ret)
		return ret;
	result->device = volume->device;
	if (!tracker_find(tracker, volume->device.device, &volume->slot)) {
		result->was_attached = true;
		return 0;
	}
	volume->has_handover = true;
	ret = volume_begin_tracking(config, tracker, volume, ROOT_FOLDER, err);
	if (!ret && early_empty(config, volume, &problem)) {
		state_distrust(&volume->state, "%s", problem.message);
		ret = volume_state_save(ROOT_FOLDER, &volume->state, err);
	}
	result->slot = volume->slot;
	result->granularity_bytes = volume->granularity_bytes;
	result->handed_over = volume->state.trust == TRUST_TRACKED;
	result->trust = volume->state.trust;
	strcpy(result->reason, volume->state.reason);
	return ret;
}

int protect_attach_root(const struct config *config, const struct config_volume *config_volume,
			struct attach_result *result, struct error *err)
{
	struct run_volume volume = { .config = config_volume, .lock_fd = -1 };
	struct tracker *tracker = NULL;
	int ret;

	memset(result, 0, sizeof(*result));
	if (!volume_is_root(config, config_volume))
		return error_set(err, -ENOENT, "volume %s does not carry the root file system",
				 config_volume->name);
	ret = volume_lock_read_only(config->agent.state, config_volume->name, &volume.lock_fd,
				    err);
	if (!ret)
		ret = tracker_open(true, &tracker, err);
	if (!ret)
		ret = early_locked(config, tracker, &volume, result, err);
	tracker_close(tracker);
	handover_fini(&volume.handover);
	slot_place_fini(&volume.slot_place);
	cleanup_close(&volume.lock_fd);
	return ret && ret != -ENOENT ? error_prefix(err, "volume %s", config_volume->name) : ret;
}

/* ---- late ------------------------------------------------------------------ */

/* What the early step noted, once. */
static bool late_note(struct tracker *tracker, const char *name, const struct uuid *id,
		      struct volume_state *note)
{
	struct error problem = ERROR_INIT;
	struct tracker_facts facts;
	int ret = volume_state_load(ROOT_FOLDER, name, note, &problem);

	if (ret != -ENOENT && volume_state_remove(ROOT_FOLDER, name, &problem))
		ret = problem.code;
	if (ret && ret != -ENOENT)
		log_warning("volume %s: what was found early in this boot is lost: %s", name,
			    problem.message);
	if (ret || !uuid_equal(&note->id, id) || note->trust != TRUST_TRACKED)
		return !ret && uuid_equal(&note->id, id);
	return !tracker_facts(tracker, &facts, &problem) &&
	       tracker_identity_equal(&note->identity, &facts.identity);
}

int volume_take_root(const struct config *config, struct tracker *tracker, bool tracked,
		     struct run_volume *volume, struct error *err)
{
	const char *folder = config->agent.state, *name = volume->config->name;
	struct volume_state note;
	enum slot_content was;
	int ret = slot_empty(folder, name, &was, err);

	if (!ret)
		ret = device_free(ROOT_FOLDER, name, &volume->device, err);
	if (ret)
		return ret;
	volume->slot_spent = was == SLOT_FILLED || was == SLOT_DAMAGED ||
			     volume_state_exists(ROOT_FOLDER, name);
	if (late_note(tracker, name, &volume->state.id, &note) && tracked) {
		volume->state = note;
		volume->handed_over = note.trust == TRUST_TRACKED;
		return volume_state_save(folder, &volume->state, err);
	}
	if (!tracked && was == SLOT_FILLED)
		state_distrust(&volume->state, "it was handed over, but not tracked before its file system, the root, became writable");
	if (!tracked && was == SLOT_DAMAGED)
		state_distrust(&volume->state, "the hand-over slot is damaged");
	return 0;
}

int volume_forget_root(const struct config *config, const char *name, struct error *err)
{
	enum slot_content was;
	int ret = slot_empty(config->agent.state, name, &was, err);

	return ret ? ret : volume_state_remove(ROOT_FOLDER, name, err);
}

void volume_keep_slot(const struct config *config, const struct run_volume *volume)
{
	const char *folder = config->agent.state, *name = volume->config->name;
	struct error err = ERROR_INIT;
	struct rootfs fs;
	uint64_t bits = (volume->device.bytes - 1) / volume->granularity_bytes + 1;
	int ret = rootfs_look(&volume->device, folder, &fs, &err);

	if (!ret && (!fs.here || fs.unfit[0] || !fs.writable))
		return;
	if (!ret && (volume->attached_now || volume->slot_spent || !slot_exists(folder, name)))
		ret = slot_keep(folder, name, bits, &err);
	if (ret)
		log_warning("volume %s: the next reboot will leave it untrusted: %s", name,
			    err.message);
}
