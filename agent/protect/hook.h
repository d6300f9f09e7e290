/*
 * A hook: a program of the administrator's that holds an application still while a
 * point is taken. One process for both ends, so that what it holds (a lock in one
 * session of a database) cannot outlive it, nor it us:
 *
 *	hook_begin	it runs, holds, and says "ready"
 *	hook_release	from the boundary, just after the switch: it is told to let go
 *	hook_watch	it lets go and ends, beside the reading
 *	hook_end	it has ended: did it hold until then?
 *
 * It is ended, with its process group, when it takes too long, and killed by the
 * kernel when we die; then its standard input ends, too. It gets no descriptor and no
 * variable of ours but those that clawback.conf(5) lists.
 *
 * Threads: all from the one that called hook_begin, for the kernel takes the end of
 * that thread for ours.
 */
#ifndef CLAWBACK_PROTECT_HOOK_H
#define CLAWBACK_PROTECT_HOOK_H

#include "agent/base/error.h"
#include "agent/config/config.h"
#include "agent/volume/volume.h"

#include <stdbool.h>
#include <stddef.h>

/* What it is told, in its environment. The strings are the caller's. */
struct hook_facts {
	const char *group;	/* "" for none */
	const char *run;	/* the run's identity */
	size_t count;		/* 1 … VOLUME_GROUP_MAX */
	const char *volumes[VOLUME_GROUP_MAX];
	const char *devices[VOLUME_GROUP_MAX];
};

struct hook;

/*
 * Starts it and waits until it is ready. On failure (not started, ended, said
 * "failed", not ready in time: -ETIMEDOUT; interrupted: EXIT_INTERRUPTED) nothing of
 * it is left. `config` must stay until hook_end.
 */
int hook_begin(const struct config_hook *config, const struct hook_facts *facts,
	       struct hook **hook, struct error *err);

/*
 * Tells it to let go; `taken`: all it held for is done. Notes whether it held until
 * now. Only the first call counts. Waits for nothing.
 */
void hook_release(struct hook *hook, bool taken);

/* Released as taken, and until then neither ended nor failed. */
bool hook_held(const struct hook *hook);

/* After hook_release: hears it out in a thread until it ends or has to be ended. */
void hook_watch(struct hook *hook);

/*
 * Waits for its end and frees all. True when it held, and did not take that back by
 * ending with another code than 0, or not in time; else it is told. NULL: false.
 */
bool hook_end(struct hook *hook);

#endif
