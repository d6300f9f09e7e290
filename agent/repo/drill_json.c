/* A drill's record as JSON, and back. */
#include "agent/repo/drill_format.h"
#include "agent/repo/point_format.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <string.h>

#define DRILL_FORMAT "clawback drill"
#define DRILL_EXIT_MAX 255u

static const char *const step_names[DRILL_STEPS] = {
	[DRILL_PREPARE] = "prepare", [DRILL_RESTORE] = "restore", [DRILL_ATTACH] = "attach",
	[DRILL_REPLAY] = "replay", [DRILL_CHECK] = "check", [DRILL_MOUNT] = "mount",
	[DRILL_COMMAND] = "command", [DRILL_CLEANUP] = "cleanup",
};

const char *drill_step_name(enum drill_step step)
{
	return step < DRILL_STEPS ? step_names[step] : "";
}

/* ---- writing ----------------------------------------------------------- */

/* What a program said may be no UTF-8, or cut within a character. */
static json_t *text_json(const char *text)
{
	json_t *valid = json_string(text);
	CLEANUP_FREE char *copy = valid ? NULL : strdup(text);

	for (char *at = copy; at && *at; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	return copy ? json_string(copy) : valid;
}

static json_t *steps_json(const struct drill_record *record)
{
	json_t *object = json_object();

	for (int i = 0; object && i < DRILL_STEPS; i++)
		if (record->steps_ns[i] &&
		    json_object_set_new(object, step_names[i],
					json_integer((json_int_t)record->steps_ns[i]))) {
			json_decref(object);
			return NULL;
		}
	return object;
}

json_t *drill_record_json(const struct drill_record *record)
{
	char run[UUID_TEXT_SIZE];

	uuid_format(&record->run, run);
	return json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:b, s:s, s:I, s:o, s:o,"
			 " s:o, s:o}", "sequence", (json_int_t)record->sequence, "run", run,
			 "point", (json_int_t)record->point,
			 "point_time_ns", (json_int_t)record->point_time_ns,
			 "started_ns", (json_int_t)record->started_ns,
			 "duration_ns", (json_int_t)record->duration_ns,
			 "rto_ns", (json_int_t)record->rto_ns, "steps_ns", steps_json(record),
			 "data_bytes", (json_int_t)record->data_bytes,
			 "fetched_bytes", (json_int_t)record->fetched_bytes,
			 "passed", (int)record->passed,
			 "failed", record->passed ? "" : drill_step_name(record->failed),
			 "exit", (json_int_t)record->exit, "message", text_json(record->message),
			 "host", text_json(record->host),
			 "file_system", text_json(record->file_system),
			 "command", text_json(record->command));
}

char *drill_text(const struct drill_record *record, const struct drill_place *place)
{
	char repository[UUID_TEXT_SIZE], volume[UUID_TEXT_SIZE];
	json_t *object;
	char *text;

	uuid_format(&place->repository, repository);
	uuid_format(&place->volume, volume);
	object = json_pack("{s:s, s:i, s:s, s:s, s:o}", "format", DRILL_FORMAT,
			   "version", DRILL_VERSION, "repository", repository, "volume", volume,
			   "drill", drill_record_json(record));
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return text;
}

/* ---- and back ---------------------------------------------------------- */

static int take_uuid(const json_t *object, const char *key, struct uuid *uuid)
{
	char text[UUID_TEXT_SIZE];

	return json_take_text(object, key, text, sizeof(text)) || uuid_parse(text, uuid) ?
	       -EBADMSG : 0;
}

/* It is shown on terminals. */
static int take_line(const json_t *object, const char *key, char *text, size_t room)
{
	if (json_take_text(object, key, text, room))
		return -EBADMSG;
	for (const char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			return -EBADMSG;
	return 0;
}

static int take_steps(const json_t *object, struct drill_record *record)
{
	const json_t *steps = json_object_get(object, "steps_ns");

	if (!json_is_object(steps))
		return -EBADMSG;
	for (int i = 0; i < DRILL_STEPS; i++)
		if (json_object_get(steps, step_names[i]) &&
		    json_take_u64(steps, step_names[i], &record->steps_ns[i]))
			return -EBADMSG;
	return 0;
}

/* A drill either passed, and nothing failed, or it did not, and a step is named. */
static int take_result(const json_t *object, struct drill_record *record)
{
	const json_t *passed = json_object_get(object, "passed");
	char failed[16];

	if (!json_is_boolean(passed) || json_take_text(object, "failed", failed, sizeof(failed)) ||
	    json_take_u64(object, "exit", &record->exit) || record->exit > DRILL_EXIT_MAX)
		return -EBADMSG;
	record->passed = json_is_true(passed);
	if (record->passed)
		return *failed || record->exit ? -EBADMSG : 0;
	for (int i = 0; i < DRILL_STEPS; i++)
		if (!strcmp(failed, step_names[i])) {
			record->failed = (enum drill_step)i;
			return record->exit && !record->rto_ns ? 0 : -EBADMSG;
		}
	return -EBADMSG;
}

int drill_record_take(const json_t *object, struct drill_record *record)
{
	memset(record, 0, sizeof(*record));
	if (!json_is_object(object) || json_take_u64(object, "sequence", &record->sequence) ||
	    take_uuid(object, "run", &record->run) ||
	    json_take_u64(object, "point", &record->point) ||
	    json_take_u64(object, "point_time_ns", &record->point_time_ns) ||
	    json_take_u64(object, "started_ns", &record->started_ns) ||
	    json_take_u64(object, "duration_ns", &record->duration_ns) ||
	    json_take_u64(object, "rto_ns", &record->rto_ns) || take_steps(object, record) ||
	    json_take_u64(object, "data_bytes", &record->data_bytes) ||
	    json_take_u64(object, "fetched_bytes", &record->fetched_bytes) ||
	    take_result(object, record) ||
	    take_line(object, "message", record->message, sizeof(record->message)) ||
	    take_line(object, "host", record->host, sizeof(record->host)) ||
	    take_line(object, "file_system", record->file_system, sizeof(record->file_system)) ||
	    take_line(object, "command", record->command, sizeof(record->command)))
		return -EBADMSG;
	return 0;
}

static int place_check(const json_t *object, const struct drill_place *place)
{
	struct uuid repository, volume;
	char format[32];
	uint64_t version;

	return json_take_text(object, "format", format, sizeof(format)) ||
	       strcmp(format, DRILL_FORMAT) || json_take_u64(object, "version", &version) ||
	       version != DRILL_VERSION || take_uuid(object, "repository", &repository) ||
	       take_uuid(object, "volume", &volume) ||
	       !uuid_equal(&repository, &place->repository) ||
	       !uuid_equal(&volume, &place->volume) ? -EBADMSG : 0;
}

int drill_parse(const char *text, size_t length, const struct drill_place *place,
		struct drill_record *record, struct error *err)
{
	json_t *object;
	int ret = json_read(text, length, &object);

	if (!ret)
		ret = place_check(object, place);
	if (!ret)
		ret = drill_record_take(json_object_get(object, "drill"), record);
	if (!ret && record->sequence != place->sequence)
		ret = -EBADMSG;
	json_decref(object);
	if (!ret)
		return 0;
	return error_set_exit(err, ret == -ENOMEM ? EXIT_FAILED : EXIT_UNTRUSTWORTHY, ret,
			      ret == -ENOMEM ? "reading a drill's record: out of memory"
					     : "the drill's record holds something no "
					       "clawback wrote");
}
