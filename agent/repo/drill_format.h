/*
 * Layout of a drill's record (docs/format.md "Drill").
 *
 *   +------------------+ 0
 *   | drill_header     | 64 bytes
 *   +------------------+ 64
 *   | record, JSON     | record_length
 *   +------------------+
 *   | signature        | 64 bytes, over header and record
 *   +------------------+
 */
#ifndef CLAWBACK_REPO_DRILL_FORMAT_H
#define CLAWBACK_REPO_DRILL_FORMAT_H

#include "agent/base/le.h"
#include "agent/repo/repo.h"

#define DRILL_MAGIC "CLAWDRL1"
#define DRILL_VERSION 1
#define DRILL_SIGN_LABEL "clawback drill v1"
#define DRILL_RECORD_MAX (16u << 10)

struct drill_header {
	uint8_t magic[8];
	struct le32 version;
	struct le32 flags;		/* 0 */
	struct le32 record_length;
	uint8_t zero[44];
};
_Static_assert(sizeof(struct drill_header) == 64, "drill_header layout");

/* What a record has to name besides what is in it. */
struct drill_place {
	struct uuid repository, volume;
	uint64_t sequence;
};

/* To JSON text (caller frees; NULL: no memory) and back. */
char *drill_text(const struct drill_record *record, const struct drill_place *place);
int drill_parse(const char *text, size_t length, const struct drill_place *place,
		struct drill_record *record, struct error *err);

void drill_key(const struct uuid *volume, uint64_t sequence, char key[static STORE_KEY_MAX]);

#endif
