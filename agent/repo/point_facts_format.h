/*
 * What is kept between runs of a volume's points (docs/format.md "Points' facts").
 *
 *   +--------------+ 0
 *   | facts_header | 128 bytes
 *   +--------------+ 128
 *   | facts_entry  | 48 bytes each, rising by number
 *   +--------------+
 *   | SHA-256      | of all before
 *   +--------------+
 */
#ifndef CLAWBACK_REPO_POINT_FACTS_FORMAT_H
#define CLAWBACK_REPO_POINT_FACTS_FORMAT_H

#include "agent/base/le.h"
#include "agent/repo/repo.h"

#define FACTS_MAGIC "CLAWFCT1"
#define FACTS_VERSION 1
#define FACTS_BYTES_MAX (1u << 30)

struct facts_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;		/* 0 */
	uint8_t repository[16], volume[16];
	struct le64 count;
	uint8_t last_hash[CRYPTO_DIGEST_SIZE];	/* of the last entry's point */
	uint8_t zero[40];
};
_Static_assert(sizeof(struct facts_header) == 128, "facts_header layout");

struct facts_entry {
	struct le64 number, time_ns, marked_bytes, stored_bytes;
	struct le32 kind, consistency;
	struct le64 zero;
};
_Static_assert(sizeof(struct facts_entry) == 48, "facts_entry layout");

struct point_facts_file {
	struct point_facts *items;	/* owned */
	size_t count;
	uint8_t last_hash[CRYPTO_DIGEST_SIZE];
};

/* -EBADMSG unless it is of this volume and whole; -ENOMEM. */
int point_facts_decode(const uint8_t *data, size_t length, const struct uuid *repository,
		       const struct uuid *volume, struct point_facts_file *file);

#endif
