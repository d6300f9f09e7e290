/*
 * The metrics as text: read back by a parser of the exposition format written from its
 * description, every line is one it allows, and every sample is what was put in.
 */
#include "agent/protect/metrics.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define SAMPLES_MAX 200

struct sample {
	char name[64], labels[3][2][80];
	size_t label_count;
	double value;
};

struct parsed {
	struct sample samples[SAMPLES_MAX];
	size_t count, families;
};

/* ---- a reader ------------------------------------------------------------------ */

static const char *take_name(const char *at, char *name, size_t room)
{
	size_t length = 0;

	assert_true(isalpha((unsigned char)*at) || *at == '_');
	while (isalnum((unsigned char)at[length]) || at[length] == '_')
		length++;
	assert_true(length < room);
	memcpy(name, at, length);
	name[length] = '\0';
	return at + length;
}

static const char *take_quoted(const char *at, char *value, size_t room)
{
	size_t length = 0;

	assert_int_equal('"', *at++);
	for (; *at != '"'; at++) {
		assert_true(*at && *at != '\n' && length + 1 < room);
		if (*at == '\\') {
			at++;
			assert_non_null(strchr("\\\"n", *at));
			value[length++] = *at == 'n' ? '\n' : *at;
		} else {
			value[length++] = *at;
		}
	}
	value[length] = '\0';
	return at + 1;
}

static const char *take_labels(const char *at, struct sample *sample)
{
	do {
		assert_true(sample->label_count < 3);
		at = take_name(at + 1, sample->labels[sample->label_count][0], 80);
		assert_int_equal('=', *at);
		at = take_quoted(at + 1, sample->labels[sample->label_count++][1], 80);
	} while (*at == ',');
	assert_int_equal('}', *at);
	return at + 1;
}

static void take_sample(const char *line, const char *family, struct parsed *parsed)
{
	struct sample *sample = &parsed->samples[parsed->count++];
	const char *at;
	char *end;

	assert_true(parsed->count <= SAMPLES_MAX);
	memset(sample, 0, sizeof(*sample));
	at = take_name(line, sample->name, sizeof(sample->name));
	assert_string_equal(family, sample->name);
	if (*at == '{')
		at = take_labels(at, sample);
	assert_int_equal(' ', *at);
	sample->value = strtod(at + 1, &end);
	assert_true(end > at + 1 && *end == '\0');
	assert_false(isnan(sample->value));
}

/* HELP, then TYPE, then its samples, once each. */
static void take_line(const char *line, char family[static 64], struct parsed *parsed)
{
	static char seen[40][64];
	const char *at;
	char name[64];

	if (!strncmp(line, "# HELP ", 7)) {
		at = take_name(line + 7, family, 64);
		assert_true(*at == ' ' && at[1] && !strchr(at, '\\'));
		for (size_t i = 0; i < parsed->families; i++)
			assert_string_not_equal(seen[i], family);
		assert_true(parsed->families < 40);
		strcpy(seen[parsed->families++], family);
	} else if (!strncmp(line, "# TYPE ", 7)) {
		at = take_name(line + 7, name, sizeof(name));
		assert_string_equal(family, name);
		assert_true(!strcmp(at, " gauge") || !strcmp(at, " counter"));
		assert_int_equal(!strcmp(at, " counter"),
				 strlen(name) > 6 && !strcmp(name + strlen(name) - 6, "_total"));
	} else {
		take_sample(line, family, parsed);
	}
}

static void parse(const struct metrics *metrics, struct parsed *parsed)
{
	char family[64] = "", *text = metrics_text(metrics);

	assert_non_null(text);
	memset(parsed, 0, sizeof(*parsed));
	assert_int_equal('\n', text[strlen(text) - 1]);
	for (char *line = text, *end; *line; line = end + 1) {
		end = strchr(line, '\n');
		*end = '\0';
		take_line(line, family, parsed);
	}
	free(text);
}

/* NAN: there is none. By its first and last label, where given. */
static double value_of(const struct parsed *parsed, const char *name, const char *first,
		       const char *last)
{
	double found = NAN;

	for (size_t i = 0; i < parsed->count; i++) {
		const struct sample *sample = &parsed->samples[i];

		if (strcmp(sample->name, name) ||
		    (first && strcmp(sample->labels[0][1], first)) ||
		    (last && strcmp(sample->labels[sample->label_count - 1][1], last)))
			continue;
		assert_true(isnan(found));
		found = sample->value;
	}
	return found;
}

#define assert_value(wanted, ...) assert_true((wanted) == value_of(__VA_ARGS__))
#define assert_none(...) assert_true(isnan(value_of(__VA_ARGS__)))

/* ---- tests ---------------------------------------------------------------------- */

static const struct metrics_unit units[] = {
	{ .name = "pg\"da\\ta\n", .missed = true, .has_point = true, .rpo_ns = 10 * SECOND,
	  .age_ns = 12500000000, .point_ns = 1795000000 * SECOND + SECOND / 4,
	  .error_ns = 1795000001 * SECOND, .due_ns = 1795000002 * SECOND,
	  .counts = { .stored = 3, .skipped = 4, .failed = 5, .points = { 6, 7, 8, 9 },
		      .read_bytes = UINT64_C(1) << 48,
		      .stored_bytes = 7, .success_ns = 1795000003 * SECOND,
		      .duration_ns = SECOND / 2, .ran = true } },
	{ .name = "new", .group = true, .rpo_ns = SECOND, .age_ns = 5 },
};
static const struct metrics_volume volumes[] = {
	{ .name = "v", .attached = true, .tracked = true, .dirty_bytes = 8192 },
	{ .name = "w" },
};
static const struct metrics_messages messages[] = {
	{ .target = "mail", .delivered = 2, .failed = 1 }, { .target = "command" },
};

static const struct metrics_store stores[] = {
	{ .name = "near", .success_ns = 1795000004 * SECOND },
	{ .name = "far", .lag_points = 6, .lag_ns = 2 * SECOND + SECOND / 2, .failures = 8 },
};

static void reads_back(void **context)
{
	const struct metrics metrics = { .up = true, .loaded = true, .recursion_misses = 9,
					 .units = units, .unit_count = 2,
					 .volumes = volumes, .volume_count = 2,
					 .stores = stores, .store_count = 2,
					 .messages = messages, .message_count = 2 };
	static struct parsed parsed;
	const char *name = units[0].name;

	(void)context;
	parse(&metrics, &parsed);
	assert_value(1, &parsed, "clawback_up", NULL, NULL);
	assert_value(1, &parsed, "clawback_build_info", CLAWBACK_VERSION, NULL);
	assert_value(9, &parsed, "clawback_recursion_misses_total", NULL, NULL);
	assert_value(10, &parsed, "clawback_rpo_objective_seconds", name, "volume");
	assert_value(12.5, &parsed, "clawback_rpo_seconds", name, "volume");
	assert_value(1, &parsed, "clawback_rpo_missed", name, "volume");
	assert_value(1795000000.25, &parsed, "clawback_last_point_timestamp_seconds", name, NULL);
	assert_value(1795000001, &parsed, "clawback_last_error_timestamp_seconds", name, NULL);
	assert_value(1795000002, &parsed, "clawback_next_due_timestamp_seconds", name, NULL);
	assert_value(1795000003, &parsed, "clawback_last_success_timestamp_seconds", name, NULL);
	assert_value(0.5, &parsed, "clawback_cycle_duration_seconds", name, NULL);
	assert_value(3, &parsed, "clawback_cycles_total", name, "stored");
	assert_value(4, &parsed, "clawback_cycles_total", name, "skipped");
	assert_value(5, &parsed, "clawback_cycles_total", name, "failed");
	assert_value(6, &parsed, "clawback_points_total", name, "full");
	assert_value(7, &parsed, "clawback_points_total", name, "incremental");
	assert_value(8, &parsed, "clawback_points_total", name, "differential");
	assert_value(9, &parsed, "clawback_points_total", name, "synthetic");
	assert_value(281474976710656.0, &parsed, "clawback_cycle_read_bytes_total", name, NULL);
	assert_value(7, &parsed, "clawback_cycle_stored_bytes_total", name, NULL);
	assert_value(1, &parsed, "clawback_tracked", "v", NULL);
	assert_value(8192, &parsed, "clawback_dirty_bytes", "v", NULL);
	assert_value(0, &parsed, "clawback_tracked", "w", NULL);
	assert_none(&parsed, "clawback_dirty_bytes", "w", NULL);
	assert_value(2, &parsed, "clawback_messages_total", "mail", "delivered");
	assert_value(1, &parsed, "clawback_messages_total", "mail", "failed");
	assert_value(0, &parsed, "clawback_messages_total", "command", "failed");
	assert_value(0, &parsed, "clawback_store_lag_points", "near", NULL);
	assert_value(6, &parsed, "clawback_store_lag_points", "far", NULL);
	assert_value(2.5, &parsed, "clawback_store_lag_seconds", "far", NULL);
	assert_value(8, &parsed, "clawback_store_failures_total", "far", NULL);
	assert_value(1795000004, &parsed, "clawback_store_last_success_timestamp_seconds", "near", NULL);
	assert_none(&parsed, "clawback_store_last_success_timestamp_seconds", "far", NULL);
}

static void drills(void **context)
{
	static const struct metrics_drill both[] = {
		{ .volume = "v", .passed = true, .last_ns = UINT64_C(1795000004000000000),
		  .passed_ns = UINT64_C(1795000004000000000), .duration_ns = 3 * SECOND,
		  .rto_ns = SECOND / 2 },
		{ .volume = "w", .last_ns = UINT64_C(1795000005000000000), .duration_ns = SECOND },
	};
	const struct metrics metrics = { .drills = both, .drill_count = 2 };
	static struct parsed parsed;

	(void)context;
	parse(&metrics, &parsed);
	assert_value(1, &parsed, "clawback_drill_success", "v", NULL);
	assert_value(0, &parsed, "clawback_drill_success", "w", NULL);
	assert_value(1795000004, &parsed, "clawback_drill_last_success_timestamp_seconds", "v", NULL);
	assert_none(&parsed, "clawback_drill_last_success_timestamp_seconds", "w", NULL);
	assert_value(1795000005, &parsed, "clawback_drill_last_timestamp_seconds", "w", NULL);
	assert_value(0.5, &parsed, "clawback_drill_rto_seconds", "v", NULL);
	assert_none(&parsed, "clawback_drill_rto_seconds", "w", NULL);
	assert_value(3, &parsed, "clawback_drill_duration_seconds", "v", NULL);
}

static void retentions(void **context)
{
	static const struct metrics_retention both[] = {
		{ .store = "repository", .success_ns = UINT64_C(1795000004000000000),
		  .forgotten = 7, .deleted_bytes = 4096 },
		{ .store = "far", .failures = 2 },
	};
	const struct metrics metrics = { .retentions = both, .retention_count = 2 };
	static struct parsed parsed;

	(void)context;
	parse(&metrics, &parsed);
	assert_value(1795000004, &parsed, "clawback_retention_last_success_timestamp_seconds",
		     "repository", NULL);
	assert_value(7, &parsed, "clawback_retention_forgotten_points_total", "repository", NULL);
	assert_value(4096, &parsed, "clawback_retention_deleted_bytes_total", "repository", NULL);
	assert_value(0, &parsed, "clawback_retention_failures_total", "repository", NULL);
	assert_value(2, &parsed, "clawback_retention_failures_total", "far", NULL);
	assert_none(&parsed, "clawback_retention_last_success_timestamp_seconds", "far", NULL);
}

/* A counter begins at 0, so that its first step shows; an instant does not. */
static void says_what_is_not_known(void **context)
{
	const struct metrics metrics = { .units = units + 1, .unit_count = 1 };
	static struct parsed parsed;

	(void)context;
	parse(&metrics, &parsed);
	assert_value(0, &parsed, "clawback_up", NULL, NULL);
	assert_none(&parsed, "clawback_recursion_misses_total", NULL, NULL);
	assert_true(isinf(value_of(&parsed, "clawback_rpo_seconds", "new", "group")));
	assert_value(0, &parsed, "clawback_cycles_total", "new", "failed");
	assert_value(0, &parsed, "clawback_cycle_read_bytes_total", "new", NULL);
	assert_none(&parsed, "clawback_last_point_timestamp_seconds", "new", NULL);
	assert_none(&parsed, "clawback_last_success_timestamp_seconds", "new", NULL);
	assert_none(&parsed, "clawback_last_error_timestamp_seconds", "new", NULL);
	assert_none(&parsed, "clawback_next_due_timestamp_seconds", "new", NULL);
	assert_none(&parsed, "clawback_cycle_duration_seconds", "new", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_back),
		cmocka_unit_test(drills), cmocka_unit_test(retentions),
		cmocka_unit_test(says_what_is_not_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
