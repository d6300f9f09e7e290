#include "agent/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int error_fill(struct error *err, enum exit_code exit, int code,
		      const char *format, va_list args)
{
	char text[sizeof(err->message)];

	/* Through a copy: an argument may point into the old message. */
	vsnprintf(text, sizeof(text), format, args);
	memcpy(err->message, text, sizeof(text));
	err->exit = exit;
	err->code = code < 0 ? code : code > 0 ? -code : -EIO;
	return err->code;
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	code = error_fill(err, EXIT_FAILED, code, format, args);
	va_end(args);
	return code;
}

int error_set_exit(struct error *err, enum exit_code exit, int code,
		   const char *format, ...)
{
	va_list args;

	va_start(args, format);
	code = error_fill(err, exit, code, format, args);
	va_end(args);
	return code;
}

int error_prefix(struct error *err, const char *format, ...)
{
	char old[sizeof(err->message)];
	va_list args;
	size_t used;

	memcpy(old, err->message, sizeof(old));
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	used = strlen(err->message);
	snprintf(err->message + used, sizeof(err->message) - used, ": %s", old);
	return err->code;
}

int error_hint(struct error *err, const char *format, ...)
{
	size_t used = strlen(err->message);
	va_list args;

	if (used + 3 >= sizeof(err->message))
		return err->code;
	memcpy(err->message + used, "; ", 3);
	used += 2;
	va_start(args, format);
	vsnprintf(err->message + used, sizeof(err->message) - used, format, args);
	va_end(args);
	return err->code;
}

const char *error_text(int code)
{
	const char *text = strerrordesc_np(code < 0 ? -code : code);

	return text ? text : "unknown error";
}
