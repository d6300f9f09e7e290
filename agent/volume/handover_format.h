/*
 * The hand-over file, docs/format.md "Hand-over file". Private to agent/volume.
 *
 *   header (416 bytes) │ words of the marks… │ SHA-256 of all before
 */
#ifndef CLAWBACK_VOLUME_HANDOVER_FORMAT_H
#define CLAWBACK_VOLUME_HANDOVER_FORMAT_H

#include "agent/base/le.h"
#include "agent/volume/volume.h"

#include <stddef.h>

#define HANDOVER_MAGIC "CLAWHAND"
#define HANDOVER_VERSION 1u
#define HANDOVER_BITS_MAX (UINT64_C(1) << 33)	/* 1 GiB of marks */
#define HANDOVER_DIGEST 32u

struct handover_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 granularity_bytes;
	struct le64 bits;
	struct le64 bytes;
	struct le64 time_ns;
	uint8_t volume[16];
	char boot_id[40];	/* text, zeros behind it, at least one */
	char dm_uuid[136];	/* the same */
	struct le64 seed;
	uint8_t place[32];
	uint8_t state[32];
	uint8_t edges[32];
	uint8_t journal[32];
	uint8_t sample[32];
	uint8_t reserved[16];	/* zero */
};

_Static_assert(sizeof(struct handover_header) == 416, "hand-over header layout");
_Static_assert(offsetof(struct handover_header, boot_id) == 56, "hand-over header layout");
_Static_assert(offsetof(struct handover_header, place) == 240, "hand-over header layout");

/* A new buffer, the caller frees it. -EOVERFLOW when the marks are too many. */
int handover_encode(const struct handover *handover, uint8_t **data, size_t *length);

/*
 * Fills a zeroed `handover`. -EBADMSG, with `why` in words, for anything that
 * encode does not make; nothing is allocated then.
 */
int handover_decode(const uint8_t *data, size_t length, struct handover *handover,
		    const char **why);

#endif
