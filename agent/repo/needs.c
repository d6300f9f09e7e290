/*
 * Which objects the newest retention record and the points that it leaves visible need:
 * one answer for who deletes and for who copies.
 */
#include "agent/repo/retention_format.h"

#include <string.h>

bool retention_needs_point(const struct retention *retention, uint64_t number)
{
	return !extent_list_contains(&retention->pruned, number) ||
	       retention_serving_find(retention, number);
}

bool retention_needs_map(const struct retention *retention, uint64_t number)
{
	return !extent_list_contains(&retention->pruned, number) &&
	       !retention_map_find(retention, number);
}

bool retention_needs_segment(const struct retention *retention, uint64_t number,
			     uint32_t segment)
{
	const struct retention_serving *serving = retention_serving_find(retention, number);

	if (!extent_list_contains(&retention->pruned, number))
		return true;
	return serving && extent_list_contains(&serving->segments, segment);
}

bool retention_needs_rebased(const struct retention *retention,
			     const struct retention_map *rebased)
{
	const struct retention_map *map = retention_map_find(retention, rebased->number);

	return map && map->sequence == rebased->sequence &&
	       !memcmp(map->run.b, rebased->run.b, REPO_RUN_NAMED);
}

bool retention_needs_pack(const struct retention *retention, const struct retention_pack *named)
{
	const struct retention_pack *pack = retention_pack_find(retention, named);

	return pack && !memcmp(pack->run.b, named->run.b, REPO_RUN_NAMED);
}
