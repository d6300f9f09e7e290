/* The keys of a hook, which [volume NAME] and [group NAME] share. */
#include "agent/config/config_keys.h"

#include <string.h>

#define SECOND_NS 1000000000ull
#define BLANKS " \t"

static size_t word_count(const char *text)
{
	size_t words = 0;

	while (*(text += strspn(text, BLANKS))) {
		text += strcspn(text, BLANKS);
		words++;
	}
	return words;
}

int config_assign_command(const char *key, const char *value,
			  char to[static CONFIG_HOOK_MAX + 1], struct error *err)
{
	if (*value != '/')
		return config_bad_value(err, key, value, "give the absolute path of a program, "
					"and its arguments");
	if (strlen(value) > CONFIG_HOOK_MAX || word_count(value) > CONFIG_HOOK_WORDS)
		return config_bad_value(err, key, value, "is too long");
	strcpy(to, value);
	return 0;
}

static int assign_timeout(const char *key, const char *value, uint64_t *to, struct error *err)
{
	uint64_t ns;

	if (config_parse_duration(value, &ns))
		return config_bad_value(err, key, value, "give a duration like 30s");
	if (ns < SECOND_NS || ns > 3600 * SECOND_NS)
		return config_bad_value(err, key, value, "must be from 1s to 1h");
	*to = ns;
	return 0;
}

static int assign_failure(const char *key, const char *value, bool *optional,
			  struct error *err)
{
	if (strcmp(value, "abort") && strcmp(value, "continue"))
		return config_bad_value(err, key, value, "give abort or continue");
	*optional = *value == 'c';
	return 0;
}

int hook_assign(struct config_hook *hook, const char *key, const char *value,
		struct error *err)
{
	if (!strcmp(key, "hook"))
		return config_assign_command(key, value, hook->command, err);
	if (!strcmp(key, "hook_timeout"))
		return assign_timeout(key, value, &hook->timeout_ns, err);
	if (!strcmp(key, "hook_failure"))
		return assign_failure(key, value, &hook->optional, err);
	return 1;
}

void hook_unset(struct config_hook *hook)
{
	memset(hook, 0, sizeof(*hook));
	hook->timeout_ns = 30 * SECOND_NS;
}
