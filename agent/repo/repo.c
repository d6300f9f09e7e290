/*
 * The repository object, clawback.json: written once, says what the repository
 * is, to whom it is sealed and whose signatures count.
 */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define REPO_FORMAT "clawback repository"
#define REPO_VERSION 1

static json_t *keys_json(const uint8_t *keys, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < count; i++)
		json_array_append_new(list, json_hex(keys + i * CRYPTO_KEY_SIZE,
						     CRYPTO_KEY_SIZE));
	return list;
}

static char *repo_text(const struct repo_facts *facts)
{
	char id[UUID_TEXT_SIZE];
	json_t *object;
	char *text;

	uuid_format(&facts->id, id);
	object = json_pack("{s:s, s:i, s:s, s:I, s:s, s:s, s:o, s:o}",
			   "format", REPO_FORMAT, "version", REPO_VERSION,
			   "id", id, "created_ns", (json_int_t)facts->created_ns,
			   "cipher", "aes-256-gcm", "compression", "zstd",
			   "recipients", keys_json(facts->recipients[0].key,
						   facts->recipient_count),
			   "signers", keys_json(facts->signers[0].key,
						facts->signer_count));
	text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
	json_decref(object);
	return text;
}

int repo_init(struct store *store, struct repo_facts *facts, struct error *err)
{
	static const struct uuid none;
	CLEANUP_FREE char *text = NULL;
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	struct timespec now;
	int ret;

	if (uuid_equal(&facts->id, &none) && uuid_new(&facts->id))
		return error_set(err, -EIO, "making a repository id: no random numbers");
	clock_gettime(CLOCK_REALTIME, &now);
	facts->version = REPO_VERSION;
	facts->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	text = repo_text(facts);
	if (!text)
		return error_set(err, -ENOMEM, "making a repository: out of memory");
	ret = store_put(store, REPO_KEY, text, strlen(text), STORE_IF_ABSENT, err);
	if (ret == -EEXIST)
		return error_set(err, ret, "%s already holds a repository; choose "
				 "another place, or use it as it is", store_url(store));
	if (ret)
		return error_prefix(err, "making a repository");
	digest_of(text, strlen(text), digest);
	hex_encode(digest, sizeof(digest), facts->fingerprint);
	return 0;
}

static int take_keys(const json_t *object, const char *key, uint8_t *keys,
		     size_t room, size_t *count)
{
	const json_t *list = json_object_get(object, key), *item;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > room ||
	    !json_array_size(list))
		return -EBADMSG;
	json_array_foreach(list, i, item) {
		const char *text = json_string_value(item);

		if (!text || strlen(text) != 2 * CRYPTO_KEY_SIZE ||
		    hex_decode(text, keys + i * CRYPTO_KEY_SIZE, CRYPTO_KEY_SIZE))
			return -EBADMSG;
	}
	*count = json_array_size(list);
	return 0;
}

static int repo_parse(const char *text, size_t length, struct repo_facts *facts,
		      struct error *err)
{
	char format[32], id[UUID_TEXT_SIZE];
	uint64_t version;
	json_t *object;
	int ret = json_read(text, length, &object);

	if (ret == -ENOMEM)
		return error_set(err, ret, "reading its %s: out of memory", REPO_KEY);
	ret = -EBADMSG;
	if (!object || json_take_text(object, "format", format, sizeof(format)) ||
	    strcmp(format, REPO_FORMAT) || json_take_u64(object, "version", &version)) {
		error_set_exit(err, EXIT_UNTRUSTWORTHY, ret, "its %s is not one of ours",
			       REPO_KEY);
	} else if (version != REPO_VERSION) {
		ret = error_set(err, -EPROTONOSUPPORT, "it has format version %llu and this "
				"program knows %d; use a newer clawback",
				(unsigned long long)version, REPO_VERSION);
	} else if (json_take_text(object, "id", id, sizeof(id)) ||
		   uuid_parse(id, &facts->id) ||
		   json_take_u64(object, "created_ns", &facts->created_ns) ||
		   take_keys(object, "recipients", facts->recipients[0].key,
			     REPO_RECIPIENTS_MAX, &facts->recipient_count) ||
		   take_keys(object, "signers", facts->signers[0].key,
			     REPO_SIGNERS_MAX, &facts->signer_count)) {
		error_set_exit(err, EXIT_UNTRUSTWORTHY, ret, "its %s is damaged", REPO_KEY);
	} else {
		facts->version = (uint32_t)version;
		ret = 0;
	}
	json_decref(object);
	return ret;
}

int repo_open(struct store *store, const char *fingerprint, struct repo **out,
	      struct error *err)
{
	CLEANUP_FREE uint8_t *text = NULL;
	CLEANUP_FREE struct repo *repo = calloc(1, sizeof(*repo));
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	size_t length;
	int ret;

	*out = NULL;
	if (!repo)
		return error_set(err, -ENOMEM, "opening a repository: out of memory");
	ret = store_get_all(store, REPO_KEY, REPO_OBJECT_MAX, &text, &length, err);
	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_NO_REPOSITORY, ret,
				      "%s holds no repository; make one with clawback init",
				      store_url(store));
	if (ret)
		return error_prefix(err, "opening the repository");
	digest_of(text, length, digest);
	hex_encode(digest, sizeof(digest), repo->facts.fingerprint);
	if (fingerprint && strcmp(fingerprint, repo->facts.fingerprint))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				      "%s is another repository than the one expected: "
				      "fingerprint %s, not %s", store_url(store),
				      repo->facts.fingerprint, fingerprint);
	ret = repo_parse((const char *)text, length, &repo->facts, err);
	if (ret)
		return error_prefix(err, "opening the repository at %s", store_url(store));
	repo->store = store;
	*out = STEAL(repo);
	return 0;
}

void repo_close(struct repo *repo)
{
	free(repo);
}

const struct repo_facts *repo_facts(const struct repo *repo)
{
	return &repo->facts;
}

struct store *repo_store(const struct repo *repo)
{
	return repo->store;
}
