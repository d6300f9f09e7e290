/*
 * What `status --watch` shows, as text: pure, from what was collected to lines that fit.
 * Widths are counted in characters, each of one column; volume names are ASCII.
 */
#ifndef CLAWBACK_CLI_WATCH_VIEW_H
#define CLAWBACK_CLI_WATCH_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WATCH_SAMPLES 240

/* The last WATCH_SAMPLES numbers; all zero at first. */
struct watch_history {
	double values[WATCH_SAMPLES];
	size_t count, next;
};
void watch_history_add(struct watch_history *history, double value);
/* 0 is the newest; `back` below count. */
double watch_history_at(const struct watch_history *history, size_t back);

/*
 * The newest `width` numbers, oldest first, each a block as high as it is beside the
 * largest of them, and at least the lowest if it is above 0; blanks before there were
 * any. UTF-8, or ASCII. `text` has WATCH_SPARKLINE_ROOM(width).
 */
#define WATCH_SPARKLINE_ROOM(width) (3 * (size_t)(width) + 1)
void watch_sparkline(const struct watch_history *history, size_t width, bool unicode, char *text);

struct watch_row {
	const char *name;
	bool tracked;			/* and its marks are believed */
	bool attached;			/* else dirty_bytes and rate mean nothing */
	const char *reason;		/* why not tracked, or "" */
	uint64_t point;			/* number of the last; 0: none */
	uint64_t point_age_ns;
	uint64_t objective_ns;		/* 0: none */
	uint64_t rpo_ns;		/* now; UINT64_MAX: without bound */
	bool missed, running;
	uint64_t due_in_ns;		/* 0: not known */
	uint64_t dirty_bytes;
	struct watch_history rates;	/* bytes written a second */
	const char *behind;		/* which further stores lack what, or "" */
	const char *error;		/* of the last failure that was not got over, or "" */
};

struct watch_frame {
	uint64_t time_ns;
	double seconds;			/* between two */
	bool loaded, alive;		/* the tracker is; the daemon is */
	uint64_t misses;		/* of the tracker */
	const char *problem;		/* why nothing newer is known, or "" */
	const struct watch_row *rows;
	size_t count;
};

struct watch_look {
	size_t columns, lines;		/* lines 0: as many as there are */
	bool unicode, colour;		/* colour: with escape sequences */
};

/* Lines with '\n' between, none behind the last. The caller frees it. NULL: no memory. */
char *watch_text(const struct watch_frame *frame, const struct watch_look *look);

#endif
