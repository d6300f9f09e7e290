/* Reading points back: authenticate, then parse; then check that it is the one asked for. */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* ---- finding ----------------------------------------------------------- */

struct number_list { uint64_t *items; size_t count, room; };

static int number_seen(void *context, const char *key, uint64_t bytes)
{
	struct number_list *list = context;
	uint64_t number;

	if (!point_key_number(key, &number) || bytes == POINT_STUB_BYTES)
		return 0;	/* not ours: an upload in progress, a stranger's file; or pruned */
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		uint64_t *items = reallocarray(list->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = number;
	return 0;
}

int point_numbers_stored(struct repo *repo, const struct uuid *volume,
			 uint64_t **numbers, size_t *count, struct error *err)
{
	struct number_list list = { NULL, 0, 0 };
	char prefix[STORE_KEY_MAX];
	int ret;

	point_key(volume, 0, prefix);
	*(strrchr(prefix, '/') + 1) = '\0';
	ret = store_list(repo->store, prefix, number_seen, &list, err);
	if (ret) {
		free(list.items);
		if (ret == -ENOMEM)
			error_set(err, ret, "listing points: out of memory");
		return ret;
	}
	*numbers = list.items;	/* in byte order of ten digits: rising */
	*count = list.count;
	return 0;
}

int point_numbers(struct repo *repo, const struct uuid *volume,
		  uint64_t **numbers, size_t *count, struct error *err)
{
	CLEANUP_FREE uint64_t *stored = NULL;
	struct retention retention;
	size_t stored_count, visible = 0;
	int ret = point_numbers_stored(repo, volume, &stored, &stored_count, err);

	/* This order: what was forgotten meanwhile is not shown any more. */
	if (!ret)
		ret = retention_load(repo, volume, &retention, err);
	if (ret)
		return ret;
	for (size_t i = 0; i < stored_count; i++)
		if (!retention_hides(&retention, stored[i]))
			stored[visible++] = stored[i];
	retention_fini(&retention);
	*numbers = STEAL(stored);
	*count = visible;
	return 0;
}

/* How many of `numbers`, whose times rise, are not after `time_ns`. */
static int count_until(struct repo *repo, const struct uuid *volume, const uint64_t *numbers,
		       size_t count, uint64_t time_ns, size_t *until, struct error *err)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct point point;
		int ret = point_load(repo, volume, numbers[middle], &point, err);

		if (ret)
			return ret;
		if (point.time_ns <= time_ns)
			low = middle + 1;
		else
			high = middle;
		point_fini(&point);
	}
	*until = low;
	return 0;
}

/* How many of `numbers` are below `limit`. */
static size_t count_below(const uint64_t *numbers, size_t count, uint64_t limit)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (numbers[middle] < limit)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * The last of `numbers` whose time is not after `time_ns`. Times rise from one step back of
 * the clock to the next; the newest point says where these are.
 */
static int find_by_time(struct repo *repo, const struct uuid *volume,
			const uint64_t *numbers, size_t count, uint64_t time_ns,
			struct point *point, struct error *err)
{
	size_t end = count, steps;
	int ret = point_load(repo, volume, numbers[count - 1], point, err);

	if (ret || point->time_ns <= time_ns)
		return ret;
	steps = point->clock_step_count;
	for (;;) {
		size_t first = steps ? count_below(numbers, end, point->clock_steps[steps - 1]) : 0;
		size_t until = 0;

		ret = count_until(repo, volume, numbers + first, end - first, time_ns, &until, err);
		if (!ret && !until && steps) {
			end = first;
			steps--;
			continue;
		}
		point_fini(point);
		if (ret)
			return ret;
		if (!until)
			return error_set(err, -ENOENT, "no recovery point is as old as that; see "
					 "clawback points");
		return point_load(repo, volume, numbers[first + until - 1], point, err);
	}
}

static bool parse_number(const char *text, uint64_t *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return !errno && !*end;
}

bool point_time_parse(const char *text, uint64_t *first_ns, uint64_t *time_ns)
{
	struct tm tm;
	const char *rest;
	uint64_t fraction = 0, unit = 1000000000;
	time_t seconds;

	memset(&tm, 0, sizeof(tm));
	rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!rest)
		return false;
	if (*rest == '.')
		for (rest++; *rest >= '0' && *rest <= '9'; rest++)
			fraction += (uint64_t)(*rest - '0') * (unit /= 10);
	else
		fraction = 999999999;	/* the whole of the second that was named */
	seconds = timegm(&tm);
	if (strcmp(rest, "Z") || seconds < 0)
		return false;
	/* Later than 64 bits of nanoseconds reach, as 9999-12-31: later than any point. */
	if (__builtin_mul_overflow((uint64_t)seconds, UINT64_C(1000000000), time_ns) ||
	    __builtin_add_overflow(*time_ns, fraction, time_ns))
		*time_ns = UINT64_MAX;
	/* Without a fraction all of the second was named. */
	*first_ns = *time_ns - (*time_ns < UINT64_MAX && fraction == 999999999 &&
				unit == 1000000000 ? fraction : 0);
	return true;
}

static int find_by_number(struct repo *repo, const struct uuid *volume, uint64_t number,
			  struct point *point, struct error *err)
{
	struct retention retention;
	int ret = retention_load(repo, volume, &retention, err);
	bool hidden = !ret && retention_hides(&retention, number);

	if (ret)
		return ret;
	retention_fini(&retention);
	if (hidden)
		return error_set(err, -ENOENT, "recovery point %" PRIu64 " was forgotten; see "
				 "clawback points", number);
	ret = point_load(repo, volume, number, point, err);
	return ret == -ENOENT ? error_set(err, ret, "there is no recovery point %" PRIu64
					  "; see clawback points", number) : ret;
}

int point_find(struct repo *repo, const struct uuid *volume, const char *text,
	       struct point *point, struct error *err)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	uint64_t number, first_ns, time_ns;
	size_t count;
	int ret;

	if (text && parse_number(text, &number))
		return find_by_number(repo, volume, number, point, err);
	ret = point_numbers(repo, volume, &numbers, &count, err);
	if (ret)
		return ret;
	if (!count)
		return error_set(err, -ENOENT, "the volume has no recovery point yet; "
				 "run clawback backup");
	if (!text || !strcmp(text, "latest"))
		return point_load(repo, volume, numbers[count - 1], point, err);
	if (point_time_parse(text, &first_ns, &time_ns))
		return find_by_time(repo, volume, numbers, count, time_ns, point, err);
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no recovery point: give "
			      "latest, a number, or a UTC time like 2026-11-23T20:15:00Z",
			      text);
}
