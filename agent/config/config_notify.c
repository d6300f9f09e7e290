/*
 * The keys of [notify]. A webhook's URL is a secret in itself with most services, so
 * no message here repeats one.
 */
#include "agent/config/config_keys.h"

#include <errno.h>
#include <string.h>

#define INTERVAL_MAX_NS (366 * 86400 * 1000000000ull)

static const char *const formats[] = {
	[NOTIFY_GENERIC] = "generic", [NOTIFY_SLACK] = "slack", [NOTIFY_TEAMS] = "teams",
	[NOTIFY_PAGERDUTY] = "pagerduty",
};

static const struct { const char *name; unsigned flag; } classes[] = {
	{ "failure", NOTIFY_ON_FAILURE }, { "warning", NOTIFY_ON_WARNING },
	{ "recovery", NOTIFY_ON_RECOVERY }, { "success", NOTIFY_ON_SUCCESS },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int assign_path(const char *key, const char *value, char to[static PATH_MAX],
		       struct error *err)
{
	if (*value != '/' || strlen(value) >= PATH_MAX)
		return config_bad_value(err, key, value, "give an absolute path");
	strcpy(to, value);
	return 0;
}

bool config_webhook_good(const char *url)
{
	size_t length = strlen(url);

	if (length >= CONFIG_WEBHOOK_ROOM || strncmp(url, "https://", 8) || !url[8])
		return false;
	for (size_t i = 0; i < length; i++)
		if (url[i] <= ' ' || url[i] > '~')
			return false;
	return true;
}

static int assign_webhook(const char *value, struct config_notify *notify, struct error *err)
{
	if (!config_webhook_good(value))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "webhook: give a URL that begins "
				      "with https://");
	strcpy(notify->webhook, value);
	return 0;
}

static int assign_format(const char *key, const char *value, struct config_notify *notify,
			 struct error *err)
{
	for (size_t i = 0; i < COUNT(formats); i++)
		if (!strcmp(formats[i], value)) {
			notify->format = (enum config_notify_format)i;
			return 0;
		}
	return config_bad_value(err, key, value, "give generic, slack, teams or pagerduty");
}

static unsigned class_flag(const char *name, size_t length)
{
	for (size_t i = 0; i < COUNT(classes); i++)
		if (strlen(classes[i].name) == length && !memcmp(classes[i].name, name, length))
			return classes[i].flag;
	return 0;
}

static int assign_on(const char *key, const char *value, struct config_notify *notify,
		     struct error *err)
{
	const char *at = value;
	unsigned on = 0;

	for (;;) {
		size_t length = strcspn(at, ", ");
		unsigned flag = class_flag(at, length);

		if (!flag)
			return config_bad_value(err, key, value, "give some of failure, warning, "
						"recovery, success, with commas between");
		on |= flag;
		at += length;
		if (!*at)
			break;
		at += strspn(at, ", ");
	}
	notify->on = on;
	return 0;
}

static int assign_interval(const char *key, const char *value, struct config_notify *notify,
			   struct error *err)
{
	uint64_t ns = 0;

	if (strcmp(value, "off") && (config_parse_duration(value, &ns) || ns > INTERVAL_MAX_NS))
		return config_bad_value(err, key, value, "give a duration like 15min, or off");
	notify->interval_ns = ns;
	return 0;
}

void notify_unset(struct config_notify *notify)
{
	memset(notify, 0, sizeof(*notify));
	notify->on = NOTIFY_ON_FAILURE | NOTIFY_ON_WARNING | NOTIFY_ON_RECOVERY;
	notify->interval_ns = 15 * 60 * 1000000000ull;
}

int notify_assign(struct config_notify *notify, const char *key, const char *value,
		  struct error *err)
{
	if (!strcmp(key, "command"))
		return assign_path(key, value, notify->command, err);
	if (!strcmp(key, "webhook"))
		return assign_webhook(value, notify, err);
	if (!strcmp(key, "webhook_file"))
		return assign_path(key, value, notify->webhook_file, err);
	if (!strcmp(key, "routing_key_file"))
		return assign_path(key, value, notify->routing_key_file, err);
	if (!strcmp(key, "ca_file"))
		return assign_path(key, value, notify->ca_file, err);
	if (!strcmp(key, "format"))
		return assign_format(key, value, notify, err);
	if (!strcmp(key, "on"))
		return assign_on(key, value, notify, err);
	if (!strcmp(key, "interval"))
		return assign_interval(key, value, notify, err);
	return mail_assign(notify, key, value, err);
}

int notify_check(const struct config_notify *notify, const char *path, struct error *err)
{
	bool pagerduty = notify->format == NOTIFY_PAGERDUTY;
	const char *bad = NULL;

	if (*notify->webhook && *notify->webhook_file)
		bad = "webhook and webhook_file exclude one another";
	else if (pagerduty != (*notify->routing_key_file != '\0'))
		bad = "format = pagerduty and routing_key_file need one another";
	else if (pagerduty && notify->on & NOTIFY_ON_SUCCESS)
		bad = "format = pagerduty would open an incident for each success; take it "
		      "out of \"on\"";
	else if (!(notify->on & ~(unsigned)NOTIFY_ON_RECOVERY))
		bad = "only what was told can be told to be over; add failure or warning to "
		      "\"on\"";
	else
		bad = mail_check(notify);
	return bad ? error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: [notify]: %s", path, bad) : 0;
}
