/*
 * A unit's calendars: when a full, a synthetic full or a differential is next asked for.
 * Each is the first elapse after the last run that did for it: a full does for all
 * three, a synthetic full for differentials, too.
 */
#include "agent/protect/calendar.h"
#include "agent/protect/daemon.h"

#include "agent/base/le.h"
#include "agent/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

static const struct { const char *key; enum backup_type type; } kinds[CALENDARS] = {
	[CALENDAR_FULL] = { "full", BACKUP_FULL },
	[CALENDAR_SYNTHETIC] = { "synthetic", BACKUP_SYNTHETIC },
	[CALENDAR_DIFFERENTIAL] = { "differential", BACKUP_DIFFERENTIAL },
};

static const char *expression(const struct unit *unit, int kind)
{
	return kind == CALENDAR_FULL ? unit->schedule.full :
	       kind == CALENDAR_SYNTHETIC ? unit->schedule.synthetic
					  : unit->schedule.differential;
}

/* The same at every start, and another on every host and for every unit. */
static uint64_t unit_jitter(const struct unit *unit)
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	char text[256] = "";
	sd_id128_t machine;
	struct le64 number;

	if (!unit->schedule.jitter_ns)
		return 0;
	if (sd_id128_get_machine(&machine) >= 0)
		sd_id128_to_string(machine, text);
	else
		gethostname(text, 65);
	snprintf(text + strlen(text), sizeof(text) - strlen(text), " %d %s", unit->group,
		 unit->name);
	digest_of(text, strlen(text), digest);
	memcpy(&number, digest, sizeof(number));
	return get_le64(number) % unit->schedule.jitter_ns;
}

static int calendar_ask(const struct unit *unit, int kind, uint64_t after_ns, uint64_t *at_ns,
			struct error *err)
{
	int ret = calendar_next(expression(unit, kind), after_ns, at_ns, err);

	return ret ? error_prefix(err, "%s", kinds[kind].key) : 0;
}

int unit_calendars_make(struct unit *unit, struct instant now, struct error *err)
{
	int ret = 0;

	unit->jitter_ns = unit_jitter(unit);
	for (int k = 0; !ret && k < CALENDARS; k++) {
		unit->calendars[k].after_ns = 0;
		unit->calendars[k].at_ns = CALENDAR_NEVER;
		if (*expression(unit, k))
			ret = calendar_ask(unit, k, now.real_ns, &unit->calendars[k].at_ns, err);
	}
	return ret;
}

void unit_calendars(struct unit *unit, const struct look *look, uint64_t now_ns)
{
	for (int k = 0; k < CALENDARS; k++) {
		struct unit_calendar *calendar = &unit->calendars[k];
		uint64_t after = look->last_ns[k] ? look->last_ns[k] : unit->seen_ns;
		struct error err = ERROR_INIT;

		if (after < calendar->served_ns)
			after = calendar->served_ns;
		if (after > now_ns)
			after = now_ns;
		if (!*expression(unit, k) || after == calendar->after_ns)
			continue;
		calendar->after_ns = after;
		if (calendar_ask(unit, k, after, &calendar->at_ns, &err)) {
			log_warning("%s: %s", unit->name, err.message);
			calendar->at_ns = CALENDAR_NEVER;
			calendar->after_ns = 0;
		}
	}
}

void unit_calendars_serve(struct unit *unit, enum backup_type asked, uint64_t began_ns)
{
	bool does = false;

	for (int k = 0; k < CALENDARS; k++) {
		does |= kinds[k].type == asked;
		if (does)
			unit->calendars[k].served_ns = began_ns;
	}
}

/* With the jitter; CALENDAR_NEVER. */
static uint64_t asks_at(const struct unit *unit, int kind)
{
	const struct unit_calendar *calendar = &unit->calendars[kind];
	uint64_t at;

	if (!calendar->after_ns ||
	    __builtin_add_overflow(calendar->at_ns, unit->jitter_ns, &at))
		return CALENDAR_NEVER;
	return at;
}

enum backup_type unit_asked(const struct unit *unit, uint64_t now_ns)
{
	for (int k = 0; k < CALENDARS; k++)
		if (asks_at(unit, k) <= now_ns)
			return kinds[k].type;
	return BACKUP_AUTO;
}

uint64_t unit_asks_at(const struct unit *unit, uint64_t now_ns)
{
	uint64_t next = CALENDAR_NEVER;

	for (int k = 0; k < CALENDARS; k++) {
		uint64_t at = asks_at(unit, k);

		if (at > now_ns && at < next)
			next = at;
	}
	return next;
}
