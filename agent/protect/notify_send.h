/*
 * Hands one message over, in a process of its own: that is good for one, holds what
 * network and secrets it needs, and can hang without anybody waiting for it. Nothing
 * it logs holds a URL or a key.
 */
#ifndef CLAWBACK_PROTECT_NOTIFY_SEND_H
#define CLAWBACK_PROTECT_NOTIFY_SEND_H

#include "agent/protect/notify_payload.h"

#include <sys/types.h>

/* As a whole, with attempts to come. Who takes longer is to be ended. */
#define NOTIFY_SECONDS 30

enum notify_target { NOTIFY_COMMAND, NOTIFY_WEBHOOK, NOTIFY_MAIL, NOTIFY_TARGETS };

/* "command", "webhook", "mail". */
const char *notify_target_name(enum notify_target target);
/* A bit each for those that are configured. */
unsigned notify_targets(const struct config_notify *config);

/*
 * Starts it, in a process group of its own; `pidfd` is readable when it ended, with 0
 * when the message was taken. The child has said why not, but of a command, which may.
 */
int notify_start(const struct config_notify *config, enum notify_target target,
		 const struct notify_message *message, pid_t *pid, int *pidfd,
		 struct error *err);

#endif
