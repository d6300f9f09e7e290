/* The records of what was forgotten, and whether anything is missing that they do not name. */
#include "agent/repo/verify_private.h"

#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Pruned points of which no object is needed. */
static int gone_make(struct verify *verify)
{
	const struct retention *retention = &verify->retention;
	struct extent_list serving = EXTENT_LIST_INIT;
	int ret = 0;

	for (size_t i = 0; !ret && i < retention->serving_count; i++)
		ret = extent_list_append(&serving, retention->serving[i].number, 1);
	if (!ret)
		ret = extent_list_subtract(&retention->pruned, &serving, &verify->gone);
	extent_list_fini(&serving);
	return ret;
}

static int sequence_seen(void *context, const char *key, uint64_t bytes)
{
	uint64_t sequence;

	(void)bytes;
	return retention_key_sequence(key, &sequence) ?
	       extent_list_append(context, sequence, 1) : 0;
}

/* One that was removed since the listing is no gap: a prune is at work. */
static int record_follows(struct verify *verify, uint64_t sequence,
			  uint8_t hash[static CRYPTO_DIGEST_SIZE], bool *known,
			  struct error *err)
{
	struct retention record;
	int ret = retention_read(verify->repo, &verify->volume, sequence, &record, err);

	if (ret && err->exit == EXIT_UNTRUSTWORTHY)
		verify_fault(verify, err);
	if (ret) {
		*known = false;
		return ret == -ENOENT || err->exit == EXIT_UNTRUSTWORTHY ? 0 : ret;
	}
	verify_count(verify, 0, 1, 0);
	if (*known && memcmp(hash, record.previous, CRYPTO_DIGEST_SIZE))
		verify_problem(verify, "retention record %" PRIu64 " does not follow the one "
			       "before it: one of them was replaced", sequence);
	memcpy(hash, record.hash, CRYPTO_DIGEST_SIZE);
	*known = true;
	retention_fini(&record);
	return 0;
}

/* From the oldest that is still there to the newest: none missing, none replaced. */
static int records_compare(struct verify *verify, const struct extent_list *sequences,
			   struct error *err)
{
	uint8_t hash[CRYPTO_DIGEST_SIZE];
	int ret = 0;

	for (size_t i = 0; !ret && i < sequences->count; i++) {
		const struct extent *run = &sequences->items[i];
		bool known = false;

		if (i)
			verify_problem(verify, "retention records before %" PRIu64 " are missing: "
				       "the sequence has a gap", run->first);
		for (uint64_t s = 0; !ret && s < run->count; s++)
			ret = record_follows(verify, run->first + s, hash, &known, err);
	}
	return ret;
}

int verify_records(struct verify *verify, struct error *err)
{
	struct extent_list sequences = EXTENT_LIST_INIT;
	char prefix[STORE_KEY_MAX];
	int ret = retention_load(verify->repo, &verify->volume, &verify->retention, err);

	if (!ret) {
		verify->packs = packs_new(verify->repo, &verify->volume, &verify->retention);
		verify->wanted_packs = calloc(verify->retention.pack_count + 1,
					      sizeof(*verify->wanted_packs));
		if (!verify->packs || !verify->wanted_packs || gone_make(verify))
			ret = error_set(err, -ENOMEM, "verifying: out of memory");
	}
	if (ret || !verify->retention.sequence)
		return ret;
	retention_key(&verify->volume, 0, prefix);
	*(strrchr(prefix, '/') + 1) = '\0';
	ret = store_list(verify->repo->store, prefix, sequence_seen, &sequences, err);
	if (ret && !err->code)
		error_set(err, ret, "listing retention records: %s", error_text(ret));
	if (!ret)
		ret = records_compare(verify, &sequences, err);
	extent_list_fini(&sequences);
	return ret;
}

/* ---- missing points ---------------------------------------------------- */

static void verify_gap(struct verify *verify, uint64_t first, uint64_t count)
{
	if (count == 1)
		verify_problem(verify, "point %" PRIu64 " is missing: the sequence has a gap",
			       first);
	else
		verify_problem(verify, "points %" PRIu64 " to %" PRIu64 " are missing: the "
			       "sequence has a gap", first, first + count - 1);
}

/* Numbers from `first` on that no point has: which of them were not pruned. */
static int gap_check(struct verify *verify, uint64_t first, uint64_t count)
{
	struct extent_list gap = EXTENT_LIST_INIT, missing = EXTENT_LIST_INIT;
	int ret = extent_list_append(&gap, first, count);

	if (!ret)
		ret = extent_list_subtract(&gap, &verify->gone, &missing);
	for (size_t i = 0; !ret && i < missing.count; i++)
		verify_gap(verify, missing.items[i].first, missing.items[i].count);
	extent_list_fini(&gap);
	extent_list_fini(&missing);
	return ret;
}

void verify_sequence(struct verify *verify)
{
	uint64_t expected = 1;
	int ret = 0;

	for (size_t i = 0; !ret && i < verify->count; i++) {
		uint64_t number = verify->known[i].number;

		if (number > expected)
			ret = gap_check(verify, expected, number - expected);
		expected = number + 1;
	}
	/* A record remembers how many there were. */
	if (!ret && verify->retention.through >= expected)
		ret = gap_check(verify, expected, verify->retention.through - expected + 1);
	if (ret) {
		struct error err = ERROR_INIT;

		error_set(&err, -ENOMEM, "verifying: out of memory");
		verify_fault(verify, &err);
	}
}
