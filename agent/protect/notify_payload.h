/*
 * Messages as services want them. Pure: from a message to JSON.
 *
 * generic: our own, see clawback.conf(5).
 * slack: incoming webhooks, https://api.slack.com/messaging/webhooks; in texts & < >
 *   are control characters, https://api.slack.com/reference/surfaces/formatting.
 * teams: an Adaptive Card for "when a Teams webhook request is received",
 *   https://learn.microsoft.com/en-us/connectors/teams/#microsoft-teams-webhook and
 *   https://adaptivecards.io/explorer/TextBlock.html.
 * pagerduty: Events API v2,
 *   https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ : a recovery
 *   resolves what its dedup_key triggered; a summary has at most 1024 characters.
 */
#ifndef CLAWBACK_PROTECT_NOTIFY_PAYLOAD_H
#define CLAWBACK_PROTECT_NOTIFY_PAYLOAD_H

#include "agent/protect/notify_rules.h"

#define NOTIFY_HOST_ROOM 65

/* By value, so that it can wait in a queue. */
struct notify_message {
	enum notify_kind kind;
	char host[NOTIFY_HOST_ROOM];
	char unit[VOLUME_NAME_MAX + 1];		/* or store, which kind tells */
	bool group;
	uint64_t time_ns, rpo_ns, age_ns;	/* as in struct protect_event */
	uint64_t since_ns;			/* when the trouble began that it is about, or 0 */
	uint64_t point_ns;			/* the instant that the last point shows; 0: none */
	char error[512];			/* or "" */
	unsigned held;				/* messages of its kind that it stands for too */
	unsigned dropped;			/* of any kind, lost before it */
};

/* What message->unit is the name of: "volume", "group", "store". */
const char *notify_unit_word(const struct notify_message *message);

/* What happened, in a few words. */
#define NOTIFY_WHAT_ROOM 256
void notify_what(const struct notify_message *message, char text[static NOTIFY_WHAT_ROOM]);

/* A copy that is valid UTF-8, whatever bytes `text` has; NULL: out of memory. */
char *notify_utf8(const char *text);

/*
 * Valid JSON in one line, whatever bytes the message has; the caller frees it. NULL:
 * out of memory. `routing_key` is for NOTIFY_PAGERDUTY, else NULL.
 */
char *notify_payload(const struct notify_message *message, enum config_notify_format format,
		     const char *routing_key);

#endif
