/*
 * What the daemon knows as Prometheus metrics, in the text exposition format
 * (https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4), for
 * the textfile collector of node_exporter. Nothing is done here and no clock is read.
 * Base units (seconds, bytes); what is not known yet is left out, but for the RPO
 * without a point, which is +Inf. Shaped for some hundred units: O(units) a text.
 *
 * Threads: no globals.
 */
#ifndef CLAWBACK_PROTECT_METRICS_H
#define CLAWBACK_PROTECT_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the daemon counted of a unit since it began with it. */
struct metrics_counts {
	uint64_t stored, skipped, failed;	/* cycles */
	uint64_t points[4];			/* by enum point_kind */
	uint64_t read_bytes, stored_bytes;
	uint64_t success_ns;			/* when the last one that stored ended; 0: none */
	uint64_t duration_ns;			/* of the last run */
	bool ran;
};

/* Instants are ns since 1970; 0: none, not known. */
struct metrics_unit {
	const char *name;
	bool group;
	bool missed;
	bool has_point;			/* else age_ns means nothing */
	uint64_t rpo_ns, age_ns;
	uint64_t point_ns, error_ns, due_ns;
	struct metrics_counts counts;
};

struct metrics_volume {
	const char *name;
	bool attached;			/* else dirty_bytes means nothing */
	bool tracked;			/* and its marks are believed */
	uint64_t dirty_bytes;
};

struct metrics_store {
	const char *name;
	uint64_t lag_points, lag_ns;	/* of all volumes; the worst */
	uint64_t success_ns;		/* 0: never */
	uint64_t failures;		/* passes, since the daemon's start */
};

/* A volume that was drilled; the times are of when drills began. */
struct metrics_drill {
	const char *volume;
	bool passed;			/* the last one */
	uint64_t last_ns, passed_ns;	/* 0: none did */
	uint64_t duration_ns;		/* of the last one */
	uint64_t rto_ns;		/* of the last one that passed */
};

/* Of a store with a calendar for it; counters since the daemon's start. */
struct metrics_retention {
	const char *store;
	uint64_t success_ns;		/* 0: not known */
	uint64_t failures, forgotten, deleted_bytes;
};

/* What became of the messages to one target. */
struct metrics_messages {
	const char *target;
	uint64_t delivered, failed;
};

struct metrics {
	bool up;
	bool loaded;			/* the tracker is; else misses means nothing */
	uint64_t recursion_misses;	/* of the tracker, since it was loaded */
	const struct metrics_unit *units;
	size_t unit_count;
	const struct metrics_volume *volumes;
	size_t volume_count;
	const struct metrics_store *stores;
	size_t store_count;
	const struct metrics_drill *drills;
	size_t drill_count;
	const struct metrics_retention *retentions;
	size_t retention_count;
	const struct metrics_messages *messages;	/* of those that are configured */
	size_t message_count;
};

/* The whole file; the caller frees it. NULL: out of memory. */
char *metrics_text(const struct metrics *metrics);

#endif
