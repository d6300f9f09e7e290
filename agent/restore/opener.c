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
	sealer_free(opener->sealer);
	frame_decoder_free(opener->decoder);
	memset(opener, 0, sizeof(*opener));
}

/* Frames come in runs of one source. */
static int opener_turn(struct frame_opener *opener, size_t source)
{
	if (opener->sealer && opener->source == source)
		return 0;
	sealer_free(opener->sealer);
	opener->sealer = sealer_new(opener->sources->items[source].keys.data);
	opener->source = source;
	return opener->sealer ? 0 : -ENOMEM;
}

int frame_opener_open(struct frame_opener *opener, size_t source, uint32_t frame,
		      const uint8_t *stored, uint8_t *plain, struct error *err)
{
	const struct plan *plan = opener->plan;
	const struct map_frame *where = &plan->map.frames[frame];
	struct extent_list extents = EXTENT_LIST_INIT;
	int ret = opener_turn(opener, source);

	if (ret)
		return error_set(err, ret, "opening a frame: out of memory");
	ret = frame_decode(opener->decoder, opener->sealer,
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
