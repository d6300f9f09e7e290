/* Internal: what the daemon and the process that answers share (http_server.h). */
#ifndef CLAWBACK_PROTECT_HTTP_ANSWER_H
#define CLAWBACK_PROTECT_HTTP_ANSWER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Some 1.5 KB a unit; only pages that were written take memory. */
#define HTTP_TEXT_MAX ((8u << 20) - 8)
/* A loop that waits wakes every 30 s; one turn may look at large bitmaps. */
#define HTTP_TURN_NS (90 * INT64_C(1000000000))

struct http_text {
	uint64_t length;
	char text[HTTP_TEXT_MAX];
};

/* Written by the daemon alone. The text that counts is number `sequence` & 1. */
struct http_page {
	_Atomic uint64_t sequence;	/* 0: there is none yet */
	_Atomic int64_t turn_ns;	/* of the loop's last turn, http_clock_ns */
	struct http_text texts[2];
};

int64_t http_clock_ns(void);		/* CLOCK_MONOTONIC: a sleep is no hang */

/* One at a time. -EFBIG: the old text stays. */
int http_page_put(struct http_page *page, const char *text, size_t length);

/* A copy of the text that counts, to be freed; NULL: none yet, or out of memory. */
char *http_page_text(const struct http_page *page, size_t *length);

/* Answers on a listening socket until it is killed, or `parent` is gone. */
__attribute__((noreturn)) void http_answer_all(int fd, const struct http_page *page,
					       pid_t parent);

#endif
