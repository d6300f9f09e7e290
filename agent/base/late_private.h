#ifndef CLAWBACK_BASE_LATE_PRIVATE_H
#define CLAWBACK_BASE_LATE_PRIVATE_H

#include <stddef.h>

struct late_symbol {
	const char *name;
	void **function;
};

/* 0, or -ELIBACC; then `reason` is the loader's, of a library without one of these too. */
int late_load(const char *library, const struct late_symbol *symbols, size_t count,
	      char *reason, size_t room);

#endif
