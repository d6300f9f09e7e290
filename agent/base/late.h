/*
 * Libraries that few runs need, loaded by those that do. libcurl and libmicrohttpd bring
 * some thirty others along, which is about half of what starting the program costs, and
 * a run for a local store needs neither.
 *
 * late_curl.c and late_microhttpd.c define those functions of the two that are used, as
 * calls of the real ones; so callers include the library's own header and write what they
 * always would. The linker tells which function is missing there. What works is not unloaded. A
 * package must name these libraries itself, for they are not in the program's list of
 * needed ones.
 *
 * Any thread; the first call loads, the others wait for it. What failed is tried again by
 * the next call: a daemon goes on once the package is there.
 */
#ifndef CLAWBACK_BASE_LATE_H
#define CLAWBACK_BASE_LATE_H

#include "agent/base/error.h"

/*
 * Loads it and calls curl_global_init. -ELIBACC, with the package to install. Without
 * this call the functions that make something do it, and return NULL where they cannot.
 */
int late_curl(struct error *err);

/* The same; to be called before any MHD_ function. */
int late_microhttpd(struct error *err);

#endif
