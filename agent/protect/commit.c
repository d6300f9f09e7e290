/* The end of a run: map, point, state, marks; in this order. */
#include "agent/protect/run.h"

#include "agent/base/fault.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/*
 * Synthetic fulls and differentials have the whole volume's map, pointers only, made
 * from the maps before it; and so has, as a checkpoint, a point whose map would be too
 * many deltas away from its base.
 */
static bool wants_whole_map(const struct point *point)
{
	return point->kind == POINT_SYNTHETIC || point->kind == POINT_DIFFERENTIAL ||
	       point->depth > POINT_DEPTH_MAX;
}

static int map_checkpoint(struct host *host, struct run_volume *volume,
			  struct error *err)
{
	struct key_ring ring = { .host_map_key = host->map_key };
	struct map *own = &volume->output.map, before, merged;
	struct point head;
	int ret = point_load(host->repo, &volume->state.id, volume->point.parent, &head, err);

	if (ret)
		return ret;
	ret = point_full_map(host->repo, &head, &ring, &before, err);
	point_fini(&head);
	if (ret)
		return ret;
	ret = map_overlay(&before, own, &merged);
	map_fini(&before);
	if (ret)
		return error_set(err, ret, "making a checkpoint map: %s", error_text(ret));
	map_fini(own);
	*own = merged;
	volume->point.base = volume->point.number;
	volume->point.depth = 0;
	return 0;
}

static void point_take_output(struct run_volume *volume)
{
	struct pipeline_result *output = &volume->output;
	struct point *point = &volume->point;

	point->read_bytes = output->read_bytes;
	point->data_bytes = output->data_bytes;
	point->zero_bytes = output->zero_bytes;
	point->stored_bytes = output->stored_bytes;
	point->segments = output->segments;
	point->segment_count = output->segment_count;
	output->segments = NULL;
	output->segment_count = 0;
}

static void state_take_kind(struct volume_state *state, const struct point *point)
{
	if (point->kind == POINT_FULL)
		state->full_time_ns = point->time_ns;
	if (point->kind == POINT_SYNTHETIC)
		state->synthetic_time_ns = point->time_ns;
	if (point->kind == POINT_DIFFERENTIAL)
		state->differential_time_ns = point->time_ns;
	if (point->kind == POINT_FULL || point->kind == POINT_SYNTHETIC)
		state->full_point = point->number;
}

static void state_take_point(const struct boundary_volume *frozen,
			     struct run_volume *volume)
{
	struct volume_state *state = &volume->state;
	const struct device_facts *device = &volume->device;

	state->head_point = volume->point.number;
	memcpy(state->head_hash, volume->point.hash, sizeof(state->head_hash));
	state->head_time_ns = volume->point.time_ns;
	state_take_kind(state, &volume->point);
	if (volume->config->disk) {
		state->trust = TRUST_UNTRUSTED;
		strcpy(state->reason, "disks are not tracked");
	} else if (state->trust != TRUST_TRACKED || volume->full || volume->rescan) {
		state->trust = TRUST_TRACKED;
		state->since_ns = volume->point.time_ns;
		state->reason[0] = '\0';
	}
	state->identity = volume->identity;
	state->recursion_misses = volume->recursion_misses;
	state->base = frozen->base;
	strcpy(state->device_path, volume->config->device);
	memcpy(state->dm_uuid, device->dm_uuid, sizeof(state->dm_uuid));
	memcpy(state->dm_name, device->dm_name, sizeof(state->dm_name));
	memcpy(state->table, device->table, sizeof(state->table));
	state->device = device->device;
	state->diskseq = device->diskseq;
	state->bytes = device->bytes;
	state->granularity_bytes = volume->granularity_bytes;
}

int volume_commit(struct host *host, const struct boundary_volume *frozen,
		  struct run_volume *volume, struct laps *laps, struct error *err)
{
	const char *folder = host->config->agent.state;
	struct pipeline_result *output = &volume->output;
	struct repo_volume registered = { .id = volume->state.id };
	int ret = 0;

	point_take_output(volume);
	volume_fingerprints_seal(volume);
	laps_end(laps, "fingerprints");
	if (wants_whole_map(&volume->point))
		ret = FAULT_ERR("commit.checkpoint", err) ?: map_checkpoint(host, volume, err);
	if (!ret && volume->point.number == 1) {
		strcpy(registered.name, volume->config->name);
		ret = repo_volume_add(host->repo, &registered, err);
	}
	if (!ret)
		ret = FAULT_ERR("commit.point", err) ?:
		      point_commit(host->repo, &volume->point, &output->map,
				   output->inline_frames, output->inline_length,
				   &volume->keys, host->signer, err);
	laps_end(laps, "commit");
	if (ret)
		return ret;
	state_take_point(frozen, volume);
	/* The point stands. If this fails, the next run finds it and goes on. */
	ret = FAULT_ERR("commit.state", err) ?: volume_state_save(folder, &volume->state, err);
	laps_end(laps, "save_state");
	if (ret)
		return ret;
	volume_fingerprints_advance(volume);
	laps_end(laps, "fingerprints");
	ret = FAULT_ERR("commit.pending", err) ?:
	      pending_remove(folder, volume->config->name, err);
	laps_end(laps, "drop_marks");
	return ret;
}

/*
 * The point that the dead run meant to commit is what its snapshot showed, and its
 * marks begin there. Any other was made by this host in a life that it does not
 * remember: these marks tell what changed since another point.
 */
static void adopt_one(struct run_volume *volume, const struct point *next)
{
	struct volume_state *state = &volume->state;

	if (uuid_equal(&next->run, &volume->pending_run))
		log_note("volume %s: point %" PRIu64 " was committed by a run that did not "
			 "live to say so", state->name, next->number);
	else
		state_distrust(state, "point %" PRIu64 " is this host's, but not known to it: "
			       "machine or state were set back to an earlier image", next->number);
	state->repository = next->repository;
	state->head_point = next->number;
	memcpy(state->head_hash, next->hash, sizeof(state->head_hash));
	state->head_time_ns = next->time_ns;
	state_take_kind(state, next);
}

/*
 * There is no next point. If there was one, which was pruned, then the newest one is
 * this host's, too, and what it goes on from.
 */
static int adopt_newest(struct host *host, const struct signing_public *own,
			struct run_volume *volume, struct error *err)
{
	struct volume_state *state = &volume->state;
	struct error used = ERROR_INIT;
	struct point newest;
	int ret = point_number_check(host->repo, &state->id, state->head_point + 1, &used);

	if (ret != -EEXIST) {
		*err = used;
		return ret;
	}
	ret = point_find(host->repo, &state->id, "latest", &newest, err);
	if (ret)
		return ret;
	if (!memcmp(&newest.signer, own, sizeof(*own)))
		adopt_one(volume, &newest);
	point_fini(&newest);
	return volume_state_save(host->config->agent.state, state, err);
}

int volume_adopt(struct host *host, struct run_volume *volume, struct error *err)
{
	struct volume_state *state = &volume->state;
	struct signing_public own;
	struct point next;
	bool ours;
	int ret;

	if (!uuid_equal(&state->repository, &repo_facts(host->repo)->id) && state->head_point)
		return 0;
	signing_public(host->signer, &own);
	for (;;) {
		ret = point_load(host->repo, &state->id, state->head_point + 1, &next, err);
		if (ret == -ENOENT)
			return adopt_newest(host, &own, volume, err);
		if (ret)
			return ret;
		ours = !memcmp(&next.signer, &own, sizeof(own)) &&
		       next.parent == state->head_point &&
		       !memcmp(next.parent_hash, state->head_hash, sizeof(next.parent_hash));
		if (ours)
			adopt_one(volume, &next);
		point_fini(&next);
		if (!ours)
			return 0;	/* committing will say that the number is taken */
		ret = volume_state_save(host->config->agent.state, state, err);
		if (ret)
			return ret;
	}
}
