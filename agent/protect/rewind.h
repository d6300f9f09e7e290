/* Internal: what the files of a rewind share. */
#ifndef CLAWBACK_PROTECT_REWIND_H
#define CLAWBACK_PROTECT_REWIND_H

#include "agent/protect/protect.h"

struct rewind {
	const struct config *config;
	const struct config_volume *volume;
	const struct rewind_source *source;
	const struct rewind_options *options;
	struct rewind_result *result;
	struct volume_state state;
	bool has_state;
	struct device_facts device;
	int lock_fd;
	struct host host;		/* open for the safety point, or all zero */
	struct tracker *tracker;	/* NULL: nothing is loaded */
	struct extent_list changed;	/* marked since the newest point */
	struct map map;			/* the newest point's, of the whole volume */
	bool has_map;
	struct restore_known known;	/* of these two; map NULL: nothing is known */
};

/*
 * What the device is known to hold, as far as `repo` has the newest point; nothing is
 * changed. 0, too, when that is nothing: then result->reason says why. EXIT_INTERRUPTED.
 */
int rewind_known(struct rewind *rewind, struct repo *repo, struct error *err);

#endif
