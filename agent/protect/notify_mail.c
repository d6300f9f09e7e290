#include "agent/protect/notify_mail.h"

#include "agent/base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_MAX_BYTES 75	/* of an encoded line or word; the standards allow 76 and 75 */

static const char *const subjects[NOTIFY_KINDS] = {
	[NOTIFY_RPO_MISSED] = "its objective is missed",
	[NOTIFY_RPO_RECOVERED] = "its objective is met again",
	[NOTIFY_CYCLE_FAILED] = "runs fail",
	[NOTIFY_CYCLE_RECOVERED] = "a point was stored again",
	[NOTIFY_RESCAN] = "all of it was read",
	[NOTIFY_SPOT_MISMATCH] = "CHANGES WERE NOT TRACKED",
	[NOTIFY_SUCCESS] = "a point was stored",
	[NOTIFY_STORE_LAGS] = "points are missing there",
	[NOTIFY_STORE_RECOVERED] = "it has all points again",
	[NOTIFY_RETENTION_FAILED] = "forgetting or pruning failed",
	[NOTIFY_RETENTION_RECOVERED] = "forgetting and pruning go on",
};

static const char *const advice[NOTIFY_KINDS] = {
	[NOTIFY_RPO_MISSED] =
		"Nothing is lost: what was written stays marked for the next run. \"clawback status\" "
		"says what is due and what failed last. Causes, in this order: a failure that "
		"repeats; a full or a rescan of some volume that takes long; runs that take longer "
		"than the objective allows.",
	[NOTIFY_RPO_RECOVERED] = "Nothing is to be done.",
	[NOTIFY_CYCLE_FAILED] =
		"Nothing is lost: what was written stays marked, and the run is tried again, every 5 "
		"minutes at least. Mend what the error names; \"clawback doctor\" checks "
		"configuration, devices and repository, docs/troubleshooting.md has the messages. "
		"You are told when it is over.",
	[NOTIFY_CYCLE_RECOVERED] = "Nothing is to be done.",
	[NOTIFY_RESCAN] =
		"Once, after a crash or a power cut, nothing is to be done. If it repeats, "
		"\"clawback points\" and \"clawback show\" say why; at each reboot, enable "
		"clawback-handover.",
	[NOTIFY_SPOT_MISMATCH] =
		"The run compared the whole volume, and its point is exact. Points since the last "
		"full or rescan before it may lack changes: do not count on them. Something writes "
		"to the volume past this kernel (another machine, the device beneath), or there is "
		"a bug: find it before you go on, see docs/tracking.md.",
	[NOTIFY_SUCCESS] = "Nothing is to be done.",
	[NOTIFY_STORE_LAGS] =
		"Nothing is lost: the points are in the repository, and copying is tried again. Mend "
		"what the error names; \"clawback status\" says what the store lacks, \"clawback "
		"doctor\" whether it can be reached.",
	[NOTIFY_STORE_RECOVERED] = "Nothing is to be done.",
	[NOTIFY_RETENTION_FAILED] =
		"No point is lost that the policy keeps, but the store grows. Mend what the error "
		"names: most often the credentials may not delete. It is tried again, every hour at "
		"least; \"clawback forget\" and \"clawback prune\" do the same by hand.",
	[NOTIFY_RETENTION_RECOVERED] = "Nothing is to be done.",
};

/* ---- encodings --------------------------------------------------------------------- */

static bool plain(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
			return false;
	return true;
}

/* Folded at blanks, so that a line is short and stays one header. */
static void put_plain(FILE *file, const char *text, size_t column)
{
	while (*text) {
		size_t word = strcspn(text + 1, " ") + 1;

		if (column + word > LINE_MAX_BYTES && *text == ' ') {
			fputs("\r\n", file);
			column = 0;
		}
		fwrite(text, 1, word, file);
		column += word;
		text += word;
	}
}

/* A character is in one word (RFC 2047, 5). */
static void put_encoded(FILE *file, const char *text, size_t column)
{
	static const char first[] = "=?UTF-8?Q?", last[] = "?=";
	bool open = false;

	for (const unsigned char *at = (const unsigned char *)text; *at;) {
		size_t bytes = 1;

		while ((at[bytes] & 0xc0) == 0x80)
			bytes++;
		if (open && column + 3 * bytes + strlen(last) > LINE_MAX_BYTES) {
			fprintf(file, "%s\r\n ", last);
			column = 1;
			open = false;
		}
		if (!open) {
			fputs(first, file);
			column += strlen(first);
			open = true;
		}
		for (; bytes; bytes--, at++) {
			unsigned char c = *at < ' ' || *at == 0x7f ? ' ' : *at;
			bool safe = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

			column += (size_t)fprintf(file, safe ? "%c" : "=%02X", c);
		}
	}
	fputs(open ? last : "", file);
}

static void put_header(FILE *file, const char *name, const char *text)
{
	size_t column = (size_t)fprintf(file, "%s: ", name);

	if (plain(text))
		put_plain(file, text, column);
	else
		put_encoded(file, text, column);
	fputs("\r\n", file);
}

/* Quoted-printable. A dot at a line's start is the transfer's matter, and done there. */
static void put_body(FILE *file, const char *text)
{
	size_t column = 0;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool blank_at_end = c == ' ' && (!text[1] || text[1] == '\n');
		bool safe = c >= ' ' && c < 0x7f && c != '=' && !blank_at_end;

		if (c == '\n') {
			fputs("\r\n", file);
			column = 0;
			continue;
		}
		if (column + (safe ? 1 : 3) > LINE_MAX_BYTES) {
			fputs("=\r\n", file);
			column = 0;
		}
		column += (size_t)fprintf(file, safe ? "%c" : "=%02X", c);
	}
}

/* ---- words -------------------------------------------------------------------------- */

static const char *time_text(uint64_t time_ns, char text[static 40])
{
	time_t seconds = (time_t)(time_ns / 1000000000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, 40, "%Y-%m-%d %H:%M:%S UTC", &tm);
	return text;
}

static const char *age_text(uint64_t ns, char text[static 40])
{
	unsigned long long seconds = ns / 1000000000u;

	if (seconds < 120)
		snprintf(text, 40, "%llu s", seconds);
	else if (seconds < 2 * 3600)
		snprintf(text, 40, "%llu min", seconds / 60);
	else if (seconds < 2 * 86400)
		snprintf(text, 40, "%llu h", seconds / 3600);
	else
		snprintf(text, 40, "%llu days", seconds / 86400);
	return text;
}

static void put_point(FILE *file, const struct notify_message *message)
{
	char when[40], age[40];

	if (!message->point_ns) {
		fputs("Last good point: none yet\n", file);
		return;
	}
	fprintf(file, "Last good point: %s", time_text(message->point_ns, when));
	if (message->time_ns > message->point_ns)
		fprintf(file, ", %s before this message",
			age_text(message->time_ns - message->point_ns, age));
	fputc('\n', file);
}

static void put_words(FILE *file, const struct notify_message *message)
{
	const char *kind = notify_unit_word(message);
	bool volume = !strcmp(kind, "volume"), store = !strcmp(kind, "store");
	char what[NOTIFY_WHAT_ROOM], when[40];

	notify_what(message, what);
	fprintf(file, "%s %s on %s: %s.\n\n", kind, message->unit, message->host, what);
	fprintf(file, "Told at:         %s\n", time_text(message->time_ns, when));
	if (message->since_ns)
		fprintf(file, "Since:           %s\n", time_text(message->since_ns, when));
	if (!store)
		put_point(file, message);
	if (message->rpo_ns)
		fprintf(file, "Objective:       no write is older than %s before it is in a stored "
			"point\n", age_text(message->rpo_ns, when));
	if (*message->error)
		fprintf(file, "Error:           %s\n", message->error);
	fprintf(file, "\nWhat to do: %s\n\n", advice[message->kind]);
	fprintf(file, "To look, on %s:\n    clawback status%s%s\n    journalctl -u clawback-protect\n",
		message->host, volume ? " " : "", volume ? message->unit : "");
	if (message->held)
		fprintf(file, "\n%u more messages like this one were held back before it.\n",
			message->held);
	if (message->dropped)
		fprintf(file, "\n%u messages before this one were lost.\n", message->dropped);
}

static char *body_text(const struct notify_message *message)
{
	CLEANUP_FREE char *text = NULL;
	size_t length;
	FILE *file = open_memstream(&text, &length);
	bool bad;

	if (!file)
		return NULL;
	put_words(file, message);
	bad = ferror(file);
	return fclose(file) || bad ? NULL : notify_utf8(text);
}

static char *subject_text(const struct notify_message *message)
{
	char text[256];

	snprintf(text, sizeof(text), "[clawback] %s: %s %s: %s", message->host,
		 notify_unit_word(message), message->unit, subjects[message->kind]);
	return notify_utf8(text);
}

static void put_date(FILE *file, uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000);
	struct tm tm;
	char text[64];

	/* Names of days and months are English: the program has no locale. */
	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S +0000", &tm);
	fprintf(file, "Date: %s\r\n", text);
}

/* To: one line an address, for together they may be long. */
static void put_to(FILE *file, const char *list)
{
	char address[CONFIG_MAIL_ADDRESS_ROOM];
	const char *between = "To: ";

	while (config_mail_next(&list, address)) {
		fprintf(file, "%s%s", between, address);
		between = ",\r\n ";
	}
	fputs("\r\n", file);
}

char *notify_mail_text(const struct notify_message *message, const struct notify_mail *mail)
{
	CLEANUP_FREE char *subject = subject_text(message);
	CLEANUP_FREE char *body = body_text(message);
	char *text = NULL;
	size_t length;
	FILE *file = subject && body ? open_memstream(&text, &length) : NULL;
	bool bad;

	if (!file)
		return NULL;
	put_date(file, message->time_ns);
	fprintf(file, "From: clawback <%s>\r\n", mail->from);
	put_to(file, mail->to);
	put_header(file, "Subject", subject);
	fprintf(file, "Message-ID: <%s%s>\r\n", mail->id, strchr(mail->from, '@'));
	fputs("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
	      "Content-Type: text/plain; charset=utf-8\r\n"
	      "Content-Transfer-Encoding: quoted-printable\r\n\r\n", file);
	put_body(file, body);
	bad = ferror(file);
	if (fclose(file) || bad) {
		free(text);
		return NULL;
	}
	return text;
}
