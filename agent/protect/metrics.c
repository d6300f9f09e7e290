/* Metrics as text, in Prometheus's exposition format. */
#include "agent/protect/metrics_private.h"

#include "agent/repo/repo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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
	for (size_t i = 0; i < unit_family_count; i++)
		put_unit_family(file, &unit_families[i], metrics);
	put_cycles(file, metrics);
	put_points(file, metrics);
	for (size_t i = 0; i < volume_family_count; i++)
		put_volume_family(file, &volume_families[i], metrics);
	for (size_t i = 0; metrics->store_count && i < store_family_count; i++)
		put_store_family(file, &store_families[i], metrics);
	for (size_t i = 0; metrics->drill_count && i < drill_family_count; i++)
		put_drill_family(file, &drill_families[i], metrics);
	for (size_t i = 0; metrics->retention_count && i < retention_family_count; i++)
		put_retention_family(file, &retention_families[i], metrics);
	put_messages(file, metrics);
	bad = ferror(file);
	if (fclose(file) || bad) {
		free(text);
		return NULL;
	}
	return text;
}
