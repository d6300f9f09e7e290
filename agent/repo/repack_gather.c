/* Where what is needed of hidden points lies: in their own objects, or in packs. */
#include "agent/repo/repack_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/parallel.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "repacking: out of memory");
}

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

static int origin_load(void *context, size_t i, struct error *err)
{
	struct repack *repack = context;
	struct origin *origin = &repack->origins[i];
	const struct prune *prune = repack->marking->prune;
	struct error why = ERROR_INIT;
	struct point point;
	int ret = point_load(prune->repo, &prune->volume, origin->number, &point, &why);

	if (ret && !repack_is_damage(ret, &why)) {
		*err = why;
		return ret;
	}
	if (ret) {
		log_warning("%s; what is needed of that point stays as it is", why.message);
		return 0;
	}
	origin->readable = true;
	origin->run = point.run;
	origin->head_bytes = point.head_bytes;
	origin->is_inline = point.frames_inline;
	origin->map_bytes = point.map_inline ? point.map_bytes : 0;
	origin->segments = STEAL(point.segments);
	origin->segment_count = point.segment_count;
	return 0;
}

static int origins_load(struct repack *repack, struct error *err)
{
	const struct marking *marking = repack->marking;
	uint64_t last = 0;

	repack->origins = calloc(marking->live_count + 1, sizeof(*repack->origins));
	if (!repack->origins)
		return no_memory(err);
	for (size_t i = 0; i < marking->live_count; i++) {
		const struct live *live = &marking->live[i];

		if (live->number == last || !retention_needs_segment(marking->old, live->number, live->segment))
			continue;
		last = live->number;
		repack->origins[repack->origin_count++].number = last;
	}
	return parallel_run(REPACK_THREADS, repack->origin_count, origin_load, repack, err);
}

/*
 * A pruned point's map is dead; it takes space as long as the point's object stays, so
 * the first segment that keeps it there answers for it.
 */
static int holder_in_place(struct repack *repack, const struct origin *origin,
			   const struct live *live, bool first, struct error *err)
{
	struct holder *holder = holder_add(repack);

	if (!holder)
		return no_memory(err);
	holder->number = live->number;
	holder->segment = live->segment;
	holder->fixed = !origin->readable || live->segment >= origin->segment_count;
	if (holder->fixed)
		return 0;
	holder->run = origin->run;
	holder->is_inline = origin->is_inline;
	holder->head_bytes = origin->head_bytes;
	holder->base = origin->is_inline ? origin->head_bytes + origin->map_bytes : 0;
	holder->segment_bytes = holder->bytes = origin->segments[live->segment].bytes;
	memcpy(holder->sha256, origin->segments[live->segment].sha256, CRYPTO_DIGEST_SIZE);
	if (first)
		holder->bytes += origin->map_bytes;
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

static int piece_in_place(struct repack *repack, const struct origin *origin,
			  const struct live *live, struct error *err)
{
	const struct holder *holder = repack->holder_count ?
				      &repack->holders[repack->holder_count - 1] : NULL;
	struct piece piece = {
		.number = live->number, .segment = live->segment, .offset = live->offset,
		.length = live->length,
	};
	bool first = !holder || holder->number != live->number;

	if (first || holder->segment != live->segment)
		if (holder_in_place(repack, origin, live, first, err))
			return err->code;
	piece.holder = (uint32_t)(repack->holder_count - 1);
	piece.at = repack->holders[piece.holder].base + live->offset;
	return piece_add(repack, &piece, err);
}

int repack_gather(struct repack *repack, struct error *err)
{
	const struct marking *marking = repack->marking;
	const struct origin *origin;
	int ret;

	for (size_t i = 0; i < marking->old->pack_count; i++) {
		struct holder *holder = holder_add(repack);

		if (!holder)
			return no_memory(err);
		holder->segment = (uint32_t)i;
		holder->bytes = marking->old->packs[i].bytes;
	}
	ret = origins_load(repack, err);
	origin = repack->origins;
	for (size_t i = 0; !ret && i < marking->live_count; i++) {
		const struct live *live = &marking->live[i];

		if (!retention_needs_segment(marking->old, live->number, live->segment)) {
			ret = pieces_in_packs(repack, *live, err);
			continue;
		}
		while (origin->number != live->number)
			origin++;	/* both rise */
		ret = piece_in_place(repack, origin, live, err);
	}
	return ret;
}
