#include "agent/repo/needed.h"

#include "agent/repo/prune_private.h"

#include <stdlib.h>

static enum needed_kind kind_of(const struct swept *swept)
{
	return swept->kind == SWEPT_POINT ? NEEDED_POINT :
	       swept->kind == SWEPT_RECORD ? NEEDED_RECORD : NEEDED_DATA;
}

int repo_needed(struct repo *repo, const struct uuid *volume,
		const struct retention *retention, needed_fn visit, void *context,
		struct error *err)
{
	struct swept_list list;
	int ret = swept_list(repo, volume, &list, err);

	if (!ret)
		ret = sweep_judge(repo, volume, retention, &list, err);
	for (int kind = NEEDED_DATA; !ret && kind <= NEEDED_RECORD; kind++)
		for (size_t i = 0; !ret && i < list.count; i++) {
			const struct swept *swept = &list.items[i];
			char key[STORE_KEY_MAX];

			if (swept->fate != FATE_NEEDED || kind_of(swept) != (enum needed_kind)kind)
				continue;
			swept_key(volume, swept, key);
			ret = visit(context, (enum needed_kind)kind, key, swept->number,
				    swept->bytes, err);
		}
	free(list.items);
	return ret;
}
