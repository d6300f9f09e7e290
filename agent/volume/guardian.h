/*
 * The window of a group: all volumes suspended, then all resumed on their new
 * tables, with nothing allocated, opened or logged between; and the guardian, a
 * child in its own session that resumes them all if we die in the window or stay
 * in it for too long. A suspended volume must never stay suspended.
 * Private to agent/volume.
 */
#ifndef CLAWBACK_VOLUME_GUARDIAN_H
#define CLAWBACK_VOLUME_GUARDIAN_H

#include "agent/base/error.h"

#include <stddef.h>
#include <stdint.h>

struct guardian;

/*
 * Forks the guardian, locks the memory of both, prepares every request. The
 * devices must have their new tables in the inactive slot already. `cookies`: of the
 * events that resuming them makes (dmdev_expect). `limit_ms` 0: 10 s.
 */
int guardian_start(const uint32_t *devices, const uint32_t *cookies, size_t count,
		   unsigned limit_ms, struct guardian **guardian, struct error *err);

/*
 * Suspends all in order, notes the time, resumes all. On failure all run again
 * too (on whichever table), `failed` is the index of the culprit; -ETIMEDOUT
 * when the guardian had to step in: then there was perhaps no common instant.
 */
int guardian_switch(struct guardian *guardian, uint64_t *time_ns, size_t *failed);

/* Dismisses the guardian. NULL is fine. */
void guardian_stop(struct guardian *guardian);

#endif
