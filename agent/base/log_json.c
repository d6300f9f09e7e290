/* A message as one JSON object. */
#include "agent/base/log_private.h"

#include "agent/base/cleanup.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A message may repeat bytes that are no UTF-8, or be cut within a character. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);
	CLEANUP_FREE char *plain = value ? NULL : strdup(text);

	for (char *at = plain; at && *at; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	return value ? value : plain ? json_string(plain) : NULL;
}

static json_t *time_json(uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	char text[64];
	struct tm tm;
	size_t used;

	gmtime_r(&seconds, &tm);
	used = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + used, sizeof(text) - used, ".%06uZ",
		 (unsigned)(time_ns % 1000000000u / 1000));
	return json_string(text);
}

static int add_fields(json_t *object, const struct log_fields *fields)
{
	int bad = 0;

	if (fields->event)
		bad |= json_object_set_new(object, "event", text_json(fields->event));
	if (fields->unit)
		bad |= json_object_set_new(object, "unit", text_json(fields->unit)) |
		       json_object_set_new(object, "kind",
					   json_string(fields->group ? "group" : "volume"));
	if (fields->volume)
		bad |= json_object_set_new(object, "volume", text_json(fields->volume));
	if (fields->store)
		bad |= json_object_set_new(object, "store", text_json(fields->store));
	if (fields->point)
		bad |= json_object_set_new(object, "point",
					   json_integer((json_int_t)fields->point));
	if (fields->message_id)
		bad |= json_object_set_new(object, "message_id", text_json(fields->message_id));
	return bad;
}

char *log_json(enum log_level level, uint64_t time_ns, const struct log_fields *fields,
	       const char *text)
{
	static const char *const levels[] = {
		[LOG_ERRORS] = "error", [LOG_WARNINGS] = "warning", [LOG_NOTES] = "info",
		[LOG_DETAILS] = "debug",
	};
	json_t *object = json_pack("{s:o, s:s, s:o}", "time", time_json(time_ns), "level",
				   levels[level], "message", text_json(text));
	char *line = object && !add_fields(object, fields) ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	return line;
}
