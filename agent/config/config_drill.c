/* The keys of a drill: a volume has those that it leaves out from [agent]. */
#include "agent/config/config_keys.h"

#include <string.h>

#define SECOND_NS 1000000000ull
#define UNSET_NS UINT64_MAX
#define NONE "none"
#define NEVER "never"

static int assign_path(const char *key, const char *value, char to[static PATH_MAX],
		       struct error *err)
{
	if (*value != '/' || strlen(value) >= PATH_MAX)
		return config_bad_value(err, key, value, "give an absolute path");
	strcpy(to, value);
	return 0;
}

static int assign_timeout(const char *key, const char *value, uint64_t *to, struct error *err)
{
	uint64_t ns;

	if (config_parse_duration(value, &ns))
		return config_bad_value(err, key, value, "give a duration like 10min");
	if (ns < SECOND_NS || ns > 7 * 86400 * SECOND_NS)
		return config_bad_value(err, key, value, "must be from 1s to 7d");
	*to = ns;
	return 0;
}

static int assign_point(const char *key, const char *value, struct config_drill *drill,
			struct error *err)
{
	if (strcmp(value, "latest") && strcmp(value, "random"))
		return config_bad_value(err, key, value, "give latest or random");
	drill->random = *value == 'r';
	drill->point_given = true;
	return 0;
}

int drill_assign(struct config_drill *drill, const char *key, const char *value,
		 struct error *err)
{
	if (!strcmp(key, "drill"))
		return config_assign_calendar(key, value, drill->calendar, err);
	if (!strcmp(key, "drill_command")) {
		if (strcmp(value, NONE))
			return config_assign_command(key, value, drill->command, err);
		strcpy(drill->command, NONE);
		return 0;
	}
	if (!strcmp(key, "drill_folder"))
		return assign_path(key, value, drill->folder, err);
	if (!strcmp(key, "drill_key"))
		return assign_path(key, value, drill->key, err);
	if (!strcmp(key, "drill_passphrase_file"))
		return assign_path(key, value, drill->passphrase_file, err);
	if (!strcmp(key, "drill_point"))
		return assign_point(key, value, drill, err);
	if (!strcmp(key, "drill_timeout"))
		return assign_timeout(key, value, &drill->timeout_ns, err);
	return 1;
}

void drill_unset(struct config_drill *drill)
{
	memset(drill, 0, sizeof(*drill));
	drill->timeout_ns = UNSET_NS;
}

/* What was given as nothing is told from what was not given until here. */
static void settle_text(char *text, const char *from, const char *nothing)
{
	if (!*text)
		strcpy(text, from);
	if (nothing && !strcmp(text, nothing))
		*text = '\0';
}

void drill_settle(struct config_drill *drill, const struct config_drill *defaults)
{
	static const struct config_drill plain = { .timeout_ns = 600 * SECOND_NS };
	const struct config_drill *from = defaults ? defaults : &plain;

	settle_text(drill->calendar, from->calendar, NEVER);
	settle_text(drill->command, from->command, NONE);
	settle_text(drill->folder, from->folder, NULL);
	settle_text(drill->key, from->key, NULL);
	settle_text(drill->passphrase_file, from->passphrase_file, NULL);
	if (drill->timeout_ns == UNSET_NS)
		drill->timeout_ns = from->timeout_ns;
	if (!drill->point_given)
		drill->random = from->random;
}
