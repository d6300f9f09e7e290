/* 128-bit random identities (RFC 9562, version 4): volumes, repositories, runs. */
#ifndef CLAWBACK_BASE_UUID_H
#define CLAWBACK_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_SIZE 37	/* with the NUL */

struct uuid { uint8_t b[16]; };

/* From getrandom(2); negative errno on failure. */
int uuid_new(struct uuid *uuid);

/* Lower-case 8-4-4-4-12. */
void uuid_format(const struct uuid *uuid, char text[static UUID_TEXT_SIZE]);

/* -EINVAL unless exactly 8-4-4-4-12 hexadecimal digits. */
int uuid_parse(const char *text, struct uuid *uuid);

bool uuid_equal(const struct uuid *a, const struct uuid *b);

#endif
