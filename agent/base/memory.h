/* Whether memory holds nothing but zeros. */
#ifndef CLAWBACK_BASE_MEMORY_H
#define CLAWBACK_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Data differs from zero in its first bytes more often than not, so most is settled
 * by one comparison. Memory that is shifted against itself and still equal consists
 * of its first eight bytes: memcmp is the fastest vector loop here.
 */
static inline bool memory_is_zero(const uint8_t *data, size_t length)
{
	uint64_t head = 0;

	if (!length)
		return true;
	memcpy(&head, data, length < sizeof(head) ? length : sizeof(head));
	return !head && (length <= sizeof(head) ||
			 !memcmp(data, data + sizeof(head), length - sizeof(head)));
}

#endif
