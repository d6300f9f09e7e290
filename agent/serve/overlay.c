/*
 * Opening an overlay, and making durable what is in it. What is present counts after a
 * crash only when the file says so, which a flush writes behind the target's own. Of a
 * block that the file does not have, the target may hold anything: therefore holes are
 * put in like data.
 */
#include "agent/serve/serve_private.h"

#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---------------------------------------------------------------------- */

static int target_begin(struct overlay *overlay, const char *path, struct error *err)
{
	struct restore_target_options options = {
		.bytes = overlay->volume_bytes, .force = true, .cached = true,
	};

	overlay->target_path = strdup(path);
	if (!overlay->target_path)
		return error_set(err, -ENOMEM, "opening %s: out of memory", path);
	return restore_target_open(path, &options, &overlay->target, err);
}

static int overlay_begin(struct overlay *overlay, const struct present_owner *owner,
			 const struct overlay_options *options, struct error *err)
{
	const char *present = options->present;
	uint64_t have;
	int ret = target_length(overlay->target, &have, err);

	if (!ret && have)
		return error_set(err, -EEXIST, "%s exists and is not empty, and there is no %s "
				 "that says what of it belongs to the volume: remove it, or "
				 "choose another target", overlay->target_path, present);
	if (!ret && target_is_device(overlay->target) && !options->force)
		ret = target_check_empty(overlay->target_path, err);
	if (!ret)
		ret = present_create(&overlay->present, present, owner, err);
	if (!ret)
		ret = target_prepare(overlay->target, overlay->volume_bytes, err);
	if (ret || target_is_device(overlay->target))
		return ret;
	ret = file_sync_parent(overlay->target_path);
	return ret ? error_set(err, ret, "making the folder of %s durable: %s",
			       overlay->target_path, error_text(ret)) : 0;
}

static int overlay_resume(struct overlay *overlay, struct error *err)
{
	uint64_t have;
	int ret = target_length(overlay->target, &have, err);

	if (ret || target_is_device(overlay->target) || have == overlay->volume_bytes)
		return ret;
	if (have || atomic_load(&overlay->present.count))
		return error_set(err, -ESTALE, "%s has %" PRIu64 " bytes, and %" PRIu64 " when it "
				 "was left: remove it and %s to begin anew", overlay->target_path,
				 have, overlay->volume_bytes, overlay->present.path);
	return target_prepare(overlay->target, overlay->volume_bytes, err);
}

int overlay_open(struct point_reader *reader, const struct point *point,
		 const struct overlay_options *options, struct overlay **opened,
		 struct error *err)
{
	struct overlay *overlay = calloc(1, sizeof(*overlay));
	struct present_owner owner = {
		.repository = point->repository, .volume = point->volume,
		.point = point->number, .volume_bytes = point->volume_bytes,
	};
	struct error ignored = ERROR_INIT;
	int ret;

	*opened = NULL;
	if (!overlay)
		return error_set(err, -ENOMEM, "opening %s: out of memory", options->target);
	overlay->reader = reader;
	overlay->volume_bytes = point->volume_bytes;
	overlay->present.fd = -1;
	for (unsigned i = 0; i < OVERLAY_LOCKS; i++)
		pthread_mutex_init(&overlay->locks[i], NULL);
	pthread_mutex_init(&overlay->flush, NULL);
	ret = target_begin(overlay, options->target, err);
	if (!ret)
		ret = target_identity(options->target, &owner.target, err);
	if (!ret) {
		ret = present_open(&overlay->present, options->present, &owner, err);
		if (!ret)
			ret = overlay_resume(overlay, err);
		else if (ret == -ENOENT)
			ret = overlay_begin(overlay, &owner, options, err);
	}
	if (!ret) {
		*opened = overlay;
		return 0;
	}
	atomic_store(&overlay->broken, true);	/* nothing was written, nothing to be flushed */
	overlay_close(overlay, &ignored);
	return ret;
}

static int overlay_end(struct overlay *overlay, struct error *err)
{
	int ret = overlay_flush(overlay, err);

	if (!ret && atomic_load(&overlay->present.count) == overlay->present.blocks) {
		ret = file_remove(overlay->present.path);
		if (ret)
			error_set(err, ret, "removing %s: %s; %s is complete", overlay->present.path,
				  error_text(ret), overlay->target_path);
	}
	return ret;
}

int overlay_close(struct overlay *overlay, struct error *err)
{
	struct error closing = ERROR_INIT;
	int ret = 0;

	if (!overlay)
		return 0;
	if (!atomic_load(&overlay->broken))
		ret = overlay_end(overlay, err);
	if (restore_target_close(overlay->target, &closing) && !ret) {
		*err = closing;
		ret = closing.code;
	}
	present_fini(&overlay->present);
	for (unsigned i = 0; i < OVERLAY_LOCKS; i++)
		pthread_mutex_destroy(&overlay->locks[i]);
	pthread_mutex_destroy(&overlay->flush);
	free(overlay->target_path);
	free(overlay);
	return ret;
}

/* ---- durability -------------------------------------------------------------------------- */

/*
 * First what is said to be present, then the target, then the file that says so: what is
 * in the copy was written before it was taken. A sync that failed cannot be repeated: the
 * kernel has dropped what it could not write, and would say that all is well.
 */
static int overlay_flush_locked(struct overlay *overlay, struct error *err)
{
	struct present_pages *pages;
	int ret;

	if (atomic_load(&overlay->broken))
		return overlay_broken(overlay, err);
	pages = present_take(&overlay->present, &ret);
	if (ret)
		return error_set(err, ret, "making %s durable: out of memory",
				 overlay->target_path);
	ret = target_sync(overlay->target, err);
	if (ret) {
		atomic_store(&overlay->broken, true);
		present_give_back(&overlay->present, pages);
		log_error("%s", err->message);
		return ret;
	}
	return pages ? present_write(&overlay->present, pages, err) : 0;
}

int overlay_flush(struct overlay *overlay, struct error *err)
{
	int ret;

	pthread_mutex_lock(&overlay->flush);
	ret = overlay_flush_locked(overlay, err);
	pthread_mutex_unlock(&overlay->flush);
	return ret;
}

void overlay_counts(struct overlay *overlay, struct overlay_counts *counts)
{
	counts->blocks = overlay->present.blocks;
	counts->present_blocks = atomic_load(&overlay->present.count);
	counts->complete = counts->blocks == counts->present_blocks;
}
