/* Internal: what `status` knows, once and again and again (watch.c). */
#ifndef CLAWBACK_CLI_STATUS_H
#define CLAWBACK_CLI_STATUS_H

#include "agent/cli/cli.h"

/* The volumes that the command line names, or all. */
struct status_chosen {
	const struct config_volume **volumes;
	size_t count;
};

struct status {
	struct cli *cli;
	struct tracker *tracker;	/* NULL when nothing is loaded */
	struct tracker_facts facts;
	struct protect_facts protect;	/* what a daemon left to know */
};

int status_open(struct cli *cli, struct status *status, struct error *err);
void status_close(struct status *status);

/* The whole document; the caller releases it. */
int status_json(const struct status *status, const struct status_chosen *chosen,
		json_t **document, struct error *err);

/* The daemon's unit that the volume is, or is in; NULL when it has none to do with it. */
const struct protect_unit *status_unit(const struct status *status,
				       const struct config_volume *volume);
/* 0: it has none. */
uint64_t status_objective_ns(const struct status *status, const struct config_volume *volume);

uint64_t status_now_ns(void);
uint64_t status_age_seconds(uint64_t time_ns);
/* A daemon does not write down every look at a volume at rest: 0 then. */
uint64_t status_due_ns(const struct protect_unit *unit);
/* What kernel and tracker counted since the last boundary (or attach). */
struct tracker_ledger status_ledger(const struct volume_status *status);
/* Distrust that is on record has a time; what only now speaks against the marks came
 * at some time after the last boundary. */
bool status_since_known(const struct volume_status *status);

/* Every `seconds`, until somebody has seen enough: on a terminal in place, else one
 * below the other; with --json a line each time. */
int watch_run(struct cli *cli, const struct status_chosen *chosen, double seconds,
	      struct error *err);

#endif
