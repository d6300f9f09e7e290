/*
 * Little-endian fields for structures that are stored or sent. They are byte
 * arrays in a struct, so a forgotten conversion does not compile and a layout
 * has no padding of its own.
 */
#ifndef CLAWBACK_BASE_LE_H
#define CLAWBACK_BASE_LE_H

#include <stdint.h>

struct le16 { uint8_t b[2]; };
struct le32 { uint8_t b[4]; };
struct le64 { uint8_t b[8]; };

static inline struct le16 le16(uint16_t v)
{
	return (struct le16){ { (uint8_t)v, (uint8_t)(v >> 8) } };
}

static inline struct le32 le32(uint32_t v)
{
	return (struct le32){ { (uint8_t)v, (uint8_t)(v >> 8),
				(uint8_t)(v >> 16), (uint8_t)(v >> 24) } };
}

static inline struct le64 le64(uint64_t v)
{
	struct le64 r;

	for (int i = 0; i < 8; i++)
		r.b[i] = (uint8_t)(v >> (8 * i));
	return r;
}

static inline uint16_t get_le16(struct le16 v)
{
	return (uint16_t)(v.b[0] | v.b[1] << 8);
}

static inline uint32_t get_le32(struct le32 v)
{
	return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 |
	       (uint32_t)v.b[2] << 16 | (uint32_t)v.b[3] << 24;
}

static inline uint64_t get_le64(struct le64 v)
{
	uint64_t r = 0;

	for (int i = 7; i >= 0; i--)
		r = r << 8 | v.b[i];
	return r;
}

#endif
