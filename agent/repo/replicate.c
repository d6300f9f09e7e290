/*
 * Replicas: the same repository in further stores. Objects are immutable, so a copy of
 * one is the same one; what makes a point exist is its object, so that is copied last.
 * Usually a pass knows from the one before how far the target is and goes on there,
 * without listing anything; replicate_fill finds out where that does not lead on.
 */
#include "agent/repo/replicate_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"

#include <errno.h>
#include <string.h>

/* ---- opening --------------------------------------------------------------- */

static int identity_copy(struct repo *source, struct store *store, struct error *err)
{
	CLEANUP_FREE uint8_t *text = NULL;
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	size_t length;
	int ret = store_get_all(source->store, REPO_KEY, REPO_OBJECT_MAX, &text, &length, err);

	if (ret)
		return ret;
	digest_of(text, length, digest);
	hex_encode(digest, sizeof(digest), fingerprint);
	if (strcmp(fingerprint, source->facts.fingerprint))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s became another "
				      "repository meanwhile", store_url(source->store));
	ret = store_put(store, REPO_KEY, text, length, STORE_IF_ABSENT, err);
	return ret == -EEXIST ? 0 : ret;
}

int replica_open(struct repo *source, struct store *store, bool create,
		 struct repo **replica, struct error *err)
{
	int ret = repo_open(store, source->facts.fingerprint, replica, err);

	if (ret == -ENOENT && create) {
		*err = (struct error)ERROR_INIT;
		ret = identity_copy(source, store, err);
		if (ret)
			return error_prefix(err, "making a replica at %s", store_url(store));
		ret = repo_open(store, source->facts.fingerprint, replica, err);
	}
	return ret;
}

/* ---- a pass ---------------------------------------------------------------- */

/* Whether the target's newest is the point that is remembered. */
static int head_check(struct replication *replication, bool *known, struct error *err)
{
	struct point head;
	int ret = point_load(replication->target, &replication->volume->id,
			     replication->place->through, &head, err);

	*known = !ret;
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	memcpy(replication->hash, head.hash, sizeof(head.hash));
	replication->has_hash = true;
	replication->place->time_ns = head.time_ns;
	point_fini(&head);
	return 0;
}

/* -ENOENT: it does not lead on that way. */
static int go_on(struct replication *replication, struct error *err)
{
	static const struct retention nothing;
	const struct replica_place *place = replication->place;
	uint64_t newest = replication->options->newest, from = place->through;
	bool known;
	int ret = head_check(replication, &known, err);

	if (!ret && !known)
		ret = -ENOENT;
	replication->resumed = true;
	replication->total = newest - from;
	for (uint64_t number = from + 1; !ret && number <= newest; number++)
		ret = replicate_point(replication, &nothing, number, err);
	return ret;
}

static int replicate(struct replication *replication, struct error *err)
{
	const struct replica_place *place = replication->place;
	uint64_t newest = replication->options->newest;
	int ret = -ENOENT;

	if (replication->target && place->filled && place->through && newest >= place->through)
		ret = go_on(replication, err);
	if (ret != -ENOENT)
		return ret;
	*err = (struct error)ERROR_INIT;
	if (replication->options->dry_run)
		memset(replication->result, 0, sizeof(*replication->result));
	return replicate_fill(replication, err);
}

int repo_replicate(struct repo *source, struct repo *target, const struct repo_volume *volume,
		   struct replica_place *place, const struct replicate_options *options,
		   struct replicate_result *result, struct error *err)
{
	struct replication replication = {
		.source = source, .target = target, .volume = volume, .place = place,
		.options = options, .result = result,
		.piece_bytes = options->piece_bytes ? options->piece_bytes : REPLICATE_PIECE_BYTES,
	};
	int ret;

	memset(result, 0, sizeof(*result));
	if (target && strcmp(source->facts.fingerprint, target->facts.fingerprint))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s and %s are different "
				      "repositories", store_url(source->store),
				      store_url(target->store));
	replication.piece = malloc(replication.piece_bytes);
	if (!replication.piece)
		return error_set(err, -ENOMEM, "replicating: out of memory");
	ret = replicate(&replication, err);
	free(replication.piece);
	return ret ? error_prefix(err, "replicating %s to %s", volume->name,
				  target ? store_url(target->store) : "a new store") : 0;
}
