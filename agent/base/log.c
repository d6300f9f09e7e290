#include "agent/base/log_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum way { WAY_UNKNOWN, WAY_TEXT, WAY_JSON, WAY_JOURNAL, WAY_JOURNAL_STREAM };

static atomic_int log_level = LOG_NOTES;
static atomic_int log_way = WAY_UNKNOWN;
static char own_unit[128];
static bool own_group;

void log_set_level(enum log_level level)
{
	atomic_store(&log_level, (int)level);
}

void log_set_format(enum log_format format)
{
	atomic_store(&log_way, format == LOG_FORMAT_TEXT ? WAY_TEXT :
			       format == LOG_FORMAT_JSON ? WAY_JSON :
			       log_stderr_is_journal() ? WAY_JOURNAL : WAY_TEXT);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load(&log_level);
}

enum log_format log_get_format(void)
{
	int way = atomic_load(&log_way);

	return way == WAY_TEXT ? LOG_FORMAT_TEXT : way == WAY_JSON ? LOG_FORMAT_JSON :
	       LOG_FORMAT_AUTO;
}

int log_format_parse(const char *name, enum log_format *format)
{
	static const char *const names[] = {
		[LOG_FORMAT_AUTO] = "auto", [LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(names[i], name)) {
			*format = (enum log_format)i;
			return 0;
		}
	return -EINVAL;
}

static enum way way_now(void)
{
	if (atomic_load(&log_way) == WAY_UNKNOWN)
		log_set_format(LOG_FORMAT_AUTO);
	return (enum way)atomic_load(&log_way);
}

bool log_is_text(void)
{
	return way_now() == WAY_TEXT;
}

void log_to_stderr(void)
{
	if (way_now() == WAY_JOURNAL)
		atomic_store(&log_way, WAY_JOURNAL_STREAM);
}

void log_set_unit(const char *unit, bool group)
{
	snprintf(own_unit, sizeof(own_unit), "%s", unit);
	own_group = group;
}

/* ---- one message ----------------------------------------------------------------- */

static void put_json(enum log_level level, const struct log_fields *fields, const char *text)
{
	struct timespec now;
	char *line;

	clock_gettime(CLOCK_REALTIME, &now);
	line = log_json(level, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, fields,
			text);
	fprintf(stderr, "%s\n", line ? line : "{\"level\":\"error\",\"message\":\"out of memory\"}");
	free(line);
}

static void put(enum log_level level, const struct log_fields *fields, const char *text)
{
	enum way way = way_now();

	if (way == WAY_JSON) {
		put_json(level, fields, text);
		return;
	}
	if (way == WAY_JOURNAL && !log_journal(level, fields, text))
		return;
	/* The journal takes a level in front of what comes by its stream. */
	if (way != WAY_TEXT)
		fprintf(stderr, "<%d>%s\n", log_priority(level), text);
	else
		fprintf(stderr, "clawback: %s%s\n", level == LOG_WARNINGS ? "warning: " : "", text);
}

static void log_line(enum log_level level, const struct log_fields *fields,
		     const char *format, va_list args)
{
	char text[LOG_TEXT_MAX];
	struct log_fields all = fields ? *fields : (struct log_fields){ .event = NULL };

	if ((int)level > atomic_load(&log_level))
		return;
	vsnprintf(text, sizeof(text), format, args);
	if (!all.unit && *own_unit) {
		all.unit = own_unit;
		all.group = own_group;
	}
	put(level, &all, text);
}

void log_event(enum log_level level, const struct log_fields *fields, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_line(level, fields, format, args);
	va_end(args);
}

#define LOG_FUNCTION(name, level)				\
	void name(const char *format, ...)			\
	{							\
		va_list args;					\
								\
		va_start(args, format);				\
		log_line(level, NULL, format, args);		\
		va_end(args);					\
	}

LOG_FUNCTION(log_error, LOG_ERRORS)
LOG_FUNCTION(log_warning, LOG_WARNINGS)
LOG_FUNCTION(log_note, LOG_NOTES)
LOG_FUNCTION(log_detail, LOG_DETAILS)
