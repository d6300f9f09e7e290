/* The families of metrics: names, meaning, and where each value comes from. */
#include "agent/protect/metrics_private.h"

#include <math.h>

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static double instant(uint64_t ns)
{
	return ns ? seconds(ns) : NAN;
}

static double unit_objective(const struct metrics_unit *unit)
{
	return seconds(unit->rpo_ns);
}

static double unit_rpo(const struct metrics_unit *unit)
{
	return unit->has_point ? seconds(unit->age_ns) : INFINITY;
}

static double unit_missed(const struct metrics_unit *unit)
{
	return unit->missed;
}

static double unit_point(const struct metrics_unit *unit)
{
	return instant(unit->point_ns);
}

static double unit_success(const struct metrics_unit *unit)
{
	return instant(unit->counts.success_ns);
}

static double unit_error(const struct metrics_unit *unit)
{
	return instant(unit->error_ns);
}

static double unit_due(const struct metrics_unit *unit)
{
	return instant(unit->due_ns);
}

static double unit_duration(const struct metrics_unit *unit)
{
	return unit->counts.ran ? seconds(unit->counts.duration_ns) : NAN;
}

static double unit_read(const struct metrics_unit *unit)
{
	return (double)unit->counts.read_bytes;
}

static double unit_stored(const struct metrics_unit *unit)
{
	return (double)unit->counts.stored_bytes;
}

static double volume_tracked(const struct metrics_volume *volume)
{
	return volume->tracked;
}

static double volume_dirty(const struct metrics_volume *volume)
{
	return volume->attached ? (double)volume->dirty_bytes : NAN;
}

static double store_points(const struct metrics_store *store)
{
	return (double)store->lag_points;
}

static double store_lag(const struct metrics_store *store)
{
	return seconds(store->lag_ns);
}

static double store_success(const struct metrics_store *store)
{
	return instant(store->success_ns);
}

static double store_failures(const struct metrics_store *store)
{
	return (double)store->failures;
}

static double drill_last(const struct metrics_drill *drill)
{
	return instant(drill->last_ns);
}

static double drill_success(const struct metrics_drill *drill)
{
	return drill->passed;
}

static double drill_passed(const struct metrics_drill *drill)
{
	return instant(drill->passed_ns);
}

static double drill_duration(const struct metrics_drill *drill)
{
	return seconds(drill->duration_ns);
}

static double drill_rto(const struct metrics_drill *drill)
{
	return drill->passed_ns ? seconds(drill->rto_ns) : NAN;
}

const struct drill_family drill_families[] = {
	{ "clawback_drill_last_timestamp_seconds", "gauge",
	  "When the volume's last drill began.", drill_last },
	{ "clawback_drill_success", "gauge",
	  "Whether that one passed.", drill_success },
	{ "clawback_drill_last_success_timestamp_seconds", "gauge",
	  "When the last drill that passed began.", drill_passed },
	{ "clawback_drill_duration_seconds", "gauge",
	  "How long the last drill took, with its clean-up.", drill_duration },
	{ "clawback_drill_rto_seconds", "gauge",
	  "How long the last drill that passed took to recover the volume, up to its command's "
	  "success.", drill_rto },
};
const size_t drill_family_count = sizeof(drill_families) / sizeof(drill_families[0]);

const struct store_family store_families[] = {
	{ "clawback_store_lag_points", "gauge",
	  "Points that were committed and are not in this further store.", store_points },
	{ "clawback_store_lag_seconds", "gauge",
	  "Since when the first of them has been missing there.", store_lag },
	{ "clawback_store_last_success_timestamp_seconds", "gauge",
	  "When a pass last left nothing to copy.", store_success },
	{ "clawback_store_failures_total", "counter",
	  "Passes to this store that failed, since the daemon's start.", store_failures },
};
const size_t store_family_count = sizeof(store_families) / sizeof(store_families[0]);

static double retention_success(const struct metrics_retention *retention)
{
	return instant(retention->success_ns);
}

static double retention_failures(const struct metrics_retention *retention)
{
	return (double)retention->failures;
}

static double retention_forgotten(const struct metrics_retention *retention)
{
	return (double)retention->forgotten;
}

static double retention_deleted(const struct metrics_retention *retention)
{
	return (double)retention->deleted_bytes;
}

const struct retention_family retention_families[] = {
	{ "clawback_retention_last_success_timestamp_seconds", "gauge",
	  "When forgetting and pruning in this store last went through.", retention_success },
	{ "clawback_retention_failures_total", "counter",
	  "Rounds of it that failed, since the daemon's start.", retention_failures },
	{ "clawback_retention_forgotten_points_total", "counter",
	  "Points that it forgot, since the daemon's start.", retention_forgotten },
	{ "clawback_retention_deleted_bytes_total", "counter",
	  "Bytes of objects that it deleted, since the daemon's start.", retention_deleted },
};
const size_t retention_family_count = sizeof(retention_families) / sizeof(retention_families[0]);

const struct unit_family unit_families[] = {
	{ "clawback_rpo_objective_seconds", "gauge",
	  "How old a write may become before it is in a stored point.", unit_objective },
	{ "clawback_rpo_seconds", "gauge",
	  "How old the oldest write in no stored point may be by now, at most; +Inf without a "
	  "point.", unit_rpo },
	{ "clawback_rpo_missed", "gauge",
	  "Whether the objective is missed, or will be before a run can end.", unit_missed },
	{ "clawback_last_point_timestamp_seconds", "gauge",
	  "The instant that the last recovery point shows.", unit_point },
	{ "clawback_last_success_timestamp_seconds", "gauge",
	  "When the last run of this daemon that stored all its points ended.", unit_success },
	{ "clawback_last_error_timestamp_seconds", "gauge",
	  "When the last run of this daemon that failed ended.", unit_error },
	{ "clawback_next_due_timestamp_seconds", "gauge",
	  "When the next run is due.", unit_due },
	{ "clawback_cycle_duration_seconds", "gauge",
	  "How long the last run took.", unit_duration },
	{ "clawback_cycle_read_bytes_total", "counter",
	  "Bytes read from volumes for stored points, since the daemon's start.", unit_read },
	{ "clawback_cycle_stored_bytes_total", "counter",
	  "Bytes stored for points, since the daemon's start.", unit_stored },
};
const size_t unit_family_count = sizeof(unit_families) / sizeof(unit_families[0]);

const struct volume_family volume_families[] = {
	{ "clawback_tracked", "gauge",
	  "Whether the volume is tracked and its marks are believed.", volume_tracked },
	{ "clawback_dirty_bytes", "gauge",
	  "Bytes of the blocks that are marked as written.", volume_dirty },
};
const size_t volume_family_count = sizeof(volume_families) / sizeof(volume_families[0]);
