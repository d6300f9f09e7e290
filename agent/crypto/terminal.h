/* For this room only: a line from the person at the terminal, unseen. */
#ifndef CLAWBACK_CRYPTO_TERMINAL_H
#define CLAWBACK_CRYPTO_TERMINAL_H

#include <signal.h>
#include <termios.h>

/*
 * While it is open, /dev/tty does not echo and the signals that would end or
 * stop the process from its keyboard are held back in this thread, so that none
 * can leave a silent terminal behind. They show in `signals`.
 */
struct terminal {
	int fd;
	int signals;		/* a signalfd: readable when one waits */
	struct termios saved;
	sigset_t mask;
};

/* Negative errno; -ENXIO when the process has no terminal. */
int terminal_open(struct terminal *terminal);

/* Echo as it was; then the signals that waited act as the process wants. */
void terminal_close(struct terminal *terminal);

#endif
