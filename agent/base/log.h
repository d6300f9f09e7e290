/*
 * Talk for people and for who collects logs: one message a line on stderr, as text,
 * "clawback: warning: …", or as JSON; or, where stderr is the journal's, as a journal
 * entry with fields. Data goes to stdout and is not this module's business. Thread-safe,
 * but for what sets something.
 */
#ifndef CLAWBACK_BASE_LOG_H
#define CLAWBACK_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERRORS, LOG_WARNINGS, LOG_NOTES, LOG_DETAILS };

/* Default LOG_NOTES; --quiet sets LOG_WARNINGS, --verbose LOG_DETAILS. */
void log_set_level(enum log_level level);

/*
 * AUTO, the default: the journal if $JOURNAL_STREAM says that stderr is its, else text.
 * JSON: objects with time (RFC 3339), level, message, and the fields below that are
 * known.
 */
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
void log_set_format(enum log_format format);
/* "auto", "text", "json"; -EINVAL. */
int log_format_parse(const char *name, enum log_format *format);
/* What was set, to be handed on to another process of ours. */
enum log_level log_get_level(void);
enum log_format log_get_format(void);
/* Whether lines are text for people, so that other such lines may stand beside them. */
bool log_is_text(void);

/*
 * For a child that has closed descriptors it does not know, among them perhaps the one
 * to the journal, which others may have by now: lines go to stderr from here on.
 */
void log_to_stderr(void);

/* What a message is about; NULL, 0: not known. */
struct log_fields {
	const char *event;		/* as in --json */
	const char *message_id;		/* of the journal: 32 hex digits, of that kind of message */
	const char *unit;		/* a volume by itself, or a group */
	bool group;
	const char *volume;
	const char *store;		/* a further one */
	uint64_t point;
};

/* In all messages of this process that say no other unit; copied. One thread only. */
void log_set_unit(const char *unit, bool group);

void log_event(enum log_level level, const struct log_fields *fields, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* What a process ends with. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
