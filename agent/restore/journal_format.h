/*
 * The journal of a restore, docs/format.md "Restore journal". Private to agent/restore.
 *
 *   ┌────────┬───────┬───────┬───┬───────┐
 *   │ header │ batch │ batch │ … │ batch │	appended, each in one write
 *   └────────┴───────┴───────┴───┴───────┘
 *
 * A batch is its header and `count` records. What is cut off or damaged ends the
 * journal: nothing behind it counts.
 */
#ifndef CLAWBACK_RESTORE_JOURNAL_FORMAT_H
#define CLAWBACK_RESTORE_JOURNAL_FORMAT_H

#include "agent/base/le.h"

#include <stddef.h>

#define JOURNAL_MAGIC "CLAWREST"
#define JOURNAL_VERSION 1u
#define JOURNAL_BATCH_MAGIC 0x68637462u		/* "btch" */
#define JOURNAL_BATCH_MAX 4096u			/* records */
#define JOURNAL_BYTES_MAX (UINT64_C(1) << 30)	/* of the file: some 60 TiB */

struct journal_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 window_bytes;
	uint8_t repository[16];
	uint8_t volume[16];
	struct le64 point;
	struct le64 volume_bytes;
	struct le64 device, inode;	/* of a target that is a file, else 0 */
	uint8_t point_hash[32];
	uint8_t key[32];		/* of the tags */
	uint8_t digest[32];		/* SHA-256 of what is above */
};

struct journal_batch {
	struct le32 magic;
	struct le32 count;		/* 1 … JOURNAL_BATCH_MAX */
	uint8_t digest[32];		/* of the header's digest, magic, count and records */
};

struct journal_item {
	struct le64 window;
	struct le64 tag;
};

_Static_assert(sizeof(struct journal_header) == 176, "journal header layout");
_Static_assert(offsetof(struct journal_header, digest) == 144, "journal header layout");
_Static_assert(sizeof(struct journal_batch) == 40, "journal batch layout");
_Static_assert(sizeof(struct journal_item) == 16, "journal record layout");

#endif
