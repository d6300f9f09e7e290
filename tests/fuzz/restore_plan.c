/*
 * What a restore is about to do, from a chain of two points whose maps the fuzzer
 * made: they are signed and sealed as a host would that has been broken into. Of the
 * ranges that are fetched and the blocks that are written none may be wild.
 *
 * Input: one byte of the volume's last bytes, the full map with two bytes of its
 * length before it, then the map on top of it.
 */
#include "agent/repo/repo.h"
#include "agent/restore/restore_private.h"
#include "tests/fuzz/fixed_keys.h"
#include "tests/fuzz/memory_store.h"

#define PARENT 5

static const uint8_t host_map_key[CRYPTO_KEY_SIZE] = { 42 };
static const struct uuid volume = { { 2 } }, run = { { 3 } };
static struct signing_private *signer;
static struct repo *repo;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct repo_facts facts = { .id = { { 1 } }, .recipient_count = 1, .signer_count = 1 };
	struct recovery_private *recovery = fixed_recovery_key();
	struct error err = ERROR_INIT;

	(void)argc;
	(void)argv;
	signer = fixed_signing_key();
	signing_public(signer, &facts.signers[0]);
	recovery_private_public(recovery, &facts.recipients[0]);
	recovery_private_free(recovery);
	FUZZ_CHECK(!repo_init(&memory.base, &facts, &err));
	FUZZ_CHECK(!repo_open(&memory.base, NULL, &repo, &err));
	return 0;
}

/* A point with this map in its object, and segments that are never read. */
static int commit(uint64_t number, const struct point *parent, const struct map *map,
		  uint8_t last, struct point *point)
{
	struct error err = ERROR_INIT;
	struct point_keys keys;

	memset(point, 0, sizeof(*point));
	point->volume = volume;
	point->run = run;
	strcpy(point->volume_name, "fuzz");
	point->number = number;
	point->base = map->kind == MAP_FULL ? number : PARENT;
	point->depth = map->kind == MAP_DELTA;
	if (parent) {
		point->parent = parent->number;
		memcpy(point->parent_hash, parent->hash, sizeof(parent->hash));
	}
	point->volume_bytes = map->volume_blocks * BLOCK_BYTES - last;
	point->logical_block_bytes = 512;
	FUZZ_CHECK(!point_keys_new(point, host_map_key, &keys, &err));
	return point_commit(repo, point, map, NULL, 0, &keys, signer, &err);
}

/* Every range lies in one place of a segment, and its frames lie in it. */
static void check_range(const struct plan *plan, const struct plan_range *range)
{
	uint64_t end = range->offset + range->length;

	FUZZ_CHECK(range->length <= RANGE_BYTES_MAX && end >= range->offset);
	FUZZ_CHECK(range->source < plan->point_count && range->frame_count);
	for (size_t i = 0; i < range->frame_count; i++) {
		uint32_t f = plan->order[range->first_frame + i];
		const struct map_frame *frame = &plan->map.frames[f];

		FUZZ_CHECK(f < plan->map.frame_count);
		FUZZ_CHECK(frame->point == plan->points[range->source]);
		FUZZ_CHECK(frame->segment == range->segment);
		FUZZ_CHECK(frame->offset >= range->offset &&
			   frame->offset + frame->length <= end);
	}
}

/* Holes and data make the volume, or a part of it. */
static void check_volume(const struct plan *plan)
{
	uint64_t blocks = extent_list_blocks(&plan->holes) + map_data_blocks(&plan->map);

	FUZZ_CHECK(blocks <= plan->map.volume_blocks);
	FUZZ_CHECK(plan->data_bytes <= plan->volume_bytes);
	FUZZ_CHECK(plan->hole_bytes <= plan->volume_bytes - plan->data_bytes);
	if (plan->map.kind == MAP_FULL) {
		FUZZ_CHECK(blocks == plan->map.volume_blocks);
		FUZZ_CHECK(plan->data_bytes + plan->hole_bytes == plan->volume_bytes);
	}
	for (size_t i = 0; i < plan->holes.count; i++)
		FUZZ_CHECK(plan->holes.items[i].first + plan->holes.items[i].count <=
			   plan->map.volume_blocks);
}

static void check_plan(uint64_t number, const struct restore_known *known)
{
	struct key_ring ring = { .host_map_key = host_map_key };
	struct error err = ERROR_INIT;
	struct point point;
	struct plan plan;
	size_t frames = 0;
	int ret = point_load(repo, &volume, number, &point, &err);

	if (!ret)
		ret = plan_make(&plan, repo, &point, &ring, known, &err);
	point_fini(&point);
	if (ret) {
		fuzz_refused(ret, &err);
		return;
	}
	for (size_t i = 0; i < plan.range_count; i++) {
		FUZZ_CHECK(plan.ranges[i].first_frame == frames);
		frames += plan.ranges[i].frame_count;
		FUZZ_CHECK(frames <= plan.frame_count);
		check_range(&plan, &plan.ranges[i]);
	}
	FUZZ_CHECK(frames == plan.frame_count);
	for (size_t i = 1; i < plan.point_count; i++)
		FUZZ_CHECK(plan.points[i] < plan.points[i - 1]);
	check_volume(&plan);
	plan_fini(&plan);
}

/* Of a target that holds what a map says, but for the blocks of a marked stretch. */
static void check_known(uint64_t number, const struct map *there)
{
	struct extent_list changed = EXTENT_LIST_INIT;
	const struct restore_known known = { there, &changed };

	if (there->kind == MAP_FULL && there->volume_blocks &&
	    !extent_list_append(&changed, there->volume_blocks / 2, 1 + there->volume_blocks))
		check_plan(number, &known);
	extent_list_fini(&changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	uint8_t last = fuzz_byte(&data, &length);
	size_t first = fuzz_byte(&data, &length);
	struct map older, newer;
	struct point parent, point;

	first |= (size_t)fuzz_byte(&data, &length) << 8;
	if (first > length)
		first = length;
	if (map_decode(data, first, &older))
		return 0;
	if (!map_decode(data + first, length - first, &newer)) {
		if (!commit(PARENT, NULL, &older, 0, &parent))
			check_plan(PARENT, NULL);
		if (!commit(PARENT + 1, &parent, &newer, last, &point))
			check_plan(PARENT + 1, NULL);
		check_known(PARENT, &newer);
		check_known(PARENT + 1, &older);
		map_fini(&newer);
	}
	map_fini(&older);
	return 0;
}
