/*
 * The packs of a record on a store: an index is read when something is looked for that
 * its pack may hold, and kept. Memory: 48 bytes an item.
 */
#include "agent/repo/pack_format.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"
#include "agent/repo/repo_private.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct packs {
	struct repo *repo;
	struct uuid volume;
	const struct retention *retention;
	pthread_mutex_t lock;		/* guards indexes; held while one is read */
	struct pack_index *indexes;	/* as retention->packs; items NULL: not read yet */
};

struct packs *packs_new(struct repo *repo, const struct uuid *volume,
			const struct retention *retention)
{
	struct packs *packs = calloc(1, sizeof(*packs));

	if (!packs)
		return NULL;
	packs->indexes = calloc(retention->pack_count + 1, sizeof(*packs->indexes));
	if (!packs->indexes) {
		free(packs);
		return NULL;
	}
	packs->repo = repo;
	packs->volume = *volume;
	packs->retention = retention;
	pthread_mutex_init(&packs->lock, NULL);
	return packs;
}

void packs_free(struct packs *packs)
{
	if (!packs)
		return;
	for (size_t i = 0; i < packs->retention->pack_count; i++)
		pack_index_fini(&packs->indexes[i]);
	free(packs->indexes);
	pthread_mutex_destroy(&packs->lock);
	free(packs);
}

static int pack_damaged(const struct packs *packs, size_t i, const char *how,
			struct error *err)
{
	char key[STORE_KEY_MAX];

	pack_key(&packs->volume, &packs->retention->packs[i], key);
	return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s %s",
			      store_url(packs->repo->store), key, how);
}

int packs_read(struct packs *packs, size_t i, uint64_t at, void *buffer, size_t length,
	       struct error *err)
{
	char key[STORE_KEY_MAX];
	size_t got;
	int ret;

	pack_key(&packs->volume, &packs->retention->packs[i], key);
	ret = store_get(packs->repo->store, key, at, buffer, length, &got, err);
	if (ret == -ENOENT)
		return pack_damaged(packs, i, "is missing: data of pruned points that later ones "
				    "need is lost", err);
	if (!ret && got != length)
		return pack_damaged(packs, i, "is shorter than the retention record says", err);
	return ret;
}

static int index_read(struct packs *packs, size_t i, struct error *err)
{
	const struct retention_pack *pack = &packs->retention->packs[i];
	uint64_t bytes = pack_index_bytes(pack);
	CLEANUP_FREE uint8_t *data = malloc(bytes);
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	int ret;

	if (!data)
		return error_set(err, -ENOMEM, "reading a pack's index: out of memory");
	ret = packs_read(packs, i, pack->bytes - bytes, data, bytes, err);
	if (ret)
		return ret;
	digest_of(data, bytes, digest);
	if (memcmp(digest, pack->index_sha256, sizeof(digest)))
		return pack_damaged(packs, i, "is damaged: its index is not the one that the "
				    "retention record names", err);
	ret = pack_index_decode(pack, data, &packs->indexes[i]);
	if (ret == -ENOMEM)
		return error_set(err, ret, "reading a pack's index: out of memory");
	return ret ? pack_damaged(packs, i, "is damaged: its index makes no sense", err) : 0;
}

int packs_index(struct packs *packs, size_t i, const struct pack_index **index,
		struct error *err)
{
	int ret = 0;

	pthread_mutex_lock(&packs->lock);
	if (!packs->indexes[i].items)
		ret = index_read(packs, i, err);
	pthread_mutex_unlock(&packs->lock);
	*index = &packs->indexes[i];
	return ret;
}

/* Of all packs that may hold it; the newest first, for that is where things move to. */
static int find(struct packs *packs, const struct pack_item *wanted, struct pack_place *place,
		struct error *err)
{
	place->item = NULL;
	for (size_t i = packs->retention->pack_count; !place->item && i-- > 0;) {
		const struct retention_pack *pack = &packs->retention->packs[i];
		const struct pack_index *index;
		int ret;

		if (wanted->point < pack->first || wanted->point > pack->last)
			continue;
		ret = packs_index(packs, i, &index, err);
		if (ret)
			return ret;
		place->pack = i;
		place->item = wanted->kind == PACK_HEAD ?
			      pack_index_head(index, wanted->point) :
			      pack_index_frames(index, wanted->point, wanted->segment,
						wanted->offset);
	}
	return 0;
}

int packs_find_head(struct packs *packs, uint64_t point, struct pack_place *place,
		    struct error *err)
{
	const struct pack_item wanted = { .point = point, .kind = PACK_HEAD };

	return find(packs, &wanted, place, err);
}

int packs_find_frames(struct packs *packs, uint64_t point, uint32_t segment,
		      uint64_t offset, struct pack_place *place, struct error *err)
{
	const struct pack_item wanted = {
		.point = point, .segment = segment, .offset = offset, .kind = PACK_FRAMES,
	};

	return find(packs, &wanted, place, err);
}

int packs_find_next(struct packs *packs, uint64_t point, uint32_t segment, uint64_t offset,
		    uint64_t *next, struct error *err)
{
	*next = UINT64_MAX;
	for (size_t i = 0; i < packs->retention->pack_count; i++) {
		const struct retention_pack *pack = &packs->retention->packs[i];
		const struct pack_index *index;
		const struct pack_item *item;

		if (point < pack->first || point > pack->last)
			continue;
		if (packs_index(packs, i, &index, err))
			return err->code;
		item = pack_index_next(index, point, segment, offset);
		if (item && item->offset < *next)
			*next = item->offset;
	}
	return 0;
}

int packs_point(struct packs *packs, uint64_t number, struct point *point, struct error *err)
{
	CLEANUP_FREE uint8_t *head = NULL;
	char key[STORE_KEY_MAX];
	struct pack_place place;
	int ret = packs_find_head(packs, number, &place, err);

	if (ret)
		return ret;
	if (!place.item)
		return error_set(err, -ENOENT, "point %" PRIu64 " was pruned", number);
	if (place.item->length > POINT_MANIFEST_MAX + POINT_HEAD_FIRST_READ)
		return pack_damaged(packs, place.pack, "is damaged: it holds a point that is "
				    "none", err);
	head = malloc(place.item->length);
	if (!head)
		return error_set(err, -ENOMEM, "reading a point: out of memory");
	ret = packs_read(packs, place.pack, place.item->at, head, place.item->length, err);
	pack_key(&packs->volume, &packs->retention->packs[place.pack], key);
	return ret ? ret : point_head_parse(packs->repo, key, head, place.item->length,
					    &packs->volume, number, point, err);
}
