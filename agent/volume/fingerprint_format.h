/*
 * The table of fingerprints and its journal, docs/format.md "Fingerprints".
 * Private to agent/volume.
 */
#ifndef CLAWBACK_VOLUME_FINGERPRINT_FORMAT_H
#define CLAWBACK_VOLUME_FINGERPRINT_FORMAT_H

#include "agent/base/le.h"

#include <stddef.h>

#define TABLE_MAGIC "CLAWFPT1"
#define JOURNAL_MAGIC "CLAWFPJ1"
#define FINGERPRINT_VERSION 1u
#define FINGERPRINT_BLOCKS_MAX (UINT64_C(1) << 44)
#define TABLE_TAGS_OFFSET 4096u		/* of block 0's */
#define RECORD_TAGS_MAX 256u
#define JOURNAL_ANEW 1u			/* flag: onto an empty table, under `key` */

struct table_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 block_bytes;
	uint8_t volume[16];
	struct le64 blocks;
	uint8_t key[32];
	uint8_t head_hash[32];		/* the point whose content the table is */
	struct le64 checked;
	struct le64 mismatches;
	uint8_t reserved[8];		/* zero */
	uint8_t digest[32];		/* SHA-256 of the 128 bytes above */
};

_Static_assert(offsetof(struct table_header, digest) == 128, "table header layout");
_Static_assert(sizeof(struct table_header) == 160, "table header layout");

struct journal_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;
	uint8_t volume[16];
	uint8_t run[16];		/* of the point that it leads to */
	struct le64 blocks;
	uint8_t key[32];		/* anew: the table's from then on; else zero */
	uint8_t base_hash[32];		/* the table it goes onto; anew: zero */
	uint8_t reserved[8];		/* zero */
};

_Static_assert(sizeof(struct journal_header) == 128, "journal header layout");

/* Followed by `count` tags; count 0 ends, `first` is then the number of records. */
struct journal_record {
	struct le64 first;
	struct le32 count;
	uint8_t reserved[4];		/* zero */
};

_Static_assert(sizeof(struct journal_record) == 16, "journal record layout");

/* Behind the record that ends. */
struct journal_trailer {
	struct le64 checked;		/* to be added to the table's */
	struct le64 mismatches;
	uint8_t digest[32];		/* SHA-256 of all before */
};

_Static_assert(sizeof(struct journal_trailer) == 48, "journal trailer layout");

#endif
