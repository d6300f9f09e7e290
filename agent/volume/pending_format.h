/*
 * The pending file, docs/format.md "Pending file". Private to agent/volume.
 *
 *   0        8       12            16       24    40          48        80
 *   ├────────┼────────┼─────────────┼────────┼─────┼───────────┼─────────┼────────┐
 *   │ magic  │version │ granularity │  bits  │ run │ reserved  │ SHA-256 │ words… │
 *   └────────┴────────┴─────────────┴────────┴─────┴───────────┴─────────┴────────┘
 */
#ifndef CLAWBACK_VOLUME_PENDING_FORMAT_H
#define CLAWBACK_VOLUME_PENDING_FORMAT_H

#include "agent/base/le.h"

#include <stddef.h>

#define PENDING_MAGIC "CLAWPEND"
#define PENDING_VERSION 2u
#define PENDING_BITS_MAX (UINT64_C(1) << 33)	/* 1 GiB of marks */

struct pending_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 granularity_bytes;
	struct le64 bits;
	uint8_t run[16];	/* the id of the point that the run would commit */
	uint8_t reserved[8];	/* zero */
	uint8_t digest[32];	/* of the 48 bytes above and all words */
};

_Static_assert(sizeof(struct pending_header) == 80, "pending header layout");
_Static_assert(offsetof(struct pending_header, digest) == 48, "pending header layout");

#endif
