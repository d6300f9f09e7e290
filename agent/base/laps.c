#include "agent/base/laps.h"

#include <string.h>
#include <time.h>

static uint64_t clock_read_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

uint64_t thread_cpu_ns(void)
{
	return clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

void laps_start(struct laps *laps)
{
	laps->count = 0;
	laps->at_ns = now_ns();
}

void laps_add(struct laps *laps, const char *name, uint64_t ns)
{
	size_t i = 0;

	if (!laps)
		return;
	while (i < laps->count && strcmp(laps->items[i].name, name))
		i++;
	if (i == laps->count && i < LAPS_MAX)
		laps->items[laps->count++] = (struct lap){ name, 0 };
	laps->items[i < LAPS_MAX ? i : LAPS_MAX - 1].ns += ns;
}

void laps_end(struct laps *laps, const char *name)
{
	uint64_t now = now_ns();

	if (!laps)
		return;
	laps_add(laps, name, now - laps->at_ns);
	laps->at_ns = now;
}
