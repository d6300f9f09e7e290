/*
 * Copying what is needed into packs. Small segments are read whole, many at once; of
 * others what is needed. Memory: PIECE_BYTES and BATCH_BYTES.
 */
#include "agent/repo/repack_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"
#include "agent/base/parallel.h"
#include "agent/repo/point_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (8u << 20)		/* one read from the store */
#define GAP_BYTES (256u << 10)		/* read over rather than asking twice */
#define BATCH_BYTES (16u << 20)		/* small segments read at once, or one */

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "repacking: out of memory");
}

static void holder_key(const struct repack *repack, const struct holder *holder,
		       char key[static STORE_KEY_MAX])
{
	struct point point = {
		.volume = repack->marking->prune->volume, .number = holder->number,
		.run = holder->run,
	};
	char prefix[STORE_KEY_MAX];

	if (holder_is_pack(repack, holder)) {
		pack_key(&point.volume, &repack->marking->old->packs[holder->segment], key);
	} else if (holder->is_inline) {
		point_key(&point.volume, point.number, key);
	} else {
		point_segment_prefix(&point, prefix);
		snprintf(key, STORE_KEY_MAX, "%.*s%06" PRIu32, STORE_KEY_MAX - 8, prefix,
			 holder->segment);
	}
}

static int read_exactly(const struct repack *repack, const char *key, uint64_t at,
			void *buffer, size_t length, struct error *err)
{
	struct store *store = repack->marking->prune->repo->store;
	size_t got;
	int ret = store_get(store, key, at, buffer, length, &got, err);

	if (ret == -ENOENT || (!ret && got != length))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s is %s",
				      store_url(store), key, ret ? "missing" : "cut short");
	return ret;
}

/*
 * A segment that is small enough is read whole, and must be what its manifest says: what
 * is damaged does not move, so that verify can tell without opening frames. Of a large
 * one only what is needed is read.
 */
static bool is_small(const struct repack *repack, const struct holder *holder)
{
	return !holder_is_pack(repack, holder) && holder->segment_bytes <= PIECE_BYTES &&
	       holder->base <= PIECE_BYTES - holder->segment_bytes;
}

static int batched_load(void *context, size_t i, struct error *err)
{
	struct repack *repack = context;
	struct batched *batched = &repack->batch[i];
	const struct holder *holder = &repack->holders[batched->holder];
	uint64_t bytes = holder->base + holder->segment_bytes;
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	char key[STORE_KEY_MAX];

	batched->data = malloc(bytes);
	if (!batched->data)
		return no_memory(err);
	holder_key(repack, holder, key);
	batched->err = (struct error)ERROR_INIT;
	batched->ret = read_exactly(repack, key, 0, batched->data, bytes, &batched->err);
	if (batched->ret)
		return 0;	/* for whoever asks for it */
	digest_of(batched->data + holder->base, holder->segment_bytes, digest);
	if (memcmp(digest, holder->sha256, sizeof(digest)))
		batched->ret = error_set_exit(&batched->err, EXIT_UNTRUSTWORTHY, -EBADMSG,
					      "%s/%s is damaged: its SHA-256 is not the one in its "
					      "manifest", store_url(repack->marking->prune->repo->store),
					      key);
	return 0;
}

static void batch_free(struct repack *repack)
{
	while (repack->batch_count)
		free(repack->batch[--repack->batch_count].data);
}

/* The holder of piece `i` and the small ones that will be asked for next. */
static int batch_fill(struct repack *repack, size_t i, struct error *err)
{
	uint64_t bytes = 0;

	batch_free(repack);
	for (; i < repack->piece_count && repack->batch_count < BATCH; i++) {
		uint32_t index = repack->pieces[i].holder;
		const struct holder *holder = &repack->holders[index];
		size_t n = repack->batch_count;

		if (!holder->moves || !is_small(repack, holder) ||
		    (n && repack->batch[n - 1].holder == index))
			continue;
		bytes += holder->base + holder->segment_bytes;
		if (n && bytes > BATCH_BYTES)
			break;
		repack->batch[repack->batch_count++] = (struct batched){ .holder = index };
	}
	return parallel_run(REPACK_THREADS, repack->batch_count, batched_load, repack, err);
}

/* What was read of piece `i`'s holder, which is small. */
static int batch_find(struct repack *repack, size_t i, const uint8_t **data, struct error *err)
{
	uint32_t holder = repack->pieces[i].holder;

	for (int look = 0; look < 2; look++) {
		for (size_t at = 0; at < repack->batch_count; at++)
			if (repack->batch[at].holder == holder) {
				*data = repack->batch[at].data;
				if (repack->batch[at].ret)
					*err = repack->batch[at].err;
				return repack->batch[at].ret;
			}
		if (batch_fill(repack, i, err))
			return err->code;
	}
	return error_set(err, -EIO, "repacking: a segment is not among those read");
}

/* Reads from `at` on, at least `length` or as much as there is room for, and what near
 * pieces from `next` on will want of the same object. */
static int buffer_fill(struct repack *repack, uint32_t holder, uint64_t at, uint64_t length,
		       size_t next, struct error *err)
{
	uint64_t end = at + length;
	char key[STORE_KEY_MAX];
	int ret;

	for (; next < repack->piece_count; next++) {
		const struct piece *piece = &repack->pieces[next];

		if (piece->holder != holder || piece->at < end || piece->at - end > GAP_BYTES ||
		    piece->at + piece->length - at > PIECE_BYTES)
			break;
		end = piece->at + piece->length;
	}
	if (end - at > PIECE_BYTES)
		end = at + PIECE_BYTES;
	repack->have = 0;
	holder_key(repack, &repack->holders[holder], key);
	ret = interrupt_check(err) ?: read_exactly(repack, key, at, repack->buffer, end - at, err);
	if (ret)
		return ret;
	repack->loaded = holder;
	repack->from = at;
	repack->have = end - at;
	return 0;
}

/* `length` bytes from `at` on of the object that holds piece `i`; pieces from `next` on
 * will be copied after them. */
static int copy(struct repack *repack, struct pack_writer *writer, size_t i, uint64_t at,
		uint64_t length, size_t next, struct error *err)
{
	uint32_t index = repack->pieces[i].holder;
	const struct holder *holder = &repack->holders[index];
	const uint8_t *data = NULL;
	int ret = 0;

	repack->marking->prune->result->repacked_bytes += length;
	if (repack->marking->prune->options->dry_run)
		return pack_writer_add(writer, NULL, length, err);
	if (is_small(repack, holder)) {
		uint64_t bytes = holder->base + holder->segment_bytes;

		ret = batch_find(repack, i, &data, err);
		if (!ret && (at > bytes || length > bytes - at))
			return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "a map points "
					      "outside the segments of point %" PRIu64,
					      holder->number);
		return ret ? ret : pack_writer_add(writer, data + at, length, err);
	}
	while (!ret && length) {
		uint64_t skip, n;

		if (!repack->have || repack->loaded != index || at < repack->from ||
		    at - repack->from >= repack->have)
			ret = buffer_fill(repack, index, at, length, next, err);
		if (ret)
			return ret;
		skip = at - repack->from;
		n = repack->have - skip < length ? repack->have - skip : length;
		ret = pack_writer_add(writer, repack->buffer + skip, n, err);
		at += n;
		length -= n;
	}
	return ret;
}

/* From where it comes with its frames, or from the point's object. */
static int copy_head(struct repack *repack, struct pack_writer *writer, size_t i,
		     struct error *err)
{
	const struct piece *piece = &repack->pieces[i];
	const struct holder *holder = &repack->holders[piece->holder];
	struct pack_item head = { .point = piece->number, .kind = PACK_HEAD };
	CLEANUP_FREE uint8_t *data = NULL;
	char key[STORE_KEY_MAX];
	uint64_t at = 0;
	int ret;

	head.length = holder->head_bytes;
	if (holder_is_pack(repack, holder)) {
		const struct pack_index *index;
		const struct pack_item *item;

		if (packs_index(repack->marking->packs, holder->segment, &index, err))
			return err->code;
		item = pack_index_head(index, piece->number);
		head.length = item->length;
		at = item->at;
	}
	ret = pack_writer_item(writer, &head, err);
	if (ret)
		return ret;
	if (holder_is_pack(repack, holder) || holder->is_inline)
		return copy(repack, writer, i, at, head.length, i, err);
	if (repack->marking->prune->options->dry_run)
		return pack_writer_add(writer, NULL, head.length, err);
	data = malloc(head.length);
	if (!data)
		return no_memory(err);
	point_key(&repack->marking->prune->volume, piece->number, key);
	ret = read_exactly(repack, key, 0, data, head.length, err);
	return ret ? ret : pack_writer_add(writer, data, head.length, err);
}

static int copy_piece(struct repack *repack, struct pack_writer *writer, size_t i,
		      bool with_head, struct error *err)
{
	const struct piece *piece = &repack->pieces[i];
	const struct pack_item item = {
		.point = piece->number, .segment = piece->segment, .offset = piece->offset,
		.length = piece->length, .kind = PACK_FRAMES,
	};
	int ret = with_head ? copy_head(repack, writer, i, err) : 0;

	if (!ret)
		ret = pack_writer_item(writer, &item, err);
	return ret ? ret : copy(repack, writer, i, piece->at, piece->length, i + 1, err);
}

/* From *at on, until the pack is full; *at is then behind it. Of a holder that cannot be
 * read nothing moves: *again. */
static int write_pack(struct repack *repack, size_t *at, bool *again, struct error *err)
{
	struct pack_writer *writer = pack_writer_new(repack->marking, err);
	struct prune_result *result = repack->marking->prune->result;
	uint64_t number = 0, repacked;
	size_t i;
	int ret = 0;

	if (!writer)
		return err->code;
	repacked = result->repacked_bytes;
	for (i = *at; !ret && i < repack->piece_count && !pack_writer_full(writer); i++) {
		const struct piece *piece = &repack->pieces[i];
		struct holder *holder = &repack->holders[piece->holder];

		if (!holder->moves)
			continue;
		ret = copy_piece(repack, writer, i, piece->number != number, err);
		number = piece->number;
		*again = ret && repack_is_damage(ret, err);
		if (*again)
			holder->moves = false;
	}
	if (*again || ret || pack_writer_empty(writer)) {
		pack_writer_abort(writer);
		*at = *again ? *at : i;
		result->repacked_bytes = repacked;
		return *again ? 0 : ret;
	}
	*at = i;
	return pack_writer_finish(writer, err);
}

int repack_copy(struct repack *repack, struct error *err)
{
	size_t at = 0;
	int ret = 0;

	repack->buffer = malloc(PIECE_BYTES);
	if (!repack->buffer)
		return no_memory(err);

	while (!ret && at < repack->piece_count) {
		struct error why = ERROR_INIT;
		bool again = false;

		while (at < repack->piece_count &&
		       !repack->holders[repack->pieces[at].holder].moves)
			at++;
		if (at == repack->piece_count)
			break;
		ret = write_pack(repack, &at, &again, &why);
		if (ret)
			*err = why;
		else if (again)
			log_warning("%s; what is needed of it stays where it is", why.message);
	}
	batch_free(repack);
	free(repack->buffer);
	return ret;
}
