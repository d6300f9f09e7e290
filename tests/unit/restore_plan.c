/* The plan of a restore: what is fetched, in which order, and how much of it is kept. */
#include "agent/restore/restore_private.h"
#include "tests/unit/points_lab.h"

/* Every needed frame in exactly one range, ranges short, gaps small. */
static void ranges_cover_frames(void **state)
{
	struct random_state random = random_start("ranges_cover_frames");
	struct points_lab *lab = points_lab_new();
	struct key_ring ring = lab_ring(lab);
	struct error err = ERROR_INIT;
	struct plan plan;
	size_t joined = 0;

	(void)state;
	lab_build(lab, &random, 8, 12u << 20);
	for (uint64_t i = 1; i <= lab->count; i++) {
		size_t next = 0;

		assert_int_equal(0, plan_make(&plan, lab->repo, &lab->points[i], &ring,
					      NULL, &err));
		for (size_t r = 0; r < plan.range_count; r++) {
			const struct plan_range *range = &plan.ranges[r];
			uint64_t end = range->offset;

			assert_int_equal(range->first_frame, next);
			assert_true(range->length <= RANGE_BYTES_MAX);
			for (size_t f = 0; f < range->frame_count; f++) {
				const struct map_frame *frame =
					&plan.map.frames[plan.order[next++]];

				assert_int_equal(frame->point, plan.points[range->source]);
				assert_int_equal(frame->segment, range->segment);
				assert_true(frame->offset >= end);
				assert_true(frame->offset - end <= RANGE_GAP_MAX);
				end = frame->offset + frame->length;
			}
			assert_int_equal(end, range->offset + range->length);
			joined += range->frame_count > 1;
		}
		assert_int_equal(next, plan.frame_count);
		for (size_t p = 1; p < plan.point_count; p++)
			assert_true(plan.points[p] < plan.points[p - 1]);
		plan_fini(&plan);
	}
	assert_true(joined > 0);
	points_lab_free(lab);
}

/* At no window more is kept than may be; with room, nothing is a stray; and what a band
 * of windows wants first fits into what is fetched. */
static void check_sweep(const struct plan *plan)
{
	uint64_t *held = calloc(plan->window_count + 1, sizeof(*held));
	uint64_t band = 0;
	size_t strays = 0;

	for (size_t i = 0; i < plan->frame_count; i++) {
		const struct plan_use *use = &plan->uses[plan->order[i]];
		const struct map_frame *frame = &plan->map.frames[plan->order[i]];

		assert_true(use->windows > 0 && use->first <= use->last);
		assert_true(use->last < plan->window_count);
		assert_true(use->stray == (i < plan->stray_count));
		strays += use->stray;
		for (uint32_t w = use->first; !use->stray && use->windows > 1 && w <= use->last; w++)
			held[w] += frame->blocks * (uint64_t)BLOCK_BYTES;
		/* What comes later is not wanted BAND_WINDOWS before. */
		if (i >= plan->stray_count)
			assert_true(use->first + BAND_WINDOWS >= band);
		if (i >= plan->stray_count && use->first > band)
			band = use->first;
	}
	assert_int_equal(strays, plan->stray_count);
	for (size_t w = 0; w < plan->window_count; w++)
		assert_true(held[w] <= plan->held_max);
	free(held);
}

static void sweep_keeps_its_bound(void **state)
{
	struct random_state random = random_start("sweep_keeps_its_bound");
	struct points_lab *lab = points_lab_new();
	struct key_ring ring = lab_ring(lab);
	struct error err = ERROR_INIT;
	size_t strays = 0, shared = 0;

	(void)state;
	lab_build(lab, &random, 12, 24u << 20);
	for (int i = 0; i < 40; i++) {
		uint64_t number = 1 + random_below(&random, lab->count);
		uint64_t room = i % 4 ? 1 + random_below(&random, 3u << 20) : HELD_BYTES_DEFAULT;
		struct plan plan;

		assert_int_equal(0, plan_open(&plan, lab->repo, &lab->points[number], &ring, NULL,
					      &err));
		plan.held_max = room;
		assert_int_equal(0, plan_finish(&plan, &lab->points[number], &err));
		check_sweep(&plan);
		assert_true(i % 4 || !plan.stray_count);
		strays += plan.stray_count;
		for (size_t f = 0; f < plan.frame_count; f++)
			shared += plan.uses[plan.order[f]].windows > 1;
		plan_fini(&plan);
	}
	print_message("%zu strays, %zu frames wanted by several windows\n", strays, shared);
	assert_true(strays > 10 && shared > strays);
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_cover_frames),
		cmocka_unit_test(sweep_keeps_its_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
