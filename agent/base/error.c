#include "agent/base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Every message is built apart and then copied: an argument may point into the
 * old one. What a server or a file name puts in stays on one line and cannot
 * steer a terminal.
 */
static void error_store(struct error *err, const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(err->message) - 1 && text[i]; i++) {
		unsigned char c = (unsigned char)text[i];

		err->message[i] = c < 0x20 || c == 0x7f ? ' ' : text[i];
	}
	err->message[i] = '\0';
}

static int error_fill(struct error *err, enum exit_code exit, int code,
		      const char *format, va_list args)
{
	char text[sizeof(err->message)];

	vsnprintf(text, sizeof(text), format, args);
	error_store(err, text);
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
	char text[2 * sizeof(err->message) + 2];	/* room for both, and ": " */
	va_list args;
	size_t used;

	va_start(args, format);
	vsnprintf(text, sizeof(err->message), format, args);
	va_end(args);
	used = strlen(text);
	snprintf(text + used, sizeof(text) - used, ": %s", err->message);
	error_store(err, text);
	return err->code;
}

int error_hint(struct error *err, const char *format, ...)
{
	char text[sizeof(err->message)];
	size_t used = strlen(err->message);
	va_list args;

	if (used + 3 >= sizeof(text))
		return err->code;
	memcpy(text, err->message, used);
	memcpy(text + used, "; ", 3);
	used += 2;
	va_start(args, format);
	vsnprintf(text + used, sizeof(text) - used, format, args);
	va_end(args);
	error_store(err, text);
	return err->code;
}

const char *error_text(int code)
{
	const char *text = code == INT_MIN ? NULL :
			   strerrordesc_np(code < 0 ? -code : code);

	return text ? text : "unknown error";
}
