/*
 * The main thread's stack grows as it is used, and where memory has run out that
 * cannot fail but by SIGSEGV. Claimed early, it is there or its absence can be told.
 */
#ifndef CLAWBACK_BASE_STACK_H
#define CLAWBACK_BASE_STACK_H

#define STACK_BYTES (512u << 10)	/* more than any path through the program takes */

/* -ENOMEM when there are no STACK_BYTES. The main thread's alone, at its start. */
int stack_claim(void);

#endif
