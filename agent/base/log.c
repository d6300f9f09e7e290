#include "agent/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_int log_level = LOG_NOTES;

void log_set_level(enum log_level level)
{
	atomic_store(&log_level, (int)level);
}

static void log_line(enum log_level level, const char *label,
		     const char *format, va_list args)
{
	char text[2048];

	if ((int)level > atomic_load(&log_level))
		return;
	vsnprintf(text, sizeof(text), format, args);
	fprintf(stderr, "clawback: %s%s\n", label, text);
}

#define LOG_FUNCTION(name, level, label)			\
	void name(const char *format, ...)			\
	{							\
		va_list args;					\
								\
		va_start(args, format);				\
		log_line(level, label, format, args);		\
		va_end(args);					\
	}

LOG_FUNCTION(log_warning, LOG_WARNINGS, "warning: ")
LOG_FUNCTION(log_note, LOG_NOTES, "")
LOG_FUNCTION(log_detail, LOG_DETAILS, "")
