/* protect: the daemon, and how it tells what it does. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct protect {
	bool once, dry_run;
};

static const char *const event_names[] = {
	[PROTECT_CYCLE_STARTED] = "cycle_started",
	[PROTECT_CYCLE_ENDED] = "cycle_ended",
	[PROTECT_CYCLE_SKIPPED] = "cycle_skipped",
	[PROTECT_CYCLE_FAILED] = "cycle_failed",
	[PROTECT_RPO_MISSED] = "rpo_missed",
	[PROTECT_RPO_RECOVERED] = "rpo_recovered",
	[PROTECT_RELOADED] = "reload",
	[PROTECT_STOPPING] = "stopping",
	[PROTECT_PLANNED] = "plan",
	[PROTECT_REPLICATED] = "replicated",
	[PROTECT_STORE_FAILED] = "store_failed",
	[PROTECT_STORE_LAGS] = "store_lags",
	[PROTECT_STORE_RECOVERED] = "store_recovered",
	[PROTECT_TUNED] = "compression",
	[PROTECT_DRILL_PASSED] = "drill_passed",
	[PROTECT_DRILL_FAILED] = "drill_failed",
	[PROTECT_RETAINED] = "retention",
	[PROTECT_RETENTION_FAILED] = "retention_failed",
};

/* ---- for programs ------------------------------------------------------- */

static json_t *seconds_json(uint64_t ns)
{
	return json_real((double)ns / 1e9);
}

static json_t *part_json(const struct protect_part *part)
{
	return json_pack("{s:s, s:I, s:s, s:b, s:o, s:I, s:I}", "volume", part->volume,
			 "point", (json_int_t)part->number, "kind", point_kind_name(part->kind),
			 "rescan", (int)part->rescan, "time", cli_time_json(part->time_ns),
			 "read_bytes", (json_int_t)part->read_bytes,
			 "stored_bytes", (json_int_t)part->stored_bytes);
}

static void add_cycle(json_t *object, const struct protect_event *event)
{
	json_t *points = json_array();

	for (size_t i = 0; i < event->part_count; i++)
		if (event->parts[i].committed)
			json_array_append_new(points, part_json(&event->parts[i]));
	json_object_set_new(object, "points", points);
	json_object_set_new(object, "seconds", seconds_json(event->duration_ns));
	json_object_set_new(object, "rpo_seconds", seconds_json(event->age_ns));
}

static void add_retention(json_t *object, const struct protect_event *event)
{
	const struct retention_result *result = event->retention;

	json_object_set_new(object, "store", json_string(event->store));
	json_object_set_new(object, "seconds", seconds_json(event->duration_ns));
	if (result)
		json_object_update_new(object, json_pack("{s:I, s:I, s:I, s:I}",
			"forgotten", (json_int_t)result->forgotten,
			"pruned", (json_int_t)result->pruned,
			"deleted_objects", (json_int_t)result->deleted_objects,
			"deleted_bytes", (json_int_t)result->deleted_bytes));
}

static void add_store(json_t *object, const struct protect_event *event)
{
	json_object_set_new(object, "store", json_string(event->store));
	json_object_set_new(object, "points", json_integer((json_int_t)event->points));
	if (event->type == PROTECT_STORE_LAGS)
		json_object_set_new(object, "lag_seconds", seconds_json(event->age_ns));
	if (event->type == PROTECT_REPLICATED)
		json_object_set_new(object, "seconds", seconds_json(event->duration_ns));
}

static json_t *event_json(const struct protect_event *event)
{
	json_t *object = json_pack("{s:s, s:o}", "message_type", event_names[event->type],
				   "time", cli_time_json(event->time_ns));

	if (!object)
		return NULL;
	if (event->unit) {
		json_object_set_new(object, event->group ? "group" : "volume",
				    json_string(event->unit));
		json_object_set_new(object, "objective_seconds", seconds_json(event->rpo_ns));
	}
	if (event->type == PROTECT_RETAINED || event->type == PROTECT_RETENTION_FAILED)
		add_retention(object, event);
	else if (event->store)
		add_store(object, event);
	if (event->type == PROTECT_CYCLE_ENDED || event->type == PROTECT_CYCLE_FAILED)
		add_cycle(object, event);
	if (event->type == PROTECT_RPO_MISSED || event->type == PROTECT_RPO_RECOVERED)
		json_object_set_new(object, "rpo_seconds", seconds_json(event->age_ns));
	if (event->type == PROTECT_CYCLE_STARTED || event->type == PROTECT_PLANNED)
		json_object_set_new(object, "type", json_string(backup_type_name(event->asked)));
	if (event->type == PROTECT_TUNED)
		json_object_set_new(object, "level", json_integer(event->level));
	if (event->drill)
		json_object_set_new(object, "drill", cli_drill_json(event->drill));
	if (event->due_ns)
		json_object_set_new(object, "due", cli_time_json(event->due_ns));
	if (*event->why)
		json_object_set_new(object, "reason", json_string(event->why));
	if (event->type == PROTECT_RELOADED)
		json_object_set_new(object, "accepted", json_boolean(!event->error));
	if (event->error) {
		json_object_set_new(object, "code", json_integer((json_int_t)event->error->exit));
		json_object_set_new(object, "error", cli_message_json(event->error->message));
	}
	return object;
}

/* ---- for people ---------------------------------------------------------- */

/* Made once for each kind, to find and to explain its messages by; never changed. */
static const char *const message_ids[] = {
	[PROTECT_CYCLE_STARTED] = "898328af52684e16aa1f4235f7a46197",
	[PROTECT_CYCLE_ENDED] = "760865a2f1b34bcbb693ab26780184dd",
	[PROTECT_CYCLE_SKIPPED] = "0f1d2188e14b437cbd0b6464abc5fa66",
	[PROTECT_CYCLE_FAILED] = "cfe24acb4e704043a7383366d3f5df0b",
	[PROTECT_RPO_MISSED] = "bb175b48f48349dd9e18bbb5fa7f8861",
	[PROTECT_RPO_RECOVERED] = "182aada0a1034721bb5dd1468a018968",
	[PROTECT_RELOADED] = "f53188c72ae045a18a89d0b13cbf0914",
	[PROTECT_STOPPING] = "cd321912b7a149e2b4ec479494061454",
	[PROTECT_PLANNED] = NULL,
	[PROTECT_REPLICATED] = "6faae41310c24aa7ad653d973fc6449d",
	[PROTECT_STORE_FAILED] = "8751ceff913b4085958c6456904a5568",
	[PROTECT_STORE_LAGS] = "52f986713b2a4fc9bd9b5ba59f25e745",
	[PROTECT_STORE_RECOVERED] = "eb0d82791df14bf9bba7f62aff25eb3a",
	[PROTECT_DRILL_PASSED] = "b64dea2f7a54408d8f840607c86a46df",
	[PROTECT_DRILL_FAILED] = "1979a2f9293c490ca616adaff7babede",
	[PROTECT_TUNED] = NULL,
	[PROTECT_RETAINED] = "ee225d9dd3794688be9b7f164d35f9e2",
	[PROTECT_RETENTION_FAILED] = "b9086e4a1f504bbf912c86185e4bffef",
};

static struct log_fields fields_of(const struct protect_event *event)
{
	return (struct log_fields){
		.event = event_names[event->type], .message_id = message_ids[event->type],
		.unit = event->unit, .group = event->group,
		.volume = event->unit && !event->group ? event->unit : NULL,
		.store = event->store,
	};
}

static void say_point(const struct protect_event *event, const struct protect_part *part)
{
	struct log_fields fields = fields_of(event);

	/* Also of a run that failed in part. */
	fields.event = event_names[PROTECT_CYCLE_ENDED];
	fields.message_id = message_ids[PROTECT_CYCLE_ENDED];
	fields.volume = part->volume;
	fields.point = part->number;
	log_event(LOG_NOTES, &fields, "%s: %s point %" PRIu64 "%s, stored %s, in %s; its oldest "
		  "write was at most %s old", part->volume, point_kind_name(part->kind),
		  part->number, part->rescan ? " by comparing" : "",
		  text_bytes(part->stored_bytes), text_duration(event->duration_ns),
		  text_duration(event->age_ns));
}

static void say_points(const struct protect_event *event)
{
	for (size_t i = 0; i < event->part_count; i++)
		if (event->parts[i].committed)
			say_point(event, &event->parts[i]);
}

static void say_store(const struct protect_event *event)
{
	struct log_fields fields = fields_of(event);
	const char *why = event->why;

	if (event->type == PROTECT_REPLICATED)
		log_event(LOG_DETAILS, &fields, "store %s: copied %" PRIu64 " points in %s",
			  event->store, event->points, text_duration(event->duration_ns));
	else if (event->type == PROTECT_STORE_FAILED)
		log_event(LOG_WARNINGS, &fields, "%s; again at %s", event->error->message,
			  text_time(event->due_ns));
	else if (event->type == PROTECT_STORE_LAGS)
		log_event(LOG_WARNINGS, &fields, "store %s has lacked points for %s, %" PRIu64
			  " by now%s%s", event->store, text_duration(event->age_ns), event->points,
			  *why ? "; the last failure: " : "", why);
	else
		log_event(LOG_NOTES, &fields, "store %s has all points again", event->store);
}

static void say_retention(const struct protect_event *event)
{
	const struct retention_result *result = event->retention;
	struct log_fields fields = fields_of(event);

	if (event->type == PROTECT_RETENTION_FAILED)
		log_event(LOG_WARNINGS, &fields, "retention in store %s: %s; again at %s", event->store,
			  event->error->message, text_time(event->due_ns));
	else
		log_event(LOG_NOTES, &fields, "retention in store %s: %" PRIu64 " points forgotten, %"
			  PRIu64 " pruned, %s deleted, in %s", event->store, result->forgotten,
			  result->pruned, text_bytes(result->deleted_bytes),
			  text_duration(event->duration_ns));
}

static void say(const struct protect_event *event)
{
	const char *why = event->why, *unit = event->unit;
	struct log_fields fields = fields_of(event);

	switch (event->type) {
	case PROTECT_REPLICATED:
	case PROTECT_STORE_FAILED:
	case PROTECT_STORE_LAGS:
	case PROTECT_STORE_RECOVERED:
		say_store(event);
		break;
	case PROTECT_RETAINED:
	case PROTECT_RETENTION_FAILED:
		say_retention(event);
		break;
	case PROTECT_CYCLE_STARTED:
		log_event(LOG_DETAILS, &fields, "%s: a run begins%s%s", unit, *why ? ": " : "", why);
		break;
	case PROTECT_CYCLE_ENDED:
		say_points(event);
		break;
	case PROTECT_CYCLE_SKIPPED:
		log_event(LOG_NOTES, &fields, "%s: no point: %s", unit, why);
		break;
	case PROTECT_CYCLE_FAILED:
		say_points(event);
		log_event(LOG_WARNINGS, &fields, "%s: %s; again at %s", unit,
			  event->error->message, text_time(event->due_ns));
		break;
	case PROTECT_RPO_MISSED:
		log_event(LOG_WARNINGS, &fields, "%s: the objective of %s is missed, or will be "
			  "before a run can end%s%s%s%s", unit, text_duration(event->rpo_ns),
			  event->age_ns ? "; its oldest write may be older than " : "",
			  event->age_ns ? text_duration(event->age_ns) : "",
			  *why ? "; the last failure: " : "", why);
		break;
	case PROTECT_RPO_RECOVERED:
		log_event(LOG_NOTES, &fields, "%s: the objective of %s is met again", unit,
			  text_duration(event->rpo_ns));
		break;
	case PROTECT_RELOADED:
		if (event->error)
			log_event(LOG_WARNINGS, &fields, "the new configuration is refused, "
				  "the old one stays: %s", event->error->message);
		else
			log_event(LOG_NOTES, &fields, "took the configuration anew");
		break;
	case PROTECT_DRILL_PASSED:
		log_event(LOG_NOTES, &fields, "%s: a drill of point %" PRIu64 " passed: recovered "
			  "in %s", unit, event->drill->point, text_duration(event->drill->rto_ns));
		break;
	case PROTECT_DRILL_FAILED:
		log_event(LOG_WARNINGS, &fields, "%s: a drill FAILED at %s: %s", unit,
			  drill_step_name(event->drill->failed), event->error->message);
		break;
	case PROTECT_TUNED:
		log_note("%s: compression %d from now on: %s", unit, event->level, why);
		break;
	case PROTECT_STOPPING:
		log_event(LOG_NOTES, &fields, "stopping%s%s", *why ? " " : "", why);
		break;
	case PROTECT_PLANNED:
		printf("%s: %s at %s, objective %s%s%s\n", unit, backup_type_name(event->asked),
		       text_time(event->due_ns), text_duration(event->rpo_ns),
		       *why ? ": " : "", why);
		break;
	}
}

static void protect_tell(void *context, const struct protect_event *event)
{
	const struct cli *cli = context;
	struct error ignored = ERROR_INIT;

	if (cli->json)
		cli_print_json(event_json(event), true, &ignored);
	else
		say(event);
}

/* ---- running ---------------------------------------------------------------- */

static int protect_reload(void *context, struct config *config, struct error *err)
{
	const struct cli *cli = context;

	return config_load(cli->config_path, cli->config_given, cli->overrides,
			   cli->override_count, config, err);
}

static int protect_run(struct cli *cli, struct error *err)
{
	const struct protect *protect = cli->settings;
	struct protect_options options = {
		.once = protect->once,
		.reload = protect_reload,
		.tell = protect_tell,
		.context = cli,
	};
	int ret = cli_need_root("protect", err);

	if (!ret && !*cli->config.repository.url)
		ret = error_set_exit(err, EXIT_USAGE, -EINVAL, "no repository is configured; add "
				     "\"url = …\" to [repository] in %s", cli->config_path);
	if (ret)
		return ret;
	return protect->dry_run ? protect_plan(&cli->config, &options, err)
				: protect_daemon(&cli->config, &options, err);
}

static const struct cli_option protect_options[] = {
	CLI_FLAG("once", 0, "run what is due now, each once, and exit",
		 struct protect, once),
	CLI_FLAG("dry-run", 'n', "say what is due when; change nothing",
		 struct protect, dry_run),
	{ .name = NULL },
};

const struct cli_verb verb_protect = {
	.name = "protect",
	.arguments = "",
	.summary = "Keep every volume and group with an rpo inside it, until told to stop",
	.options = protect_options,
	.settings_size = sizeof(struct protect),
	.run = protect_run,
};
