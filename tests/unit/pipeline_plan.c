/* The plan: every wanted block exactly once, pieces and gaps within their bounds. */
#include "agent/pipeline/plan.h"

#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

/* The volume's block at `position` of a piece's buffer, by its reads. */
static uint64_t block_at(const struct plan_piece *piece, uint32_t position)
{
	for (uint32_t i = 0; i < piece->read_count; i++) {
		const struct span *read = &piece->reads[i];

		if (position >= read->position &&
		    position < read->position + read->count)
			return read->first + (position - read->position);
	}
	fail_msg("position %u is not read", position);
	return 0;
}

static void check_piece(const struct plan_piece *piece)
{
	uint32_t blocks = 0;

	assert_in_range(piece->blocks, 1, PLAN_PIECE_BLOCKS);
	for (uint32_t i = 0; i < piece->read_count; i++) {
		assert_int_equal(piece->reads[i].position, blocks);
		assert_true(piece->reads[i].count > 0);
		blocks += piece->reads[i].count;
	}
	assert_int_equal(blocks, piece->blocks);
	for (uint32_t i = 0; i < piece->wanted_count; i++) {
		const struct span *wanted = &piece->wanted[i];

		for (uint32_t k = 0; k < wanted->count; k++)
			assert_int_equal(block_at(piece, wanted->position + k),
					 wanted->first + k);
	}
	/* It ends with a wanted block: a gap at the end would be read in vain. */
	assert_int_equal(piece->wanted[piece->wanted_count - 1].position +
			 piece->wanted[piece->wanted_count - 1].count, blocks);
}

/* Returns the number of pieces; all extents must come out again, in order. */
static uint64_t check_plan(const struct extent_list *extents, uint64_t *gaps)
{
	static struct plan_piece piece;
	struct extent_list covered = EXTENT_LIST_INIT;
	uint64_t read = 0, wanted = 0;
	struct plan plan;

	plan_init(&plan, extents);
	memset(&piece, 0xee, sizeof(piece));
	while (plan_next(&plan, &piece)) {
		assert_int_equal(piece.number, plan.pieces - 1);
		check_piece(&piece);
		read += piece.blocks;
		for (uint32_t i = 0; i < piece.wanted_count; i++) {
			wanted += piece.wanted[i].count;
			assert_int_equal(0, extent_list_append(&covered,
				piece.wanted[i].first, piece.wanted[i].count));
		}
		/* The promise holds at any moment, not only at the end. */
		assert_true((read - wanted) * 100 <= wanted * PLAN_GAP_PERCENT);
	}
	assert_int_equal(covered.count, extents->count);
	if (covered.count)
		assert_memory_equal(covered.items, extents->items,
				    covered.count * sizeof(*covered.items));
	assert_int_equal(read - wanted, plan.gap_blocks);
	*gaps = plan.gap_blocks;
	extent_list_fini(&covered);
	return plan.pieces;
}

static void random_extents(struct random_state *random, struct extent_list *extents,
			   uint64_t run, uint64_t gap)
{
	uint64_t at = random_below(random, 1000), count = random_below(random, 2000);

	for (uint64_t i = 0; i < count; i++) {
		uint64_t length = 1 + random_below(random, run);

		assert_int_equal(0, extent_list_append(extents, at, length));
		at += length + 1 + random_below(random, gap);
	}
}

static void test_random(void **state)
{
	struct random_state random = random_start("pipeline_plan");
	uint64_t bridged = 0, gaps;

	(void)state;
	for (int round = 0; round < 400; round++) {
		static const uint64_t runs[] = { 1, 3, 40, 300, 5000 };
		static const uint64_t spaces[] = { 1, 2, 6, 40, 100000 };
		struct extent_list extents = EXTENT_LIST_INIT;

		random_extents(&random, &extents, runs[random_below(&random, 5)],
			       spaces[random_below(&random, 5)]);
		check_plan(&extents, &gaps);
		bridged += gaps;
		extent_list_fini(&extents);
	}
	/* The test would be empty if nothing were ever bridged. */
	assert_true(bridged > 1000);
}

/* Long runs with one block between them: gaps are read, up to the budget. */
static void test_bridges(void **state)
{
	struct extent_list extents = EXTENT_LIST_INIT;
	uint64_t gaps;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		extent_list_append(&extents, i * 101, 100);
	check_plan(&extents, &gaps);
	assert_int_equal(gaps, 99);
	extent_list_fini(&extents);

	for (uint64_t i = 0; i < 100; i++)
		extent_list_append(&extents, i * (100 + PLAN_GAP_BLOCKS + 1), 100);
	check_plan(&extents, &gaps);
	assert_int_equal(gaps, 0);
	extent_list_fini(&extents);
}

static void test_full(void **state)
{
	struct extent_list extents = EXTENT_LIST_INIT;
	uint64_t gaps;

	(void)state;
	assert_int_equal(0, check_plan(&extents, &gaps));
	extent_list_append(&extents, 5, 100 * PLAN_PIECE_BLOCKS + 1);
	assert_int_equal(101, check_plan(&extents, &gaps));
	extent_list_fini(&extents);

	/* Scattered single blocks share pieces. */
	for (uint64_t i = 0; i < 1024; i++)
		extent_list_append(&extents, i * 1000, 1);
	assert_int_equal(4, check_plan(&extents, &gaps));
	extent_list_fini(&extents);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_bridges),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
