#include "agent/protect/tune.h"

#include <stddef.h>

#define BUSY_MOST 80			/* per cent of what all workers could do */
#define BUSY_LEAST 33

/* Not 0, which is zstd's word for 3; each is slower than the one before, and packs better. */
static const int levels[] = { TUNE_LEVEL_MIN, -3, -1, TUNE_LEVEL_START, 2, TUNE_LEVEL_MAX };
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

/* The place of a level, or of the nearest below it. */
static size_t place_of(int level)
{
	size_t place = 0;

	while (place + 1 < LEVELS && levels[place + 1] <= level)
		place++;
	return place;
}

static enum tune_limit limit_of(const struct tune_run *run)
{
	double busy;

	/* Making snapshots, or waiting for a hook, is no matter of compression. */
	if (run->work_ns < run->duration_ns / 2 || !run->work_ns)
		return TUNE_LIMIT_NONE;
	busy = 100.0 * (double)run->busy_ns / ((double)run->work_ns * run->workers);
	return busy >= BUSY_MOST ? TUNE_LIMIT_PROCESSORS :
	       busy < BUSY_LEAST ? TUNE_LIMIT_STORE : TUNE_LIMIT_NONE;
}

int tune_level(int level, const struct tune_run *run, enum tune_limit *limit)
{
	size_t place = place_of(level), start = place_of(TUNE_LEVEL_START);

	*limit = TUNE_LIMIT_NONE;
	if (run->duration_ns > run->rpo_ns / 2) {
		*limit = limit_of(run);
		if (*limit == TUNE_LIMIT_PROCESSORS && place > 0)
			place--;
		if (*limit == TUNE_LIMIT_STORE && place + 1 < LEVELS)
			place++;
	} else if (run->duration_ns < run->rpo_ns / 8) {
		place += (place < start) - (place > start);
	}
	return levels[place];
}
