/*
 * Talk for people, always on stderr, one line each: "clawback: warning: …".
 * Data goes to stdout and is not this module's business. Thread-safe.
 */
#ifndef CLAWBACK_BASE_LOG_H
#define CLAWBACK_BASE_LOG_H

enum log_level { LOG_ERRORS, LOG_WARNINGS, LOG_NOTES, LOG_DETAILS };

/* Default LOG_NOTES; --quiet sets LOG_WARNINGS, --verbose LOG_DETAILS. */
void log_set_level(enum log_level level);

void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
