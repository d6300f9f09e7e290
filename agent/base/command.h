/*
 * Programs of others, run to their end: LVM's, sfdisk, udevadm, mkswap. `command` is argv,
 * ended by NULL; its first word is looked for in PATH. They inherit none of our
 * descriptors, no blocked signal, and SIGPIPE as it is by default; stdin is empty unless
 * something is given. Secrets belong into `input`, never into argv. Any thread.
 *
 * Whoever lives beside us, or in a namespace of its own, is started by who needs it:
 * hooks (protect/hook_process.c), drills (drill/program.c), servers (serve/helper.c).
 */
#ifndef CLAWBACK_BASE_COMMAND_H
#define CLAWBACK_BASE_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

struct error;

/* What it prints goes to stderr. `help`: what to do when it is missing or fails. */
int command_run(const char *const command[], const char *help, struct error *err);

/*
 * *output, which the caller frees: what it writes to stdout, at most `limit` bytes (else
 * -EFBIG), ended by a 0; stderr is ours. Ended when it takes longer than two minutes
 * (-ETIMEDOUT) or we are to stop (-EINTR).
 */
int command_output(const char *const command[], size_t limit, const char *help, char **output,
		   size_t *length, struct error *err);

#define COMMAND_OUTPUT_ROOM 4096

/*
 * Its exit code, or a negative errno when it could not be run or was killed. `input` may be
 * NULL. `output` is what it said, to stdout and stderr: the end of it, if it was more.
 */
int command_code(const char *const command[], const char *input,
		 char output[static COMMAND_OUTPUT_ROOM], struct error *err);

/* The same with any bytes as input, a key perhaps: wiped where they were put for it. */
int command_code_fed(const char *const command[], const void *input, size_t length,
		     char output[static COMMAND_OUTPUT_ROOM], struct error *err);

/* As command_code; any other exit code than 0 is an error (-EIO) with what it said last. */
int command_ok(const char *const command[], const char *input, struct error *err);

/* Of what it said, which is changed: the last words, as one line for a message. */
const char *command_words(char *text);

/* Whether there is such a program. */
bool command_there(const char *program);

#endif
