/* One function over many items on several threads; for work without order. */
#ifndef CLAWBACK_BASE_PARALLEL_H
#define CLAWBACK_BASE_PARALLEL_H

#include "agent/base/error.h"

#include <stddef.h>
#include <stdint.h>

#define PARALLEL_THREADS_MAX 64u

/*
 * Calls work(context, item) for every item below `items`, on up to `threads`
 * threads, until one fails or an interrupt is requested. First error wins.
 */
typedef int (*parallel_fn)(void *context, size_t item, struct error *err);
int parallel_run(uint32_t threads, size_t items, parallel_fn work,
		 void *context, struct error *err);

#endif
