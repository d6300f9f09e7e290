/*
 * Rewinding: a protected volume's own device goes back to a point, and what is there now
 * becomes a point before (the safety point), so that this can be undone.
 *
 * Nothing needs to be remembered for the case that it breaks off. All that it writes goes
 * through the tracked device and is marked, so a volume that was trusted stays it: whoever
 * comes next, be it a second rewind or a backup, finds the newest point and the marks, and
 * these two say what is there. After a reboot there are no marks; then the safety point of
 * the second attempt compares, or the rewind does.
 *
 * The volume's lock is held from the look at the marks to the last write: a boundary in
 * between would take marks away, and make a point of half a volume.
 */
#include "agent/protect/rewind.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool protect_is_own(const struct config *config, const struct config_volume *volume,
		    const char *path)
{
	struct error ignored = ERROR_INIT;
	struct device_facts own, other;
	struct volume_state state;

	if (volume_state_load(config->agent.state, volume->name, &state, &ignored))
		state.dm_uuid[0] = '\0';
	return !device_find(volume->device, state.dm_uuid, &own, &ignored) &&
	       !device_facts(path, &other, &ignored) && own.device == other.device;
}

static int rewind_find(struct rewind *rewind, struct error *err)
{
	const char *name = rewind->volume->name;
	int ret = volume_state_load(rewind->config->agent.state, name, &rewind->state, err);

	rewind->has_state = !ret;
	if (ret == -ENOENT) {
		memset(&rewind->state, 0, sizeof(rewind->state));
		ret = 0;
	}
	if (!ret)
		ret = device_find(rewind->volume->device, rewind->state.dm_uuid, &rewind->device,
				  err);
	if (ret)
		return error_prefix(err, "rewinding volume %s", name);
	snprintf(rewind->result->device, sizeof(rewind->result->device), "%s",
		 rewind->device.path);
	return 0;
}

static int rewind_open(struct rewind *rewind, struct restore_target **target,
		       struct error *err)
{
	const struct restore_target_options options = {
		.bytes = rewind->source->point->volume_bytes,
		.in_place = true,
	};

	return restore_target_open(rewind->device.path, &options, target, err);
}

/* What would stop it later should do so before a safety point is made. */
static int rewind_can(struct rewind *rewind, struct error *err)
{
	struct restore_target *target = NULL;
	struct point_keys keys;
	int ret = point_open_keys(rewind->source->point, rewind->source->ring, &keys, err);

	crypto_wipe(&keys, sizeof(keys));
	if (!ret)
		ret = rewind_open(rewind, &target, err);
	return ret ? ret : restore_target_close(target, err);
}

/* ---- the safety point --------------------------------------------------- */

/* No policy takes it away: by the time it is missed, many points may have been made. */
static int safety_keep(struct rewind *rewind, const struct point *point, struct error *err)
{
	struct retention retention;
	int ret = retention_load(rewind->host.repo, &point->volume, &retention, err);

	if (ret)
		return ret;
	ret = FAULT_ERR("rewind.keep", err) ?:
	      repo_pin(rewind->host.repo, &point->volume, &retention, point->number, true,
		       point->number, rewind->host.signer, err);
	retention_fini(&retention);
	return ret;
}

/*
 * Without the volume's hook, and not as one of its group: nothing is mounted, so no
 * application is there to be held, and a hook that finds none would fail the run.
 */
static int safety_backup(struct rewind *rewind, struct error *err)
{
	struct config_volume alone = *rewind->volume;
	const struct config_volume *volume = &alone;
	char reason[64];
	const struct backup_options options = {
		.reason = reason,
		.report = rewind->options->backup_report,
		.context = rewind->options->restore.context,
	};
	struct backup_result result;
	int ret;

	snprintf(reason, sizeof(reason), "before a rewind to point %" PRIu64,
		 rewind->source->point->number);
	memset(&alone.hook, 0, sizeof(alone.hook));
	alone.group[0] = '\0';
	memset(&result, 0, sizeof(result));
	ret = protect_backup(&rewind->host, &volume, 1, &options, &result, err);
	if (result.committed)
		rewind->result->safety_point = result.point.number;
	if (!ret)
		ret = safety_keep(rewind, &result.point, err);
	point_fini(&result.point);
	return ret;
}

static int rewind_safety(struct rewind *rewind, struct error *err)
{
	int ret;

	if (!rewind->has_state ||
	    !uuid_equal(&rewind->state.id, &rewind->source->point->volume)) {
		error_set(err, -ENOENT, "volume %s: a safety point cannot be made: %s",
			  rewind->volume->name, rewind->has_state ?
			  "the point is of another volume of this name" :
			  "it was never backed up from here");
		return error_hint(err, "--no-safety-point goes without");
	}
	ret = host_open(rewind->config, HOST_WRITER, &rewind->host, err);
	if (!ret)
		ret = safety_backup(rewind, err);
	if (!ret)
		return 0;
	error_prefix(err, "making a safety point; nothing was rewound");
	return err->exit == EXIT_INTERRUPTED || err->exit == EXIT_LOCKED ? err->code :
	       error_hint(err, "--no-safety-point goes without");
}

/* ---- the rewind --------------------------------------------------------- */

/* Where the newest point is looked for: what the safety point was written to has it. */
static struct repo *rewind_repo(struct rewind *rewind)
{
	return rewind->host.repo ? rewind->host.repo : rewind->source->repo;
}

static void rewind_decided(struct rewind *rewind)
{
	if (rewind->options->decided)
		rewind->options->decided(rewind->options->restore.context, rewind->result);
}

/* The device is claimed and the volume locked. */
static int rewind_write(struct rewind *rewind, struct restore_target *target,
			struct error *err)
{
	struct restore_options options = rewind->options->restore;
	int ret = restore_target_settle(target, err);

	if (!ret)
		ret = rewind_known(rewind, rewind_repo(rewind), err);
	if (ret)
		return ret;
	/* Who wrote then would lose that, with no point that has it. */
	if (rewind->result->safety_point && rewind->known.map && rewind->changed.count)
		return error_set(err, -EBUSY, "volume %s was written to after point %" PRIu64
				 " was made, which was to keep all that is there; nothing was "
				 "rewound; stop what writes to it, and run it again",
				 rewind->volume->name, rewind->result->safety_point);
	options.known = rewind->known.map ? &rewind->known : NULL;
	rewind_decided(rewind);
	return FAULT_ERR("rewind.write", err) ?:
	       restore_run(rewind->source->repo, rewind->source->point, rewind->source->ring,
			   target, &options, &rewind->result->restore, err);
}

static int rewind_locked(struct rewind *rewind, struct error *err)
{
	struct restore_target *target = NULL;
	struct error closing = ERROR_INIT;
	int ret = FAULT_ERR("rewind.lock", err) ?:
		  volume_lock(rewind->config->agent.state, rewind->volume->name, "restore",
			      &rewind->lock_fd, err);

	if (!ret)
		ret = rewind_find(rewind, err);
	if (!ret)
		ret = rewind_open(rewind, &target, err);
	if (ret)
		return ret;
	ret = rewind_write(rewind, target, err);
	if (restore_target_close(target, &closing) && !ret) {
		*err = closing;
		ret = closing.code;
	}
	return ret;
}

/* Without a lock: whoever is at work meanwhile makes it an older answer, no more. */
static int rewind_dry(struct rewind *rewind, struct error *err)
{
	int ret = rewind_known(rewind, rewind_repo(rewind), err);

	if (ret)
		return ret;
	rewind_decided(rewind);
	return restore_plan(rewind->source->repo, rewind->source->point, rewind->source->ring,
			    rewind->known.map ? &rewind->known : NULL,
			    &rewind->result->restore, err);
}

static int rewind_steps(struct rewind *rewind, struct error *err)
{
	unsigned removed;
	int ret = rewind_find(rewind, err);

	if (ret || rewind->options->dry_run)
		return ret ? ret : rewind_dry(rewind, err);
	ret = boundary_recover(rewind->config->agent.state, &removed, err);
	if (!ret)
		ret = rewind_can(rewind, err);
	if (!ret && !rewind->options->no_safety_point)
		ret = rewind_safety(rewind, err);
	return ret ? ret : rewind_locked(rewind, err);
}

int protect_rewind(const struct config *config, const struct config_volume *volume,
		   const struct rewind_source *source, const struct rewind_options *options,
		   struct rewind_result *result, struct error *err)
{
	struct rewind rewind = {
		.config = config, .volume = volume, .source = source, .options = options,
		.result = result, .lock_fd = -1,
	};
	int ret;

	memset(result, 0, sizeof(*result));
	ret = rewind_steps(&rewind, err);
	tracker_close(rewind.tracker);
	if (rewind.has_map)
		map_fini(&rewind.map);
	extent_list_fini(&rewind.changed);
	host_close(&rewind.host);
	cleanup_close(&rewind.lock_fd);
	if (ret && result->safety_point)
		error_hint(err, "what was there before is point %" PRIu64 " of %s",
			   result->safety_point, volume->name);
	return ret;
}
