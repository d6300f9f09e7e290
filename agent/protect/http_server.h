/*
 * The daemon's metrics for who asks over HTTP: GET /metrics, and /healthz, which says
 * whether the daemon still takes its turns. libmicrohttpd, in a process of its own that
 * gets the text through shared memory: the daemon never waits for a client, its runs
 * inherit neither listener nor connection nor a lock of another thread's, and what
 * parses a stranger's bytes has no device, no descriptor of the daemon's and no
 * privileges. Bounded: 16 connections, each of 8 KiB and 10 s of silence.
 *
 * Threads: one at a time.
 */
#ifndef CLAWBACK_PROTECT_HTTP_SERVER_H
#define CLAWBACK_PROTECT_HTTP_SERVER_H

#include "agent/config/config.h"

struct http_server;

/*
 * Listens on `address` (config_parse_listen) and starts the process. EXIT_FAILED, with
 * what to do, when somebody else listens there.
 */
int http_server_start(const char *address, struct http_server **server, struct error *err);
/* NULL is fine. It listens no more when this returns. */
void http_server_stop(struct http_server *server);

const char *http_server_address(const struct http_server *server);

/* What /metrics answers from now on; before the first it is 503. -EFBIG. */
int http_server_publish(struct http_server *server, const char *text);

/*
 * At each turn of the daemon's loop, with CLOCK_BOOTTIME's `now`: it lives. A process
 * that ended is started again, at most every 5 s; a negative errno when that is to be
 * told: that it ended, and once that it cannot be started.
 */
int http_server_turn(struct http_server *server, int64_t now_ns, struct error *err);

#endif
