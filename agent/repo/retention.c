/* Retention records on a store: the newest one found, read, and followed by another. */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A record that a prune removes between our listing and our reading has a successor. */
#define RETENTION_LOOKS 5

void retention_fini(struct retention *retention)
{
	extent_list_fini(&retention->forgotten);
	extent_list_fini(&retention->pruned);
	extent_list_fini(&retention->pinned);
	for (size_t i = 0; i < retention->serving_count; i++)
		extent_list_fini(&retention->serving[i].segments);
	for (size_t i = 0; i < retention->map_count; i++)
		free(retention->maps[i].wraps);
	free(retention->serving);
	free(retention->maps);
	free(retention->packs);
	memset(retention, 0, sizeof(*retention));
}

bool retention_hides(const struct retention *retention, uint64_t number)
{
	return extent_list_contains(&retention->forgotten, number) ||
	       extent_list_contains(&retention->pruned, number);
}

/* Both kinds of items begin with their number. */
static int compare_number(const void *key, const void *item)
{
	uint64_t wanted = *(const uint64_t *)key, number = *(const uint64_t *)item;

	return wanted < number ? -1 : wanted > number;
}
_Static_assert(offsetof(struct retention_map, number) == 0, "found by number");
_Static_assert(offsetof(struct retention_serving, number) == 0, "found by number");

const struct retention_map *retention_map_find(const struct retention *retention,
					       uint64_t number)
{
	return retention->map_count ? bsearch(&number, retention->maps, retention->map_count,
					      sizeof(*retention->maps), compare_number) : NULL;
}

const struct retention_serving *retention_serving_find(const struct retention *retention,
						       uint64_t number)
{
	return retention->serving_count ?
	       bsearch(&number, retention->serving, retention->serving_count,
		       sizeof(*retention->serving), compare_number) : NULL;
}

static int compare_pack(const void *key, const void *item)
{
	const struct retention_pack *wanted = key, *pack = item;

	if (wanted->sequence != pack->sequence)
		return wanted->sequence < pack->sequence ? -1 : 1;
	return wanted->number < pack->number ? -1 : wanted->number > pack->number;
}

const struct retention_pack *retention_pack_find(const struct retention *retention,
						 const struct retention_pack *wanted)
{
	return retention->pack_count ? bsearch(wanted, retention->packs, retention->pack_count,
					       sizeof(*retention->packs), compare_pack) : NULL;
}

/* ---- names ------------------------------------------------------------- */

void retention_key(const struct uuid *volume, uint64_t sequence,
		   char key[static STORE_KEY_MAX])
{
	char id[UUID_TEXT_SIZE];

	uuid_format(volume, id);
	snprintf(key, STORE_KEY_MAX, "%s/retention/%010" PRIu64, id, sequence);
}

bool retention_key_sequence(const char *key, uint64_t *sequence)
{
	return key_number(key, "/retention/", sequence);
}

void retention_map_key(const struct uuid *volume, const struct retention_map *map,
		       char key[static STORE_KEY_MAX])
{
	char id[UUID_TEXT_SIZE], run[2 * sizeof(map->run.b) + 1];

	uuid_format(volume, id);
	hex_encode(map->run.b, sizeof(map->run.b), run);
	snprintf(key, STORE_KEY_MAX, "%s/maps/%010" PRIu64 "-r%010" PRIu64 "-%.16s", id,
		 map->number, map->sequence, run);
}

void retention_apply(const struct retention *retention, const struct point *point,
		     struct point *as, char key[static STORE_KEY_MAX], uint64_t *offset)
{
	const struct retention_map *map = retention_map_find(retention, point->number);

	*as = *point;
	*offset = 0;
	if (!map) {
		if (point->map_inline) {
			point_key(&point->volume, point->number, key);
			*offset = point->head_bytes;
		} else {
			point_map_key(point, key);
		}
		return;
	}
	retention_map_key(&point->volume, map, key);
	as->run = map->run;
	as->parent = map->parent;
	memcpy(as->parent_hash, map->parent_hash, sizeof(as->parent_hash));
	as->map_kind = map->parent ? MAP_DELTA : MAP_FULL;
	as->map_inline = false;
	as->map_bytes = map->bytes;
	memcpy(as->map_sha256, map->sha256, sizeof(as->map_sha256));
	as->wrap_count = map->wrap_count;
	memcpy(as->wraps, map->wraps, map->wrap_count * sizeof(*map->wraps));
}

/* ---- reading ----------------------------------------------------------- */

static int record_damaged(const struct repo *repo, const char *key, const char *how,
			  struct error *err)
{
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s %s",
			      store_url(repo->store), key, how);
}

static int header_check(const struct repo *repo, const char *key, const uint8_t *object,
			size_t length, struct error *err)
{
	static const uint8_t zero[sizeof(((struct retention_header *)0)->zero)];
	struct retention_header header;

	if (length < sizeof(header) + CRYPTO_SIGNATURE_SIZE)
		return record_damaged(repo, key, "is cut short", err);
	memcpy(&header, object, sizeof(header));
	if (memcmp(header.magic, RETENTION_MAGIC, sizeof(header.magic)))
		return record_damaged(repo, key, "is damaged: it is no retention record", err);
	if (!get_le32(header.version) || get_le32(header.version) > RETENTION_VERSION)
		return error_set(err, -EPROTONOSUPPORT, "%s/%s has format version %" PRIu32
				 " and this program knows %d; use a newer clawback",
				 store_url(repo->store), key, get_le32(header.version),
				 RETENTION_VERSION);
	if (get_le32(header.flags) || memcmp(header.zero, zero, sizeof(zero)) ||
	    get_le32(header.record_length) != length - sizeof(header) - CRYPTO_SIGNATURE_SIZE)
		return record_damaged(repo, key, "is damaged: its header makes no sense", err);
	return 0;
}

static int signature_check(const struct repo *repo, const char *key, const uint8_t *object,
			   size_t length, struct signing_public *signer, struct error *err)
{
	size_t signed_length = length - CRYPTO_SIGNATURE_SIZE;

	for (size_t i = 0; i < repo->facts.signer_count; i++) {
		int ret = sign_verify(&repo->facts.signers[i], RETENTION_SIGN_LABEL, object,
				      signed_length, object + signed_length);

		if (ret == -ENOMEM)
			return error_set(err, ret, "checking the signature of %s: out of memory",
					 key);
		if (ret)
			continue;
		*signer = repo->facts.signers[i];
		return 0;
	}
	return record_damaged(repo, key, "is forged or damaged: no host of this repository "
			      "signed it", err);
}

static int record_parse(struct repo *repo, const struct uuid *volume, const char *key,
			uint64_t sequence, const uint8_t *object, size_t length,
			struct retention *retention, struct error *err)
{
	struct retention_place place = { repo->facts.id, *volume };
	struct signing_public signer;
	int ret = header_check(repo, key, object, length, err);

	if (!ret)
		ret = signature_check(repo, key, object, length, &signer, err);
	if (ret)
		return ret;
	ret = retention_parse((const char *)object + sizeof(struct retention_header),
			      length - sizeof(struct retention_header) - CRYPTO_SIGNATURE_SIZE,
			      &place, retention, err);
	if (ret)
		return error_prefix(err, "%s/%s", store_url(repo->store), key);
	if (retention->sequence != sequence ||
	    retention->version != get_le32(((const struct retention_header *)object)->version) ||
	    memcmp(&retention->signer, &signer, sizeof(signer))) {
		retention_fini(retention);
		return record_damaged(repo, key, "is another record in this one's place", err);
	}
	digest_of(object, length, retention->hash);
	return 0;
}

int retention_read(struct repo *repo, const struct uuid *volume, uint64_t sequence,
		   struct retention *retention, struct error *err)
{
	CLEANUP_FREE uint8_t *object = NULL;
	char key[STORE_KEY_MAX];
	size_t length;
	int ret;

	memset(retention, 0, sizeof(*retention));
	retention_key(volume, sequence, key);
	ret = store_get_all(repo->store, key, RETENTION_RECORD_MAX, &object, &length, err);
	return ret ? ret : record_parse(repo, volume, key, sequence, object, length, retention,
					err);
}

static int sequence_seen(void *context, const char *key, uint64_t bytes)
{
	uint64_t *newest = context, sequence;

	(void)bytes;
	if (retention_key_sequence(key, &sequence) && sequence > *newest)
		*newest = sequence;
	return 0;
}

int retention_load(struct repo *repo, const struct uuid *volume,
		   struct retention *retention, struct error *err)
{
	char prefix[STORE_KEY_MAX];
	int ret = 0;

	memset(retention, 0, sizeof(*retention));
	retention_key(volume, 0, prefix);
	*(strrchr(prefix, '/') + 1) = '\0';
	for (int i = 0; i < RETENTION_LOOKS; i++) {
		uint64_t newest = 0;

		ret = store_list(repo->store, prefix, sequence_seen, &newest, err);
		if (ret || !newest)
			break;
		ret = retention_read(repo, volume, newest, retention, err);
		if (ret != -ENOENT)
			break;
	}
	return ret ? error_prefix(err, "finding out which points were forgotten") : 0;
}

int point_number_used(uint64_t number, struct error *err)
{
	error_set_exit(err, EXIT_LOCKED, -EEXIST, "there was a point %" PRIu64 " already, which "
		       "was pruned: the machine or its state was set back to an earlier image, or is "
		       "a copy of another", number);
	return error_hint(err, "the next run goes on from the newest point, if that is this "
			  "host's, and stores the whole volume");
}

int point_number_check(struct repo *repo, const struct uuid *volume, uint64_t number,
		       struct error *err)
{
	struct retention retention;
	bool used;
	int ret = retention_load(repo, volume, &retention, err);

	if (ret)
		return ret;
	used = number <= retention.through;
	retention_fini(&retention);
	return used ? point_number_used(number, err) : 0;
}

/* ---- writing ----------------------------------------------------------- */

static int record_assemble(struct repo *repo, const struct uuid *volume,
			   const struct retention *next, const struct signing_private *signer,
			   uint8_t **object, size_t *length, struct error *err)
{
	struct retention_place place = { repo->facts.id, *volume };
	CLEANUP_FREE char *text = retention_text(next, &place);
	struct retention readable;
	struct retention_header header = {
		.magic = RETENTION_MAGIC, .version = le32(RETENTION_VERSION),
	};
	CLEANUP_FREE uint8_t *buffer = NULL;
	size_t text_length = text ? strlen(text) : 0, signed_length;
	int ret;

	if (text_length > RETENTION_RECORD_MAX - sizeof(header) - CRYPTO_SIGNATURE_SIZE)
		return error_set(err, -EFBIG, "the retention record has %zu bytes, more than a "
				 "reader accepts", text_length);
	signed_length = sizeof(header) + text_length;
	buffer = malloc(signed_length + CRYPTO_SIGNATURE_SIZE);
	if (!text || !buffer)
		return error_set(err, -ENOMEM, "writing a retention record: out of memory");
	/* One that nobody could read would hide all others. */
	ret = retention_parse(text, text_length, &place, &readable, err);
	if (ret)
		return error_prefix(err, "writing a retention record");
	retention_fini(&readable);
	header.record_length = le32((uint32_t)text_length);
	memcpy(buffer, &header, sizeof(header));
	memcpy(buffer + sizeof(header), text, text_length);
	ret = sign_data(signer, RETENTION_SIGN_LABEL, buffer, signed_length,
			buffer + signed_length, err);
	if (ret)
		return ret;
	*length = signed_length + CRYPTO_SIGNATURE_SIZE;
	*object = STEAL(buffer);
	return 0;
}

int retention_commit(struct repo *repo, const struct uuid *volume, struct retention *next,
		     const struct signing_private *signer, struct error *err)
{
	CLEANUP_FREE uint8_t *object = NULL;
	char key[STORE_KEY_MAX];
	size_t length = 0;
	int ret;

	signing_public(signer, &next->signer);
	ret = record_assemble(repo, volume, next, signer, &object, &length, err);
	if (ret)
		return ret;
	digest_of(object, length, next->hash);
	retention_key(volume, next->sequence, key);
	ret = FAULT_ERR("retention.commit", err) ?:
	      store_put(repo->store, key, object, length, STORE_IF_ABSENT, err);
	if (ret == -EEXIST)
		return error_set_exit(err, EXIT_LOCKED, ret, "another forget, keep or prune of "
				      "this volume was quicker; run it again");
	return ret ? error_prefix(err, "committing what is forgotten") : 0;
}
