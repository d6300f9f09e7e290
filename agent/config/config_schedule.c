/*
 * The keys of a schedule, which [agent], [volume NAME] and [group NAME] share. Until
 * all is read, what was not given must be told from what was given as "off".
 */
#include "agent/config/config_keys.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000ull
#define DAY_NS (86400 * SECOND_NS)
#define DURATION_MAX_NS (366 * DAY_NS)
#define UNSET_NS UINT64_MAX
#define UNSET_MINUTE (-1)
#define NEVER "never"

/* ---- durations ------------------------------------------------------------ */

static const struct { const char *name; uint64_t ns; } units[] = {
	{ "", SECOND_NS }, { "ms", SECOND_NS / 1000 }, { "s", SECOND_NS }, { "sec", SECOND_NS },
	{ "m", 60 * SECOND_NS }, { "min", 60 * SECOND_NS }, { "h", 3600 * SECOND_NS },
	{ "hour", 3600 * SECOND_NS }, { "hours", 3600 * SECOND_NS }, { "d", DAY_NS },
	{ "day", DAY_NS }, { "days", DAY_NS }, { "w", 7 * DAY_NS }, { "week", 7 * DAY_NS },
	{ "weeks", 7 * DAY_NS },
};

static int unit_ns(const char *name, size_t length, uint64_t *ns)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i].name) == length && !memcmp(units[i].name, name, length)) {
			*ns = units[i].ns;
			return 0;
		}
	return -EINVAL;
}

int config_parse_duration(const char *text, uint64_t *ns)
{
	uint64_t sum = 0;

	do {
		unsigned long long number;
		uint64_t unit, part;
		size_t length;
		char *end;

		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		errno = 0;
		number = strtoull(text, &end, 10);
		if (errno)
			return -ERANGE;
		end += strspn(end, " ");
		length = strspn(end, "abcdefghijklmnopqrstuvwxyz");
		if (unit_ns(end, length, &unit))
			return -EINVAL;
		if (__builtin_mul_overflow(number, unit, &part) ||
		    __builtin_add_overflow(sum, part, &sum))
			return -ERANGE;
		text = end + length + strspn(end + length, " ");
	} while (*text);
	*ns = sum;
	return 0;
}

/* ---- keys ----------------------------------------------------------------- */

static int assign_length(const char *key, const char *value, uint64_t low_ns, uint64_t *to,
			 struct error *err)
{
	uint64_t ns;

	if (!strcmp(value, "off")) {
		*to = 0;
		return 0;
	}
	if (config_parse_duration(value, &ns))
		return config_bad_value(err, key, value, "give a duration like 10s, 5min or "
					"1h, or off");
	if (ns < low_ns || ns > DURATION_MAX_NS)
		return config_bad_value(err, key, value, "must be from 1s to 366d, or off");
	*to = ns;
	return 0;
}

/*
 * What it means is systemd-analyze's to say, once somebody wants to know; here only
 * that it can be handed to it.
 */
static int assign_calendar(const char *key, const char *value, char *to, struct error *err)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789 ,.:*/~_+-";

	if (strlen(value) > CONFIG_CALENDAR_MAX)
		return config_bad_value(err, key, value, "is too long");
	if (!*value || *value == '-' || strspn(value, good) != strlen(value))
		return config_bad_value(err, key, value, "give never, or a calendar expression "
					"of systemd.time(7) like weekly or Sat 03:00");
	strcpy(to, value);
	return 0;
}

/* "HH:MM", and nothing but `after` behind it. */
static int clock_minute(const char *text, char after, int *minute)
{
	static const char form[] = "dd:dd";

	for (size_t i = 0; i < 5; i++)
		if (form[i] == 'd' ? !isdigit((unsigned char)text[i]) : text[i] != form[i])
			return -EINVAL;
	if (text[5] != after)
		return -EINVAL;
	*minute = (text[0] - '0') * 600 + (text[1] - '0') * 60 +
		  (text[3] - '0') * 10 + (text[4] - '0');
	return text[3] > '5' || *minute > 24 * 60 ? -EINVAL : 0;
}

static int assign_window(const char *key, const char *value,
			 struct config_schedule *schedule, struct error *err)
{
	int from = 0, to = 0;

	if (strcmp(value, "always") &&
	    (clock_minute(value, '-', &from) || clock_minute(value + 6, '\0', &to) ||
	     from == to))
		return config_bad_value(err, key, value, "give always, or times of the day "
					"like 20:00-06:00");
	schedule->window_from = from;
	schedule->window_to = to;
	return 0;
}

int schedule_assign(struct config_schedule *schedule, const char *key, const char *value,
		    struct error *err)
{
	if (!strcmp(key, "rpo"))
		return assign_length(key, value, SECOND_NS, &schedule->rpo_ns, err);
	if (!strcmp(key, "idle_point"))
		return assign_length(key, value, SECOND_NS, &schedule->idle_point_ns, err);
	if (!strcmp(key, "full"))
		return assign_calendar(key, value, schedule->full, err);
	if (!strcmp(key, "window"))
		return assign_window(key, value, schedule, err);
	return 1;
}

void schedule_unset(struct config_schedule *schedule)
{
	memset(schedule, 0, sizeof(*schedule));
	schedule->rpo_ns = schedule->idle_point_ns = UNSET_NS;
	schedule->window_from = schedule->window_to = UNSET_MINUTE;
}

bool schedule_is_unset(const struct config_schedule *schedule)
{
	return schedule->rpo_ns == UNSET_NS && schedule->idle_point_ns == UNSET_NS &&
	       !*schedule->full && schedule->window_from == UNSET_MINUTE;
}

void schedule_settle(struct config_schedule *schedule, const struct config_schedule *defaults)
{
	static const struct config_schedule plain = { .idle_point_ns = DAY_NS };
	const struct config_schedule *from = defaults ? defaults : &plain;

	if (schedule->rpo_ns == UNSET_NS)
		schedule->rpo_ns = from->rpo_ns;
	if (schedule->idle_point_ns == UNSET_NS)
		schedule->idle_point_ns = from->idle_point_ns;
	if (!*schedule->full)
		strcpy(schedule->full, from->full);
	if (!strcmp(schedule->full, NEVER))
		memset(schedule->full, 0, sizeof(schedule->full));
	if (schedule->window_from == UNSET_MINUTE) {
		schedule->window_from = from->window_from;
		schedule->window_to = from->window_to;
	}
}
