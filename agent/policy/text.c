/* A policy as people write it, and reasons as they read them. */
#include "agent/policy/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 64

static const char *const names[POLICY_REASONS] = {
	"last", "secondly", "minutely", "hourly", "daily", "weekly", "monthly", "yearly",
	"hanoi", "within", "newest", "pinned",
};

static int number_parse(const char *text, uint32_t most, uint32_t *number)
{
	unsigned long long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || value > most)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

static uint64_t unit_seconds(char unit)
{
	static const struct { char unit; uint64_t seconds; } units[] = {
		{ 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 },
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (units[i].unit == unit)
			return units[i].seconds;
	return 0;
}

int policy_duration(const char *text, uint64_t *ns)
{
	uint64_t sum = 0;

	if (!*text)
		return -EINVAL;
	while (*text) {
		uint64_t part;
		char *end;

		if (*text < '0' || *text > '9')
			return -EINVAL;
		errno = 0;
		part = strtoull(text, &end, 10);
		if (errno || !unit_seconds(*end) ||
		    __builtin_mul_overflow(part, unit_seconds(*end) * 1000000000u, &part) ||
		    __builtin_add_overflow(sum, part, &sum))
			return -EINVAL;
		text = end + 1;
	}
	*ns = sum;
	return 0;
}

static int bad_value(const char *rule, const char *value, const char *wanted,
		     struct error *err)
{
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s=%.40s: give %s", rule, value,
			      wanted);
}

int policy_set(struct policy *policy, const char *rule, const char *value,
	       struct error *err)
{
	if (!strcmp(rule, names[POLICY_WITHIN]))
		return policy_duration(value, &policy->within_ns) ?
		       bad_value(rule, value, "a duration like 36h or 1d12h", err) : 0;
	if (!strcmp(rule, names[POLICY_HANOI]))
		return number_parse(value, POLICY_HANOI_MAX, &policy->count[POLICY_HANOI]) ?
		       bad_value(rule, value, "a number of levels, at most 30", err) : 0;
	for (size_t i = 0; i < POLICY_HANOI; i++)
		if (!strcmp(rule, names[i]))
			return number_parse(value, UINT32_MAX, &policy->count[i]) ?
			       bad_value(rule, value, "a number", err) : 0;
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%.40s\" is no rule: there are last, "
			      "secondly, minutely, hourly, daily, weekly, monthly, yearly, "
			      "hanoi and within; and gfs", rule);
}

static int parse_word(struct policy *policy, char *word, struct error *err)
{
	char *value = strchr(word, '=');

	if (!strcmp(word, "gfs"))
		return policy_parse(policy, "hourly=24 daily=7 weekly=5 monthly=12 yearly=3",
				    err);
	if (!strcmp(word, "hanoi"))
		return policy_set(policy, "hanoi", "6", err);
	if (value)
		*value++ = '\0';
	return policy_set(policy, word, value ? value : "", err);
}

int policy_parse(struct policy *policy, const char *text, struct error *err)
{
	struct policy made = *policy;

	text += strspn(text, " ,");
	if (!*text)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "a policy without any rule "
				      "keeps nothing; give for example daily=7, or gfs");
	while (*text) {
		size_t length = strcspn(text, " ,");
		char word[WORD_MAX];
		int ret;

		snprintf(word, sizeof(word), "%.*s", (int)(length < WORD_MAX ? length : WORD_MAX),
			 text);
		ret = parse_word(&made, word, err);
		if (ret)
			return ret;
		text += length;
		text += strspn(text, " ,");
	}
	*policy = made;
	return 0;
}

void policy_reasons(uint32_t reasons, char text[static POLICY_REASONS_TEXT])
{
	/* What holds whatever the policy says comes first. */
	static const enum policy_rule first[] = { POLICY_NEWEST, POLICY_PINNED };
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < POLICY_REASONS; i++) {
		size_t rule = i < 2 ? (size_t)first[i] : i - 2;

		if (reasons >> rule & 1)
			used += (size_t)snprintf(text + used, POLICY_REASONS_TEXT - used, "%s%s",
						 used ? ", " : "", names[rule]);
	}
}
