#include "agent/base/interrupt.h"

#include "agent/base/error.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int interrupt_signal;

static void interrupt_handler(int number)
{
	atomic_store(&interrupt_signal, number);
}

void interrupt_install(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = interrupt_handler;
	/* A second signal takes the default action: a hung clean-up can be ended. */
	action.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
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
