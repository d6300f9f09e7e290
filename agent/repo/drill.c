/* Drills' records on a store: one behind the other, the newest of them read. */
#include "agent/repo/drill_format.h"
#include "agent/repo/point_format.h"
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DRILL_TRIES 5		/* others drill the same volume elsewhere */

void drill_key(const struct uuid *volume, uint64_t sequence, char key[static STORE_KEY_MAX])
{
	char id[UUID_TEXT_SIZE];

	uuid_format(volume, id);
	snprintf(key, STORE_KEY_MAX, "%s/drills/%010" PRIu64, id, sequence);
}

/* ---- which there are ----------------------------------------------------- */

/* What a store lists is bounded here: only the newest count, in no order. */
struct drill_names {
	uint64_t numbers[4 * REPO_DRILLS_KEPT];
	size_t count;
};

static int name_seen(void *context, const char *key, uint64_t bytes)
{
	struct drill_names *names = context;
	size_t least = 0;
	uint64_t number;

	(void)bytes;
	if (!key_number(key, "/drills/", &number))
		return 0;
	if (names->count < sizeof(names->numbers) / sizeof(names->numbers[0])) {
		names->numbers[names->count++] = number;
		return 0;
	}
	for (size_t i = 1; i < names->count; i++)
		if (names->numbers[i] < names->numbers[least])
			least = i;
	if (number > names->numbers[least])
		names->numbers[least] = number;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x > y ? -1 : x < y;
}

static int names_list(struct repo *repo, const struct uuid *volume, struct drill_names *names,
		      struct error *err)
{
	char prefix[STORE_KEY_MAX];
	int ret;

	names->count = 0;
	drill_key(volume, 0, prefix);
	*(strrchr(prefix, '/') + 1) = '\0';
	ret = store_list(repo->store, prefix, name_seen, names, err);
	if (ret)
		return error_prefix(err, "looking for records of drills");
	qsort(names->numbers, names->count, sizeof(names->numbers[0]), newest_first);
	return 0;
}

/* ---- reading ------------------------------------------------------------- */

static int damaged(const struct repo *repo, const char *key, const char *how, struct error *err)
{
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s %s",
			      store_url(repo->store), key, how);
}

static int header_check(const struct repo *repo, const char *key, const uint8_t *object,
			size_t length, struct error *err)
{
	static const uint8_t zero[sizeof(((struct drill_header *)0)->zero)];
	struct drill_header header;

	if (length < sizeof(header) + CRYPTO_SIGNATURE_SIZE)
		return damaged(repo, key, "is cut short", err);
	memcpy(&header, object, sizeof(header));
	if (memcmp(header.magic, DRILL_MAGIC, sizeof(header.magic)) ||
	    get_le32(header.version) != DRILL_VERSION || get_le32(header.flags) ||
	    memcmp(header.zero, zero, sizeof(zero)) ||
	    get_le32(header.record_length) != length - sizeof(header) - CRYPTO_SIGNATURE_SIZE)
		return damaged(repo, key, "is no drill's record that this program knows", err);
	return 0;
}

static int signature_check(const struct repo *repo, const char *key, const uint8_t *object,
			   size_t length, struct error *err)
{
	size_t signed_length = length - CRYPTO_SIGNATURE_SIZE;

	for (size_t i = 0; i < repo->facts.signer_count; i++) {
		int ret = sign_verify(&repo->facts.signers[i], DRILL_SIGN_LABEL, object,
				      signed_length, object + signed_length);

		if (ret == -ENOMEM)
			return error_set(err, ret, "checking the signature of %s: out of memory",
					 key);
		if (!ret)
			return 0;
	}
	return damaged(repo, key, "is forged or damaged: no host of this repository signed it",
		       err);
}

static int drill_read(struct repo *repo, const struct uuid *volume, uint64_t sequence,
		      struct drill_record *record, struct error *err)
{
	struct drill_place place = { repo->facts.id, *volume, sequence };
	CLEANUP_FREE uint8_t *object = NULL;
	char key[STORE_KEY_MAX];
	size_t length;
	int ret;

	drill_key(volume, sequence, key);
	ret = store_get_all(repo->store, key, DRILL_RECORD_MAX, &object, &length, err);
	if (!ret)
		ret = header_check(repo, key, object, length, err);
	if (!ret)
		ret = signature_check(repo, key, object, length, err);
	if (ret)
		return ret;
	ret = drill_parse((const char *)object + sizeof(struct drill_header),
			  length - sizeof(struct drill_header) - CRYPTO_SIGNATURE_SIZE, &place,
			  record, err);
	return ret ? error_prefix(err, "%s/%s", store_url(repo->store), key) : 0;
}

int repo_drills(struct repo *repo, const struct uuid *volume, size_t most,
		struct drill_record **records, size_t *count, size_t *untrustworthy,
		struct error *err)
{
	CLEANUP_FREE struct drill_record *found = calloc(most + 1, sizeof(*found));
	struct drill_names names;
	int ret = found ? names_list(repo, volume, &names, err)
			: error_set(err, -ENOMEM, "reading drills: out of memory");

	*records = NULL;
	*count = *untrustworthy = 0;
	for (size_t i = 0; !ret && i < names.count && *count + *untrustworthy < most; i++) {
		ret = drill_read(repo, volume, names.numbers[i], &found[*count], err);
		if (!ret) {
			++*count;
		} else if (err->exit == EXIT_UNTRUSTWORTHY) {
			log_detail("%s", err->message);
			++*untrustworthy;
			ret = 0;
		} else if (ret == -ENOENT) {
			ret = 0;	/* deleted since, as another came */
		}
	}
	if (ret)
		return ret;
	*err = (struct error)ERROR_INIT;
	*records = STEAL(found);
	return 0;
}

/* ---- writing ------------------------------------------------------------- */

static int object_make(struct repo *repo, const struct uuid *volume,
		       const struct drill_record *record, const struct signing_private *signer,
		       uint8_t **object, size_t *length, struct error *err)
{
	struct drill_place place = { repo->facts.id, *volume, record->sequence };
	struct drill_header header = { .magic = DRILL_MAGIC, .version = le32(DRILL_VERSION) };
	CLEANUP_FREE char *text = drill_text(record, &place);
	CLEANUP_FREE uint8_t *buffer = NULL;
	size_t text_length = text ? strlen(text) : 0;
	struct drill_record back;

	*length = sizeof(header) + text_length + CRYPTO_SIGNATURE_SIZE;
	buffer = malloc(*length);
	if (!text || !buffer)
		return error_set(err, -ENOMEM, "writing a drill's record: out of memory");
	/* One that nobody could read would pass for a forgery. */
	if (drill_parse(text, text_length, &place, &back, err))
		return error_prefix(err, "writing a drill's record");
	header.record_length = le32((uint32_t)text_length);
	memcpy(buffer, &header, sizeof(header));
	memcpy(buffer + sizeof(header), text, text_length);
	if (sign_data(signer, DRILL_SIGN_LABEL, buffer, *length - CRYPTO_SIGNATURE_SIZE,
		      buffer + *length - CRYPTO_SIGNATURE_SIZE, err))
		return err->code;
	*object = STEAL(buffer);
	return 0;
}

/* The store may not let us: then they stay, which costs a kilobyte each. */
static void delete_old(struct repo *repo, const struct uuid *volume,
		       const struct drill_names *names)
{
	for (size_t i = REPO_DRILLS_KEPT - 1; i < names->count; i++) {
		struct error err = ERROR_INIT;
		char key[STORE_KEY_MAX];

		drill_key(volume, names->numbers[i], key);
		if (!store_delete(repo->store, key, &err))
			continue;
		log_detail("an old record of a drill stays: %s", err.message);
		return;
	}
}

int repo_drill_add(struct repo *repo, const struct uuid *volume, struct drill_record *record,
		   const struct signing_private *signer, struct error *err)
{
	struct drill_names names;
	int ret = -EEXIST;

	for (int i = 0; ret == -EEXIST && i < DRILL_TRIES; i++) {
		CLEANUP_FREE uint8_t *object = NULL;
		char key[STORE_KEY_MAX];
		size_t length;

		ret = names_list(repo, volume, &names, err);
		record->sequence = !ret && names.count ? names.numbers[0] + 1 : 1;
		if (!ret)
			ret = object_make(repo, volume, record, signer, &object, &length, err);
		drill_key(volume, record->sequence, key);
		if (!ret)
			ret = store_put(repo->store, key, object, length, STORE_IF_ABSENT, err);
	}
	if (!ret) {
		delete_old(repo, volume, &names);
		return 0;
	}
	record->sequence = 0;
	return error_prefix(err, "recording a drill");
}
