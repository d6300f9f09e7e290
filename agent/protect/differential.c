/*
 * Differentials: what was stored since the last full is found in one map, the newest
 * point's, for its frames say which point wrote them. So neither the points between nor
 * the full itself must still be there, marks need not be kept for longer than a run, and
 * what forget and prune do meanwhile does not matter: all that the new point refers to
 * the newest point refers to as well, and that is never forgotten.
 */
#include "agent/protect/run.h"

#include <inttypes.h>

const char *backup_type_name(enum backup_type type)
{
	static const char *const names[BACKUP_TYPES] = {
		"auto", "full", "incremental", "synthetic", "differential",
	};

	return names[type];
}

int volume_stored_since(struct host *host, const struct point *head,
			struct run_volume *volume, struct error *err)
{
	struct key_ring ring = { .host_map_key = host->map_key };
	struct map map;
	int ret = point_full_map(host->repo, head, &ring, &map, err);

	if (ret)
		return error_hint(err, "a differential needs the maps since the last full; "
				  "clawback backup --type full does without");
	ret = map_stored_since(&map, volume->state.full_point, &volume->since);
	map_fini(&map);
	return ret ? error_set(err, ret, "listing what was stored of %s since point %" PRIu64
			       ": %s", volume->config->name, volume->state.full_point,
			       error_text(ret)) : 0;
}
