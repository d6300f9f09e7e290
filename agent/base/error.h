/*
 * What went wrong, carried from the line that knows to the line that prints.
 *
 * Functions return 0 or a negative errno. Where a person must learn why, they
 * also take a `struct error *` (never NULL) and fill it at the failing line.
 * The message is one lower-case line without a final stop: what was attempted,
 * on what, why it failed and, where known, what to do next. Never a secret.
 * Control characters in it become spaces; what is too long is cut off.
 * The struct belongs to the caller; it may be handed across threads by value.
 */
#ifndef CLAWBACK_BASE_ERROR_H
#define CLAWBACK_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

/* The program's exit codes (restic's where it has one). */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,		/* command line or configuration */
	EXIT_PARTIAL = 3,	/* done in part */
	EXIT_NO_REPOSITORY = 10,
	EXIT_LOCKED = 11,
	EXIT_WRONG_KEY = 12,	/* wrong key or passphrase */
	EXIT_UNTRUSTWORTHY = 13, /* damaged, forged or missing data found */
	EXIT_INTERRUPTED = 130,
};

struct error {
	int code;		/* negative errno; 0 while nothing failed */
	enum exit_code exit;	/* what the process should exit with */
	char message[1024];
};

#define ERROR_INIT { 0, EXIT_FAILED, "" }

/*
 * Records a failure: `code` is a negative errno (0 is turned into -EIO, so that
 * no failure ever looks like success). The exit code becomes EXIT_FAILED.
 * Overwrites what was there, which may itself be an argument (so for all four).
 * Returns err->code, to be returned by the caller.
 */
int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same with an exit code of the caller's choice. */
int error_set_exit(struct error *err, enum exit_code exit, int code,
		   const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Puts "CONTEXT: " before the message; keeps code and exit. Returns err->code. */
int error_prefix(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Appends "; HINT". Returns err->code. */
int error_hint(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Text of an errno, given either sign. Thread-safe, static storage. */
const char *error_text(int code);

#endif
