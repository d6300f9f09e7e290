/* Internal: what the files of the daemon share. */
#ifndef CLAWBACK_PROTECT_DAEMON_H
#define CLAWBACK_PROTECT_DAEMON_H

#include "agent/protect/metrics.h"
#include "agent/protect/notify_queue.h"
#include "agent/protect/protect.h"
#include "agent/protect/schedule.h"

#include <poll.h>
#include <sys/types.h>

/* ---- units ---------------------------------------------------------------- */

/* In this order: what stands first does for those behind it, too. */
enum { CALENDAR_FULL, CALENDAR_SYNTHETIC, CALENDAR_DIFFERENTIAL, CALENDARS };

struct unit {
	char name[VOLUME_NAME_MAX + 1];
	bool group;
	struct config_schedule schedule;
	const struct config_volume *volumes[VOLUME_GROUP_MAX]; /* the configuration's */
	size_t count;
	uint64_t points;		/* sum of the head points' numbers, as last seen */
	uint64_t seen_ns;		/* when the daemon began with it */
	struct unit_calendar {
		uint64_t after_ns;	/* it was asked from then on; 0: not yet */
		uint64_t at_ns;		/* … and said so; CALENDAR_NEVER */
		uint64_t served_ns;	/* when the last run that it asked for began */
	} calendars[CALENDARS];
	int level;			/* of compression, where that is auto */
	uint64_t jitter_ns;		/* how much later that is for this unit of this host */
	bool doubt;			/* as last seen, a run would read all of it */
	bool outside;			/* of its window, while nothing may begin */
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
 * `delays`: first runs wait for the unit's part of the jitter.
 */
int units_make(const struct config *config, const struct unit_list *old, struct instant now,
	       bool delays, struct unit_list *list, struct error *err);
void units_fini(struct unit_list *list);
ssize_t units_find(const struct unit_list *list, const char *name, bool group);

/* ---- looking (daemon_look.c) ------------------------------------------------ */

/* What is known of a unit's volumes without reading any of their blocks. */
struct look {
	bool has_point;			/* all have one */
	uint64_t points;		/* sum of their numbers */
	uint64_t point_ns;		/* of the oldest, */
	uint64_t last_ns[CALENDARS];	/* and of what does for each calendar; 0: not known */
	bool trusted;			/* by what the tracker says, */
	bool clean;			/* nothing was written since those points */
	char why[256];			/* why not trusted */
};

void unit_look(const struct config *config, const struct unit *unit, struct look *look);

/* ---- one run (daemon_run.c) -------------------------------------------------- */

struct run_report {
	struct error err;
	int ret;
	uint64_t work_ns, busy_ns;	/* reading and storing; processor time */
	size_t count;
	struct protect_part parts[VOLUME_GROUP_MAX];
};

/* A run in a child. `pid` 0: none. */
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

/*
 * The part of it that all children share. 1 in the child, which has let go of what is the
 * daemon's own and writes what it has to tell into *report_fd; 0 in the daemon.
 */
int child_fork(int lock_fd, struct child *child, int *report_fd, struct error *err);
/* Reaps it; false with *status of waitpid when it died before it told all. */
bool child_reap(struct child *child, void *report, size_t size, int *status);

/* ---- further stores (daemon_stores.c) ------------------------------------------ */

/* A store that was dropped from the configuration stays until its child has ended. */
#define DAEMON_STORES_MAX (2 * CONFIG_STORES_MAX)

struct daemon_store {
	char name[VOLUME_NAME_MAX + 1];
	bool dropped;
	struct child child;		/* a pass; `pid` 0: none */
	int64_t started_ns, kill_ns;
	bool wanted;			/* something may be there to be copied */
	int64_t next_ns;		/* not before, after failures */
	unsigned failures;		/* in a row */
	uint64_t failures_total, success_ns;
	uint64_t lag_points, lag_ns;	/* as last looked */
	bool lags;			/* for too long, and it was told */
	char error[256];
	struct notify_history notify;
};

/* ---- drills (daemon_drills.c) ----------------------------------------------------- */

/* One at a time, in a child; counts as a run that reads a whole volume. */
struct daemon_drills {
	struct drill_plan {
		char volume[VOLUME_NAME_MAX + 1];
		uint64_t after_ns;		/* it was asked from then on; 0: not yet */
		uint64_t at_ns;			/* … and said so; CALENDAR_NEVER */
		uint64_t served_ns;		/* when the last one of this daemon began */
		struct notify_history notify;
	} *plans;
	size_t count;
	struct child child;			/* `pid` 0: none */
	char volume[VOLUME_NAME_MAX + 1];
	int64_t started_ns, kill_ns;
};

/* ---- retention (daemon_retention.c) --------------------------------------------- */

#define RETENTIONS_MAX (1 + CONFIG_STORES_MAX)

/* One store's, the first one's too. */
struct retention_plan {
	char name[VOLUME_NAME_MAX + 1];
	uint64_t at_ns;			/* when its calendar asks, in ns since 1970 */
	uint64_t after_ns;		/* … and from when on it was asked */
	uint64_t success_ns;		/* when a round last went through; 0: not known */
	int64_t next_ns;		/* not before, after failures; CLOCK_BOOTTIME */
	unsigned failures;		/* in a row */
	uint64_t failures_total, forgotten_total, deleted_bytes_total;
	struct notify_history notify;
};

/* One round at a time, whatever the store: nothing is waiting for it. */
struct daemon_retention {
	struct retention_plan plans[RETENTIONS_MAX];
	size_t count;
	struct child child;		/* `pid` 0: none */
	char name[VOLUME_NAME_MAX + 1];	/* of the store that it is at */
	int64_t started_ns, kill_ns;
};

/* ---- the daemon ---------------------------------------------------------------- */

#define RUNNING_MAX 16			/* what `runs` may be */

/* A run that goes on: a reload may drop its unit. */
struct running {
	struct child child;
	char name[VOLUME_NAME_MAX + 1];
	bool group, whole;
	enum backup_type asked;
	char volumes[VOLUME_GROUP_MAX][VOLUME_NAME_MAX + 1];
	size_t count;
	int64_t started_ns;
	int64_t interrupt_ns;		/* when it is interrupted, then ended */
	unsigned interrupts;
	uint64_t timeout_ns;		/* it was, for that; 0: for no such thing */
};

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

	struct running running[RUNNING_MAX];
	size_t running_count;

	struct daemon_store stores[DAEMON_STORES_MAX];
	size_t store_count;
	int64_t stores_looked_ns;
	struct daemon_retention retention;

	struct daemon_drills drills;

	struct daemon_notify notify;
	struct http_server *http;	/* who answers for metrics, or NULL */
	bool http_failed;		/* to take them, and it was said */
	bool stopping;
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
void run_ended(struct daemon *daemon, const struct running *running,
	       struct run_report *report);

/* ---- calendars (daemon_calendar.c) ---------------------------------------------- */

/* Tries out those that are given; says after which jitter they are meant. */
int unit_calendars_make(struct unit *unit, struct instant now, struct error *err);
/* When each is next, after what a look found. */
void unit_calendars(struct unit *unit, const struct look *look, uint64_t now_ns);
/* A run that was `asked` for stands, begun then. */
void unit_calendars_serve(struct unit *unit, enum backup_type asked, uint64_t began_ns);
/* What a run at that time would be asked to make. */
enum backup_type unit_asked(const struct unit *unit, uint64_t now_ns);
/* The first time behind that at which a calendar asks; CALENDAR_NEVER. */
uint64_t unit_asks_at(const struct unit *unit, uint64_t now_ns);

/* ---- the runs that go on (daemon_running.c) -------------------------------------- */

struct schedule_room running_room(const struct daemon *daemon);
/* Says of each unit whether a run that goes on is its own, or has one of its volumes. */
void running_mark(struct daemon *daemon);
/* Begins to be one: the last of the list, before its child is started. */
struct running *running_add(struct daemon *daemon, const struct unit *unit,
			    enum backup_type asked, bool whole);
/* All are to end by then, or, if asked again, now. */
void running_stop(struct daemon *daemon, int64_t at_ns);
/* Interrupts and ends those whose time is over. */
void running_turn(struct daemon *daemon);
int64_t running_wake(const struct daemon *daemon);
/* Fills `wait` with RUNNING_MAX descriptors to be polled; then takes those that ended. */
void running_wait(const struct daemon *daemon, struct pollfd wait[static RUNNING_MAX]);
void running_ended(struct daemon *daemon, const struct pollfd wait[static RUNNING_MAX]);

/* Takes over what the configuration has, at the start and after a reload. */
void daemon_stores_make(struct daemon *daemon);
/* Points were committed. */
void daemon_stores_want(struct daemon *daemon);
/* At each turn of the loop: starts and ends passes, sees how far stores are behind. */
void daemon_stores_turn(struct daemon *daemon);
void daemon_store_ended(struct daemon *daemon, struct daemon_store *store);
int64_t daemon_stores_wake(const struct daemon *daemon);
/* Whether a pass goes on, or, once, is still to come. */
bool daemon_stores_busy(const struct daemon *daemon);
/* NULL: there is none of that name. */
struct daemon_store *daemon_store_find(struct daemon *daemon, const char *name);
size_t daemon_store_metrics(const struct daemon *daemon,
			    struct metrics_store to[static DAEMON_STORES_MAX]);

/* Takes over the calendars of a configuration; EXIT_USAGE, and all stays as it was. */
int daemon_drills_make(struct daemon *daemon, const struct config *config, struct error *err);
void daemon_drills_turn(struct daemon *daemon);
void daemon_drill_ended(struct daemon *daemon);
int64_t daemon_drills_wake(const struct daemon *daemon);
void daemon_drills_close(struct daemon *daemon);
/* EXIT_USAGE when a calendar is none; nothing is changed then. */
int daemon_retention_check(const struct config *config, struct instant now, struct error *err);
/* The rest is as those of the stores, above. */
void daemon_retention_make(struct daemon *daemon);
void daemon_retention_turn(struct daemon *daemon);
void daemon_retention_ended(struct daemon *daemon);
int64_t daemon_retention_wake(const struct daemon *daemon);
bool daemon_retention_busy(const struct daemon *daemon);
struct retention_plan *daemon_retention_find(struct daemon *daemon, const char *store);
size_t daemon_retention_metrics(const struct daemon *daemon,
				struct metrics_retention to[static RETENTIONS_MAX]);

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
/* NULL: none is planned. */
struct drill_plan *daemon_drill_find(struct daemon_drills *drills, const char *volume);
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
