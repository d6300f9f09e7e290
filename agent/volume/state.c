/*
 * What is remembered about a volume between runs: a small JSON file, written
 * atomically. The fields stand in one table, used both ways; a file that lacks
 * one, has one of another kind, or whose checksum does not fit is damaged, and
 * a damaged one is never believed in part.
 */
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/crypto/crypto.h"
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_VERSION 1
#define STATE_LIMIT_BYTES (64u << 10)

enum state_kind { STATE_TEXT, STATE_U32, STATE_U64, STATE_UUID, STATE_HEX, STATE_TRUST,
		  /* files of earlier versions lack them: zero then */
		  STATE_HEX_NEW, STATE_U64_NEW };

struct state_field {
	const char *key;
	enum state_kind kind;
	size_t offset, size;
};

#define FIELD(key, kind, member) { key, kind, offsetof(struct volume_state, member), \
				   sizeof(((struct volume_state *)0)->member) }

static const struct state_field state_fields[] = {
	FIELD("volume", STATE_UUID, id),
	FIELD("name", STATE_TEXT, name),
	FIELD("device_path", STATE_TEXT, device_path),
	FIELD("dm_uuid", STATE_TEXT, dm_uuid),
	FIELD("dm_name", STATE_TEXT, dm_name),
	FIELD("table", STATE_HEX_NEW, table),
	FIELD("device", STATE_U32, device),
	FIELD("diskseq", STATE_U64, diskseq),
	FIELD("bytes", STATE_U64, bytes),
	FIELD("granularity_bytes", STATE_U32, granularity_bytes),
	FIELD("repository", STATE_UUID, repository),
	FIELD("head_point", STATE_U64, head_point),
	FIELD("head_hash", STATE_HEX, head_hash),
	FIELD("head_time_ns", STATE_U64, head_time_ns),
	FIELD("full_point", STATE_U64_NEW, full_point),
	FIELD("full_time_ns", STATE_U64_NEW, full_time_ns),
	FIELD("synthetic_time_ns", STATE_U64_NEW, synthetic_time_ns),
	FIELD("differential_time_ns", STATE_U64_NEW, differential_time_ns),
	FIELD("trust", STATE_TRUST, trust),
	FIELD("reason", STATE_TEXT, reason),
	FIELD("since_ns", STATE_U64, since_ns),
	FIELD("boot_id", STATE_TEXT, identity.boot_id),
	FIELD("program_id", STATE_U32, identity.program_id),
	FIELD("link_id", STATE_U32, identity.link_id),
	FIELD("bitmaps_id", STATE_U32, identity.bitmaps_id),
	FIELD("routes_id", STATE_U32, identity.routes_id),
	FIELD("ledger_id", STATE_U32, identity.ledger_id),
	FIELD("slots_id", STATE_U32, identity.slots_id),
	FIELD("retired_id", STATE_U32, identity.retired_id),
	FIELD("program_tag", STATE_TEXT, identity.program_tag),
	FIELD("recursion_misses", STATE_U64, recursion_misses),
	FIELD("base_kernel_write_sectors", STATE_U64, base.kernel_write_sectors),
	FIELD("base_kernel_discard_sectors", STATE_U64, base.kernel_discard_sectors),
	FIELD("base_traced_write_sectors", STATE_U64, base.traced_write_sectors),
	FIELD("base_traced_discard_sectors", STATE_U64, base.traced_discard_sectors),
};

#define STATE_FIELDS (sizeof(state_fields) / sizeof(state_fields[0]))

static void state_free_json(json_t **value)
{
	json_decref(*value);
}

static void state_free_text(char **text)
{
	free(*text);
}

/* ---- one field ------------------------------------------------------------- */

static json_t *state_put(const struct state_field *field, const void *at)
{
	char text[UUID_TEXT_SIZE], hex[2 * CRYPTO_DIGEST_SIZE + 1];
	uint64_t number = 0;

	switch (field->kind) {
	case STATE_TEXT:
		return json_string(at);
	case STATE_UUID:
		uuid_format(at, text);
		return json_string(text);
	case STATE_HEX:
	case STATE_HEX_NEW:
		for (size_t i = 0; i < field->size; i++)
			snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)at)[i]);
		return json_string(hex);
	case STATE_TRUST:
		return json_string(*(const enum volume_trust *)at == TRUST_TRACKED ?
				   "tracked" : "untrusted");
	case STATE_U32:
		number = *(const uint32_t *)at;
		break;
	case STATE_U64:
	case STATE_U64_NEW:
		number = *(const uint64_t *)at;
		break;
	}
	/* JSON's integers end at 2^63 here; no counter of ours gets there. */
	return number <= INT64_MAX ? json_integer((json_int_t)number) : NULL;
}

static int state_take_number(const struct state_field *field, const json_t *value,
			     void *at)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 ||
	    (field->kind == STATE_U32 && number > UINT32_MAX))
		return -EBADMSG;
	if (field->kind == STATE_U32)
		*(uint32_t *)at = (uint32_t)number;
	else
		*(uint64_t *)at = (uint64_t)number;
	return 0;
}

static int state_take_hex(const char *text, uint8_t *at, size_t size)
{
	if (strlen(text) != 2 * size || strspn(text, "0123456789abcdef") != 2 * size)
		return -EBADMSG;
	for (size_t i = 0; i < size; i++) {
		unsigned byte;

		sscanf(text + 2 * i, "%2x", &byte);
		at[i] = (uint8_t)byte;
	}
	return 0;
}

static int state_take(const struct state_field *field, const json_t *value, void *at)
{
	const char *text = json_string_value(value);

	if (!value && (field->kind == STATE_HEX_NEW || field->kind == STATE_U64_NEW)) {
		memset(at, 0, field->size);
		return 0;
	}
	if (field->kind == STATE_U32 || field->kind == STATE_U64 || field->kind == STATE_U64_NEW)
		return state_take_number(field, value, at);
	if (!text)
		return -EBADMSG;
	switch (field->kind) {
	case STATE_TEXT:
		if (strlen(text) >= field->size)
			return -EBADMSG;
		strcpy(at, text);
		return 0;
	case STATE_UUID:
		return uuid_parse(text, at) ? -EBADMSG : 0;
	case STATE_HEX:
	case STATE_HEX_NEW:
		return state_take_hex(text, at, field->size);
	default:
		*(enum volume_trust *)at = strcmp(text, "tracked") == 0 ?
			TRUST_TRACKED : TRUST_UNTRUSTED;
		return strcmp(text, "tracked") && strcmp(text, "untrusted") ?
			-EBADMSG : 0;
	}
}

/* ---- the file --------------------------------------------------------------- */

/* SHA-256 of the state object in its one canonical spelling, as hexadecimal. */
static int state_digest(const json_t *object, char hex[static 65])
{
	CLEANUP(state_free_text) char *text = json_dumps(object, JSON_COMPACT |
							 JSON_SORT_KEYS);
	uint8_t digest[CRYPTO_DIGEST_SIZE];

	if (!text)
		return -ENOMEM;
	digest_of(text, strlen(text), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

static int state_encode(const struct volume_state *state, char **text)
{
	CLEANUP(state_free_json) json_t *object = json_object();
	CLEANUP(state_free_json) json_t *file = NULL;
	char hex[65];

	if (!object)
		return -ENOMEM;
	for (size_t i = 0; i < STATE_FIELDS; i++) {
		const struct state_field *field = &state_fields[i];
		/* jansson refuses text that is not UTF-8: NULL then, too. */
		json_t *value = state_put(field, (const char *)state + field->offset);

		if (!value || json_object_set_new(object, field->key, value))
			return -EOVERFLOW;
	}
	if (state_digest(object, hex))
		return -ENOMEM;
	file = json_pack("{s:i, s:s, s:O}", "version", STATE_VERSION, "sha256", hex,
			 "state", object);
	*text = file ? json_dumps(file, JSON_INDENT(1)) : NULL;
	return *text ? 0 : -ENOMEM;
}

int volume_state_save(const char *state_folder, const struct volume_state *state,
		      struct error *err)
{
	CLEANUP(state_free_text) char *text = NULL;
	char path[PATH_MAX];
	int ret = volume_path(state_folder, state->name, NULL, path, err);

	if (ret)
		return ret;
	ret = file_make_folders(path, 0700);
	if (ret)
		return error_set(err, ret, "cannot make the folder %s: %s", path,
				 error_text(ret));
	strcat(path, "/state.json");
	ret = state_encode(state, &text);
	if (ret)
		return error_set(err, ret, "cannot put the state of volume %s into JSON: %s",
				 state->name, error_text(ret));
	ret = file_replace(path, text, strlen(text), 0600);
	return ret ? error_set(err, ret, "cannot write the state file %s: %s", path,
			       error_text(ret)) : 0;
}

static int state_damaged(const char *path, const char *what, struct error *err)
{
	error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
		       "the state file %s is damaged: %s", path, what);
	return error_hint(err, "move it away and attach the volume again; the next run then compares the whole volume");
}

static int state_decode(const json_t *file, const char *path,
			struct volume_state *state, struct error *err)
{
	const json_t *version = json_object_get(file, "version");
	const json_t *object = json_object_get(file, "state");
	const char *digest = json_string_value(json_object_get(file, "sha256"));
	char hex[65];

	if (!json_is_integer(version) || !json_is_object(object) || !digest)
		return state_damaged(path, "it lacks its frame", err);
	if (json_integer_value(version) != STATE_VERSION)
		return error_set(err, -EPROTONOSUPPORT, "the state file %s has version %lld, which this program does not know; use the clawback that wrote it",
				 path, (long long)json_integer_value(version));
	if (state_digest(object, hex))
		return error_set(err, -ENOMEM, "out of memory for the state file %s", path);
	if (strcmp(hex, digest))
		return state_damaged(path, "its checksum is wrong", err);
	for (size_t i = 0; i < STATE_FIELDS; i++) {
		const struct state_field *field = &state_fields[i];

		if (state_take(field, json_object_get(object, field->key),
			       (char *)state + field->offset))
			return state_damaged(path, field->key, err);
	}
	return 0;
}

int volume_state_load(const char *state_folder, const char *name,
		      struct volume_state *state, struct error *err)
{
	CLEANUP(state_free_json) json_t *file = NULL;
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	json_error_t where;
	size_t length;
	int ret = volume_path(state_folder, name, "state.json", path, err);

	memset(state, 0, sizeof(*state));
	if (ret)
		return ret;
	ret = file_read(path, STATE_LIMIT_BYTES, &text, &length);
	if (ret == -EFBIG)
		return state_damaged(path, "it is too long", err);
	if (ret)
		return error_set(err, ret, "cannot read the state file %s: %s", path,
				 error_text(ret));
	errno = 0;
	file = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
	if (!file && (errno == ENOMEM || json_error_code(&where) == json_error_out_of_memory))
		return error_set(err, -ENOMEM, "out of memory for the state file %s", path);
	if (!file)
		return state_damaged(path, where.text, err);
	ret = state_decode(file, path, state, err);
	if (!ret && strcmp(state->name, name))
		ret = state_damaged(path, "it is another volume's", err);
	if (ret)
		memset(state, 0, sizeof(*state));
	return ret;
}

int volume_state_remove(const char *state_folder, const char *name, struct error *err)
{
	char path[PATH_MAX];
	int ret = volume_path(state_folder, name, "state.json", path, err);

	if (ret)
		return ret;
	ret = access(path, F_OK) < 0 && errno == ENOENT ? 0 : file_remove(path);
	return ret ? error_set(err, ret, "cannot remove the state file %s: %s", path,
			       error_text(ret)) : 0;
}

int volume_state_digest(const char *state_folder, const char *name,
			uint8_t digest[static 32], struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	size_t length;
	int ret = volume_path(state_folder, name, "state.json", path, err);

	if (ret)
		return ret;
	ret = file_read(path, STATE_LIMIT_BYTES, &text, &length);
	if (ret)
		return error_set(err, ret, "cannot read the state file %s: %s", path,
				 error_text(ret));
	digest_of(text, length, digest);
	return 0;
}
