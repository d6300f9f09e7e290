/*
 * What has not changed: the fingerprints of what was read, and the blocks that are
 * as the volume's table of fingerprints says. One a worker.
 */
#ifndef CLAWBACK_PIPELINE_COMPARE_H
#define CLAWBACK_PIPELINE_COMPARE_H

#include "agent/pipeline/queue.h"

#include <stdbool.h>

struct compare;

/* `drop`: leave out what is the same. NULL: out of memory. */
struct compare *compare_new(const struct fingerprints *table, bool drop);
void compare_free(struct compare *compare);

/* Fills slot->tags and slot->unchanged, and takes the latter out of its wanted spans. */
int compare_slot(struct compare *compare, struct slot *slot);

#endif
