/*
 * Fingerprints in a run. They save work; a run that cannot keep them goes on without
 * and the next one that needs them stores the whole volume.
 */
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

static void give_up(struct run_volume *volume, const struct error *why)
{
	log_warning("volume %s: going on without fingerprints, which the next full makes anew: %s",
		    volume->config->name, why->message);
	volume_fingerprints_close(volume);
}

void volume_fingerprints_close(struct run_volume *volume)
{
	fingerprints_close(STEAL(volume->fingerprints));
	volume->compare = false;
}

void volume_fingerprints_open(const struct config *config, const struct point *head,
			      struct run_volume *volume)
{
	uint64_t blocks = (volume->device.bytes + FINGERPRINT_BLOCK_BYTES - 1) /
			  FINGERPRINT_BLOCK_BYTES;
	struct error err = ERROR_INIT;
	int ret;

	if (!volume->config->fingerprints) {
		if (fingerprints_discard(config->agent.state, volume->config->name, &err))
			log_warning("volume %s: %s", volume->config->name, err.message);
		return;
	}
	ret = fingerprints_open(config->agent.state, volume->config->name, &volume->state.id,
				blocks, &volume->fingerprints, &err);
	if (ret)
		give_up(volume, &err);
	else if (head->number && head->volume_bytes == volume->device.bytes)
		volume->compare = fingerprints_settle(volume->fingerprints, head->hash,
						      &head->run);
}

int volume_fingerprints_begin(struct run_volume *volume, struct error *err)
{
	struct error why = ERROR_INIT;

	if (volume->full)
		volume->compare = false;
	else if (!volume->compare)
		volume_fingerprints_close(volume);	/* a part of the volume is no table */
	if (!volume->fingerprints ||
	    !fingerprints_begin(volume->fingerprints, &volume->point.run, volume->full, &why))
		return 0;
	if (volume->rescan) {
		*err = why;
		return error_hint(err, "the comparison needs it; clawback backup --type full "
				  "does without");
	}
	give_up(volume, &why);
	return 0;
}

void volume_fingerprints_seal(struct run_volume *volume)
{
	struct error err = ERROR_INIT;

	if (volume->fingerprints && fingerprints_seal(volume->fingerprints, &err))
		give_up(volume, &err);
}

void volume_fingerprints_advance(struct run_volume *volume)
{
	struct error err = ERROR_INIT;

	if (volume->fingerprints &&
	    fingerprints_advance(volume->fingerprints, volume->point.hash, &err))
		give_up(volume, &err);
}
