/*
 * The recovery kit: one page for a bad day, on which whoever has no more than it, the
 * recovery key and the store's credentials finds how to get at the data from a bare
 * machine. Holds no secret: it is there to be printed and to lie about.
 *
 * The store is asked; where it does not answer, the page has what this host knows. Its
 * configuration fragment is what `clawback restore` needs on a new machine, and what
 * the QR codes hold.
 */
#ifndef CLAWBACK_KIT_KIT_H
#define CLAWBACK_KIT_KIT_H

#include "agent/base/error.h"
#include "agent/config/config.h"
#include "agent/crypto/crypto.h"
#include "agent/protect/protect.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIT_RECIPIENTS_MAX 32

struct kit_volume {
	char name[REPO_NAME_MAX + 1];
	char device[PATH_MAX];		/* "" when it is in the store only */
	char group[VOLUME_NAME_MAX + 1];
	char which[UUID_TEXT_SIZE + REPO_NAME_MAX + 1]; /* what restore calls it */
	bool has_id;
	struct uuid id;
	uint64_t point;			/* the newest; 0: there is none, or none is known */
	uint64_t time_ns, bytes;	/* of that */
};

struct kit {
	const struct config *config;	/* the caller's */
	char host[65];
	uint64_t made_ns;
	char store[VOLUME_NAME_MAX + 1]; /* whose points these are; "" when none answered */
	char problem[512];		/* what the first store that did not answer said */
	bool has_id;
	struct uuid id;			/* the repository's */
	char fingerprint[CRYPTO_FINGERPRINT_TEXT]; /* "" when not known */
	char recipients[KIT_RECIPIENTS_MAX][CRYPTO_FINGERPRINT_TEXT];
	size_t recipient_count;
	struct kit_volume *volumes;	/* owned */
	size_t volume_count;
};

/*
 * From the first store that answers, or without one. Fails where a store is there and
 * is not to be trusted, or nothing is configured. Changes nothing.
 */
int kit_gather(const struct config *config, struct kit *kit, struct error *err);
void kit_fini(struct kit *kit);

/* What a new machine's clawback.conf has to say; NULL: out of memory. Caller frees. */
char *kit_fragment(const struct kit *kit);

/*
 * The page as text, lines ended by LF. Lines that begin with four blanks are commands
 * for a shell, in their order. NULL: out of memory. Caller frees.
 */
char *kit_text(const struct kit *kit);

/*
 * The same on A4 with the fragment in QR codes, more than one where it is long: put
 * together in their order they are the fragment. Caller frees *data.
 */
int kit_pdf(const struct kit *kit, uint8_t **data, size_t *length, struct error *err);

/* The fragment's part number `index`, and how many there are; for tests. NULL beyond. */
char *kit_part(const char *fragment, size_t index, size_t *count);

#endif
