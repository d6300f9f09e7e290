/*
 * Internal: saving what is known of a volume for the next boot, as far as it is the
 * same for one that nobody uses (handover.c) and for the root file system's
 * (handover_root.c).
 */
#ifndef CLAWBACK_PROTECT_SAVING_H
#define CLAWBACK_PROTECT_SAVING_H

#include "agent/protect/run.h"

struct saving {
	const struct config *config;
	struct tracker *tracker;
	struct volume_state state;
	struct device_facts device;
	struct tracker_slot slot;
	int fd;				/* of the held device */
	struct slot_place place;	/* what saving itself will write; often nothing */
};

/* What is done while the volume is locked and its tracking found. */
typedef int (*saving_fn)(struct saving *saving, struct error *err);

/*
 * Calls `act` for an attached volume under its lock: with `read_only`, one that needs
 * nothing written to the state folder. -ENOENT when it is not attached.
 */
int saving_run(const struct config *config, const struct config_volume *volume,
	       bool read_only, saving_fn act, struct error *err);

/* -ESTALE when the volume, held still, cannot be trusted by this ledger. */
int saving_judge(struct saving *saving, const struct tracker_ledger *ledger,
		 struct error *err);

/* All that the tracker has collected. `marks` is zeroed on entry, owned after. */
int saving_marks(struct saving *saving, struct bitmap *marks, struct error *err);

/* Marks (those of `place` too), witness and all else that a hand-over says. */
int saving_fill(struct saving *saving, struct handover *handover, struct error *err);

#endif
