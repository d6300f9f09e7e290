/* Private to agent/volume: reading a device for its witness. */
#ifndef CLAWBACK_VOLUME_WITNESS_H
#define CLAWBACK_VOLUME_WITNESS_H

#include "agent/base/error.h"

#include <stddef.h>
#include <stdint.h>

#define WITNESS_BLOCK 4096u
#define WITNESS_PIECE (1u << 20)	/* room at `buffer`, aligned for O_DIRECT */

struct slot_place;

struct witness_source {
	int fd;
	uint64_t bytes;
	uint8_t *buffer;
	const struct slot_place *hidden; /* reads as zeros; NULL: nothing */
};

struct digest;

/* Reads so much, at most WITNESS_PIECE, into the source's buffer. */
int witness_peek(const struct witness_source *source, uint64_t offset, size_t length,
		 struct error *err);

/*
 * Hashes `length` bytes at `offset` (multiples of the device's sector), with their
 * place; what lies behind the device's end is left out.
 */
int witness_add(const struct witness_source *source, uint64_t offset, uint64_t length,
		struct digest *digest, struct error *err);

/*
 * If the device holds an XFS: what lies around its log's head, where its next
 * user's first write to the log goes. Else nothing.
 */
int witness_xfs(const struct witness_source *source, struct digest *digest,
		struct error *err);

#endif
