/* After the boundary: full or incremental, what to read, what the point says. */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The head as the repository holds it now: an incremental stands on nothing else. */
static int head_check(struct host *host, const struct run_volume *volume,
		      struct point *head, struct error *err)
{
	const struct volume_state *state = &volume->state;
	int ret = point_load(host->repo, &state->id, state->head_point, head, err);

	/* It was pruned, or it is gone. */
	if (ret == -ENOENT)
		return point_number_check(host->repo, &state->id, state->head_point + 1, err) ?:
		       error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "the repository lost "
				      "point %" PRIu64 " of %s, which this host committed: it was "
				      "rolled back or emptied; look with clawback verify, and go "
				      "on with clawback backup --type full", state->head_point,
				      state->name);
	if (ret)
		return ret;
	if (!memcmp(head->hash, state->head_hash, sizeof(head->hash)))
		return 0;
	point_fini(head);
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "point %" PRIu64 " of %s is "
			      "not the one that this host committed; look with clawback verify, "
			      "and go on with clawback backup --type full", state->head_point,
			      state->name);
}

/*
 * A full does without its parent; but if that is gone, its own number may have been
 * used and pruned, and then it would be hidden. An incremental has seen its parent,
 * behind which no number is ever free again.
 */
static int parent_check(struct host *host, const struct run_volume *volume,
			enum backup_type type, struct point *head, struct error *err)
{
	const struct volume_state *state = &volume->state;

	if (!state->head_point)
		return 0;
	if (type == BACKUP_FULL)
		return point_number_check(host->repo, &state->id, state->head_point + 1, err);
	return head_check(host, volume, head, err);
}

/*
 * Points of another repository are no parents here; but the volume may have been
 * here before, or a run that moved it here may have died before it could say so.
 */
static int head_of_repository(struct host *host, struct volume_state *state,
			      struct error *err)
{
	const struct uuid *id = &repo_facts(host->repo)->id;
	CLEANUP_FREE uint64_t *numbers = NULL;
	bool moved = state->head_point != 0;
	struct point last;
	size_t count;
	int ret;

	if (uuid_equal(&state->repository, id))
		return 0;
	if (moved)
		state_distrust(state, "it goes to another repository now");
	state->repository = *id;
	state->head_point = state->full_point = 0;
	memset(state->head_hash, 0, sizeof(state->head_hash));
	ret = moved ? point_numbers(host->repo, &state->id, &numbers, &count, err) : 0;
	if (ret || !moved || !count)
		return ret;
	ret = point_load(host->repo, &state->id, numbers[count - 1], &last, err);
	if (ret)
		return ret;
	state->head_point = last.number;
	memcpy(state->head_hash, last.hash, sizeof(state->head_hash));
	point_fini(&last);
	return 0;
}

/*
 * Full, rescan or incremental. With fingerprints that are the head's, a volume whose
 * marks are not to be believed is compared; without, it is stored whole.
 */
static void decide_kind(struct tracker *tracker, const struct boundary_volume *frozen,
			enum backup_type type, struct run_volume *volume)
{
	struct volume_state *state = &volume->state;
	char *reason = volume->point.reason;
	size_t room = sizeof(volume->point.reason);
	bool tracked = false;

	if (type == BACKUP_FULL)
		snprintf(reason, room, "a full was asked for");
	else if (!state->head_point)
		snprintf(reason, room, "there is no point yet");
	else
		tracked = volume_judge(tracker, state, &volume->device, &frozen->before,
				       reason, room) == TRUST_TRACKED;
	if (tracked)
		*reason = '\0';
	volume->rescan = !tracked && volume->compare;
	volume->full = !tracked && !volume->rescan;
	if (tracked && type == BACKUP_DIFFERENTIAL && !state->full_point) {
		snprintf(reason, room, "no full is known that a differential could go back to");
		volume->full = true;
	}
}

/* Once it is known what is read: the kind, and for what was asked for, why. */
static void decide_point_kind(enum backup_type type, struct run_volume *volume)
{
	char *reason = volume->point.reason;
	size_t room = sizeof(volume->point.reason);

	volume->kind = volume->full ? POINT_FULL :
		       type == BACKUP_SYNTHETIC ? POINT_SYNTHETIC :
		       type == BACKUP_DIFFERENTIAL && !volume->rescan ? POINT_DIFFERENTIAL :
		       POINT_INCREMENTAL;
	if (type == BACKUP_DIFFERENTIAL && volume->rescan)
		log_note("volume %s: no differential: the whole volume is compared first: %s",
			 volume->config->name, reason);
	if (volume->full || volume->rescan)
		return;
	if (volume->kind == POINT_SYNTHETIC)
		snprintf(reason, room, "a synthetic full was asked for");
	if (volume->kind == POINT_DIFFERENTIAL)
		snprintf(reason, room, "a differential was asked for");
}

static void point_describe(const struct boundary_volume *frozen, struct run_volume *volume)
{
	struct point *point = &volume->point;
	const struct device_facts *device = &volume->device;

	point->volume = volume->state.id;
	strcpy(point->volume_name, volume->config->name);
	point->number = volume->state.head_point + 1;
	point->kind = volume->kind;
	if (point->kind == POINT_DIFFERENTIAL)
		point->full = volume->state.full_point;
	point->parent = volume->state.head_point;
	memcpy(point->parent_hash, volume->state.head_hash, sizeof(point->parent_hash));
	point->base = point->number;
	point->time_ns = frozen->time_ns;
	point->consistency = frozen->used == PROVIDER_NONE ? CONSISTENCY_UNMOUNTED :
			     frozen->frozen_fs ? CONSISTENCY_FROZEN : CONSISTENCY_CRASH;
	point->volume_bytes = device->bytes;
	point->logical_block_bytes = device->logical_block_bytes;
	gethostname(point->host, sizeof(point->host) - 1);
	snprintf(point->device, sizeof(point->device), "%.255s", device->path);
	snprintf(point->dm_name, sizeof(point->dm_name), "%s", device->dm_name);
	snprintf(point->dm_uuid, sizeof(point->dm_uuid), "%s", device->dm_uuid);
	snprintf(point->dm_targets, sizeof(point->dm_targets), "%s", device->dm_targets);
}

/* The marks, and for a differential what was stored since the full. */
static int extents_marked(const struct boundary_volume *frozen, uint64_t blocks,
			  struct run_volume *volume)
{
	struct extent_list marked = EXTENT_LIST_INIT;
	int ret = bitmap_extents(&frozen->read_set, volume->granularity_bytes / BLOCK_BYTES,
				 blocks, &marked);

	if (!ret)
		ret = extent_list_union(&marked, &volume->since, &volume->extents);
	extent_list_fini(&marked);
	return ret;
}

static int decide_extents(const struct boundary_volume *frozen, struct run_volume *volume,
			  struct error *err)
{
	uint64_t blocks = (volume->device.bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	uint64_t marked;
	int ret;

	if (volume->full || volume->rescan)
		ret = extent_list_append(&volume->extents, 0, blocks);
	else
		ret = extents_marked(frozen, blocks, volume);
	if (ret)
		return error_set(err, ret, "listing what to read of %s: %s",
				 volume->config->name, error_text(ret));
	marked = extent_list_blocks(&volume->extents) * BLOCK_BYTES;
	volume->point.marked_bytes = marked < volume->device.bytes ? marked
								   : volume->device.bytes;
	return 0;
}

/* The chain's part of the point; `head` without a number stands for none. */
static void point_chain(const struct point *head, struct run_volume *volume)
{
	point_clock_steps(&volume->point, head);
	if (volume->full)
		return;
	volume->point.base = head->base;
	volume->point.depth = head->depth + 1;
}

int volume_head(struct host *host, enum backup_type type, struct run_volume *volume,
		struct point *head, struct error *err)
{
	int ret = head_of_repository(host, &volume->state, err);

	return ret ? ret : parent_check(host, volume, type, head, err);
}

void volume_describe(const struct boundary_volume *frozen, const struct point *head,
		     struct run_volume *volume)
{
	point_describe(frozen, volume);
	point_chain(head, volume);
}

static int decide_with_head(struct host *host, struct tracker *tracker,
			    const struct boundary_volume *frozen, enum backup_type type,
			    const struct point *head, struct run_volume *volume,
			    struct error *err)
{
	int ret;

	volume_fingerprints_open(host->config, head, volume);
	decide_kind(tracker, frozen, type, volume);
	if (volume->full && type == BACKUP_INCREMENTAL)
		return error_set(err, -ESTALE, "volume %s cannot be backed up incrementally: %s; "
				 "use --type auto", volume->config->name, volume->point.reason);
	ret = volume_spot_check(host->config, frozen, volume, err);
	if (ret)
		return ret;
	decide_point_kind(type, volume);
	if (volume->kind == POINT_DIFFERENTIAL)
		ret = volume_stored_since(host, head, volume, err);
	if (ret)
		return ret;
	volume_describe(frozen, head, volume);
	return volume_fingerprints_begin(volume, err);
}

int volume_decide(struct host *host, struct tracker *tracker,
		  const struct boundary_volume *frozen, enum backup_type type,
		  struct run_volume *volume, struct error *err)
{
	struct tracker_facts facts;
	struct point head = { 0 };
	int ret = tracker_facts(tracker, &facts, err);

	if (ret)
		return ret;
	volume->identity = facts.identity;
	volume->recursion_misses = facts.recursion_misses;
	ret = volume_head(host, type, volume, &head, err);
	if (ret)
		return ret;
	ret = decide_with_head(host, tracker, frozen, type, &head, volume, err);
	point_fini(&head);
	if (!ret)
		ret = point_keys_new(&volume->point, host->map_key, &volume->keys, err);
	return ret ? ret : decide_extents(frozen, volume, err);
}
