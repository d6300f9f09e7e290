/*
 * Which blocks of an overlay's target are there (docs/format.md "Present blocks").
 *
 *   +----------------+ 0
 *   | present_header |
 *   +----------------+ 4096
 *   | bits           |  one a block of 4 KiB, rounded up to pages of 4096 bytes
 *   +----------------+
 *
 * Block b is in the target when byte b / 8 has bit b % 8. Bits are only ever set, in
 * place, a page at a time, and only when the blocks' data is durable in the target: so a
 * page of which a crash left some old and some new bytes is right, too.
 */
#ifndef CLAWBACK_SERVE_PRESENT_FORMAT_H
#define CLAWBACK_SERVE_PRESENT_FORMAT_H

#include "agent/base/le.h"

#include <stddef.h>
#include <stdint.h>

#define PRESENT_MAGIC "clawpres"
#define PRESENT_VERSION 1
#define PRESENT_PAGE_BYTES 4096u
#define PRESENT_HEADER_BYTES PRESENT_PAGE_BYTES

struct present_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;		/* none known: 0 */
	uint8_t repository[16];
	uint8_t volume[16];
	struct le64 point;
	struct le64 volume_bytes;
	struct le64 target;		/* which it is: a file's inode; of a device 64 bits
					 * of SHA-256 of what tells it from others, or 0 */
	uint8_t sha256[32];		/* of all before */
};

_Static_assert(sizeof(struct present_header) == 104, "present_header layout");
_Static_assert(offsetof(struct present_header, point) == 48, "present_header layout");
_Static_assert(offsetof(struct present_header, sha256) == 72, "present_header layout");

#endif
