/*
 * The keys of [notify] for e-mail. What an address or a URL may hold is narrower than
 * the standards allow, so that none of it can end a header or a command.
 */
#include "agent/config/config_keys.h"

#include <errno.h>
#include <string.h>

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define LOCAL_MAX 64		/* RFC 5321, 4.5.3.1 */

/* "LOCAL@DOMAIN", neither quoted nor with a comment. */
static bool address_good(const char *text, size_t length)
{
	const char *at = memchr(text, '@', length);
	size_t local = at ? (size_t)(at - text) : 0, domain = at ? length - local - 1 : 0;
	char copy[CONFIG_MAIL_ADDRESS_ROOM];

	if (!local || local > LOCAL_MAX || !domain || length >= sizeof(copy))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (strlen(copy) != length || *copy == '.' || copy[local - 1] == '.' ||
	    copy[local + 1] == '.' || copy[local + 1] == '-' || copy[length - 1] == '.')
		return false;
	return strspn(copy, ALNUM "!#$%&'*+-/=?^_`{|}~.") == local &&
	       strspn(copy + local + 1, ALNUM ".-") == domain;
}

bool config_mail_next(const char **list, char address[static CONFIG_MAIL_ADDRESS_ROOM])
{
	size_t length;

	*list += strspn(*list, ", ");
	length = strcspn(*list, ", ");
	if (!length || length >= CONFIG_MAIL_ADDRESS_ROOM)
		return false;
	memcpy(address, *list, length);
	address[length] = '\0';
	*list += length;
	return true;
}

static int assign_to(const char *key, const char *value, struct config_notify *notify,
		     struct error *err)
{
	const char *at = value;
	size_t count = 0;

	for (at += strspn(at, ", "); *at; at += strspn(at, ", ")) {
		size_t length = strcspn(at, ", ");

		if (!address_good(at, length) || ++count > CONFIG_MAIL_TO_MAX)
			return config_bad_value(err, key, value, "give at most 8 addresses like "
						"admin@example.org, with commas between");
		at += length;
	}
	if (!count || strlen(value) >= sizeof(notify->mail_to))
		return config_bad_value(err, key, value, "give an address like admin@example.org");
	strcpy(notify->mail_to, value);
	return 0;
}

static int assign_from(const char *key, const char *value, struct config_notify *notify,
		       struct error *err)
{
	if (!address_good(value, strlen(value)))
		return config_bad_value(err, key, value, "give an address like backup@example.org");
	strcpy(notify->mail_from, value);
	return 0;
}

/* The host of "smtp[s]://HOST[:PORT]", and nothing behind that; NULL: it is none. */
static const char *smtp_host(const char *url, size_t *length)
{
	const char *host = !strncmp(url, "smtps://", 8) ? url + 8 :
			   !strncmp(url, "smtp://", 7) ? url + 7 : NULL;
	const char *rest;
	size_t digits;

	if (!host)
		return NULL;
	if (*host == '[') {
		*length = 1 + strspn(host + 1, "0123456789abcdefABCDEF:.");
		if (*length < 3 || host[(*length)++] != ']')
			return NULL;
	} else {
		*length = strspn(host, ALNUM ".-");
	}
	rest = host + *length;
	digits = *rest == ':' ? strspn(rest + 1, "0123456789") : 0;
	if (!*length || (*rest == ':' && (!digits || digits > 5)) || rest[digits ? digits + 1 : 0])
		return NULL;
	return host;
}

static bool smtp_loopback(const char *url)
{
	size_t length;
	const char *host = smtp_host(url, &length);

	return host && ((length == 9 && !memcmp(host, "localhost", 9)) ||
			(length == 5 && !memcmp(host, "[::1]", 5)) ||
			(length >= 7 && !memcmp(host, "127.", 4) &&
			 strspn(host, "0123456789.") == length));
}

static int assign_smtp(const char *key, const char *value, struct config_notify *notify,
		       struct error *err)
{
	size_t length;

	/* Not repeated: who writes a password into it meant well. */
	if (strlen(value) >= sizeof(notify->smtp) || !smtp_host(value, &length))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: give smtps://HOST:465 or "
				      "smtp://HOST:587; user and password have keys of their own",
				      key);
	strcpy(notify->smtp, value);
	return 0;
}

static int assign_tls(const char *key, const char *value, struct config_notify *notify,
		      struct error *err)
{
	notify->smtp_plain = !strcmp(value, "none");
	if (!notify->smtp_plain && strcmp(value, "required"))
		return config_bad_value(err, key, value, "give required or none");
	return 0;
}

static int assign_user(const char *key, const char *value, struct config_notify *notify,
		       struct error *err)
{
	size_t length = strlen(value);

	for (size_t i = 0; i < length; i++)
		if ((unsigned char)value[i] < ' ' || value[i] == 0x7f)
			length = 0;
	if (!length || length >= sizeof(notify->smtp_user))
		return config_bad_value(err, key, value, "give the name to log in with");
	strcpy(notify->smtp_user, value);
	return 0;
}

static int assign_password_file(const char *key, const char *value,
				struct config_notify *notify, struct error *err)
{
	if (*value != '/' || strlen(value) >= PATH_MAX)
		return config_bad_value(err, key, value, "give an absolute path");
	strcpy(notify->smtp_password_file, value);
	return 0;
}

int mail_assign(struct config_notify *notify, const char *key, const char *value,
		struct error *err)
{
	if (!strcmp(key, "mail_to"))
		return assign_to(key, value, notify, err);
	if (!strcmp(key, "mail_from"))
		return assign_from(key, value, notify, err);
	if (!strcmp(key, "smtp"))
		return assign_smtp(key, value, notify, err);
	if (!strcmp(key, "smtp_tls"))
		return assign_tls(key, value, notify, err);
	if (!strcmp(key, "smtp_user"))
		return assign_user(key, value, notify, err);
	if (!strcmp(key, "smtp_password_file"))
		return assign_password_file(key, value, notify, err);
	return 1;
}

const char *mail_check(const struct config_notify *notify)
{
	bool to = *notify->mail_to, from = *notify->mail_from, smtp = *notify->smtp;

	if (to != from || to != smtp)
		return "mail_to, mail_from and smtp need one another";
	if (!*notify->smtp_user != !*notify->smtp_password_file)
		return "smtp_user and smtp_password_file need one another";
	if (*notify->smtp_user && !smtp)
		return "smtp_user is of no use without smtp";
	if (notify->smtp_plain && (strncmp(notify->smtp, "smtp://", 7) ||
				   !smtp_loopback(notify->smtp)))
		return "smtp_tls = none is for smtp:// on this host (localhost, 127.0.0.1, [::1]) "
		       "only; what is told would be readable on the way";
	if (notify->smtp_plain && *notify->smtp_user)
		return "a password is not sent with smtp_tls = none; take one of the two away";
	return NULL;
}
