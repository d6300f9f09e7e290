/*
 * Repacking: what is needed of hidden points is found in their own objects or in packs;
 * where too little of such a holder is needed, that is copied into a new pack, and the
 * holder goes. Frames are sealed with keys that the host does not have, so it is whole
 * frames that are kept, of which one block at least is needed.
 * Memory: 48 bytes a run of live frames, 128 a holder, PIECE_BYTES.
 */
#include "agent/repo/prune_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (8u << 20)		/* one read from the store */
#define GAP_BYTES (256u << 10)		/* read over rather than asking twice */

/* A segment of a point, or a pack: an object, or what lies in a point's. */
struct holder {
	uint64_t number;		/* of a pack: 0 */
	uint32_t segment;		/* of a pack: its index in old->packs */
	bool is_inline;
	bool fixed;			/* it cannot be read: stays as it is */
	bool moves;
	struct uuid run;
	uint64_t base;			/* where in the object the segment begins */
	uint64_t head_bytes;		/* of the point */
	uint64_t segment_bytes;
	uint8_t sha256[CRYPTO_DIGEST_SIZE]; /* of the segment */
	uint64_t bytes, live;
};

/* A run of live bytes in one holder. */
struct piece {
	uint64_t number, offset, length, at;
	uint32_t segment;
	uint32_t holder;
};

struct repack {
	struct marking *marking;
	struct holder *holders;		/* old->packs first */
	size_t holder_count, holder_room;
	struct piece *pieces;
	size_t piece_count, piece_room;
	uint64_t head_counted;		/* the point whose head is part of a pack's `live` */
	uint8_t *buffer;		/* `have` bytes from `from` on of holder `loaded` */
	uint32_t loaded;
	uint64_t from;
	size_t have;
};

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "repacking: out of memory");
}

/* ---- what lies where --------------------------------------------------- */

static struct holder *holder_add(struct repack *repack)
{
	if (repack->holder_count == repack->holder_room) {
		size_t room = repack->holder_room ? 2 * repack->holder_room : 64;
		struct holder *holders = reallocarray(repack->holders, room, sizeof(*holders));

		if (!holders || room > UINT32_MAX)
			return NULL;
		repack->holders = holders;
		repack->holder_room = room;
	}
	repack->holders[repack->holder_count] = (struct holder){ .number = 0 };
	return &repack->holders[repack->holder_count++];
}

static int piece_add(struct repack *repack, const struct piece *piece, struct error *err)
{
	if (repack->piece_count == repack->piece_room) {
		size_t room = repack->piece_room ? 2 * repack->piece_room : 256;
		struct piece *pieces = reallocarray(repack->pieces, room, sizeof(*pieces));

		if (!pieces)
			return no_memory(err);
		repack->pieces = pieces;
		repack->piece_room = room;
	}
	repack->pieces[repack->piece_count++] = *piece;
	repack->holders[piece->holder].live += piece->length;
	return 0;
}

/* Whether what is needed of a segment still lies where the point's run stored it. */
static bool in_place(const struct retention *old, uint64_t number, uint32_t segment)
{
	const struct retention_serving *serving = retention_serving_find(old, number);

	return !extent_list_contains(&old->pruned, number) ||
	       (serving && extent_list_contains(&serving->segments, segment));
}

/*
 * A pruned point's map is dead; it takes space as long as the point's object stays, so
 * the first segment that keeps it there answers for it. `point` NULL: cannot be read.
 */
static int holder_in_place(struct repack *repack, const struct point *point,
			   const struct live *live, bool first, struct error *err)
{
	struct holder *holder = holder_add(repack);

	if (!holder)
		return no_memory(err);
	holder->number = live->number;
	holder->segment = live->segment;
	holder->fixed = !point || live->segment >= point->segment_count;
	if (holder->fixed)
		return 0;
	holder->run = point->run;
	holder->is_inline = point->frames_inline;
	holder->head_bytes = point->head_bytes;
	holder->base = !point->frames_inline ? 0 :
		       point->head_bytes + (point->map_inline ? point->map_bytes : 0);
	holder->segment_bytes = holder->bytes = point->segments[live->segment].bytes;
	memcpy(holder->sha256, point->segments[live->segment].sha256, CRYPTO_DIGEST_SIZE);
	if (first && point->map_inline)
		holder->bytes += point->map_bytes;
	return 0;
}

static int pieces_in_packs(struct repack *repack, struct live live, struct error *err)
{
	while (live.length) {
		struct pack_place place;
		struct piece piece;
		struct holder *holder;
		uint64_t skip;
		int ret = packs_find_frames(repack->marking->packs, live.number, live.segment,
					    live.offset, &place, err);

		if (ret)
			return ret;
		if (!place.item)	/* frame_check found all of it */
			return error_set(err, -EIO, "repacking: point %" PRIu64 " is not where "
					 "it was", live.number);
		skip = live.offset - place.item->offset;
		piece = (struct piece){
			.number = live.number, .segment = live.segment, .offset = live.offset,
			.at = place.item->at + skip, .length = place.item->length - skip,
			.holder = (uint32_t)place.pack,
		};
		if (piece.length > live.length)
			piece.length = live.length;
		ret = piece_add(repack, &piece, err);
		if (ret)
			return ret;
		holder = &repack->holders[place.pack];
		holder->live += sizeof(struct pack_entry);
		if (repack->head_counted != live.number) {
			const struct pack_index *index;

			if (packs_index(repack->marking->packs, place.pack, &index, err))
				return err->code;
			holder->live += pack_index_head(index, live.number)->length +
					sizeof(struct pack_entry);
		}
		repack->head_counted = live.number;
		live.offset += piece.length;
		live.length -= piece.length;
	}
	return 0;
}

static int piece_in_place(struct repack *repack, const struct point *point,
			  const struct live *live, bool *first, struct error *err)
{
	const struct holder *holder = repack->holder_count ?
				      &repack->holders[repack->holder_count - 1] : NULL;
	struct piece piece = {
		.number = live->number, .segment = live->segment, .offset = live->offset,
		.length = live->length,
	};

	if (!holder || holder->number != live->number || holder->segment != live->segment) {
		if (holder_in_place(repack, point, live, *first, err))
			return err->code;
		*first = false;
	}
	piece.holder = (uint32_t)(repack->holder_count - 1);
	piece.at = repack->holders[piece.holder].base + live->offset;
	return piece_add(repack, &piece, err);
}

/* What is damaged or missing is kept as it is, for verify to tell and for who may have
 * a copy; it does not keep space from coming back elsewhere. */
static bool is_damage(int ret, const struct error *err)
{
	return ret == -ENOENT || err->exit == EXIT_UNTRUSTWORTHY;
}

/* All that is live of one point: `live` and those behind it. */
static int gather_point(struct repack *repack, const struct live *live, size_t count,
			struct error *err)
{
	struct marking *marking = repack->marking;
	bool loaded = false, first = true;
	struct point point;
	int ret = 0;

	for (size_t i = 0; !ret && i < count; i++) {
		if (!in_place(marking->old, live->number, live[i].segment)) {
			ret = pieces_in_packs(repack, live[i], err);
			continue;
		}
		if (first) {
			struct error why = ERROR_INIT;

			ret = interrupt_check(err) ?:
			      point_load(marking->prune->repo, &marking->prune->volume,
					 live->number, &point, &why);
			loaded = !ret;
			if (ret && !is_damage(ret, &why)) {
				if (why.code)
					*err = why;
				break;
			}
			if (ret)
				log_warning("%s; what is needed of that point stays as it is",
					    why.message);
		}
		ret = piece_in_place(repack, loaded ? &point : NULL, &live[i], &first, err);
	}
	if (loaded)
		point_fini(&point);
	return ret;
}

static int gather(struct repack *repack, struct error *err)
{
	const struct marking *marking = repack->marking;
	size_t at = 0;
	int ret = 0;

	for (size_t i = 0; i < marking->old->pack_count; i++) {
		struct holder *holder = holder_add(repack);

		if (!holder)
			return no_memory(err);
		holder->segment = (uint32_t)i;
		holder->bytes = marking->old->packs[i].bytes;
	}
	while (!ret && at < marking->live_count) {
		const struct live *live = &marking->live[at];
		size_t count = 1;

		while (at + count < marking->live_count && live[count].number == live->number)
			count++;
		ret = gather_point(repack, live, count, err);
		at += count;
	}
	return ret;
}

/* ---- what moves -------------------------------------------------------- */

static bool is_pack(const struct repack *repack, const struct holder *holder)
{
	return holder < repack->holders + repack->marking->old->pack_count;
}

/* The least needed first. */
static int compare_share(const void *a, const void *b)
{
	const struct holder *x = *(struct holder *const *)a, *y = *(struct holder *const *)b;
	__extension__ typedef unsigned __int128 wide;
	wide left = (wide)x->live * y->bytes, right = (wide)y->live * x->bytes;

	return left < right ? -1 : left > right;
}

static int compare_bytes(const void *a, const void *b)
{
	const struct holder *x = *(struct holder *const *)a, *y = *(struct holder *const *)b;

	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

struct choice {
	struct holder **items;		/* what could move, and does not yet */
	size_t count;
	uint64_t total, live, moved;
};

static void choose(struct choice *choice, struct holder *holder)
{
	holder->moves = true;
	choice->total -= holder->bytes - holder->live;
	choice->moved += holder->live;
}

/*
 * What is mostly dead, and what lies in a point's own object: such are small and many.
 * Then the least needed, until all together is within a tenth of what is needed, which
 * with what packs take for themselves is less than a fifth.
 */
static void choose_dead(struct choice *choice)
{
	size_t kept = 0;

	for (size_t i = 0; i < choice->count; i++)
		if (choice->items[i]->is_inline ||
		    choice->items[i]->live < choice->items[i]->bytes / 2)
			choose(choice, choice->items[i]);
		else
			choice->items[kept++] = choice->items[i];
	choice->count = kept;
	qsort(choice->items, kept, sizeof(*choice->items), compare_share);
	for (kept = 0; kept < choice->count; kept++) {
		if (choice->total - choice->live <= choice->live / 10)
			break;
		choose(choice, choice->items[kept]);
	}
	choice->items += kept;
	choice->count -= kept;
}

/*
 * Small packs go along with what is written anyway, each as long as it is not much more
 * than that: so there are few, and nothing is copied often.
 */
static void choose_packs(const struct repack *repack, struct choice *choice)
{
	qsort(choice->items, choice->count, sizeof(*choice->items), compare_bytes);
	for (size_t i = 0; choice->moved && i < choice->count; i++)
		if (is_pack(repack, choice->items[i])) {
			if (choice->items[i]->bytes / 2 > choice->moved)
				break;
			choose(choice, choice->items[i]);
		}
}

static int choose_all(struct repack *repack, struct error *err)
{
	CLEANUP_FREE struct holder **items = calloc(repack->holder_count + 1, sizeof(*items));
	struct choice choice = {
		.items = items, .total = repack->marking->visible_bytes,
		.live = repack->marking->visible_bytes,
	};

	if (!items)
		return no_memory(err);
	for (size_t i = 0; i < repack->holder_count; i++) {
		struct holder *holder = &repack->holders[i];

		if (holder->bytes < holder->live)	/* unread, or overhead counted twice */
			holder->bytes = holder->live;
		if (!holder->live)
			continue;
		choice.total += holder->bytes;
		choice.live += holder->live;
		if (!holder->fixed)
			items[choice.count++] = holder;
	}
	choose_dead(&choice);
	choose_packs(repack, &choice);
	return 0;
}

/* ---- copying ----------------------------------------------------------- */

static void holder_key(const struct repack *repack, const struct holder *holder,
		       char key[static STORE_KEY_MAX])
{
	struct point point = {
		.volume = repack->marking->prune->volume, .number = holder->number,
		.run = holder->run,
	};
	char prefix[STORE_KEY_MAX];

	if (is_pack(repack, holder)) {
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
	return !is_pack(repack, holder) && holder->segment_bytes <= PIECE_BYTES &&
	       holder->base <= PIECE_BYTES - holder->segment_bytes;
}

static int buffer_fill_whole(struct repack *repack, uint32_t index, struct error *err)
{
	const struct holder *holder = &repack->holders[index];
	uint64_t bytes = holder->base + holder->segment_bytes;
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	char key[STORE_KEY_MAX];
	int ret;

	holder_key(repack, holder, key);
	repack->have = 0;
	ret = interrupt_check(err) ?: read_exactly(repack, key, 0, repack->buffer, bytes, err);
	if (ret)
		return ret;
	digest_of(repack->buffer + holder->base, holder->segment_bytes, digest);
	if (memcmp(digest, holder->sha256, sizeof(digest)))
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "%s/%s is damaged: its "
				      "SHA-256 is not the one in its manifest",
				      store_url(repack->marking->prune->repo->store), key);
	repack->loaded = index;
	repack->from = 0;
	repack->have = bytes;
	return 0;
}

/* Reads from `at` on, at least `length` or as much as there is room for, and what near
 * pieces from `next` on will want of the same object. */
static int buffer_fill(struct repack *repack, uint32_t holder, uint64_t at, uint64_t length,
		       size_t next, struct error *err)
{
	uint64_t end = at + length;
	char key[STORE_KEY_MAX];
	int ret;

	if (is_small(repack, &repack->holders[holder]))
		return buffer_fill_whole(repack, holder, err);
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

static int copy(struct repack *repack, struct pack_writer *writer, uint32_t holder,
		uint64_t at, uint64_t length, size_t next, struct error *err)
{
	repack->marking->prune->result->repacked_bytes += length;
	if (repack->marking->prune->options->dry_run)
		return pack_writer_add(writer, NULL, length, err);
	while (length) {
		uint64_t skip, n;
		int ret;

		if (!repack->have || repack->loaded != holder || at < repack->from ||
		    at - repack->from >= repack->have) {
			ret = buffer_fill(repack, holder, at, length, next, err);
			if (ret)
				return ret;
		}
		skip = at - repack->from;
		if (skip >= repack->have)	/* a map points behind the end */
			return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG, "a map points "
					      "outside the segments of point %" PRIu64,
					      repack->holders[holder].number);
		n = repack->have - skip < length ? repack->have - skip : length;
		ret = pack_writer_add(writer, repack->buffer + skip, n, err);
		if (ret)
			return ret;
		at += n;
		length -= n;
	}
	return 0;
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
	if (is_pack(repack, holder)) {
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
	if (is_pack(repack, holder) || holder->is_inline)
		return copy(repack, writer, piece->holder, at, head.length, i, err);
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
	return ret ? ret : copy(repack, writer, piece->holder, piece->at, piece->length, i + 1,
				err);
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
		*again = ret && is_damage(ret, err);
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

static int write_packs(struct repack *repack, struct error *err)
{
	size_t at = 0;
	int ret = 0;

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
	return ret;
}

/* ---- the record -------------------------------------------------------- */

static int packs_keep(struct repack *repack, struct error *err)
{
	const struct retention *old = repack->marking->old;
	struct retention *next = repack->marking->next;
	size_t kept = 0, added = next->pack_count;
	struct retention_pack *packs = calloc(old->pack_count + added + 1, sizeof(*packs));

	if (!packs)
		return no_memory(err);
	for (size_t i = 0; i < old->pack_count; i++)
		if (repack->holders[i].live && !repack->holders[i].moves)
			packs[kept++] = old->packs[i];
	if (added)
		memcpy(packs + kept, next->packs, added * sizeof(*packs));
	free(next->packs);
	next->packs = packs;
	next->pack_count = kept + added;
	return 0;
}

static int serving_keep(struct repack *repack, struct error *err)
{
	struct retention *next = repack->marking->next;
	struct retention_serving *serving = NULL;

	next->serving = calloc(repack->holder_count + 1, sizeof(*next->serving));
	if (!next->serving)
		return no_memory(err);
	for (size_t i = repack->marking->old->pack_count; i < repack->holder_count; i++) {
		const struct holder *holder = &repack->holders[i];

		if (holder->moves)
			continue;
		if (!serving || serving->number != holder->number) {
			serving = &next->serving[next->serving_count++];
			serving->number = holder->number;
		}
		if (extent_list_append(&serving->segments, holder->segment, 1))
			return no_memory(err);
	}
	return 0;
}

int prune_repack(struct marking *marking, struct error *err)
{
	struct repack repack = { .marking = marking, .buffer = malloc(PIECE_BYTES) };
	int ret = repack.buffer ? gather(&repack, err) : no_memory(err);

	if (!ret)
		ret = choose_all(&repack, err);
	if (!ret)
		ret = write_packs(&repack, err);
	if (!ret)
		ret = packs_keep(&repack, err);
	if (!ret)
		ret = serving_keep(&repack, err);
	for (size_t i = 0; i < repack.holder_count; i++)
		if (repack.holders[i].live && !repack.holders[i].moves)
			marking->next->dead_bytes += repack.holders[i].bytes -
						     repack.holders[i].live;
	free(repack.holders);
	free(repack.pieces);
	free(repack.buffer);
	return ret;
}
