#include "agent/protect/metrics.h"

#include "agent/repo/repo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A family: all its samples stand together, below its HELP and TYPE. */
struct unit_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_unit *unit);	/* NAN: left out */
};

struct volume_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_volume *volume);
};

struct store_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_store *store);
};

struct drill_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_drill *drill);
};

struct retention_family {
	const char *name, *type, *help;
	double (*value)(const struct metrics_retention *retention);
};

/* ---- values ------------------------------------------------------------------ */

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

static const struct drill_family drill_families[] = {
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

static const struct store_family store_families[] = {
	{ "clawback_store_lag_points", "gauge",
	  "Points that were committed and are not in this further store.", store_points },
	{ "clawback_store_lag_seconds", "gauge",
	  "Since when the first of them has been missing there.", store_lag },
	{ "clawback_store_last_success_timestamp_seconds", "gauge",
	  "When a pass last left nothing to copy.", store_success },
	{ "clawback_store_failures_total", "counter",
	  "Passes to this store that failed, since the daemon's start.", store_failures },
};

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

static const struct retention_family retention_families[] = {
	{ "clawback_retention_last_success_timestamp_seconds", "gauge",
	  "When forgetting and pruning in this store last went through.", retention_success },
	{ "clawback_retention_failures_total", "counter",
	  "Rounds of it that failed, since the daemon's start.", retention_failures },
	{ "clawback_retention_forgotten_points_total", "counter",
	  "Points that it forgot, since the daemon's start.", retention_forgotten },
	{ "clawback_retention_deleted_bytes_total", "counter",
	  "Bytes of objects that it deleted, since the daemon's start.", retention_deleted },
};

static const struct unit_family unit_families[] = {
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

static const struct volume_family volume_families[] = {
	{ "clawback_tracked", "gauge",
	  "Whether the volume is tracked and its marks are believed.", volume_tracked },
	{ "clawback_dirty_bytes", "gauge",
	  "Bytes of the blocks that are marked as written.", volume_dirty },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- text ---------------------------------------------------------------------- */

/* "label_value can be any sequence of UTF-8 characters, but the backslash, double-quote,
 * and line feed characters have to be escaped as \\, \", and \n" */
static void put_label(FILE *file, const char *name, const char *value)
{
	fprintf(file, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\n')
			fputs("\\n", file);
		else if (*value == '\\' || *value == '"')
			fprintf(file, "\\%c", *value);
		else
			fputc(*value, file);
	}
	fputc('"', file);
}

static void put_head(FILE *file, const char *name, const char *type, const char *help)
{
	fprintf(file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* 15 digits: whole numbers up to 2^49, instants to the microsecond. */
static void put_value(FILE *file, double value)
{
	if (isinf(value))
		fputs(" +Inf\n", file);
	else
		fprintf(file, " %.15g\n", value);
}

static void put_unit(FILE *file, const char *name, const struct metrics_unit *unit,
		     const char *label, const char *of, double value)
{
	fprintf(file, "%s{", name);
	put_label(file, "unit", unit->name);
	fputc(',', file);
	put_label(file, "kind", unit->group ? "group" : "volume");
	if (label) {
		fputc(',', file);
		put_label(file, label, of);
	}
	fputc('}', file);
	put_value(file, value);
}

static void put_cycles(FILE *file, const struct metrics *metrics)
{
	static const char name[] = "clawback_cycles_total";

	put_head(file, name, "counter", "Runs that stored all their points, that failed, and "
		 "looks that found nothing written, since the daemon's start.");
	for (size_t i = 0; i < metrics->unit_count; i++) {
		const struct metrics_unit *unit = &metrics->units[i];

		put_unit(file, name, unit, "result", "stored", (double)unit->counts.stored);
		put_unit(file, name, unit, "result", "skipped", (double)unit->counts.skipped);
		put_unit(file, name, unit, "result", "failed", (double)unit->counts.failed);
	}
}

static void put_points(FILE *file, const struct metrics *metrics)
{
	static const char name[] = "clawback_points_total";

	put_head(file, name, "counter", "Points stored, by kind, since the daemon's start.");
	for (size_t i = 0; i < metrics->unit_count; i++)
		for (int k = POINT_FULL; k <= POINT_SYNTHETIC; k++)
			put_unit(file, name, &metrics->units[i], "point",
				 point_kind_name((enum point_kind)k),
				 (double)metrics->units[i].counts.points[k]);
}

static void put_unit_family(FILE *file, const struct unit_family *family,
			    const struct metrics *metrics)
{
	put_head(file, family->name, family->type, family->help);
	for (size_t i = 0; i < metrics->unit_count; i++) {
		double value = family->value(&metrics->units[i]);

		if (!isnan(value))
			put_unit(file, family->name, &metrics->units[i], NULL, NULL, value);
	}
}

static void put_volume_family(FILE *file, const struct volume_family *family,
			      const struct metrics *metrics)
{
	put_head(file, family->name, family->type, family->help);
	for (size_t i = 0; i < metrics->volume_count; i++) {
		double value = family->value(&metrics->volumes[i]);

		if (isnan(value))
			continue;
		fprintf(file, "%s{", family->name);
		put_label(file, "volume", metrics->volumes[i].name);
		fputc('}', file);
		put_value(file, value);
	}
}

static void put_store_family(FILE *file, const struct store_family *family,
			     const struct metrics *metrics)
{
	put_head(file, family->name, family->type, family->help);
	for (size_t i = 0; i < metrics->store_count; i++) {
		double value = family->value(&metrics->stores[i]);

		if (isnan(value))
			continue;
		fprintf(file, "%s{", family->name);
		put_label(file, "store", metrics->stores[i].name);
		fputc('}', file);
		put_value(file, value);
	}
}

static void put_drill_family(FILE *file, const struct drill_family *family,
			     const struct metrics *metrics)
{
	put_head(file, family->name, family->type, family->help);
	for (size_t i = 0; i < metrics->drill_count; i++) {
		double value = family->value(&metrics->drills[i]);

		if (isnan(value))
			continue;
		fprintf(file, "%s{", family->name);
		put_label(file, "volume", metrics->drills[i].volume);
		fputc('}', file);
		put_value(file, value);
	}
}

static void put_retention_family(FILE *file, const struct retention_family *family,
				 const struct metrics *metrics)
{
	put_head(file, family->name, family->type, family->help);
	for (size_t i = 0; i < metrics->retention_count; i++) {
		double value = family->value(&metrics->retentions[i]);

		if (isnan(value))
			continue;
		fprintf(file, "%s{", family->name);
		put_label(file, "store", metrics->retentions[i].store);
		fputc('}', file);
		put_value(file, value);
	}
}

static void put_daemon(FILE *file, const struct metrics *metrics)
{
	put_head(file, "clawback_up", "gauge", "Whether the daemon ran when this was written; "
		 "0 once it was stopped.");
	fprintf(file, "clawback_up %d\n", metrics->up);
	put_head(file, "clawback_build_info", "gauge", "The daemon's version, as a label of "
		 "the constant 1.");
	fprintf(file, "clawback_build_info{version=\"" CLAWBACK_VERSION "\"} 1\n");
	put_head(file, "clawback_recursion_misses_total", "counter", "Runs of the tracker that "
		 "the kernel skipped, since it was loaded.");
	if (metrics->loaded) {
		fputs("clawback_recursion_misses_total", file);
		put_value(file, (double)metrics->recursion_misses);
	}
}

static void put_messages(FILE *file, const struct metrics *metrics)
{
	static const char name[] = "clawback_messages_total";

	put_head(file, name, "counter", "Messages to people by what [notify] has that were "
		 "delivered, and that were not, since the daemon's start.");
	for (size_t i = 0; i < metrics->message_count; i++) {
		const struct metrics_messages *messages = &metrics->messages[i];

		for (int failed = 0; failed < 2; failed++) {
			fprintf(file, "%s{", name);
			put_label(file, "target", messages->target);
			fputc(',', file);
			put_label(file, "result", failed ? "failed" : "delivered");
			fputc('}', file);
			put_value(file, (double)(failed ? messages->failed : messages->delivered));
		}
	}
}

char *metrics_text(const struct metrics *metrics)
{
	char *text = NULL;
	size_t length;
	FILE *file = open_memstream(&text, &length);
	bool bad;

	if (!file)
		return NULL;
	put_daemon(file, metrics);
	for (size_t i = 0; i < COUNT(unit_families); i++)
		put_unit_family(file, &unit_families[i], metrics);
	put_cycles(file, metrics);
	put_points(file, metrics);
	for (size_t i = 0; i < COUNT(volume_families); i++)
		put_volume_family(file, &volume_families[i], metrics);
	for (size_t i = 0; metrics->store_count && i < COUNT(store_families); i++)
		put_store_family(file, &store_families[i], metrics);
	for (size_t i = 0; metrics->drill_count && i < COUNT(drill_families); i++)
		put_drill_family(file, &drill_families[i], metrics);
	for (size_t i = 0; metrics->retention_count && i < COUNT(retention_families); i++)
		put_retention_family(file, &retention_families[i], metrics);
	put_messages(file, metrics);
	bad = ferror(file);
	if (fclose(file) || bad) {
		free(text);
		return NULL;
	}
	return text;
}
