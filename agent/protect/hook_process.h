/*
 * Internal to a hook: its process, and its words. A child in a session of its own with
 * a pipe at each of its standard descriptors and nothing else.
 */
#ifndef CLAWBACK_PROTECT_HOOK_PROCESS_H
#define CLAWBACK_PROTECT_HOOK_PROCESS_H

#include "agent/protect/hook.h"

#include <sys/types.h>

struct hook_process {
	pid_t pid;
	int pidfd;
	int input;		/* its stdin; -1 when closed */
	int output, errors;	/* its stdout and stderr, non-blocking */
};

/* On failure nothing is left. */
int hook_process_start(const char *command, const struct hook_facts *facts,
		       struct hook_process *process, struct error *err);
/* SIGTERM to all of its group. */
void hook_process_ask(const struct hook_process *process);
/* SIGKILL to what is left of its group, and of it; its wait status. */
int hook_process_reap(struct hook_process *process);

#define HOOK_LINE_MAX 1000	/* bytes; a longer line is told in pieces */
#define HOOK_LINES_MAX 200	/* lines told; the rest is counted */

/* What came of one stream and was no whole line yet. */
struct hook_stream {
	char line[HOOK_LINE_MAX + 1];
	size_t length;
};

/*
 * Reads all there is at `fd` and calls `take` for each line, without its end and with
 * spaces for control characters. False once the stream has ended; then what was left
 * over was a line.
 */
bool hook_stream_read(struct hook_stream *stream, int fd,
		      void (*take)(void *context, const char *line), void *context);

#endif
