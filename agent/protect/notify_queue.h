/*
 * Messages that wait while one is handed over, oldest first. Bounded: a newer message
 * of the same unit, kind and target takes the place of the older one and says so; when
 * there is no room the oldest goes, and the next that is put in says so. Pure.
 */
#ifndef CLAWBACK_PROTECT_NOTIFY_QUEUE_H
#define CLAWBACK_PROTECT_NOTIFY_QUEUE_H

#include "agent/protect/notify_send.h"

#define NOTIFY_QUEUE_ROOM 32

struct notify_item {
	enum notify_target target;
	struct notify_message message;
};

/* All zero at first. */
struct notify_queue {
	struct notify_item items[NOTIFY_QUEUE_ROOM];
	size_t count;
	unsigned dropped;	/* and not said yet */
};

void notify_queue_put(struct notify_queue *queue, enum notify_target target,
		      const struct notify_message *message);
/* The oldest for one of `targets`, a bit each; false: there is none. */
bool notify_queue_take(struct notify_queue *queue, unsigned targets, struct notify_item *item);

#endif
