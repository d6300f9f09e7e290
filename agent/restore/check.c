/*
 * Reading the target back. With an image digest in the point, from front to back
 * against that; else frame by frame against what was decoded, and every hole
 * against zero.
 */
#include "agent/restore/restore_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int check_image(struct job *job, struct error *err)
{
	static const uint8_t zeros[COMPARE_PIECE_BYTES];
	CLEANUP_FREE uint8_t *buffer = malloc(COMPARE_PIECE_BYTES);
	struct digest *digest = digest_new();
	uint8_t found[CRYPTO_DIGEST_SIZE];
	uint64_t at = 0, data = 0, end = job->plan.volume_bytes;
	int ret = 0;

	if (!buffer || !digest)
		ret = error_set(err, -ENOMEM, "reading back: out of memory");
	while (!ret && at < end) {
		size_t n = end - at < COMPARE_PIECE_BYTES ? end - at :
							    COMPARE_PIECE_BYTES;

		if (data <= at)
			data = target_next_data(job->target, at, end);
		ret = interrupt_check(err);
		if (!ret && data < at + n)
			ret = target_read(job->target, at, buffer, n, err);
		if (ret)
			break;
		digest_update(digest, data < at + n ? buffer : zeros, n);
		job_advance(job, n, 0);
		at += n;
	}
	if (ret) {
		digest_free(digest);
		return ret;
	}
	digest_finish(digest, found);
	if (!memcmp(found, job->point->image_sha256, sizeof(found)))
		return 0;
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s does not hold the "
			      "image of point %" PRIu64 ": its SHA-256 is not the one "
			      "recorded", job->target->path, job->point->number);
}

static int check_frame(void *argument, size_t item, struct error *err)
{
	CLEANUP_FREE uint8_t *buffer = malloc(FRAME_PLAIN_MAX);
	struct job *job = argument;
	const struct plan *plan = &job->plan;
	uint32_t frame = plan->order[item];
	uint8_t found[CRYPTO_DIGEST_SIZE];
	struct digest *digest = digest_new();
	uint64_t block = 0, done = 0;
	int ret = 0;

	if (!buffer || !digest)
		ret = error_set(err, -ENOMEM, "reading back: out of memory");
	for (uint32_t i = plan->index.first[frame];
	     !ret && i < plan->index.first[frame + 1]; i++) {
		const struct map_entry *entry =
			&plan->map.entries[plan->index.items[i]];
		size_t length = plan_clip(plan, entry->block, entry->count);

		block = entry->block;
		ret = target_read(job->target, block * BLOCK_BYTES, buffer, length, err);
		if (!ret)
			digest_update(digest, buffer, length);
		done += length;
	}
	if (ret) {
		digest_free(digest);
		return ret;
	}
	digest_finish(digest, found);
	if (memcmp(found, job->digests[frame], sizeof(found)))
		return error_set(err, -EIO, "%s does not hold what was written to it: a "
				 "block at or before %" PRIu64 " reads back differently; "
				 "the medium is failing", job->target->path, block);
	job_advance(job, done, 0);
	return 0;
}

static int check_hole(void *argument, size_t item, struct error *err)
{
	CLEANUP_FREE uint8_t *buffer = malloc(COMPARE_PIECE_BYTES);
	struct job *job = argument;
	const struct extent *hole = &job->plan.holes.items[item];
	uint64_t at = hole->first * BLOCK_BYTES;
	uint64_t end = at + plan_clip(&job->plan, hole->first, hole->count);
	int ret = 0;

	if (!buffer)
		return error_set(err, -ENOMEM, "reading back: out of memory");
	while (at < end) {
		uint64_t data = target_next_data(job->target, at, end);
		size_t n = end - data < COMPARE_PIECE_BYTES ? end - data :
							      COMPARE_PIECE_BYTES;

		ret = interrupt_check(err);
		if (!ret)
			ret = target_read(job->target, data, buffer, n, err);
		if (ret)
			return ret;
		if (!memory_is_zero(buffer, n))
			return error_set(err, -EIO, "%s does not hold what was written "
					 "to it: there is data between %" PRIu64 " and %"
					 PRIu64 ", where zeros belong; the medium is "
					 "failing", job->target->path, data, data + n);
		job_advance(job, data + n - at, 0);
		at = data + n;
	}
	return 0;
}

int check_target(struct job *job, struct error *err)
{
	int ret;

	target_drop_cache(job->target);
	if (job->point->has_image_sha256)
		return check_image(job, err);
	ret = parallel_run(job->decoders, job->plan.frame_count, check_frame, job,
			   err);
	if (!ret)
		ret = parallel_run(job->decoders, job->plan.holes.count, check_hole,
				   job, err);
	return ret;
}
