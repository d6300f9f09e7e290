/*
 * compression = auto: which zstd level a unit's next run gets, from how its last went.
 * Decided from numbers alone. Internal to agent/protect.
 *
 *   a run took …          processors were busy …    the level
 *   over half its rpo     nearly all the time       falls: less to compute
 *                         for less than a third     rises: less to send
 *                         in between                stays: neither would help
 *   under an eighth       whatever                  goes back towards 1
 *   in between            whatever                  stays
 *
 * Half, because then it and another like it fit. The gaps, from an eighth to a half and from
 * a third to four fifths, are wider than one step is: neighbours differ in speed by less
 * than 1.6 times, and in size by less than 1.3, so that no step is taken back at once.
 */
#ifndef CLAWBACK_PROTECT_TUNE_H
#define CLAWBACK_PROTECT_TUNE_H

#include <stdint.h>

#define TUNE_LEVEL_MIN (-5)
#define TUNE_LEVEL_MAX 3
#define TUNE_LEVEL_START 1

struct tune_run {
	uint64_t rpo_ns;
	uint64_t duration_ns;		/* of all of it, */
	uint64_t work_ns;		/* and of reading and storing; 0: none was done */
	uint64_t busy_ns;		/* processor time, of all threads */
	uint32_t workers;		/* threads that could compute at once, at least 1 */
};

enum tune_limit { TUNE_LIMIT_NONE, TUNE_LIMIT_PROCESSORS, TUNE_LIMIT_STORE };

/* The level after a run at `level`; says in `limit` what it is that kept the run. */
int tune_level(int level, const struct tune_run *run, enum tune_limit *limit);

#endif
