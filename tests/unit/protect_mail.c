/*
 * E-mail, read back by a reader written from the standards: the headers that there are
 * to be and no others, whatever bytes host, unit and error have; short lines of ASCII;
 * decoded, the words are what was put in.
 */
#include "agent/protect/notify_mail.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const headers[] = { "Date", "From", "To", "Subject", "Message-ID",
	"Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding" };
#define HEADERS (sizeof(headers) / sizeof(headers[0]))

struct mail { char values[HEADERS][4096], body[16384]; };

static const struct notify_message sample = {
	.kind = NOTIFY_CYCLE_FAILED, .host = "db1", .unit = "pgdata", .time_ns = 1764220503000000000u,
	.since_ns = 1764220443000000000u, .point_ns = 1764216903000000000u,
	.rpo_ns = 10000000000u, .age_ns = 3600000000000u, .error = "no space left = none",
	.held = 3,
};
static const struct notify_mail to_one = { .from = "backup@example.org", .to = "a@example.org",
					   .id = "0-1" };

/* ---- a reader ------------------------------------------------------------------- */

static unsigned hex_of(const char *at)
{
	unsigned value;
	int used = 0;

	assert_true(sscanf(at, "%2X%n", &value, &used) == 1 && used == 2);
	return value;
}

static void check_lines(const char *text)
{
	size_t column = 0;

	for (; *text; text++) {
		assert_true((unsigned char)*text < 0x80 && *text != '\n');
		if (*text == '\r') {
			assert_int_equal('\n', *++text);
			column = 0;
			continue;
		}
		assert_true(*text >= ' ' && *text != 0x7f);
		column++;
		assert_true(column <= 78);
	}
	assert_int_equal(0, column);
}

/* Encoded words next to one another belong together. */
static void decode_words(char *value)
{
	char *from = value, *to = value;

	while (*from) {
		if (strncmp(from, "=?UTF-8?Q?", 10)) {
			*to++ = *from++;
			continue;
		}
		assert_true(strcspn(from, " ") <= 75);
		for (from += 10; strncmp(from, "?=", 2); from++) {
			*to++ = *from;
			if (*from == '=') {
				to[-1] = (char)hex_of(from + 1);
				from += 2;
			}
		}
		from += 2;
		if (!strncmp(from, " =?UTF-8?Q?", 11))
			from++;
	}
	*to = '\0';
}

static const char *take_header(const char *text, struct mail *mail, size_t which)
{
	char *value = mail->values[which];
	size_t length = strlen(headers[which]);

	if (strncmp(text, headers[which], length) || strncmp(text + length, ": ", 2))
		fail_msg("no header %s: %.60s", headers[which], text);
	for (text += length + 2; strncmp(text, "\r\n", 2) || text[2] == ' '; text++) {
		if (*text == '\r')
			text += 2;
		*value++ = *text;
	}
	*value = '\0';
	decode_words(mail->values[which]);
	return text + 2;
}

static void take_body(const char *text, char *body)
{
	while (*text) {
		if (!strncmp(text, "=\r\n", 3)) {
			text += 3;
		} else if (*text == '=') {
			*body++ = (char)hex_of(text + 1);
			text += 3;
		} else {
			assert_true(strncmp(text, " \r\n", 3));
			if (*text != '\r')
				*body++ = *text;
			text++;
		}
	}
	*body = '\0';
}

static void read_back(const struct notify_message *message, const struct notify_mail *mail,
		      struct mail *read)
{
	char *text = notify_mail_text(message, mail);
	const char *at = text;
	json_t *valid;

	assert_non_null(text);
	check_lines(text);
	for (size_t i = 0; i < HEADERS; i++)
		at = take_header(at, read, i);
	assert_true(!strncmp(at, "\r\n", 2));
	take_body(at + 2, read->body);
	valid = json_string(read->body);
	assert_non_null(valid);
	json_decref(valid);
	valid = json_string(read->values[3]);
	assert_non_null(valid);
	json_decref(valid);
	free(text);
}

/* ---- tests ------------------------------------------------------------------------ */

static void says_what_is_needed(void **context)
{
	static const char *const wanted[] = { "volume pgdata on db1: runs fail.",
		"Told at:         2025-11-27 05:15:03 UTC\n", "Since:           2025-11-27 05:14:03 UTC\n",
		"Last good point: 2025-11-27 04:15:03 UTC, 60 min before", "10 s before it is in",
		"Error:           no space left = none\n", "What to do: Nothing is lost",
		"    clawback status pgdata\n", "3 more messages" };
	static struct mail mail;

	(void)context;
	read_back(&sample, &to_one, &mail);
	assert_string_equal("Thu, 27 Nov 2025 05:15:03 +0000", mail.values[0]);
	assert_string_equal("clawback <backup@example.org>", mail.values[1]);
	assert_string_equal("a@example.org", mail.values[2]);
	assert_string_equal("[clawback] db1: volume pgdata: runs fail", mail.values[3]);
	assert_string_equal("<0-1@example.org>", mail.values[4]);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!strstr(mail.body, wanted[i]))
			fail_msg("no \"%s\" in:\n%s", wanted[i], mail.body);
}

static void without_a_point(void **context)
{
	static struct mail mail;
	struct notify_message message = sample;
	struct notify_mail to = to_one;

	(void)context;
	message.point_ns = message.since_ns = message.held = 0;
	message.group = true;
	to.to = "a@example.org,b@example.org,  c@example.org";
	read_back(&message, &to, &mail);
	assert_string_equal("a@example.org, b@example.org, c@example.org", mail.values[2]);
	assert_non_null(strstr(mail.body, "Last good point: none yet\n"));
	assert_non_null(strstr(mail.body, "    clawback status\n"));
	assert_null(strstr(mail.body, "Since:"));
	assert_null(strstr(mail.body, "more messages"));
}

static void nothing_is_injected(void **context)
{
	static struct mail mail;
	struct notify_message message = sample;

	(void)context;
	strcpy(message.host, "x\r\nBcc: evil@example.net\r\n\r\nbody");
	strcpy(message.error, "one\r\n.\r\nMAIL FROM:<x>");
	read_back(&message, &to_one, &mail);
	assert_string_equal("[clawback] x  Bcc: evil@example.net    body: volume pgdata: runs fail",
			    mail.values[3]);
	strcpy(message.host, "höst-with-a-name-that-is-as-long-as-any-may-äöüäöü");
	read_back(&message, &to_one, &mail);
	assert_non_null(strstr(mail.values[3], message.host));
	assert_non_null(strstr(mail.body, message.host));
}

static void random_text(struct random_state *random, char *to, size_t room)
{
	size_t length = (size_t)random_below(random, room);

	for (size_t i = 0; i < length; i++)
		to[i] = (char)(1 + random_below(random, random_below(random, 2) ? 255 : 126));
	to[length] = '\0';
}

static void any_bytes(void **context)
{
	struct random_state random = random_start("any_bytes");
	static struct mail mail;

	(void)context;
	for (int i = 0; i < 3000; i++) {
		struct notify_message message = sample;

		message.kind = (enum notify_kind)(i % NOTIFY_KINDS);
		random_text(&random, message.host, sizeof(message.host));
		random_text(&random, message.error, sizeof(message.error));
		read_back(&message, &to_one, &mail);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_is_needed),
		cmocka_unit_test(without_a_point),
		cmocka_unit_test(nothing_is_injected),
		cmocka_unit_test(any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
