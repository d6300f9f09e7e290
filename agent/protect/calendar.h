/*
 * Calendar expressions and times of the day. What an expression means is asked of
 * systemd-analyze: the grammar is systemd's, and so are its time zones and changes of
 * the clock. Internal to agent/protect.
 */
#ifndef CLAWBACK_PROTECT_CALENDAR_H
#define CLAWBACK_PROTECT_CALENDAR_H

#include "agent/base/error.h"
#include "agent/config/config.h"

#include <stdbool.h>
#include <stdint.h>

#define CALENDAR_NEVER UINT64_MAX

/*
 * The first time after `after_ns` that fits `expression`, in ns since 1970; never:
 * CALENDAR_NEVER. EXIT_USAGE when it is no such expression, and when there is no
 * systemd-analyze; takes 5 s at most.
 */
int calendar_next(const char *expression, uint64_t after_ns, uint64_t *next_ns,
		  struct error *err);

/* The same from its output; -EBADMSG. */
int calendar_read(const char *text, uint64_t *next_ns);

/*
 * Whether runs may begin at `now_ns`: in the window, and in no blackout. If not,
 * `until_ns` is how long it takes until they may, by the clock on the wall.
 */
bool calendar_open(const struct config_schedule *schedule, uint64_t now_ns, uint64_t *until_ns);
/* The window alone. */
bool calendar_in_window(const struct config_schedule *schedule, uint64_t now_ns);

#endif
