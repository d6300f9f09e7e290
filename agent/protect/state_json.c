#include "agent/protect/state_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void state_json_drop(json_t **value)
{
	json_decref(*value);
}

json_t *state_json_error(const char *message)
{
	char plain[STATE_JSON_ERROR_MAX + 1];
	json_t *text = json_string(message);

	if (text)
		return text;
	snprintf(plain, sizeof(plain), "%s", message);
	for (char *at = plain; *at; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	return json_string(plain);
}

int state_json_text(const json_t *object, const char *key, char *to, size_t room)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);

	if (!text || strlen(text) >= room || strlen(text) != json_string_length(value))
		return -EBADMSG;
	strcpy(to, text);
	return 0;
}

int state_json_number(const json_t *object, const char *key, uint64_t *to)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return -EBADMSG;
	*to = (uint64_t)json_integer_value(value);
	return 0;
}
