#include "agent/crypto/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int terminal_silence(struct terminal *terminal)
{
	struct termios silent = terminal->saved;

	silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
	/* Flushing: what was typed before the prompt was not meant for it. */
	return tcsetattr(terminal->fd, TCSAFLUSH, &silent) < 0 ? -errno : 0;
}

int terminal_open(struct terminal *terminal)
{
	static const int held[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
	sigset_t set;
	int ret;

	terminal->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (terminal->fd < 0)
		return -errno;
	if (tcgetattr(terminal->fd, &terminal->saved) < 0) {
		ret = -errno;
		close(terminal->fd);
		return ret;
	}
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++)
		sigaddset(&set, held[i]);
	pthread_sigmask(SIG_BLOCK, &set, &terminal->mask);
	terminal->signals = signalfd(-1, &set, SFD_CLOEXEC);
	ret = terminal->signals < 0 ? -errno : terminal_silence(terminal);
	if (ret)
		terminal_close(terminal);
	return ret;
}

void terminal_close(struct terminal *terminal)
{
	/* Flushing: the rest of a line that was too long is not the shell's. */
	while (tcsetattr(terminal->fd, TCSAFLUSH, &terminal->saved) < 0 &&
	       errno == EINTR)
		;
	if (terminal->signals >= 0)
		close(terminal->signals);
	close(terminal->fd);
	pthread_sigmask(SIG_SETMASK, &terminal->mask, NULL);
}
