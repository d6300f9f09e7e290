/* What the daemon can tell, apart from how it is written. */
#ifndef CLAWBACK_PROTECT_METRICS_PRIVATE_H
#define CLAWBACK_PROTECT_METRICS_PRIVATE_H

#include "agent/protect/metrics.h"

#include <stddef.h>

/* A family: all its samples stand together, below its HELP and TYPE. */
struct unit_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_unit *unit);	/* NAN: left out */
};

struct volume_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_volume *volume);
};

struct store_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_store *store);
};

struct drill_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_drill *drill);
};

struct retention_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_retention *retention);
};

extern const struct drill_family drill_families[];
extern const size_t drill_family_count;
extern const struct store_family store_families[];
extern const size_t store_family_count;
extern const struct retention_family retention_families[];
extern const size_t retention_family_count;
extern const struct unit_family unit_families[];
extern const size_t unit_family_count;
extern const struct volume_family volume_families[];
extern const size_t volume_family_count;

#endif
