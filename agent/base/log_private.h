/* Internal: the ways out of log.c. */
#ifndef CLAWBACK_BASE_LOG_PRIVATE_H
#define CLAWBACK_BASE_LOG_PRIVATE_H

#include "agent/base/log.h"

#define LOG_TEXT_MAX 2048

/* syslog's; log_journal.c */
int log_priority(enum log_level level);
bool log_stderr_is_journal(void);
/* A negative errno when it did not get there. */
int log_journal(enum log_level level, const struct log_fields *fields, const char *text);

/* One line, to be freed; NULL: out of memory. `time_ns` since 1970. */
char *log_json(enum log_level level, uint64_t time_ns, const struct log_fields *fields,
	       const char *text);

#endif
