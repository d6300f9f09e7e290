/* Writing a pack: items as they come, then the index. */
#include "agent/repo/prune_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* No item is cut for it, so a pack can be longer by a segment. */
#define PACK_BYTES (UINT64_C(256) << 20)

struct pack_writer {
	struct marking *marking;
	struct store_upload *upload;	/* NULL: dry_run */
	struct digest *digest;
	struct retention_pack pack;
	struct pack_item *items;
	size_t count, room;
};

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "repacking: out of memory");
}

static uint32_t pack_number(const struct retention *next)
{
	const struct retention_pack *last = next->pack_count ?
					    &next->packs[next->pack_count - 1] : NULL;

	return last && last->sequence == next->sequence ? last->number + 1 : 0;
}

static int writer_start(struct pack_writer *writer, struct error *err)
{
	const struct prune *prune = writer->marking->prune;
	struct pack_header header = { .magic = PACK_MAGIC, .version = le32(PACK_VERSION) };
	char key[STORE_KEY_MAX];
	int ret = 0;

	memcpy(header.volume, prune->volume.b, sizeof(header.volume));
	pack_key(&prune->volume, &writer->pack, key);
	if (!prune->options->dry_run)
		ret = FAULT_ERR("prune.pack", err) ?:
		      store_upload_start(prune->repo->store, key, &writer->upload, err);
	return ret ? ret : pack_writer_add(writer, &header, sizeof(header), err);
}

struct pack_writer *pack_writer_new(struct marking *marking, struct error *err)
{
	struct pack_writer *writer = calloc(1, sizeof(*writer));

	if (!writer) {
		no_memory(err);
		return NULL;
	}
	writer->marking = marking;
	writer->pack = (struct retention_pack){
		.sequence = marking->next->sequence, .run = marking->run,
		.number = pack_number(marking->next),
	};
	writer->digest = digest_new();
	if (!writer->digest)
		no_memory(err);
	if (!writer->digest || writer_start(writer, err)) {
		pack_writer_abort(writer);
		return NULL;
	}
	return writer;
}

int pack_writer_item(struct pack_writer *writer, const struct pack_item *item,
		     struct error *err)
{
	struct pack_item *last = writer->count ? &writer->items[writer->count - 1] : NULL;

	if (last && last->kind == item->kind && last->point == item->point &&
	    last->segment == item->segment && last->offset + last->length == item->offset) {
		last->length += item->length;
		return 0;
	}
	if (writer->count == writer->room) {
		size_t room = writer->room ? 2 * writer->room : 64;
		struct pack_item *items = reallocarray(writer->items, room, sizeof(*items));

		if (!items)
			return no_memory(err);
		writer->items = items;
		writer->room = room;
	}
	writer->items[writer->count++] = *item;
	return 0;
}

int pack_writer_add(struct pack_writer *writer, const void *data, size_t length,
		    struct error *err)
{
	writer->pack.bytes += length;
	if (!writer->upload)
		return 0;
	digest_update(writer->digest, data, length);
	return store_upload_write(writer->upload, data, length, err);
}

/* Two more: a head and what follows it. */
bool pack_writer_full(const struct pack_writer *writer)
{
	uint64_t limit = writer->marking->prune->options->pack_bytes;

	return writer->pack.bytes >= (limit ? limit : PACK_BYTES) || writer->count + 2 > PACK_ITEMS_MAX;
}

bool pack_writer_empty(const struct pack_writer *writer)
{
	return !writer->count;
}

static int index_write(struct pack_writer *writer, struct error *err)
{
	size_t bytes = writer->count * sizeof(struct pack_entry);
	CLEANUP_FREE struct pack_entry *entries = malloc(bytes);
	int ret;

	if (!entries)
		return no_memory(err);
	pack_index_encode(writer->items, writer->count, entries);
	digest_of(entries, bytes, writer->pack.index_sha256);
	ret = pack_writer_add(writer, entries, bytes, err);
	writer->pack.items = writer->count;
	writer->pack.first = writer->items[0].point;
	writer->pack.last = writer->items[writer->count - 1].point;
	digest_finish(writer->digest, writer->pack.sha256);
	writer->digest = NULL;
	return ret;
}

static int pack_add(struct marking *marking, const struct retention_pack *pack,
		    struct error *err)
{
	struct retention *next = marking->next;
	struct retention_pack *packs = reallocarray(next->packs, next->pack_count + 1,
						    sizeof(*packs));

	if (!packs)
		return no_memory(err);
	next->packs = packs;
	packs[next->pack_count++] = *pack;
	marking->prune->result->packs++;
	return 0;
}

int pack_writer_finish(struct pack_writer *writer, struct error *err)
{
	int ret = index_write(writer, err);

	if (!ret && writer->upload) {
		ret = store_upload_finish(writer->upload, err);
		writer->upload = NULL;
	}
	if (!ret)
		ret = pack_add(writer->marking, &writer->pack, err);
	pack_writer_abort(writer);
	return ret ? error_prefix(err, "storing a pack") : 0;
}

void pack_writer_abort(struct pack_writer *writer)
{
	store_upload_abort(writer->upload);
	digest_free(writer->digest);
	free(writer->items);
	free(writer);
}
