/*
 * The judgement whether the tracker's answer can be believed, on facts alone.
 * Private to agent/volume; apart from volume_judge so that it can be tested
 * without a kernel.
 */
#ifndef CLAWBACK_VOLUME_JUDGE_H
#define CLAWBACK_VOLUME_JUDGE_H

#include "agent/volume/volume.h"

struct judge_facts {
	const struct volume_state *state;	/* as remembered */
	const struct device_facts *device;	/* as it is now, and below */
	struct tracker_facts tracker;
	struct tracker_slot slot;
	struct tracker_ledger ledger;
	bool uncounted;		/* the kernel does not count what the ledger needs */
};

/* TRUST_UNTRUSTED with the first reason that applies, else TRUST_TRACKED. */
enum volume_trust judge_decide(const struct judge_facts *facts, char *reason,
			       size_t room);

#endif
