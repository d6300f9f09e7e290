/*
 * Spot checks: a map of changes is a claim that everything else did not change, and
 * here it is put to the test. The sample is drawn anew, uniformly, from the blocks
 * that are not marked; so n of them without a mismatch rule out, with 95 %
 * confidence, that more than 3/n of the unmarked blocks are wrong (the "rule of
 * three" for a binomial proportion).
 */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct spot {
	struct run_volume *volume;
	const struct boundary_volume *frozen;
	struct tagger *tagger;
	uint8_t *block;			/* FINGERPRINT_BLOCK_BYTES, aligned */
	int fd;
	uint64_t blocks;		/* whole ones of the volume */
	uint64_t checked, wrong;	/* wrong: the last mismatch */
	uint64_t mismatches;
};

static bool is_marked(const struct spot *spot, uint64_t block)
{
	uint64_t bit = block / (spot->volume->granularity_bytes / FINGERPRINT_BLOCK_BYTES);

	return bitmap_test(&spot->frozen->read_set, bit);
}

static int spot_block(struct spot *spot, uint64_t block)
{
	uint64_t known, found;
	int ret = fingerprints_known(spot->volume->fingerprints, block, 1, &known);

	if (!ret)
		ret = file_pread_all(spot->fd, spot->block, FINGERPRINT_BLOCK_BYTES,
				     block * FINGERPRINT_BLOCK_BYTES);
	if (!ret)
		ret = fingerprint_of_block(spot->tagger, spot->block, &found);
	if (ret)
		return ret;
	spot->checked++;
	if (found != known) {
		spot->mismatches++;
		spot->wrong = block;
	}
	return 0;
}

/* Where nearly all is marked, fewer are found than asked for. */
static int spot_sample(struct spot *spot, uint32_t wanted, struct error *err)
{
	for (uint64_t tries = (uint64_t)wanted * 4; tries && spot->checked < wanted; tries--) {
		uint64_t block;
		int ret = crypto_random(&block, sizeof(block), err);

		if (ret)
			return ret;
		block %= spot->blocks;
		ret = is_marked(spot, block) ? 0 : spot_block(spot, block);
		if (ret)
			return error_set(err, ret, "comparing block %" PRIu64 " of %s with its "
					 "fingerprint: %s", block, spot->volume->config->name,
					 error_text(ret));
	}
	return 0;
}

static int spot_run(struct spot *spot, struct error *err)
{
	CLEANUP_FREE void *block = NULL;
	CLEANUP_CLOSE int fd = open(spot->frozen->read_path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return error_set(err, -errno, "opening %s to compare some of it: %s",
				 spot->frozen->read_path, error_text(errno));
	if (posix_memalign(&block, FINGERPRINT_BLOCK_BYTES, FINGERPRINT_BLOCK_BYTES))
		block = NULL;
	spot->tagger = tagger_new(fingerprints_key(spot->volume->fingerprints));
	spot->block = block;
	spot->fd = fd;
	ret = block && spot->tagger ? spot_sample(spot, spot->volume->config->spot_checks, err)
				    : error_set(err, -ENOMEM, "comparing blocks of %s: out of memory",
						spot->volume->config->name);
	tagger_free(spot->tagger);
	return ret;
}

static int spot_mismatch(const struct config *config, const struct spot *spot,
			 struct error *err)
{
	struct run_volume *volume = spot->volume;

	state_distrust(&volume->state, "block %" PRIu64 " had changed without being marked",
		       spot->wrong);
	log_warning("volume %s: %" PRIu64 " of %" PRIu64 " unmarked blocks had changed, block %"
		    PRIu64 " for one; comparing the whole volume", volume->config->name,
		    spot->mismatches, spot->checked, spot->wrong);
	strcpy(volume->point.reason, volume->state.reason);
	volume->spot_mismatches = spot->mismatches;
	volume->rescan = true;
	return volume_state_save(config->agent.state, &volume->state, err);
}

int volume_spot_check(const struct config *config, const struct boundary_volume *frozen,
		      struct run_volume *volume, struct error *err)
{
	struct spot spot = {
		.volume = volume,
		.frozen = frozen,
		.blocks = volume->device.bytes / FINGERPRINT_BLOCK_BYTES,
	};
	struct error why = ERROR_INIT;

	if (volume->full || volume->rescan || !volume->compare || !spot.blocks ||
	    !volume->config->spot_checks)
		return 0;
	/* What cannot be checked is not wrong; if the snapshot fails, reading it will say. */
	if (spot_run(&spot, &why))
		log_warning("%s", why.message);
	fingerprints_count(volume->fingerprints, spot.checked, spot.mismatches);
	return spot.mismatches ? spot_mismatch(config, &spot, err) : 0;
}
