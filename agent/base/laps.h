/*
 * Where the time of something long went, step by step: each moment from the start to
 * the last lap belongs to exactly one of them, so that together they are the whole.
 * Shaped for a few dozen steps, told once at the end. One thread at a time.
 */
#ifndef CLAWBACK_BASE_LAPS_H
#define CLAWBACK_BASE_LAPS_H

#include <stddef.h>
#include <stdint.h>

#define LAPS_MAX 24

struct lap {
	const char *name;	/* a literal */
	uint64_t ns;
};

struct laps {
	uint64_t at_ns;		/* CLOCK_MONOTONIC, of the last lap's end */
	size_t count;
	struct lap items[LAPS_MAX];	/* in the order of their first end */
};

void laps_start(struct laps *laps);
/*
 * What passed since the start or the last lap was `name`'s; steps that come again add
 * up. Beyond LAPS_MAX names it goes to the last one. NULL: nobody wants to know.
 */
void laps_end(struct laps *laps, const char *name);
/* What somebody else measured, beside the clock. */
void laps_add(struct laps *laps, const char *name, uint64_t ns);

/* What the calling thread had of the CPU since it began, in ns. */
uint64_t thread_cpu_ns(void);

#endif
