/* Reading points back: authenticate, then parse; then check that it is the one asked for. */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a damaged point object is called in messages. */
struct point_name { const struct repo *repo; char key[STORE_KEY_MAX]; };

static int point_damaged(const struct point_name *name, const char *how, struct error *err)
{
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s %s",
			      store_url(name->repo->store), name->key, how);
}

/* Checks the header; says how long the head is. */
static int header_check(const struct point_name *name, const uint8_t *head, size_t length,
			struct point_header *header, size_t *head_length,
			struct error *err)
{
	static const uint8_t zero[sizeof(header->zero)];

	if (length < sizeof(*header))
		return point_damaged(name, "is cut short", err);
	memcpy(header, head, sizeof(*header));
	if (memcmp(header->magic, POINT_MAGIC, sizeof(header->magic)))
		return point_damaged(name, "is damaged: it is no point", err);
	if (get_le32(header->version) != POINT_VERSION)
		return error_set(err, -EPROTONOSUPPORT, "%s/%s has format version %" PRIu32
				 " and this program knows %d; use a newer clawback",
				 store_url(name->repo->store), name->key,
				 get_le32(header->version), POINT_VERSION);
	if (get_le32(header->flags) || memcmp(header->zero, zero, sizeof(zero)) ||
	    get_le32(header->manifest_length) > POINT_MANIFEST_MAX ||
	    get_le64(header->frames_length) > POINT_FRAMES_INLINE_MAX)
		return point_damaged(name, "is damaged: its header makes no sense", err);
	*head_length = sizeof(*header) + get_le32(header->manifest_length) +
		       CRYPTO_SIGNATURE_SIZE;
	return 0;
}

/* One request for most points; a second when the manifest is large. */
static int head_fetch(struct point_name *name, uint8_t **head, size_t *head_length,
		      struct point_header *header, struct error *err)
{
	CLEANUP_FREE uint8_t *buffer = malloc(POINT_HEAD_FIRST_READ);
	struct store *store = name->repo->store;
	uint8_t *larger;
	size_t got, more;
	int ret;

	if (!buffer)
		return error_set(err, -ENOMEM, "reading a point: out of memory");
	ret = store_get(store, name->key, 0, buffer, POINT_HEAD_FIRST_READ, &got, err);
	if (!ret && got == POINT_STUB_BYTES &&
	    !memcmp(buffer, POINT_STUB_MAGIC, sizeof(header->magic)))
		return error_set(err, -ENOENT, "%s/%s was pruned", store_url(store), name->key);
	if (!ret)
		ret = header_check(name, buffer, got, header, head_length, err);
	if (ret)
		return ret;
	if (got < POINT_HEAD_FIRST_READ && got < *head_length)
		return point_damaged(name, "is cut short", err);
	if (*head_length > POINT_HEAD_FIRST_READ) {
		larger = realloc(buffer, *head_length);
		if (!larger)
			return error_set(err, -ENOMEM, "reading a point: out of memory");
		buffer = larger;
		ret = store_get(store, name->key, got, buffer + got, *head_length - got,
				&more, err);
		if (ret)
			return ret;
		if (more != *head_length - got)
			return point_damaged(name, "is cut short", err);
	}
	*head = STEAL(buffer);
	return 0;
}

static int signature_check(const struct point_name *name, const uint8_t *head,
			   size_t head_length, struct signing_public *signer,
			   struct error *err)
{
	const struct repo_facts *facts = &name->repo->facts;
	size_t signed_length = head_length - CRYPTO_SIGNATURE_SIZE;

	for (size_t i = 0; i < facts->signer_count; i++) {
		int ret = sign_verify(&facts->signers[i], POINT_SIGN_LABEL, head, signed_length,
				      head + signed_length);

		if (ret == -ENOMEM)
			return error_set(err, ret, "checking the signature of %s: out of memory",
					 name->key);
		if (ret)
			continue;
		*signer = facts->signers[i];
		return 0;
	}
	point_damaged(name, "is forged or damaged: no host of this repository signed it", err);
	return err->code;
}

static int identity_check(const struct point_name *name, const struct point *point,
			  const struct uuid *volume, uint64_t number,
			  const struct signing_public *signer, struct error *err)
{
	if (!uuid_equal(&point->repository, &name->repo->facts.id))
		return point_damaged(name, "belongs to another repository", err);
	if (!uuid_equal(&point->volume, volume) || point->number != number)
		return point_damaged(name, "is another point in this one's place", err);
	if (memcmp(&point->signer, signer, sizeof(*signer)))
		return point_damaged(name, "names another signer than it has", err);
	return 0;
}

/* `head` has all of the head, and its header was checked. */
static int head_parse(const struct point_name *name, const struct uuid *volume,
		      uint64_t number, const struct point_header *header, const uint8_t *head,
		      size_t head_length, struct point *point, struct error *err)
{
	struct signing_public signer;
	int ret = signature_check(name, head, head_length, &signer, err);

	if (ret)
		return ret;
	ret = point_manifest_parse((const char *)head + sizeof(*header),
				   get_le32(header->manifest_length), point, err);
	if (ret)
		return error_prefix(err, "%s/%s", store_url(name->repo->store), name->key);
	ret = identity_check(name, point, volume, number, &signer, err);
	if (!ret && (point->map_inline ? point->map_bytes : 0) != get_le32(header->map_length))
		ret = point_damaged(name, "disagrees with itself about its map", err);
	if (ret) {
		point_fini(point);
		return ret;
	}
	digest_of(head, head_length, point->hash);
	point->head_bytes = head_length;
	point->object_bytes = head_length + get_le32(header->map_length) +
			      get_le64(header->frames_length);
	return 0;
}

int point_load(struct repo *repo, const struct uuid *volume, uint64_t number,
	       struct point *point, struct error *err)
{
	CLEANUP_FREE uint8_t *head = NULL;
	struct point_name name = { .repo = repo };
	struct point_header header;
	size_t head_length = 0;
	int ret;

	memset(point, 0, sizeof(*point));
	point_key(volume, number, name.key);
	ret = head_fetch(&name, &head, &head_length, &header, err);
	return ret ? ret : head_parse(&name, volume, number, &header, head, head_length, point,
				      err);
}

int point_head_parse(struct repo *repo, const char *key, const uint8_t *head, size_t length,
		     const struct uuid *volume, uint64_t number, struct point *point,
		     struct error *err)
{
	struct point_name name = { .repo = repo };
	struct point_header header;
	size_t head_length;
	int ret;

	memset(point, 0, sizeof(*point));
	snprintf(name.key, sizeof(name.key), "%s", key);
	ret = header_check(&name, head, length, &header, &head_length, err);
	if (!ret && head_length != length)
		ret = point_damaged(&name, "is damaged: a point in it has another length", err);
	return ret ? ret : head_parse(&name, volume, number, &header, head, length, point, err);
}

/* What lies in a point's object behind its head is what the manifest says. */
static int inline_check(const struct point_name *name, const struct point *point,
			const uint8_t *object, size_t length, struct error *err)
{
	const uint8_t *at = object + point->head_bytes;
	uint8_t digest[CRYPTO_DIGEST_SIZE];

	if (length != point->object_bytes)
		return point_damaged(name, "has another length than its header says", err);
	if (point->map_inline) {
		digest_of(at, point->map_bytes, digest);
		if (memcmp(digest, point->map_sha256, sizeof(digest)))
			return point_damaged(name, "is damaged: its map has another digest than "
					     "its manifest says", err);
		at += point->map_bytes;
	}
	if (!point->frames_inline)
		return 0;
	if (point->segment_count != 1 ||
	    point->segments[0].bytes != length - (size_t)(at - object))
		return point_damaged(name, "disagrees with itself about its frames", err);
	digest_of(at, point->segments[0].bytes, digest);
	return memcmp(digest, point->segments[0].sha256, sizeof(digest))
		? point_damaged(name, "is damaged: its frames have another digest than its "
				"manifest says", err) : 0;
}

int point_fetch(struct repo *repo, const struct uuid *volume, uint64_t number,
		uint8_t **out, size_t *length, struct point *point, struct error *err)
{
	CLEANUP_FREE uint8_t *object = NULL;
	struct point_name name = { .repo = repo };
	struct point_header header;
	size_t head_length = 0;
	int ret;

	memset(point, 0, sizeof(*point));
	point_key(volume, number, name.key);
	ret = store_get_all(repo->store, name.key, POINT_OBJECT_MAX, &object, length, err);
	if (ret)
		return ret;
	if (*length == POINT_STUB_BYTES && !memcmp(object, POINT_STUB_MAGIC, sizeof(header.magic)))
		return error_set(err, -ENOENT, "%s/%s was pruned", store_url(repo->store),
				 name.key);
	ret = header_check(&name, object, *length, &header, &head_length, err);
	if (!ret && *length < head_length)
		ret = point_damaged(&name, "is cut short", err);
	if (!ret)
		ret = head_parse(&name, volume, number, &header, object, head_length, point, err);
	if (ret)
		return ret;
	ret = inline_check(&name, point, object, *length, err);
	if (ret)
		point_fini(point);
	else
		*out = STEAL(object);
	return ret;
}
