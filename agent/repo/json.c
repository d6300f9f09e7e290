#include "agent/repo/point_format.h"

#include <errno.h>
#include <string.h>

int json_read(const char *text, size_t length, json_t **object)
{
	json_error_t why;

	errno = 0;
	*object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
	if (json_is_object(*object))
		return 0;
	/* jansson does not say so in every place where it runs out. */
	if (!*object && (errno == ENOMEM || json_error_code(&why) == json_error_out_of_memory))
		return -ENOMEM;
	json_decref(*object);
	*object = NULL;
	return -EBADMSG;
}

int json_take_text(const json_t *object, const char *key, char *text, size_t room)
{
	const json_t *value = json_object_get(object, key);
	const char *from = json_string_value(value);
	size_t length;

	if (!from)
		return -EBADMSG;
	length = json_string_length(value);
	if (length >= room || strlen(from) != length)
		return -EBADMSG;
	memcpy(text, from, length + 1);
	return 0;
}

/* Numbers above 2^63 do not occur in anything we store. */
int json_take_u64(const json_t *object, const char *key, uint64_t *value)
{
	const json_t *number = json_object_get(object, key);

	if (!json_is_integer(number) || json_integer_value(number) < 0)
		return -EBADMSG;
	*value = (uint64_t)json_integer_value(number);
	return 0;
}

int json_take_hex(const json_t *object, const char *key, uint8_t *data, size_t length)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);

	if (!text || json_string_length(value) != 2 * length)
		return -EBADMSG;
	return hex_decode(text, data, length) ? -EBADMSG : 0;
}

json_t *json_hex(const uint8_t *data, size_t length)
{
	char text[2 * 256 + 1];

	if (length > 256)
		return NULL;
	hex_encode(data, length, text);
	return json_string(text);
}
