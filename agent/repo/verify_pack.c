/*
 * One pack: its size, its digest, its index; and with data every head in it, and every
 * frame, opened with the keys in that head. There is no map to say where a frame begins;
 * an item of a segment is one frame behind the other.
 */
#include "agent/repo/verify_private.h"

#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A pack that is read from front to back. buffer[0] is its byte `base`. */
struct pack_reading {
	struct verify_worker *worker;
	size_t pack;
	const char *key;
	const struct pack_index *index;
	bool decode;
	uint64_t base;
	size_t have;
	size_t item;			/* that is being walked */
	uint64_t walked;		/* bytes of it that were */
	struct point point;		/* of the last head */
	struct sealer *sealer;		/* NULL: that cannot be opened */
	uint32_t damaged_frames;
};

int verify_packed(struct verify *verify, const struct map_frame *frame, bool *packed,
		  struct error *err)
{
	struct pack_place place, head;
	int ret = packs_find_frames(verify->packs, frame->point, frame->segment, frame->offset,
				    &place, err);

	if (!ret)
		ret = packs_find_head(verify->packs, frame->point, &head, err);
	if (ret)
		return ret;
	*packed = head.item && place.item && frame->length <= place.item->offset +
		  place.item->length - frame->offset;
	return 0;
}

/* The keys for the frames that follow. */
static void head_open(struct pack_reading *reading, uint64_t number)
{
	struct verify *verify = reading->worker->verify;
	struct error err = ERROR_INIT;
	struct point_keys keys;
	int ret;

	sealer_free(reading->sealer);
	reading->sealer = NULL;
	point_fini(&reading->point);
	ret = packs_point(verify->packs, number, &reading->point, &err);
	if (!ret)
		ret = point_open_keys(&reading->point, &verify->options->ring, &keys, &err);
	if (!ret) {
		reading->sealer = sealer_new(keys.data);
		if (!reading->sealer)
			error_set(&err, -ENOMEM, "verifying: out of memory");
		crypto_wipe(&keys, sizeof(keys));
	}
	if (!reading->sealer)
		verify_fault(verify, &err);
}

static void frame_fault(struct pack_reading *reading, const struct error *why)
{
	struct error err = *why;

	if (reading->damaged_frames++ && err.exit == EXIT_UNTRUSTWORTHY)
		return;
	error_prefix(&err, "%s", reading->key);
	verify_fault(reading->worker->verify, &err);
}

/*
 * One frame at `data`, if all of it is there: its length, 0 if not. What is no frame is
 * told; there is then no telling where the next one of this item begins.
 */
static uint64_t frame_walk(struct pack_reading *reading, const struct pack_item *item,
			   const uint8_t *data, size_t have)
{
	struct verify_worker *worker = reading->worker;
	uint64_t left = item->length - reading->walked;
	struct error err = ERROR_INIT;
	struct map_frame where;
	int ret;

	if (have < FRAME_HEADER_BYTES && have < left)
		return 0;
	ret = frame_peek(data, have < left ? have : left, item->point,
			 item->offset + reading->walked, &where, &err);
	if (!ret && (where.segment != item->segment || where.length > left))
		ret = error_set_exit(&err, EXIT_UNTRUSTWORTHY, -EBADMSG, "frame %" PRIu32
				     " of point %" PRIu64 " is in another's place", where.number,
				     where.point);
	if (ret) {
		frame_fault(reading, &err);
		return left;
	}
	if (where.length > have)
		return 0;
	if (!reading->sealer)
		return where.length;
	ret = frame_decode(worker->decoder, reading->sealer, &worker->verify->volume, &where,
			   data, where.length, worker->plain, NULL, &err);
	if (ret)
		frame_fault(reading, &err);
	else
		verify_count(worker->verify, 0, 0, 1);
	return where.length;
}

/* Walks what is there; keeps the beginning of what is not complete. */
static void items_walk(struct pack_reading *reading)
{
	uint8_t *buffer = reading->worker->buffer;
	uint64_t end = reading->base + reading->have, keep;

	while (reading->item < reading->index->count) {
		const struct pack_item *item = &reading->index->items[reading->item];
		uint64_t at = item->at + reading->walked, step = item->length;

		if (at >= end)
			break;
		if (item->kind == PACK_HEAD) {
			head_open(reading, item->point);
		} else {
			step = frame_walk(reading, item, buffer + (at - reading->base), end - at);
			if (!step)
				break;
		}
		reading->walked += step;
		if (reading->walked >= item->length) {
			reading->item++;
			reading->walked = 0;
		}
	}
	keep = reading->item < reading->index->count ?
	       reading->index->items[reading->item].at + reading->walked : end;
	if (keep > end)
		keep = end;
	reading->have = end - keep;
	memmove(buffer, buffer + (keep - reading->base), reading->have);
	reading->base = keep;
}

static int pack_read(struct pack_reading *reading, struct digest *digest, struct error *err)
{
	struct verify *verify = reading->worker->verify;
	uint64_t bytes = verify->retention.packs[reading->pack].bytes;
	int ret = verify_room(reading->worker, bytes, err);

	for (uint64_t offset = 0; !ret && offset < bytes;) {
		size_t n = bytes - offset < VERIFY_PIECE_BYTES ? bytes - offset :
								 VERIFY_PIECE_BYTES;
		uint8_t *at = reading->worker->buffer + reading->have;

		if (verify_stopped(verify))
			return -ECANCELED;
		ret = packs_read(verify->packs, reading->pack, offset, at, n, err);
		if (ret)
			return ret;
		digest_update(digest, at, n);
		reading->have += n;
		offset += n;
		if (reading->decode) {
			items_walk(reading);
		} else {
			reading->base = offset;
			reading->have = 0;
		}
		verify_advance(verify, n);
	}
	return ret;
}

/* Whether there is a pack of the size that the record says. */
static bool pack_sized(struct verify *verify, size_t pack, const char *key)
{
	struct error err = ERROR_INIT;
	uint64_t bytes, wanted = verify->retention.packs[pack].bytes;
	int ret = store_size(verify->repo->store, key, &bytes, &err);

	if (ret == -ENOENT)
		verify_problem(verify, "%s is missing: data of pruned points that later ones need "
			       "is lost", key);
	else if (ret)
		verify_fault(verify, &err);
	else if (bytes != wanted)
		verify_problem(verify, "%s has %" PRIu64 " bytes, its retention record says %"
			       PRIu64, key, bytes, wanted);
	return !ret && bytes == wanted;
}

void verify_pack(struct verify_worker *worker, size_t pack)
{
	struct verify *verify = worker->verify;
	struct pack_reading reading = {
		.worker = worker, .pack = pack,
		.decode = verify->options->data && verify->options->ring.recovery,
	};
	uint8_t found[CRYPTO_DIGEST_SIZE];
	char key[STORE_KEY_MAX];
	struct error err = ERROR_INIT;
	struct digest *digest = NULL;
	int ret;

	/* Whole or not at all: no map says where a frame of it begins. */
	if (verify->options->sample_ppm &&
	    !verify_sampled(verify->options->seed, verify->options->sample_ppm,
			    verify->retention.packs[pack].sequence,
			    verify->retention.packs[pack].number, UINT64_MAX))
		return;
	pack_key(&verify->volume, &verify->retention.packs[pack], key);
	reading.key = key;
	verify_count(verify, 0, 1, 0);
	if (!pack_sized(verify, pack, key))
		return;
	ret = packs_index(verify->packs, pack, &reading.index, &err);
	if (!ret && !(digest = digest_new()))
		ret = error_set(&err, -ENOMEM, "verifying: out of memory");
	if (!ret)
		ret = pack_read(&reading, digest, &err);
	if (!ret) {
		digest_finish(digest, found);
		if (memcmp(found, verify->retention.packs[pack].sha256, sizeof(found)))
			verify_problem(verify, "%s is damaged: its SHA-256 is not the one in the "
				       "retention record", key);
		if (reading.damaged_frames > 1)
			verify_problem(verify, "%s: %" PRIu32 " of its frames are damaged", key,
				       reading.damaged_frames);
	} else {
		digest_free(digest);
		if (ret != -ECANCELED)
			verify_fault(verify, &err);
	}
	sealer_free(reading.sealer);
	point_fini(&reading.point);
}
