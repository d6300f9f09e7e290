/*
 * A message as e-mail (RFC 5322): what somebody needs who reads it at night. Pure.
 * Whatever bytes the message has, no header ends early, all lines are short, and it is
 * valid UTF-8 in plain ASCII: encoded words in the subject (RFC 2047), quoted-printable
 * in the body (RFC 2045).
 */
#ifndef CLAWBACK_PROTECT_NOTIFY_MAIL_H
#define CLAWBACK_PROTECT_NOTIFY_MAIL_H

#include "agent/protect/notify_payload.h"

struct notify_mail {
	const char *from, *to;	/* as the configuration has them: checked */
	const char *id;		/* of letters, digits and '-', like no other message's */
};

/* Lines end in CR LF. The caller frees it. NULL: out of memory. */
char *notify_mail_text(const struct notify_message *message, const struct notify_mail *mail);

#endif
