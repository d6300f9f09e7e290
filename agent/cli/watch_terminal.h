/*
 * A terminal to draw on: the alternate screen, so that what stood there comes back. The
 * sequences are those of ECMA-48 and of xterm, which terminals of today know; on others
 * (TERM=dumb, or none) there is no drawing. One at a time, main thread only.
 */
#ifndef CLAWBACK_CLI_WATCH_TERMINAL_H
#define CLAWBACK_CLI_WATCH_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

struct watch_look;

/* Whether stdout can be drawn on. */
bool terminal_can_draw(void);

/* Size, characters and colours of it; of none: 120 columns, no end, no colours. */
void terminal_look(struct watch_look *look);

/* Takes the screen, hides what is typed, and blocks signals but within terminal_wait. */
void terminal_enter(bool draw);
/* Gives all back; any number of times. */
void terminal_leave(void);

void terminal_draw(const char *text);

/*
 * Until `seconds` are over, the window has another size, the program was stopped and goes
 * on, or it is to end: false then, by a signal or by `q`.
 */
bool terminal_wait(double seconds);

#endif
