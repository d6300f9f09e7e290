/* Internal: what the files of the daemon share. */
#ifndef CLAWBACK_PROTECT_DAEMON_H
#define CLAWBACK_PROTECT_DAEMON_H

#include "agent/protect/metrics.h"
#include "agent/protect/notify_queue.h"
#include "agent/protect/protect.h"
#include "agent/protect/schedule.h"

#include <sys/types.h>

/* ---- units ---------------------------------------------------------------- */

struct unit {
	char name[VOLUME_NAME_MAX + 1];
	bool group;
	struct config_schedule schedule;
	const struct config_volume *volumes[VOLUME_GROUP_MAX]; /* the configuration's */
	size_t count;
	uint64_t points;		/* sum of the head points' numbers, as last seen */
	uint64_t seen_ns;		/* when the daemon began with it */
	uint64_t full_after_ns;		/* the calendar was asked from then on; 0: not yet */
	uint64_t full_at_ns;		/* … and said so; CALENDAR_NEVER */
	bool quiet;			/* nothing was written, and it was told */
	bool tried;			/* it had a run */
	uint64_t error_ns;
	char error[256];
	struct metrics_counts counts;
	struct notify_history notify;
};

/* The units of a configuration; `schedules` beside them. */
struct unit_list {
	struct unit *units;
	struct schedule_unit *schedules;
	size_t count;
};

/* Both clocks, read together. */
struct instant {
	int64_t boot_ns;		/* CLOCK_BOOTTIME: what schedules are on */
	uint64_t real_ns;		/* CLOCK_REALTIME: what people and points are on */
};
struct instant instant_now(void);
/* From one to the other, as the clocks stand now. */
int64_t instant_of_real(struct instant now, uint64_t real_ns);
uint64_t instant_to_real(struct instant now, int64_t boot_ns);
/* When it is due and its window open, as far as is known; 0: not known. */
uint64_t unit_due_ns(const struct unit_list *list, size_t index, struct instant now);

/*
 * Units with an rpo, their calendars tried out. EXIT_USAGE: none has, or a calendar is
 * none. What `old` (may be NULL) knows of units of the same name is taken along.
 */
int units_make(const struct config *config, const struct unit_list *old, struct instant now,
	       struct unit_list *list, struct error *err);
void units_fini(struct unit_list *list);
ssize_t units_find(const struct unit_list *list, const char *name, bool group);

/* ---- looking (daemon_look.c) ------------------------------------------------ */

/* What is known of a unit's volumes without reading any of their blocks. */
struct look {
	bool has_point;			/* all have one */
	uint64_t points;		/* sum of their numbers */
	uint64_t point_ns, full_ns;	/* of the oldest; full_ns 0: not known */
	bool trusted;			/* by what the tracker says, */
	bool clean;			/* nothing was written since those points */
	char why[256];			/* why not trusted */
};

void unit_look(const struct config *config, const struct unit *unit, struct look *look);

/* ---- one run (daemon_run.c) -------------------------------------------------- */

struct run_report {
	struct error err;
	int ret;
	size_t count;
	struct protect_part parts[VOLUME_GROUP_MAX];
};

/* A run in a child; one at a time. `pid` 0: none. */
struct child {
	pid_t pid;
	int pidfd;			/* readable when it ended */
	int report_fd;
};

/* The child lets go of `lock_fd`. */
int child_start(const struct config *config, const struct unit *unit, enum backup_type type,
		int lock_fd, struct child *child, struct error *err);
/* After it ended. One that died without a word has failed. */
void child_end(struct child *child, struct run_report *report);

/* ---- the daemon ---------------------------------------------------------------- */

/* Who hands messages over, a child a target, so that none waits for another's. */
struct daemon_notify {
	struct notify_child {
		pid_t pid;		/* 0: none */
		int pidfd;		/* readable when it ended */
		int64_t deadline_ns;
		bool late;		/* it was ended for that */
		uint64_t delivered, failed; /* of all before */
	} children[NOTIFY_TARGETS];
	int epoll_fd;			/* of all of them; -1 until the first */
	struct notify_queue queue;
};

struct daemon {
	struct config *config;
	const struct protect_options *options;
	struct unit_list list;
	struct instant now;
	int lock_fd, signal_fd, timer_fd;
	bool record;			/* protect.json is to be written */
	struct daemon_metrics *metrics;	/* what was looked at for them last, or NULL */
	int64_t metrics_ns;		/* when they are written at the latest */
	bool metrics_failed;		/* and it was said */

	struct child child;
	char running[VOLUME_NAME_MAX + 1]; /* the child's unit, which a reload may drop */
	bool running_group, running_full;
	int64_t started_ns;

	struct daemon_notify notify;
	struct http_server *http;	/* who answers for metrics, or NULL */
	bool http_failed;		/* to take them, and it was said */
	bool stopping;
	int64_t interrupt_ns;		/* when the run is interrupted, then ended */
	unsigned interrupts;
	size_t runs, failed;
	struct error failure;		/* the last one */
	uint64_t watchdog_us;
};

/* Fills in the time; what is told is also worth recording. _of: of a unit. */
void daemon_tell(struct daemon *daemon, struct protect_event event);
void daemon_tell_of(struct daemon *daemon, size_t index, struct protect_event event);

/* Window and calendar, by the clock on the wall (daemon_cycle.c). */
void unit_clock(struct daemon *daemon, size_t index);
/* Looks at a unit that is due: a run is wanted, or not. */
void unit_decide(struct daemon *daemon, size_t index);
/* At the start, and after a reload: what there is; how long runs took before. */
void units_look(struct daemon *daemon);
void units_seed(struct daemon *daemon);
void run_start(struct daemon *daemon, size_t index);
void run_ended(struct daemon *daemon, struct run_report *report);

/* ---- metrics (daemon_metrics.c) ---------------------------------------------- */

/* Whether anybody wants them. */
bool daemon_metrics_wanted(const struct daemon *daemon);
/* Writes the file that the configuration wants, and hands them to who answers over
 * HTTP, if any; says why it cannot. */
void daemon_metrics_write(struct daemon *daemon, bool up);
/* Volumes are looked at anew the next time. */
void daemon_metrics_forget(struct daemon *daemon);

/* ---- metrics over HTTP (daemon_http.c) ----------------------------------------- */

/* Listens where `config` wants it; on failure all stays as it was. */
int daemon_http_take(struct daemon *daemon, const struct config *config, struct error *err);
/* At each turn of the loop. Never waits. */
void daemon_http_turn(struct daemon *daemon);
void daemon_http_close(struct daemon *daemon);

/* ---- messages (daemon_notify.c) ----------------------------------------------- */

/* What of an event people are to be told is put into the queue. */
void daemon_notify(struct daemon *daemon, const struct protect_event *event);
/* At each turn of the loop: ends who takes too long, starts the next. Never waits. */
void daemon_notify_turn(struct daemon *daemon);
/* What is readable when one of them has ended, or -1; and what is to be done then. */
int daemon_notify_fd(const struct daemon *daemon);
void daemon_notify_ended(struct daemon *daemon);
/* When the first of them takes too long, or INT64_MAX. */
int64_t daemon_notify_deadline(const struct daemon *daemon);
bool daemon_notify_idle(const struct daemon *daemon);
/* What waits is not told any more. */
void daemon_notify_close(struct daemon *daemon);

/* ---- what is left on record (daemon_file.c) ---------------------------------- */

/* EXIT_LOCKED names the holder. Closing the descriptor releases. */
int daemon_lock(const char *state_folder, int *fd, struct error *err);
int daemon_file_save(const char *state_folder, const struct unit_list *list,
		     struct instant now, struct error *err);

#endif
