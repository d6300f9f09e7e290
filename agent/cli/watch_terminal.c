#include "agent/cli/watch_terminal.h"

#include "agent/base/interrupt.h"
#include "agent/cli/watch_view.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define COLUMNS_WITHOUT 120

static struct {
	bool draw, keys;		/* the screen is ours; what is typed is */
	struct termios before;
	sigset_t outside;		/* what was blocked before */
} terminal;

static atomic_bool resized, stopped;

static void note_resize(int number)
{
	(void)number;
	atomic_store(&resized, true);
}

static void note_stop(int number)
{
	(void)number;
	atomic_store(&stopped, true);
}

bool terminal_can_draw(void)
{
	const char *name = getenv("TERM");

	return isatty(STDOUT_FILENO) && name && *name && strcmp(name, "dumb");
}

/* The locale is asked for this alone: numbers and dates stay as they are everywhere. */
static bool is_utf8(void)
{
	locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
	bool utf8 = locale && !strcmp(nl_langinfo_l(CODESET, locale), "UTF-8");

	if (locale)
		freelocale(locale);
	return utf8;
}

void terminal_look(struct watch_look *look)
{
	const char *plain = getenv("NO_COLOR");
	struct winsize size;

	*look = (struct watch_look){ .columns = COLUMNS_WITHOUT, .unicode = is_utf8() };
	if (!terminal_can_draw())
		return;
	look->colour = !plain || !*plain;
	look->columns = 80;
	look->lines = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row)
		return;
	look->columns = size.ws_col;
	look->lines = size.ws_row;
}

static void hide_keys(void)
{
	struct termios without;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &terminal.before) < 0)
		return;
	without = terminal.before;
	without.c_lflag &= (tcflag_t)~(ICANON | ECHO);
	without.c_cc[VMIN] = 0;
	without.c_cc[VTIME] = 0;
	terminal.keys = tcsetattr(STDIN_FILENO, TCSANOW, &without) == 0;
}

static void take_screen(void)
{
	hide_keys();
	fputs("\033[?1049h\033[?25l\033[2J", stdout);
	fflush(stdout);
}

static void give_screen(void)
{
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	if (terminal.keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
	terminal.keys = false;
}

/* What is noted cannot come between a look at it and the wait: it comes in the wait. */
void terminal_enter(bool draw)
{
	struct sigaction action;
	sigset_t block;

	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGHUP);
	sigaddset(&block, SIGWINCH);
	if (draw)
		sigaddset(&block, SIGTSTP);
	sigprocmask(SIG_BLOCK, &block, &terminal.outside);
	memset(&action, 0, sizeof(action));
	action.sa_handler = note_resize;
	sigaction(SIGWINCH, &action, NULL);
	action.sa_handler = note_stop;
	if (draw)
		sigaction(SIGTSTP, &action, NULL);
	terminal.draw = draw;
	if (draw)
		take_screen();
}

void terminal_leave(void)
{
	if (terminal.draw)
		give_screen();
	terminal.draw = false;
	sigprocmask(SIG_SETMASK, &terminal.outside, NULL);
}

/* Over what stands there, so that nothing flickers; the rest is wiped. */
void terminal_draw(const char *text)
{
	fputs("\033[H", stdout);
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\033[K\r\n", stdout);
		else
			fputc(*text, stdout);
	}
	fputs("\033[K\033[J", stdout);
	fflush(stdout);
}

/* Ctrl-Z: as for any program, but with the shell's screen back meanwhile. */
static void stop_and_go_on(void)
{
	atomic_store(&stopped, false);
	give_screen();
	raise(SIGSTOP);
	take_screen();
}

static bool typed_end(const struct pollfd *keys)
{
	char typed[64];
	ssize_t n;

	if (!(keys->revents & (POLLIN | POLLHUP | POLLERR)))
		return false;
	n = read(STDIN_FILENO, typed, sizeof(typed));
	/* Ready, and nothing there: the terminal is gone. */
	return n <= 0 || memchr(typed, 'q', (size_t)n) || memchr(typed, 'Q', (size_t)n);
}

static double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

bool terminal_wait(double seconds)
{
	double until = now_seconds() + seconds, left;

	while ((left = until - now_seconds()) > 0) {
		struct timespec wait = { (time_t)left, (long)((left - (double)(time_t)left) * 1e9) };
		struct pollfd keys = { .fd = terminal.keys ? STDIN_FILENO : -1, .events = POLLIN };
		int ready = ppoll(&keys, 1, &wait, &terminal.outside);

		if (interrupt_requested() || (ready > 0 && typed_end(&keys)))
			return false;
		if (atomic_load(&stopped)) {
			stop_and_go_on();
			return true;
		}
		if (atomic_exchange(&resized, false))
			return true;
	}
	return !interrupt_requested();
}
