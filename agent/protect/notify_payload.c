#include "agent/protect/notify_payload.h"

#include "agent/base/cleanup.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_ROOM 1024

static const char *const kind_names[NOTIFY_KINDS] = {
	[NOTIFY_RPO_MISSED] = "rpo_missed",
	[NOTIFY_RPO_RECOVERED] = "rpo_recovered",
	[NOTIFY_CYCLE_FAILED] = "cycle_failed",
	[NOTIFY_CYCLE_RECOVERED] = "cycle_recovered",
	[NOTIFY_RESCAN] = "rescan",
	[NOTIFY_SPOT_MISMATCH] = "spot_mismatch",
	[NOTIFY_SUCCESS] = "success",
	[NOTIFY_STORE_LAGS] = "store_lags",
	[NOTIFY_STORE_RECOVERED] = "store_recovered",
	[NOTIFY_DRILL_FAILED] = "drill_failed",
	[NOTIFY_DRILL_RECOVERED] = "drill_recovered",
	[NOTIFY_RETENTION_FAILED] = "retention_failed",
	[NOTIFY_RETENTION_RECOVERED] = "retention_recovered",
};

const char *notify_unit_word(const struct notify_message *message)
{
	switch (message->kind) {
	case NOTIFY_STORE_LAGS:
	case NOTIFY_STORE_RECOVERED:
	case NOTIFY_RETENTION_FAILED:
	case NOTIFY_RETENTION_RECOVERED:
		return "store";
	default:
		break;
	}
	return message->group ? "group" : "volume";
}

static const char *class_name(enum notify_kind kind)
{
	switch (notify_class(kind)) {
	case NOTIFY_ON_FAILURE: return "failure";
	case NOTIFY_ON_WARNING: return "warning";
	case NOTIFY_ON_RECOVERY: return "recovery";
	default: return "success";
	}
}

/* ---- words ----------------------------------------------------------------------- */

void notify_what(const struct notify_message *message, char text[static NOTIFY_WHAT_ROOM])
{
	const size_t room = NOTIFY_WHAT_ROOM;
	double objective = (double)message->rpo_ns / 1e9, age = (double)message->age_ns / 1e9;

	switch (message->kind) {
	case NOTIFY_RPO_MISSED:
		snprintf(text, room, "the objective of %.0f s is missed, or will be before a run "
			 "can end; its oldest write may be %.1f s old", objective, age);
		break;
	case NOTIFY_RPO_RECOVERED:
		snprintf(text, room, "the objective of %.0f s is met again", objective);
		break;
	case NOTIFY_CYCLE_FAILED:
		snprintf(text, room, "runs fail");
		break;
	case NOTIFY_CYCLE_RECOVERED:
		snprintf(text, room, "a point was stored after runs that failed");
		break;
	case NOTIFY_RESCAN:
		snprintf(text, room, "the whole volume was read, since what was written could not "
			 "be told beyond doubt; the point is exact");
		break;
	case NOTIFY_SPOT_MISMATCH:
		snprintf(text, room, "blocks had changed that were not marked; earlier points may "
			 "lack changes");
		break;
	case NOTIFY_STORE_LAGS:
		snprintf(text, room, "points have been missing there for %.0f s", age);
		break;
	case NOTIFY_DRILL_FAILED:
		snprintf(text, room, "a drill failed: it is not shown that this volume can be "
			 "recovered");
		break;
	case NOTIFY_DRILL_RECOVERED:
		snprintf(text, room, "a drill passed after one that failed");
		break;
	case NOTIFY_STORE_RECOVERED:
		snprintf(text, room, "it has all points again");
		break;
	case NOTIFY_RETENTION_FAILED:
		snprintf(text, room, "forgetting or pruning points there failed");
		break;
	case NOTIFY_RETENTION_RECOVERED:
		snprintf(text, room, "points are forgotten and pruned there again");
		break;
	default:
		snprintf(text, room, "a point was stored");
	}
}

/* "HOST: volume v: runs fail: ERROR (and 3 more)" */
static void summary(const struct notify_message *message, char text[static TEXT_ROOM])
{
	char what[NOTIFY_WHAT_ROOM], more[48] = "", lost[48] = "";

	notify_what(message, what);
	if (message->held)
		snprintf(more, sizeof(more), " (%u more of these were not told)", message->held);
	if (message->dropped)
		snprintf(lost, sizeof(lost), " (%u messages before were lost)", message->dropped);
	snprintf(text, TEXT_ROOM, "clawback on %s: %s %s: %s%s%s%s%s", message->host,
		 notify_unit_word(message), message->unit, what,
		 *message->error ? ": " : "", message->error, more, lost);
}

/* Errors repeat bytes from elsewhere, and may be cut within a character. */
char *notify_utf8(const char *text)
{
	json_t *valid = json_string(text);
	char *copy = strdup(text);

	for (char *at = copy; !valid && at && *at; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	json_decref(valid);
	return copy;
}

static json_t *text_json(const char *text)
{
	CLEANUP_FREE char *valid = notify_utf8(text);

	return valid ? json_string(valid) : NULL;
}

static json_t *summary_json(const struct notify_message *message)
{
	char text[TEXT_ROOM];

	summary(message, text);
	return text_json(text);
}

static json_t *time_json(uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000);
	struct tm tm;
	char text[32];

	if (!time_ns)
		return json_null();
	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(text);
}

/* ---- formats ---------------------------------------------------------------------- */

static json_t *generic_json(const struct notify_message *message)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:f, s:f, s:o, s:I, s:I, s:o, s:o}",
		"source", "clawback", "event", kind_names[message->kind],
		"class", class_name(message->kind), "time", time_json(message->time_ns),
		"host", text_json(message->host), notify_unit_word(message),
		text_json(message->unit), "text", summary_json(message),
		"objective_seconds", (double)message->rpo_ns / 1e9,
		"rpo_seconds", (double)message->age_ns / 1e9, "error", text_json(message->error),
		"suppressed", (json_int_t)message->held, "lost", (json_int_t)message->dropped,
		"since", time_json(message->since_ns), "point_time", time_json(message->point_ns));
}

static json_t *slack_json(const struct notify_message *message)
{
	char text[TEXT_ROOM], escaped[TEXT_ROOM * 5], *to = escaped;

	summary(message, text);
	for (const char *at = text; *at; at++) {
		if (*at == '&')
			to = stpcpy(to, "&amp;");
		else if (*at == '<')
			to = stpcpy(to, "&lt;");
		else if (*at == '>')
			to = stpcpy(to, "&gt;");
		else
			*to++ = *at;
	}
	*to = '\0';
	return json_pack("{s:o}", "text", text_json(escaped));
}

static json_t *teams_json(const struct notify_message *message)
{
	static const char *const colours[] = {
		[NOTIFY_ON_FAILURE] = "attention", [NOTIFY_ON_WARNING] = "warning",
		[NOTIFY_ON_RECOVERY] = "good", [NOTIFY_ON_SUCCESS] = "good",
	};
	json_t *card = json_pack("{s:s, s:s, s:s, s:[{s:s, s:o, s:b, s:s}]}",
		"$schema", "http://adaptivecards.io/schemas/adaptive-card.json",
		"type", "AdaptiveCard", "version", "1.2", "body", "type", "TextBlock",
		"text", summary_json(message), "wrap", 1,
		"color", colours[notify_class(message->kind)]);

	return json_pack("{s:s, s:[{s:s, s:n, s:o}]}", "type", "message", "attachments",
			 "contentType", "application/vnd.microsoft.card.adaptive", "contentUrl",
			 "content", card);
}

/* A recovery has the key of the trouble that it ends. */
static json_t *dedup_json(const struct notify_message *message)
{
	enum notify_kind kind = message->kind == NOTIFY_RPO_RECOVERED ? NOTIFY_RPO_MISSED :
				message->kind == NOTIFY_CYCLE_RECOVERED ? NOTIFY_CYCLE_FAILED :
				message->kind == NOTIFY_STORE_RECOVERED ? NOTIFY_STORE_LAGS :
				message->kind == NOTIFY_DRILL_RECOVERED ? NOTIFY_DRILL_FAILED :
				message->kind == NOTIFY_RETENTION_RECOVERED ?
				NOTIFY_RETENTION_FAILED :
				message->kind;
	char key[255];

	snprintf(key, sizeof(key), "clawback/%s/%s/%s/%s", message->host,
		 notify_unit_word(message), message->unit, kind_names[kind]);
	return text_json(key);
}

static json_t *pagerduty_json(const struct notify_message *message, const char *routing_key)
{
	bool recovery = notify_class(message->kind) == NOTIFY_ON_RECOVERY;
	const char *severity = notify_class(message->kind) == NOTIFY_ON_FAILURE ? "error" :
			       recovery ? "info" : "warning";

	return json_pack("{s:o, s:s, s:o, s:{s:o, s:o, s:s, s:o, s:o, s:o}}",
		"routing_key", text_json(routing_key),
		"event_action", recovery ? "resolve" : "trigger", "dedup_key", dedup_json(message),
		"payload", "summary", summary_json(message), "source", text_json(message->host),
		"severity", severity, "timestamp", time_json(message->time_ns),
		"component", text_json(message->unit), "custom_details", generic_json(message));
}

char *notify_payload(const struct notify_message *message, enum config_notify_format format,
		     const char *routing_key)
{
	json_t *json = format == NOTIFY_SLACK ? slack_json(message) :
		       format == NOTIFY_TEAMS ? teams_json(message) :
		       format == NOTIFY_PAGERDUTY ? pagerduty_json(message, routing_key) :
		       generic_json(message);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	return text;
}
