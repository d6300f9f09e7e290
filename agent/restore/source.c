/* The points whose frames a restore reads, and their data keys. */
#include "agent/restore/restore_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct source_context {
	struct source_list *list;
	const struct plan *plan;
	const struct point *point;
	const struct key_ring *ring;
};

static int source_open(void *argument, size_t item, struct error *err)
{
	struct source_context *context = argument;
	struct source *source = &context->list->items[item];
	uint64_t number = context->plan->points[item];
	int ret = places_point(context->plan->places, number, &source->point, err);

	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_UNTRUSTWORTHY, -EBADMSG,
				      "point %" PRIu64 " of %s needs data of point %"
				      PRIu64 ", which is missing",
				      context->point->number,
				      context->point->volume_name, number);
	if (!ret)
		ret = point_open_keys(&source->point, context->ring, &source->keys,
				      err);
	return ret;
}

int source_list_open(struct source_list *list, const struct plan *plan,
		     const struct point *point, const struct key_ring *ring,
		     uint32_t threads, struct error *err)
{
	struct source_context context = { list, plan, point, ring };
	struct point_keys keys;
	int ret;

	/* A point that is all holes has no source; its key must still fit. */
	ret = point_open_keys(point, ring, &keys, err);
	crypto_wipe(&keys, sizeof(keys));
	if (ret)
		return ret;
	list->items = calloc(plan->point_count + 1, sizeof(*list->items));
	if (!list->items)
		return error_set(err, -ENOMEM, "opening %zu points: out of memory",
				 plan->point_count);
	list->count = plan->point_count;
	return parallel_run(threads, list->count, source_open, &context, err);
}

void source_list_fini(struct source_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		point_fini(&list->items[i].point);
	if (list->items)
		crypto_wipe(list->items, list->count * sizeof(*list->items));
	free(list->items);
	list->items = NULL;
	list->count = 0;
}
