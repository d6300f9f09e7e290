/* Internal to the fingerprint files: the table, its journal, one of each open. */
#ifndef CLAWBACK_VOLUME_FINGERPRINT_PRIVATE_H
#define CLAWBACK_VOLUME_FINGERPRINT_PRIVATE_H

#include "agent/crypto/crypto.h"
#include "agent/volume/fingerprint_format.h"
#include "agent/volume/volume.h"

#define JOURNAL_BUFFER_BYTES (64u << 10)

/* The journal of the present run. */
struct journal {
	int fd;				/* -1: none */
	struct digest *digest;		/* of what was flushed; NULL once sealed */
	uint8_t *buffer;		/* JOURNAL_BUFFER_BYTES, owned */
	size_t used;
	uint64_t records;
	struct journal_header header;
	struct error error;		/* the first failure */
};

struct fingerprints {
	char path[PATH_MAX], journal_path[PATH_MAX];
	int fd;				/* -1: there is no table */
	struct uuid volume;
	uint64_t blocks;
	bool usable;			/* `header` is valid, and of this volume and size */
	bool current;
	struct table_header header;
	uint64_t checked, mismatches;	/* of this run */
	struct journal journal;
};

/* Starts to write; ends, durably; forgets. */
int journal_start(struct fingerprints *table, const struct journal_header *header,
		  struct error *err);
void journal_add(struct journal *journal, uint64_t first, uint32_t count,
		 const uint64_t *tags);
int journal_end(struct fingerprints *table, struct error *err);
void journal_drop(struct journal *journal);

/*
 * Opens and checks the journal that is there: whole, of this volume and size, its
 * digest right. -ENOENT, -EBADMSG, or another errno.
 */
int journal_open(const struct fingerprints *table, int *fd, struct journal_header *header,
		 struct journal_trailer *trailer);
/* Calls `take` for every record of a checked journal. */
int journal_walk(int fd, int (*take)(void *context, uint64_t first, uint32_t count,
				     const struct le64 *tags), void *context);

#endif
