/*
 * Which events become messages, beside a naive model that goes through all of the past
 * each time; the queue, what it may lose; what is sent, read back as JSON.
 */
#include "agent/protect/notify_queue.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 400

/* ---- rules: the model -------------------------------------------------------------- */

struct past {
	struct { enum notify_kind kind; int64_t at; bool wanted, told; } events[EVENTS_MAX];
	size_t count;
};

/* Of `kind`, the last that was told; -1: none. */
static ssize_t last_told(const struct past *past, enum notify_kind kind)
{
	for (size_t i = past->count; i-- > 0;)
		if (past->events[i].kind == kind && past->events[i].told)
			return (ssize_t)i;
	return -1;
}

/* Whether, since the last event of kind `end`, there was one of `kind`, told or at all. */
static bool since(const struct past *past, enum notify_kind end, enum notify_kind kind,
		  bool told, unsigned *count)
{
	*count = 0;
	for (size_t i = past->count; i-- > 0 && past->events[i].kind != end;)
		if (past->events[i].kind == kind && (past->events[i].told || !told))
			++*count;
	return *count > 0;
}

static unsigned model_held(const struct past *past, enum notify_kind kind)
{
	unsigned held = 0;

	for (size_t i = (size_t)(last_told(past, kind) + 1); i < past->count; i++)
		held += past->events[i].kind == kind && past->events[i].wanted;
	return held;
}

static bool model_quiet(const struct past *past, const struct notify_rules *rules,
			enum notify_kind kind, int64_t now)
{
	ssize_t last = last_told(past, kind);

	return last < 0 || now - past->events[last].at >= rules->interval_ns;
}

static bool model_event(struct past *past, const struct notify_rules *rules,
			enum notify_kind kind, int64_t now, unsigned *held)
{
	bool on = rules->on & notify_class(kind), told;
	bool wanted = on && notify_class(kind) != NOTIFY_ON_RECOVERY;
	unsigned count;

	if (kind == NOTIFY_RPO_RECOVERED)
		told = on && since(past, kind, NOTIFY_RPO_MISSED, true, &count);
	else if (kind == NOTIFY_CYCLE_RECOVERED)
		told = on && since(past, kind, NOTIFY_CYCLE_FAILED, true, &count);
	else if (kind == NOTIFY_STORE_RECOVERED)
		told = on && since(past, kind, NOTIFY_STORE_LAGS, true, &count);
	else if (kind == NOTIFY_DRILL_RECOVERED)
		told = on && since(past, kind, NOTIFY_DRILL_FAILED, true, &count);
	else if (kind == NOTIFY_RETENTION_RECOVERED)
		told = on && since(past, kind, NOTIFY_RETENTION_FAILED, true, &count);
	else {
		if (kind == NOTIFY_CYCLE_FAILED)
			wanted = on && (rules->failures == 1 ||
					since(past, NOTIFY_CYCLE_RECOVERED, kind, false, &count));
		told = wanted && model_quiet(past, rules, kind, now);
	}
	*held = told ? model_held(past, kind) : 0;
	past->events[past->count].kind = kind;
	past->events[past->count].at = now;
	past->events[past->count].wanted = wanted;
	past->events[past->count++].told = told;
	return told;
}

/* The last miss is told late: its event becomes one that was told, now. */
static bool model_overdue(struct past *past, const struct notify_rules *rules, int64_t now,
			  unsigned *held)
{
	unsigned count;

	*held = 0;
	if (!(rules->on & NOTIFY_ON_WARNING) ||
	    !since(past, NOTIFY_RPO_RECOVERED, NOTIFY_RPO_MISSED, false, &count) ||
	    since(past, NOTIFY_RPO_RECOVERED, NOTIFY_RPO_MISSED, true, &count) ||
	    !model_quiet(past, rules, NOTIFY_RPO_MISSED, now))
		return false;
	*held = model_held(past, NOTIFY_RPO_MISSED) - 1;
	past->events[past->count].kind = NOTIFY_RPO_MISSED;
	past->events[past->count].at = now;
	past->events[past->count].wanted = false;
	past->events[past->count++].told = true;
	return true;
}

static void one_life(struct random_state *random)
{
	struct notify_rules rules = { .on = (unsigned)random_below(random, 16),
				      .interval_ns = (int64_t)random_below(random, 50),
				      .failures = 1 + (unsigned)random_below(random, 2) };
	struct notify_history history = { .failures = 0 };
	static struct past past;
	bool missed = false, overdue;
	int64_t now = 1000;

	past.count = 0;
	while (past.count + 2 < EVENTS_MAX) {
		enum notify_kind kind = (enum notify_kind)random_below(random, NOTIFY_KINDS);
		unsigned held, wanted;

		now += (int64_t)random_below(random, 20);
		overdue = model_overdue(&past, &rules, now, &wanted);
		assert_int_equal(overdue, notify_overdue(&history, &rules, now, &held));
		assert_true(!overdue || wanted == held);
		/* As the schedule tells them: in turn. */
		if (kind == NOTIFY_RPO_MISSED || kind == NOTIFY_RPO_RECOVERED) {
			kind = missed ? NOTIFY_RPO_RECOVERED : NOTIFY_RPO_MISSED;
			missed = !missed;
		}
		assert_int_equal(model_event(&past, &rules, kind, now, &wanted),
				 notify_decide(&history, &rules, kind, now, &held));
		assert_int_equal(wanted, held);
	}
}

static void rules_as_the_model(void **context)
{
	struct random_state random = random_start("rules_as_the_model");

	(void)context;
	for (int i = 0; i < 300; i++)
		one_life(&random);
}

/* ---- rules: what events mean -------------------------------------------------------- */

static void events_mean(void **context)
{
	enum notify_kind kinds[NOTIFY_KINDS_AT_ONCE];
	struct protect_part part = { .committed = true, .kind = POINT_FULL, .number = 1 };
	struct error err = { .code = -EIO, .exit = EXIT_FAILED };
	struct protect_event event = { .type = PROTECT_CYCLE_ENDED, .parts = &part,
				       .part_count = 1 };

	(void)context;
	assert_int_equal(2, notify_kinds(&event, kinds));
	part.number = 2;
	assert_int_equal(3, notify_kinds(&event, kinds));
	assert_int_equal(NOTIFY_RESCAN, kinds[2]);
	event.asked = BACKUP_FULL;
	assert_int_equal(2, notify_kinds(&event, kinds));
	part.kind = POINT_INCREMENTAL;
	part.rescan = true;
	assert_int_equal(3, notify_kinds(&event, kinds));
	event.type = PROTECT_CYCLE_FAILED;
	event.error = &err;
	assert_int_equal(1, notify_kinds(&event, kinds));
	assert_int_equal(NOTIFY_CYCLE_FAILED, kinds[0]);
	err.code = -EBADMSG;
	err.exit = EXIT_UNTRUSTWORTHY;
	assert_int_equal(2, notify_kinds(&event, kinds));
	assert_int_equal(NOTIFY_SPOT_MISMATCH, kinds[0]);
	/* A repository that is damaged is another matter. */
	part.committed = false;
	assert_int_equal(1, notify_kinds(&event, kinds));
	assert_int_equal(NOTIFY_CYCLE_FAILED, kinds[0]);
	err.exit = EXIT_INTERRUPTED;
	assert_int_equal(0, notify_kinds(&event, kinds));
	event.type = PROTECT_CYCLE_SKIPPED;
	assert_int_equal(0, notify_kinds(&event, kinds));
}

/* ---- the queue ---------------------------------------------------------------------- */

static void queue_coalesces(void **context)
{
	static struct notify_queue queue;
	struct notify_message missed = { .kind = NOTIFY_RPO_MISSED, .unit = "v", .held = 2 };
	struct notify_message met = { .kind = NOTIFY_RPO_RECOVERED, .unit = "v" };
	struct notify_item item;

	(void)context;
	memset(&queue, 0, sizeof(queue));
	assert_false(notify_queue_take(&queue, ~0u, &item));
	notify_queue_put(&queue, NOTIFY_COMMAND, &missed);
	notify_queue_put(&queue, NOTIFY_WEBHOOK, &missed);
	notify_queue_put(&queue, NOTIFY_COMMAND, &met);
	notify_queue_put(&queue, NOTIFY_COMMAND, &missed);
	assert_int_equal(3, queue.count);
	assert_true(notify_queue_take(&queue, ~0u, &item) && item.target == NOTIFY_WEBHOOK);
	assert_int_equal(2, item.message.held);
	assert_true(notify_queue_take(&queue, ~0u, &item));
	assert_int_equal(NOTIFY_RPO_RECOVERED, item.message.kind);
	/* The last of them says how it is now. */
	assert_true(notify_queue_take(&queue, ~0u, &item));
	assert_int_equal(NOTIFY_RPO_MISSED, item.message.kind);
	assert_int_equal(5, item.message.held);
}

static void queue_is_bounded(void **context)
{
	static struct notify_queue queue;
	struct notify_message message = { .kind = NOTIFY_SUCCESS };
	unsigned lost = 0, taken = 0;
	struct notify_item item;

	(void)context;
	memset(&queue, 0, sizeof(queue));
	for (int i = 0; i < 100; i++) {
		snprintf(message.unit, sizeof(message.unit), "v%d", i);
		notify_queue_put(&queue, NOTIFY_COMMAND, &message);
		assert_true(queue.count <= NOTIFY_QUEUE_ROOM);
	}
	while (notify_queue_take(&queue, ~0u, &item)) {
		lost += item.message.dropped;
		taken++;
	}
	assert_string_equal("v99", item.message.unit);
	assert_int_equal(NOTIFY_QUEUE_ROOM, taken);
	assert_int_equal(100, lost + taken);
}

/* ---- payloads ------------------------------------------------------------------------ */

static json_t *sent(const struct notify_message *message, enum config_notify_format format)
{
	char *text = notify_payload(message, format, format == NOTIFY_PAGERDUTY ? "k\"ey" : NULL);
	json_t *json;

	assert_non_null(text);
	assert_null(strchr(text, '\n'));
	json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	free(text);
	return json;
}

static const char *text_at(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	assert_non_null(text);
	return text;
}

static const struct notify_message sample = {
	.kind = NOTIFY_CYCLE_FAILED, .host = "db1", .unit = "v", .time_ns = 1795000000000000000,
	.rpo_ns = 10000000000, .age_ns = 12500000000, .error = "a \"quote\" & <b>\n", .held = 3,
};

static void formats(void **context)
{
	json_t *json = sent(&sample, NOTIFY_GENERIC), *part;

	(void)context;
	assert_string_equal("cycle_failed", text_at(json, "event"));
	assert_string_equal("failure", text_at(json, "class"));
	assert_string_equal("v", text_at(json, "volume"));
	assert_string_equal("2026-11-18T11:06:40Z", text_at(json, "time"));
	assert_string_equal(sample.error, text_at(json, "error"));
	assert_int_equal(3, json_integer_value(json_object_get(json, "suppressed")));
	assert_non_null(strstr(text_at(json, "text"), "3 more"));
	json_decref(json);

	json = sent(&sample, NOTIFY_SLACK);
	assert_int_equal(1, json_object_size(json));
	assert_non_null(strstr(text_at(json, "text"), "a \"quote\" &amp; &lt;b&gt;"));
	json_decref(json);

	json = sent(&sample, NOTIFY_TEAMS);
	assert_string_equal("message", text_at(json, "type"));
	part = json_array_get(json_object_get(json, "attachments"), 0);
	assert_string_equal("application/vnd.microsoft.card.adaptive", text_at(part, "contentType"));
	part = json_object_get(part, "content");
	assert_string_equal("AdaptiveCard", text_at(part, "type"));
	part = json_array_get(json_object_get(part, "body"), 0);
	assert_non_null(strstr(text_at(part, "text"), "a \"quote\""));
	json_decref(json);
}

static void pagerduty_resolves(void **context)
{
	struct notify_message message = sample;
	json_t *trouble, *end;

	(void)context;
	trouble = sent(&message, NOTIFY_PAGERDUTY);
	message.kind = NOTIFY_CYCLE_RECOVERED;
	end = sent(&message, NOTIFY_PAGERDUTY);
	assert_string_equal("k\"ey", text_at(trouble, "routing_key"));
	assert_string_equal("trigger", text_at(trouble, "event_action"));
	assert_string_equal("error", text_at(json_object_get(trouble, "payload"), "severity"));
	assert_string_equal("resolve", text_at(end, "event_action"));
	assert_string_equal(text_at(trouble, "dedup_key"), text_at(end, "dedup_key"));
	assert_true(strlen(text_at(json_object_get(trouble, "payload"), "summary")) <= 1024);
	json_decref(trouble);
	json_decref(end);
}

/* Every kind in every format, with bytes that are no text. */
static void any_bytes(void **context)
{
	struct random_state random = random_start("any_bytes");

	(void)context;
	for (int i = 0; i < 2000; i++) {
		struct notify_message message = sample;
		size_t length = (size_t)random_below(&random, sizeof(message.error));

		message.kind = (enum notify_kind)(i % NOTIFY_KINDS);
		for (size_t b = 0; b < length; b++)
			message.error[b] = (char)(1 + random_below(&random, 255));
		message.error[length] = '\0';
		message.dropped = (unsigned)random_below(&random, 3);
		json_decref(sent(&message, (enum config_notify_format)(i / NOTIFY_KINDS % 4)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_as_the_model),
		cmocka_unit_test(events_mean),
		cmocka_unit_test(queue_coalesces),
		cmocka_unit_test(queue_is_bounded),
		cmocka_unit_test(formats),
		cmocka_unit_test(pagerduty_resolves),
		cmocka_unit_test(any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
