#include "agent/base/interrupt.h"

#include "agent/base/error.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int interrupt_signal;

/*
 * A second signal, of whichever kind, takes the default action as soon as this
 * returns, so that a clean-up that hangs can be ended.
 */
static void interrupt_handler(int number)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&interrupt_signal, &none, number))
		return;
	signal(number, SIG_DFL);
	raise(number);
}

void interrupt_install(void)
{
	struct sigaction action, old;

	/* No SA_RESTART: what blocks must return, so that the flag is seen. */
	memset(&action, 0, sizeof(action));
	action.sa_handler = interrupt_handler;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	/* Under nohup the terminal's end is none of our business. */
	if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool interrupt_requested(void)
{
	return atomic_load(&interrupt_signal) != 0;
}

int interrupt_check(struct error *err)
{
	int number = atomic_load(&interrupt_signal);

	if (!number)
		return 0;
	return error_set_exit(err, EXIT_INTERRUPTED, -EINTR,
			      "interrupted by signal %d", number);
}
