#include "agent/base/interrupt.h"

#include "agent/base/error.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

static atomic_int interrupt_signal;
static atomic_uint_least64_t interrupt_end_ns;

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

void interrupt_deadline(uint64_t ns)
{
	atomic_store(&interrupt_end_ns, ns);
}

static bool deadline_passed(void)
{
	uint64_t end = atomic_load(&interrupt_end_ns);
	struct timespec now;

	if (!end)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec >= end;
}

bool interrupt_requested(void)
{
	return atomic_load(&interrupt_signal) != 0 || deadline_passed();
}

int interrupt_check(struct error *err)
{
	int number = atomic_load(&interrupt_signal);

	if (!number && !deadline_passed())
		return 0;
	if (!number)
		return error_set_exit(err, EXIT_INTERRUPTED, -EINTR, "its time was over");
	return error_set_exit(err, EXIT_INTERRUPTED, -EINTR,
			      "interrupted by signal %d", number);
}
