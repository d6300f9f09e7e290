/* Internal: what the files share that hand messages over; all in the child. */
#ifndef CLAWBACK_PROTECT_NOTIFY_PRIVATE_H
#define CLAWBACK_PROTECT_NOTIFY_PRIVATE_H

#include "agent/protect/notify_send.h"

#include <curl/curl.h>

/* The first line of a file that nobody else can read. Never says what is in it. */
int notify_secret_read(const char *path, char *secret, size_t room, struct error *err);

/* What all transfers keep to: time, whom to trust, TLS 1.2 at least. */
void notify_curl_common(CURL *handle, const struct config_notify *config);

/* Whether there may be another attempt after the `*attempts`-th; waits before it. */
bool notify_again(unsigned *attempts);

int notify_mail_send(const struct config_notify *config, const struct notify_message *message,
		     struct error *err);

#endif
