/*
 * SIGINT, SIGTERM and SIGHUP ask the process to stop. The handler only sets a
 * flag; long loops poll it and unwind through their ordinary failure paths, so
 * that snapshots, uploads and temporary files are cleaned up.
 */
#ifndef CLAWBACK_BASE_INTERRUPT_H
#define CLAWBACK_BASE_INTERRUPT_H

#include <stdbool.h>

struct error;

/*
 * Installs the handlers (once, from main). A second signal, of any of the three,
 * ends the process. SIGHUP stays ignored under nohup; SIGPIPE becomes EPIPE.
 */
void interrupt_install(void);

/* Any thread. */
bool interrupt_requested(void);

/* Fills `err` with EXIT_INTERRUPTED and returns -EINTR when requested, else 0. */
int interrupt_check(struct error *err);

#endif
