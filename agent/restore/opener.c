/* Frames as they are stored, to blocks. */
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

int frame_opener_init(struct frame_opener *opener, const struct plan *plan,
		      const struct source_list *sources)
{
	*opener = (struct frame_opener){ .plan = plan, .sources = sources };
	opener->decoder = frame_decoder_new();
	return opener->decoder ? 0 : -ENOMEM;
}

void frame_opener_fini(struct frame_opener *opener)
{
	for (size_t i = 0; i < FRAME_SEALERS; i++)
		sealer_free(opener->sealers[i].sealer);
	frame_decoder_free(opener->decoder);
	memset(opener, 0, sizeof(*opener));
}

static struct sealer *opener_sealer(struct frame_opener *opener, size_t source)
{
	__typeof__(&opener->sealers[0]) cached = &opener->sealers[source % FRAME_SEALERS];

	if (cached->sealer && cached->source == source)
		return cached->sealer;
	sealer_free(cached->sealer);
	cached->sealer = sealer_new(opener->sources->items[source].keys.data);
	cached->source = source;
	return cached->sealer;
}

int frame_opener_open(struct frame_opener *opener, size_t source, uint32_t frame,
		      const uint8_t *stored, uint8_t *plain, struct error *err)
{
	const struct plan *plan = opener->plan;
	const struct map_frame *where = &plan->map.frames[frame];
	struct sealer *sealer = opener_sealer(opener, source);
	struct extent_list extents = EXTENT_LIST_INIT;
	int ret;

	if (!sealer)
		return error_set(err, -ENOMEM, "opening a frame: out of memory");
	ret = frame_decode(opener->decoder, sealer,
			   &opener->sources->items[source].point.volume, where, stored,
			   where->length, plain, &extents, err);
	if (!ret && frame_index_check(&plan->index, &plan->map, frame, &extents))
		ret = error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				     "frame %" PRIu32 " of point %" PRIu64
				     " does not hold the blocks that the map of point %"
				     PRIu64 " says", where->number, where->point,
				     plan->point);
	extent_list_fini(&extents);
	return ret;
}
