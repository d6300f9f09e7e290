/* Restores onto a target that is known: exact, and nothing else is looked at. */
#include "agent/restore/restore_private.h"
#include "tests/unit/points_lab.h"

#define MODEL_POINTS 10

/* Where the target holds a point's image, but for blocks that were written since. */
struct there {
	struct lab_image image;
	struct extent_list changed;
	struct map map;
	char path[700];
};

static void there_begin(struct points_lab *lab, uint64_t number, struct there *there)
{
	struct key_ring ring = lab_ring(lab);
	struct error err = ERROR_INIT;

	*there = (struct there){ .image = lab->images[number] };
	there->image.data = malloc(there->image.blocks * BLOCK_BYTES + 1);
	assert_non_null(there->image.data);
	memcpy(there->image.data, lab->images[number].data, there->image.blocks * BLOCK_BYTES);
	if (point_full_map(lab->repo, &lab->points[number], &ring, &there->map, &err))
		fail_msg("%s", err.message);
	lab_path(lab, "target", there->path);
}

/* Some blocks, some of them with what they held; marked all. */
static void there_change(struct random_state *random, struct there *there)
{
	for (uint64_t b = 0; b < there->image.blocks; b++) {
		if (!random_one_in(random, 40))
			continue;
		if (!random_one_in(random, 3))
			lab_fill(random, there->image.data + b * BLOCK_BYTES, 1);
		assert_int_equal(0, extent_list_append(&there->changed, b, 1));
	}
}

static void there_end(struct there *there)
{
	free(there->image.data);
	extent_list_fini(&there->changed);
	map_fini(&there->map);
}

static void there_write(const struct there *there)
{
	assert_int_equal(0, file_replace(there->path, there->image.data, there->image.bytes,
					 0600));
}

static int there_restore(struct points_lab *lab, const struct there *there, uint64_t to,
			 bool in_place, bool verify, struct restore_result *result,
			 struct error *err)
{
	const struct restore_known known = { &there->map, &there->changed };
	struct restore_target_options how = {
		.bytes = lab->images[to].bytes, .force = true, .in_place = in_place,
	};
	struct restore_options options = { .known = &known, .verify = verify };
	struct key_ring ring = lab_ring(lab);
	struct restore_target *target;
	struct error closing = ERROR_INIT;
	int ret = restore_target_open(there->path, &how, &target, err);

	if (ret)
		return ret;
	ret = restore_target_settle(target, err);
	if (!ret)
		ret = restore_run(lab->repo, &lab->points[to], &ring, target, &options, result,
				  err);
	return restore_target_close(target, &closing) && !ret ? closing.code : ret;
}

static void there_read(const struct there *there, const struct lab_image *wanted, char **data)
{
	size_t length;

	assert_int_equal(0, file_read(there->path, 1u << 30, data, &length));
	assert_int_equal(length, wanted->bytes);
}

/* From any point, changed since, to any other: of all sizes and kinds. */
static void any_point_from_any_other(void **state)
{
	struct random_state random = random_start("any_point_from_any_other");
	uint64_t less = 0;

	(void)state;
	for (int round = 0; round < 5; round++) {
		struct points_lab *lab = points_lab_new();

		lab->image_digest = round % 2;
		lab_build(lab, &random, MODEL_POINTS,
			  (1u << 20) + 512 * random_below(&random, 6000));
		for (int i = 0; i < 12; i++) {
			uint64_t from = 1 + random_below(&random, lab->count);
			uint64_t to = 1 + random_below(&random, lab->count);
			const struct lab_image *wanted = &lab->images[to];
			struct restore_result result;
			struct error err = ERROR_INIT;
			CLEANUP_FREE char *data = NULL;
			struct there there;

			there_begin(lab, from, &there);
			there_change(&random, &there);
			there_write(&there);
			if (there_restore(lab, &there, to, true, i % 3 == 0, &result, &err))
				fail_msg("%llu to %llu: %s", (unsigned long long)from,
					 (unsigned long long)to, err.message);
			there_read(&there, wanted, &data);
			assert_memory_equal(data, wanted->data, wanted->bytes);
			assert_true(result.data_bytes + result.hole_bytes <= wanted->bytes);
			assert_true(result.written_bytes <=
				    result.data_bytes + result.hole_bytes);
			less += result.data_bytes + result.hole_bytes < wanted->bytes / 2;
			there_end(&there);
		}
		points_lab_free(lab);
	}
	assert_true(less > 10);
}

/* Distinct data, no two blocks alike, and nothing that compresses. */
static void fill_distinct(struct random_state *random, struct lab_image *image)
{
	for (size_t i = 0; i < image->bytes; i += 8) {
		uint64_t value = random_next(random);

		memcpy(image->data + i, &value, 8);
	}
}

/* What was never marked is not even read: if a target is not as it is said, this shows. */
static void only_what_can_differ(void **state)
{
	struct random_state random = random_start("only_what_can_differ");
	struct points_lab *lab = points_lab_new();
	struct restore_result result;
	struct error err = ERROR_INIT;
	CLEANUP_FREE char *data = NULL;
	struct there there;
	uint64_t mib = 1u << 20;

	(void)state;
	lab_image_change(lab, &random, 1, 8 * mib, 0, 1);
	fill_distinct(&random, &lab->images[1]);
	lab_commit(lab, &random, POINT_FULL, false);
	lab_image_change(lab, &random, 2, 8 * mib, 0, 1);
	memset(lab->images[2].data + 2 * mib, 0x55, mib);
	lab_commit(lab, &random, POINT_INCREMENTAL, true);
	there_begin(lab, 2, &there);
	/* Written since and marked, */
	memset(there.image.data + 5 * mib, 0x66, mib);
	assert_int_equal(0, extent_list_append(&there.changed, 5 * mib / BLOCK_BYTES,
					       mib / BLOCK_BYTES));
	/* marked beyond the end, as one that was larger has it, */
	assert_int_equal(0, extent_list_append(&there.changed, 8 * mib / BLOCK_BYTES, 3));
	/* and written without a mark. */
	there.image.data[7 * mib] ^= 1;
	there_write(&there);
	assert_int_equal(0, there_restore(lab, &there, 1, true, true, &result, &err));
	there_read(&there, &lab->images[1], &data);
	data[7 * mib] ^= 1;
	assert_memory_equal(data, lab->images[1].data, 8 * mib);
	/* The second point's marks have a few blocks more than it changed. */
	assert_int_equal(result.hole_bytes, 0);
	assert_in_range(result.data_bytes, 2 * mib, 2 * mib + mib);
	assert_int_equal(result.written_bytes, 2 * mib);
	there_end(&there);
	points_lab_free(lab);
}

/*
 * Of scattered blocks no more is fetched than the frames that they lie in, whatever lies
 * between two of them: with frames of a block that is within a tenth of what changed.
 */
static void scattered_blocks_fetch_their_frames(void **state)
{
	struct random_state random = random_start("scattered_blocks_fetch_their_frames");
	uint64_t mib = 1u << 20;

	(void)state;
	for (uint32_t frame_blocks = 1; frame_blocks <= 16; frame_blocks *= 4) {
		struct points_lab *lab = points_lab_new();
		struct restore_result result;
		struct error err = ERROR_INIT;
		CLEANUP_FREE char *data = NULL;
		struct there there;
		uint64_t frames = 0, changed = 0, last = UINT64_MAX;

		lab->options = (struct pipeline_options){ .frame_blocks = frame_blocks };
		lab_image_change(lab, &random, 1, 16 * mib, 0, 1);
		fill_distinct(&random, &lab->images[1]);
		lab_commit(lab, &random, POINT_FULL, false);
		there_begin(lab, 1, &there);
		/* Eight blocks from one another on average: gaps that a full would read over. */
		for (uint64_t b = random_below(&random, 16); b < there.image.blocks;
		     b += 1 + random_below(&random, 16)) {
			memset(there.image.data + b * BLOCK_BYTES, 0x77, BLOCK_BYTES);
			assert_int_equal(0, extent_list_append(&there.changed, b, 1));
			frames += last != b / frame_blocks;
			last = b / frame_blocks;
			changed += BLOCK_BYTES;
		}
		there_write(&there);
		assert_int_equal(0, there_restore(lab, &there, 1, true, true, &result, &err));
		there_read(&there, &lab->images[1], &data);
		assert_memory_equal(data, lab->images[1].data, 16 * mib);
		assert_int_equal(result.written_bytes, changed);
		assert_int_equal(result.frames, frames);
		assert_true(result.fetched_bytes >= frames * frame_blocks * BLOCK_BYTES);
		assert_true(result.fetched_bytes * 100 <= frames * frame_blocks * BLOCK_BYTES * 110);
		there_end(&there);
		points_lab_free(lab);
	}
}

/* What a target is said to hold counts only where it is left in place. */
static void not_in_place(void **state)
{
	struct random_state random = random_start("not_in_place");
	struct points_lab *lab = points_lab_new();
	struct restore_result result;
	struct error err = ERROR_INIT;
	CLEANUP_FREE char *data = NULL;
	struct there there;

	(void)state;
	lab_build(lab, &random, 2, 1u << 20);
	there_begin(lab, 2, &there);
	there_write(&there);
	assert_int_equal(-EINVAL, there_restore(lab, &there, 1, false, false, &result, &err));
	there_read(&there, &there.image, &data);
	assert_memory_equal(data, there.image.data, there.image.bytes);
	there_end(&there);
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_point_from_any_other),
		cmocka_unit_test(only_what_can_differ),
		cmocka_unit_test(scattered_blocks_fetch_their_frames),
		cmocka_unit_test(not_in_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
