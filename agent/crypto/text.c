/*
 * Hexadecimal and base64, strict: each value has exactly one text that decodes
 * (but for the case of hexadecimal digits), so that nothing can be smuggled past
 * a comparison of texts.
 */
#include "agent/crypto/crypto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hex_encode(const uint8_t *data, size_t length, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++) {
		*text++ = digits[data[i] >> 4];
		*text++ = digits[data[i] & 15];
	}
	*text = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *text, uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		int high = hex_value(text[0]);
		int low = high < 0 ? -1 : hex_value(text[1]);

		if (low < 0)
			return -EINVAL;
		data[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return *text ? -EINVAL : 0;
}

char *base64_encode(const uint8_t *data, size_t length)
{
	char *text, *at;

	if (length > SIZE_MAX / 2)
		return NULL;
	text = at = malloc((length + 2) / 3 * 4 + 1);
	if (!text)
		return NULL;
	for (; length >= 3; length -= 3, data += 3) {
		*at++ = base64_digits[data[0] >> 2];
		*at++ = base64_digits[(data[0] & 3) << 4 | data[1] >> 4];
		*at++ = base64_digits[(data[1] & 15) << 2 | data[2] >> 6];
		*at++ = base64_digits[data[2] & 63];
	}
	if (length) {
		uint8_t second = length == 2 ? data[1] : 0;

		*at++ = base64_digits[data[0] >> 2];
		*at++ = base64_digits[(data[0] & 3) << 4 | second >> 4];
		*at++ = length == 2 ? base64_digits[(second & 15) << 2] : '=';
		*at++ = '=';
	}
	*at = '\0';
	return text;
}

static int base64_value(char c)
{
	const char *digit = c ? strchr(base64_digits, c) : NULL;

	return digit ? (int)(digit - base64_digits) : -1;
}

/* Four digits to `count` (1..3) bytes; padding has been checked. */
static int base64_decode_group(const char *text, size_t count, uint8_t *data)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < 4; i++) {
		int value = i <= count ? base64_value(text[i]) : 0;

		if (value < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)value;
	}
	/* Bits that no byte takes must be zero. */
	if (bits & ((1u << (8 * (3 - count))) - 1))
		return -EINVAL;
	for (size_t i = 0; i < count; i++)
		data[i] = (uint8_t)(bits >> (16 - 8 * i));
	return 0;
}

int base64_decode(const char *text, uint8_t *data, size_t room, size_t *length)
{
	size_t digits = strlen(text), padding = 0, bytes;

	*length = 0;
	if (digits % 4)
		return -EINVAL;
	if (digits && text[digits - 1] == '=')
		padding = text[digits - 2] == '=' ? 2 : 1;
	bytes = digits / 4 * 3 - padding;
	if (bytes > room)
		return -EMSGSIZE;
	for (size_t at = 0; at < bytes; at += 3, text += 4) {
		size_t count = bytes - at < 3 ? bytes - at : 3;

		if (base64_decode_group(text, count, data + at) < 0)
			return -EINVAL;
	}
	*length = bytes;
	return 0;
}
