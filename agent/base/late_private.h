#ifndef CLAWBACK_BASE_LATE_PRIVATE_H
#define CLAWBACK_BASE_LATE_PRIVATE_H

#include "agent/base/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct late_symbol {
	const char *name;
	void **function;
};

/* One library; static, with LATE_LIBRARY_LOCK as its lock. */
struct late_library {
	const char *name, *package;
	const struct late_symbol *symbols;
	size_t count;
	int (*start)(struct error *err);	/* once, behind the loading; may be NULL */
	pthread_mutex_t lock;
	atomic_bool loaded;
};

#define LATE_LIBRARY_LOCK PTHREAD_MUTEX_INITIALIZER

/*
 * 0 once all its symbols are there and it was started. -ELIBACC, also for a library
 * without one of these symbols, or what start returned; the next call tries again then.
 */
int late_load(struct late_library *library, struct error *err);

#endif
