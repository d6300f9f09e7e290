/*
 * Handing tracking over to the next boot.
 *
 * Saving, at the end of a boot: hold the device still, so that no write can come
 * any more; only then ask whether the tracker can be believed, and read its marks.
 * Whatever was written before is in both, or the ledger shows that it is not.
 * Whatever would be written after the question is refused by the kernel.
 *
 * Taking, in the next boot: the file is removed, durably, before anything else, so
 * that it is believed once at most; tracking begins before the comparison, so that
 * a write is either traced, or found by the comparison or the ledger.
 */
#include "agent/protect/saving.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- saving ------------------------------------------------------------ */

static bool ledger_same(const struct tracker_ledger *a, const struct tracker_ledger *b)
{
	return a->kernel_write_sectors == b->kernel_write_sectors &&
	       a->kernel_discard_sectors == b->kernel_discard_sectors &&
	       a->traced_write_sectors == b->traced_write_sectors &&
	       a->traced_discard_sectors == b->traced_discard_sectors;
}

/* Still nobody else there, and nothing counted since `before`? */
static int saving_still(struct saving *saving, const struct tracker_ledger *before,
			struct error *err)
{
	struct tracker_ledger now;
	int ret = device_hold_check(&saving->device, false, err);

	if (!ret)
		ret = tracker_ledger(saving->tracker, saving->device.device, &now, err);
	if (!ret && !ledger_same(before, &now))
		ret = error_set(err, -EBUSY, "%s was written to meanwhile", saving->device.path);
	return ret;
}

/* The device is held: all that was ever written in this boot is counted by now. */
static int saving_held(struct saving *saving, struct error *err)
{
	const char *folder = saving->config->agent.state, *name = saving->state.name;
	CLEANUP(handover_fini) struct handover handover = { 0 };
	struct error undo = ERROR_INIT;
	struct tracker_ledger ledger;
	int ret = tracker_ledger(saving->tracker, saving->device.device, &ledger, err);

	if (!ret)
		ret = saving_judge(saving, &ledger, err);
	if (!ret)
		ret = saving_fill(saving, &handover, err);
	if (!ret)
		ret = saving_still(saving, &ledger, err);
	if (ret)
		return ret;
	ret = handover_save(folder, name, &handover, err);
	if (!ret)
		ret = saving_still(saving, &ledger, err);
	if (ret && handover_remove(folder, name, &undo))
		log_warning("volume %s: %s", name, undo.message);
	return ret;
}

static int saving_locked(struct saving *saving, struct error *err)
{
	const char *folder = saving->config->agent.state, *name = saving->state.name;
	struct error undo = ERROR_INIT;
	int ret = handover_remove(folder, name, err);

	if (!ret)
		ret = device_hold(folder, name, &saving->device, &saving->fd, err);
	if (ret)
		return ret;
	ret = saving_held(saving, err);
	cleanup_close(&saving->fd);
	saving->fd = -1;
	if (ret && device_free(folder, name, &saving->device, &undo))
		log_warning("volume %s: %s", name, undo.message);
	return ret;
}

int protect_handover(const struct config *config, const struct config_volume *volume,
		     struct error *err)
{
	int ret = volume_root_busy(config, volume, err);

	return ret ? ret : saving_run(config, volume, false, saving_locked, err);
}

/* ---- taking ------------------------------------------------------------ */

/*
 * In the boot that saved it, or when the volume is tracked already, what was saved
 * is older than what the tracker has.
 */
static bool handover_is_old(struct tracker *tracker, const struct handover *saved, bool tracked)
{
	struct error ignored = ERROR_INIT;
	struct tracker_facts facts;

	return tracked || tracker_facts(tracker, &facts, &ignored) ||
	       !strcmp(saved->boot_id, facts.identity.boot_id);
}

int volume_take_handover(const struct config *config, struct tracker *tracker, bool tracked,
			 struct run_volume *volume, struct error *err)
{
	const char *folder = config->agent.state, *name = volume->config->name;
	int ret = handover_load(folder, name, &volume->handover, err);

	if (ret == -ENOMEM)
		return ret;
	volume->has_handover = ret == 0;
	/* What cannot be read must not be believed later either. */
	if (ret && ret != -ENOENT && !tracked)
		state_distrust(&volume->state, "%s", err->message);
	if (ret != -ENOENT)
		ret = handover_remove(folder, name, err);
	else
		ret = 0;
	if (!ret && volume->has_handover &&
	    handover_is_old(tracker, &volume->handover, tracked)) {
		handover_fini(&volume->handover);
		volume->has_handover = false;
	}
	/* From here on it may be written to. */
	return ret ? ret : device_free(folder, name, &volume->device, err);
}

/* Whether the kernel counts at all shows by what is read here. */
static int taking_witness(const struct run_volume *volume, struct witness *witness,
			  bool *counted, struct error *err)
{
	const struct handover *saved = &volume->handover;
	struct witness_plan plan = {
		.marks = &saved->marks,
		.granularity_bytes = saved->granularity_bytes,
		.seed = saved->seed,
		.hidden = &volume->slot_place,
	};
	CLEANUP_CLOSE int fd = open(volume->device.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint64_t before, after;
	int ret;

	if (fd < 0)
		return error_set(err, -errno, "cannot open %s: %s", volume->device.path,
				 error_text(errno));
	ret = device_sectors_read(&volume->device, &before, err);
	if (!ret)
		ret = witness_read(fd, volume->device.bytes, &plan, witness, err);
	if (!ret)
		ret = device_sectors_read(&volume->device, &after, err);
	*counted = !ret && after > before;
	return ret;
}

/* Tracked from now on, and nothing but the saved marks happened before. */
static int taking_trust(struct tracker *tracker, const struct tracker_facts *before,
			uint64_t traced[static 2], struct run_volume *volume,
			struct error *err)
{
	struct volume_state *state = &volume->state;
	int ret = tracker_mark(tracker, volume->slot, &volume->handover.marks, err);

	if (ret)
		return ret;
	state->identity = before->identity;
	state->recursion_misses = before->recursion_misses;
	/*
	 * Zero for the kernel: a write that was under way before tracking began, and
	 * is counted only later, will be missing in the ledger for good.
	 */
	memset(&state->base, 0, sizeof(state->base));
	state->base.traced_write_sectors = traced[0];
	state->base.traced_discard_sectors = traced[1];
	volume->handed_over = true;
	return 0;
}

static int taking_compare(const struct config *config, struct tracker *tracker,
			  struct run_volume *volume, struct handover_facts *facts,
			  struct error *err)
{
	int ret = volume_state_digest(config->agent.state, volume->config->name, facts->state,
				      err);

	/* Lost since, it agrees with nothing. */
	if (ret == -ENOENT)
		ret = 0;
	facts->saved = &volume->handover;
	facts->volume = volume->state.id;
	facts->device = &volume->device;
	facts->granularity_bytes = volume->granularity_bytes;
	if (!ret)
		ret = device_place_digest(&volume->device, facts->place, err);
	return ret ? ret : tracker_ledger(tracker, volume->device.device, &facts->ledger, err);
}

int volume_attach_handed_over(const struct config *config, struct tracker *tracker,
			      const struct tracker_volume *wanted, struct run_volume *volume,
			      struct error *err)
{
	struct handover_facts facts = { 0 };
	struct tracker_ledger earlier = { 0 };
	struct error problem = ERROR_INIT;
	struct tracker_facts before;
	struct witness witness;
	char reason[200];
	int ret = tracker_facts(tracker, &before, err);

	/* Another volume, its disk or partition, may have led here before. */
	if (!ret && tracker_ledger(tracker, wanted->device, &earlier, &problem))
		memset(&earlier, 0, sizeof(earlier));
	if (!ret)
		ret = tracker_attach(tracker, wanted, &volume->slot, err);
	if (!ret)
		ret = taking_compare(config, tracker, volume, &facts, err);
	if (ret)
		return ret;
	facts.boot_id = before.identity.boot_id;
	if (!taking_witness(volume, &witness, &facts.counted, &problem))
		facts.witness = &witness;
	if (handover_judge(&facts, reason, sizeof(reason)) == TRUST_TRACKED)
		return taking_trust(tracker, &before, (uint64_t[]){ earlier.traced_write_sectors,
				    earlier.traced_discard_sectors }, volume, err);
	state_distrust(&volume->state, "%s", reason);
	return 0;
}
