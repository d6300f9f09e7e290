#include "agent/base/uuid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int uuid_new(struct uuid *uuid)
{
	ssize_t n;

	/* Only before the kernel's pool is ready can a signal interrupt it. */
	do {
		n = getrandom(uuid->b, sizeof(uuid->b), 0);
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(uuid->b))
		return n < 0 ? -errno : -EIO;
	uuid->b[6] = (uint8_t)((uuid->b[6] & 0x0f) | 0x40);
	uuid->b[8] = (uint8_t)((uuid->b[8] & 0x3f) | 0x80);
	return 0;
}

void uuid_format(const struct uuid *uuid, char text[static UUID_TEXT_SIZE])
{
	char *at = text;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		at += sprintf(at, "%02x", uuid->b[i]);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int uuid_parse(const char *text, struct uuid *uuid)
{
	if (strlen(text) != UUID_TEXT_SIZE - 1)
		return -EINVAL;
	for (int i = 0; i < 16; i++) {
		int high, low;

		if (i == 4 || i == 6 || i == 8 || i == 10) {
			if (*text++ != '-')
				return -EINVAL;
		}
		high = hex_digit(text[0]);
		low = hex_digit(text[1]);
		if (high < 0 || low < 0)
			return -EINVAL;
		uuid->b[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return 0;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}
