/*
 * What is known of a volume's device before it is rewound: it holds the image of the
 * newest point, but for what was marked since. This is what an incremental stands on,
 * judged by the same rules; what cannot be known is compared, and why is said.
 */
#include "agent/protect/rewind.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3)))
static bool unknown(struct rewind *rewind, const char *format, ...)
{
	char *reason = rewind->result->reason;
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(rewind->result->reason), format, args);
	va_end(args);
	return false;
}

/*
 * All marks since the boundary of the newest point. A run that died has left them in up
 * to three places; they are read in the order in which they go from one to the next, so
 * none is overlooked, whoever is at work.
 */
static int marks_read(struct rewind *rewind, const struct tracker_slot *slot,
		      struct bitmap *marks, struct error *err)
{
	int ret = tracker_read_current(rewind->tracker, slot->slot, marks, err);
	struct uuid run;

	if (ret)
		return ret;
	ret = tracker_read_retired(rewind->tracker, slot->slot, marks, err);
	if (ret && ret != -ENOENT)
		return ret;
	ret = pending_load(rewind->config->agent.state, rewind->volume->name,
			   slot->block_bytes, &run, marks, err);
	return ret == -ENOENT ? 0 : ret;
}

static int marks_extents(struct rewind *rewind, struct error *err)
{
	uint64_t blocks = rewind->device.bytes / BLOCK_BYTES +
			  !!(rewind->device.bytes % BLOCK_BYTES);
	struct bitmap marks = { 0 };
	struct tracker_slot slot;
	uint32_t number;
	int ret = tracker_find(rewind->tracker, rewind->device.device, &number);

	if (ret)
		return error_set(err, ret, "it is not attached");
	ret = tracker_slot(rewind->tracker, number, &slot, err);
	if (ret)
		return ret;
	ret = bitmap_init(&marks, slot.blocks);
	if (ret)
		return error_set(err, ret, "its marks cannot be held in memory: %s",
				 error_text(ret));
	ret = marks_read(rewind, &slot, &marks, err);
	if (!ret) {
		ret = bitmap_extents(&marks, slot.block_bytes / BLOCK_BYTES, blocks,
				     &rewind->changed);
		if (ret)
			error_set(err, ret, "its marks cannot be listed: %s", error_text(ret));
	}
	bitmap_fini(&marks);
	return ret;
}

/* The newest point's map. Marks are since that very point, and no other. */
static int head_map(struct rewind *rewind, struct repo *repo, struct error *err)
{
	const struct volume_state *state = &rewind->state;
	struct point head;
	int ret = point_load(repo, &state->id, state->head_point, &head, err);

	if (ret == -ENOENT)
		return error_set(err, ret, "point %" PRIu64 ", its newest, is not in this store",
				 state->head_point);
	if (ret)
		return ret;
	if (memcmp(head.hash, state->head_hash, sizeof(head.hash)))
		ret = error_set(err, -EBADMSG, "point %" PRIu64 ", its newest, is not the one "
				"that this host committed", state->head_point);
	if (!ret)
		ret = point_full_map(repo, &head, rewind->source->ring, &rewind->map, err);
	rewind->has_map = !ret;
	point_fini(&head);
	return ret;
}

static bool known_at_all(struct rewind *rewind, struct repo *repo)
{
	const struct volume_state *state = &rewind->state;

	if (!rewind->has_state || !state->head_point)
		return unknown(rewind, "it was never backed up from here");
	if (!uuid_equal(&state->id, &rewind->source->point->volume))
		return unknown(rewind, "the point is of another volume of this name");
	if (!uuid_equal(&state->repository, &repo_facts(repo)->id))
		return unknown(rewind, "its newest point is in another repository");
	return true;
}

/* Marks first: what speaks against them until then speaks against the answer. */
static bool marks_known(struct rewind *rewind, struct error *err)
{
	struct error why = ERROR_INIT;
	int ret = tracker_open(false, &rewind->tracker, &why);

	if (ret == -ENOENT)
		return unknown(rewind, "the tracker is not loaded");
	if (ret)
		return unknown(rewind, "%.200s", why.message);
	ret = marks_extents(rewind, &why);
	if (volume_judge(rewind->tracker, &rewind->state, &rewind->device, NULL,
			 rewind->result->reason, sizeof(rewind->result->reason)) !=
	    TRUST_TRACKED)
		return false;
	if (!ret)
		return true;
	if (why.exit == EXIT_INTERRUPTED)
		*err = why;
	return unknown(rewind, "%.200s", why.message);
}

int rewind_known(struct rewind *rewind, struct repo *repo, struct error *err)
{
	struct rewind_result *result = rewind->result;
	struct error why = ERROR_INIT;

	result->reason[0] = '\0';
	if (!known_at_all(rewind, repo) || !marks_known(rewind, err))
		return err->code;
	if (head_map(rewind, repo, &why)) {
		if (why.exit == EXIT_INTERRUPTED)
			*err = why;
		unknown(rewind, "%.200s", why.message);
		return err->code;
	}
	rewind->known = (struct restore_known){ &rewind->map, &rewind->changed };
	result->from = rewind->state.head_point;
	result->marked_bytes = extent_list_blocks(&rewind->changed) * BLOCK_BYTES;
	return 0;
}
