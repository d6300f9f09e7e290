/*
 * SIGINT, SIGTERM and SIGHUP ask the process to stop. The handler only sets a
 * flag; long loops poll it and unwind through their ordinary failure paths, so
 * that snapshots, uploads and temporary files are cleaned up.
 */
#ifndef CLAWBACK_BASE_INTERRUPT_H
#define CLAWBACK_BASE_INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>

struct error;

/*
 * Installs the handlers (once, from main). A second signal, of any of the three,
 * ends the process. SIGHUP stays ignored under nohup; SIGPIPE becomes EPIPE.
 */
void interrupt_install(void);

/*
 * From this moment of CLOCK_MONOTONIC on all is as after a signal, until another is
 * set; 0: never. For what may not last longer, and goes the same way out. Any thread.
 */
void interrupt_deadline(uint64_t ns);

/* Any thread. */
bool interrupt_requested(void);

/* Fills `err` with EXIT_INTERRUPTED and returns -EINTR when requested, else 0. */
int interrupt_check(struct error *err);

#endif
