/* Records of drills, as show and status tell them. */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define DRILLS_READ 20	/* a request each */

static json_t *seconds_json(uint64_t ns)
{
	return json_real((double)ns / 1e9);
}

json_t *cli_drill_json(const struct drill_record *record)
{
	json_t *steps = json_object();

	for (int i = 0; i < DRILL_STEPS; i++)
		if (record->steps_ns[i])
			json_object_set_new(steps, drill_step_name((enum drill_step)i),
					    seconds_json(record->steps_ns[i]));
	return json_pack("{s:I, s:o, s:o, s:b, s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:s, s:o,"
			 " s:b}", "point", (json_int_t)record->point,
			 "point_time", cli_time_json(record->point_time_ns),
			 "time", cli_time_json(record->started_ns),
			 "passed", (int)record->passed,
			 "failed_step", record->passed ? "" : drill_step_name(record->failed),
			 "code", (json_int_t)record->exit,
			 "error", cli_message_json(record->message),
			 "rto_seconds", record->passed ? seconds_json(record->rto_ns) : json_null(),
			 "seconds", seconds_json(record->duration_ns), "steps", steps,
			 "data_bytes", (json_int_t)record->data_bytes,
			 "fetched_bytes", (json_int_t)record->fetched_bytes,
			 "host", cli_message_json(record->host), "file_system", record->file_system,
			 "command", cli_message_json(record->command),
			 "recorded", (int)(record->sequence > 0));
}

void cli_drill_steps(const struct drill_record *record)
{
	bool any = false;

	for (int i = 0; i < DRILL_STEPS; i++) {
		if (!record->steps_ns[i])
			continue;
		printf("%s%s %s", any ? ", " : "  ", drill_step_name((enum drill_step)i),
		       text_duration(record->steps_ns[i]));
		any = true;
	}
	if (any)
		printf("\n");
}

/* "passed, recovered in 3.1 s" */
static void result_print(const struct drill_record *record)
{
	if (record->passed)
		printf("passed, recovered in %s", text_duration(record->rto_ns));
	else
		printf("FAILED at %s: %s", drill_step_name(record->failed), record->message);
}

/* ---- show ------------------------------------------------------------------- */

/* Records are extra: that they cannot be read keeps nobody from seeing the point. */
static size_t drills_of(struct repo *repo, const struct point *point,
			struct drill_record **records)
{
	struct error err = ERROR_INIT;
	size_t count = 0, bad = 0, kept = 0;

	*records = NULL;
	if (repo_drills(repo, &point->volume, DRILLS_READ, records, &count, &bad, &err))
		log_warning("%s", err.message);
	if (bad)
		log_warning("%zu records of drills are damaged or forged, and left out", bad);
	for (size_t i = 0; i < count; i++)
		if ((*records)[i].point == point->number &&
		    (*records)[i].point_time_ns == point->time_ns)
			(*records)[kept++] = (*records)[i];
	return kept;
}

json_t *cli_drills_json(struct repo *repo, const struct point *point)
{
	CLEANUP_FREE struct drill_record *records = NULL;
	size_t count = drills_of(repo, point, &records);
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, cli_drill_json(&records[i]));
	return list;
}

void cli_drills_print(struct repo *repo, const struct point *point)
{
	CLEANUP_FREE struct drill_record *records = NULL;
	size_t count = drills_of(repo, point, &records);

	for (size_t i = 0; i < count; i++) {
		printf("  drill        %s on %s: ", text_time(records[i].started_ns),
		       records[i].host);
		result_print(&records[i]);
		printf("\n");
	}
}

/* ---- status ------------------------------------------------------------------ */

static bool state_of(const struct config *config, const char *volume, struct drill_state *state)
{
	struct error err = ERROR_INIT;

	if (drill_state_load(config->agent.state, volume, state, &err))
		log_warning("%s", err.message);
	return state->has_last;
}

json_t *cli_drill_status_json(const struct config *config, const char *volume)
{
	struct drill_state state;
	json_t *object;

	if (!state_of(config, volume, &state))
		return json_null();
	object = cli_drill_json(&state.last);
	if (object)
		json_object_set_new(object, "last_passed", state.has_passed
				    ? cli_time_json(state.passed.started_ns) : json_null());
	return object;
}

void cli_drill_status_print(const struct config *config, const char *volume)
{
	struct drill_state state;

	if (!state_of(config, volume, &state))
		return;
	printf("  last drill at %s of point %" PRIu64 ": ", text_time(state.last.started_ns),
	       state.last.point);
	result_print(&state.last);
	if (!state.last.passed && state.has_passed)
		printf("; the last one that passed at %s", text_time(state.passed.started_ns));
	printf("\n");
}
