/*
 * Any bytes of a point, in any order, by many at once, are those of its image; each frame
 * is fetched once; what is damaged is an error for its blocks alone, and never wrong data.
 */
#include "tests/unit/serve_lab.h"

#include "agent/base/log.h"

static void check_read(struct serve_lab *lab, uint64_t offset, size_t length, uint8_t *buffer)
{
	struct error err = ERROR_INIT;

	if (point_reader_read(lab->reader, offset, buffer, length, &err))
		fail_msg("%zu bytes at %llu: %s", length, (unsigned long long)offset, err.message);
	if (memcmp(buffer, lab->image->data + offset, length))
		fail_msg("%zu bytes at %llu differ", length, (unsigned long long)offset);
}

/* Extents cover the volume, and those that are holes are zero. */
static void check_holes(struct serve_lab *lab)
{
	uint64_t at = 0, bytes = lab->image->bytes;

	assert_int_equal(point_reader_bytes(lab->reader), bytes);
	while (at < bytes) {
		uint64_t most = bytes - at < 99999 ? bytes - at : 99999, length = most;
		bool hole = point_reader_hole(lab->reader, at, &length);

		assert_true(length && length <= most);
		for (uint64_t i = at; hole && i < at + length; i++)
			assert_int_equal(lab->image->data[i], 0);
		at += length;
	}
}

static void every_byte_of_every_point(void **state)
{
	struct random_state random = random_start("every_byte_of_every_point");
	uint8_t *buffer = malloc(4 * MEBIBYTE);

	(void)state;
	for (int round = 0; round < 3; round++) {
		struct serve_lab lab = { .reader = NULL };

		serve_lab_new(&lab, &random, 6, 4 * MEBIBYTE + 512 * random_below(&random, 999));
		for (uint64_t i = 1; i <= lab.points->count; i++) {
			serve_lab_open(&lab, i, CACHE_BYTES_MIN);
			for (int n = 0; n < 200; n++) {
				uint64_t offset;
				size_t length;

				somewhere(&random, lab.image->bytes, MEBIBYTE, &offset, &length);
				check_read(&lab, offset, length, buffer);
			}
			check_holes(&lab);
			point_reader_close(lab.reader);
			lab.reader = NULL;
		}
		serve_lab_free(&lab);
	}
	free(buffer);
}

/* ---- many at once ------------------------------------------------------------ */

struct crowd {
	struct serve_lab *lab;
	uint64_t seed;
	bool in_order;
};

static void *crowd_read(void *argument)
{
	struct crowd *crowd = argument;
	struct random_state random = { .value = crowd->seed };
	uint64_t bytes = crowd->lab->image->bytes;
	uint8_t *buffer = malloc(MEBIBYTE);

	for (uint64_t n = 0; n < bytes / (64 << 10); n++) {
		uint64_t offset = n * (64 << 10);
		size_t length = 64 << 10;

		if (!crowd->in_order)
			somewhere(&random, bytes, 256 << 10, &offset, &length);
		check_read(crowd->lab, offset, length, buffer);
	}
	free(buffer);
	return NULL;
}

static void crowd_run(struct serve_lab *lab, struct random_state *random, bool in_order)
{
	pthread_t threads[8];
	struct crowd crowds[8];

	for (int i = 0; i < 8; i++) {
		crowds[i] = (struct crowd){ lab, random_next(random) | 1, in_order };
		assert_int_equal(0, pthread_create(&threads[i], NULL, crowd_read, &crowds[i]));
	}
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
}

static void one_fetch_for_all(void **state)
{
	struct random_state random = random_start("one_fetch_for_all");
	struct point_reader_counts counts;
	struct serve_lab lab = { .reader = NULL };

	(void)state;
	lab_dense(&lab, &random, 24 * MEBIBYTE);
	serve_lab_open(&lab, 1, 64 * MEBIBYTE);
	crowd_run(&lab, &random, true);
	crowd_run(&lab, &random, false);
	point_reader_counts(lab.reader, &counts);
	assert_int_equal(counts.fetches, lab.reader->plan.frame_count);
	assert_int_equal(counts.fetched_bytes, lab.reader->plan.fetch_bytes);
	assert_int_equal(counts.failures, 0);
	serve_lab_free(&lab);
}

/* Small frames come many to a read, and stay, though what is decoded goes. */
static void neighbours_come_along(void **state)
{
	struct random_state random = random_start("neighbours_come_along");
	struct point_reader_counts counts;
	struct serve_lab lab = { .reader = NULL };
	const struct stored *stored;

	(void)state;
	lab_full(&lab, &random, 40 * MEBIBYTE, true);
	serve_lab_open(&lab, 1, CACHE_BYTES_MIN);
	crowd_run(&lab, &random, false);
	stored = &lab.reader->stored;
	assert_true(stored->piece_count <= lab.reader->plan.fetch_bytes / (256 << 10) + 2);
	point_reader_counts(lab.reader, &counts);
	assert_int_equal(counts.fetches, stored->piece_count);
	assert_int_equal(counts.fetched_bytes, lab.reader->plan.fetch_bytes);
	for (size_t i = 0; i < stored->piece_count; i++)
		assert_true(stored->pieces[i].length <= 512 << 10);
	serve_lab_free(&lab);
}

/* A small cache is a slow one, and stays small: beside it what threads have in use. */
static void cache_stays_small(void **state)
{
	struct random_state random = random_start("cache_stays_small");
	struct point_reader_counts counts;
	struct serve_lab lab = { .reader = NULL };

	(void)state;
	lab_dense(&lab, &random, 20 * MEBIBYTE);
	serve_lab_open(&lab, 1, CACHE_BYTES_MIN);
	crowd_run(&lab, &random, false);
	point_reader_counts(lab.reader, &counts);
	assert_true(counts.cache_bytes <= CACHE_BYTES_MIN);
	assert_true(counts.cache_peak_bytes <= CACHE_BYTES_MIN + (8 + 4) * MEBIBYTE);
	assert_true(counts.fetches > lab.reader->plan.frame_count);
	serve_lab_free(&lab);
}

static void sequence_is_read_ahead(void **state)
{
	struct random_state random = random_start("sequence_is_read_ahead");
	struct point_reader_counts counts;
	struct serve_lab lab = { .reader = NULL };
	uint8_t *buffer = malloc(MEBIBYTE);

	(void)state;
	lab_dense(&lab, &random, 12 * MEBIBYTE);
	serve_lab_open(&lab, 1, 64 * MEBIBYTE);
	check_read(&lab, 0, MEBIBYTE, buffer);
	check_read(&lab, MEBIBYTE, MEBIBYTE, buffer);
	for (int i = 0; i < 500; i++) {
		point_reader_counts(lab.reader, &counts);
		if (counts.fetches > 3)
			break;
		usleep(10000);
	}
	assert_true(counts.fetches > 3);	/* more than was asked for */
	assert_true(cache_has(&lab.reader->cache, lab.reader->plan.order[3]));
	serve_lab_free(&lab);
	free(buffer);
}

static void nothing_ahead_of_single_reads(void **state)
{
	struct random_state random = random_start("nothing_ahead_of_single_reads");
	struct point_reader_counts counts;
	struct serve_lab lab = { .reader = NULL };
	uint8_t buffer[BLOCK_BYTES];

	(void)state;
	lab_dense(&lab, &random, 12 * MEBIBYTE);
	serve_lab_open(&lab, 1, 64 * MEBIBYTE);
	for (uint64_t i = 0; i < 4; i++)
		check_read(&lab, (11 - 3 * i) * MEBIBYTE, sizeof(buffer), buffer);
	usleep(50000);
	point_reader_counts(lab.reader, &counts);
	assert_int_equal(counts.fetches, 4);
	serve_lab_free(&lab);
}

/* ---- damage ------------------------------------------------------------------ */

/* Block by block: what lies in the frame is an error that names the object; the rest is
 * right. */
static void check_damage(struct serve_lab *lab, uint32_t frame, const char *key)
{
	const struct plan *plan = &lab->reader->plan;
	uint64_t broken = 0;

	for (uint64_t b = 0; b < lab->image->blocks; b++) {
		size_t length = plan_clip(plan, b, 1);
		uint8_t buffer[BLOCK_BYTES];
		struct error err = ERROR_INIT;
		struct map_entry entry;
		int ret = point_reader_read(lab->reader, b * BLOCK_BYTES, buffer, length, &err);

		assert_true(map_find(&plan->map, b, &entry));
		if (entry.frame != frame) {
			if (ret)
				fail_msg("block %llu: %s", (unsigned long long)b, err.message);
			assert_memory_equal(buffer, lab->image->data + b * BLOCK_BYTES, length);
			continue;
		}
		broken++;
		assert_int_not_equal(ret, 0);
		assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
		assert_non_null(strstr(err.message, key));
	}
	assert_true(broken);
}

/* Whether a frame's first block can be had. */
static void check_frame(struct serve_lab *lab, uint32_t frame, bool there)
{
	const struct plan *plan = &lab->reader->plan;
	const struct map_entry *entry = &plan->map.entries[plan->index.items[plan->index.first[frame]]];
	uint8_t buffer[BLOCK_BYTES];
	struct error err = ERROR_INIT;

	if (there)
		check_read(lab, entry->block * BLOCK_BYTES, BLOCK_BYTES, buffer);
	else
		assert_int_not_equal(0, point_reader_read(lab->reader, entry->block * BLOCK_BYTES,
							  buffer, BLOCK_BYTES, &err));
}

/* Alone in its read from the store, or with neighbours that came along. */
static void check_damaged(struct random_state *random, bool thin)
{
	struct serve_lab lab = { .reader = NULL };
	const struct map_frame *where;
	struct lab_keys keys;
	char *data;
	size_t length, which = 0;
	uint32_t frame;

	lab_full(&lab, random, 6 * MEBIBYTE, thin);
	lab_keys_list(lab.points, "", &keys);
	while (!strstr(keys.items[which], "/segments/"))
		which++;
	lab_object_read(lab.points, keys.items[which], &data, &length);
	serve_lab_open(&lab, 1, 64 * MEBIBYTE);
	frame = lab.reader->plan.order[2];
	where = &lab.reader->plan.map.frames[frame];
	data[where->offset + random_below(random, where->length)] ^= 4;
	lab_object_write(lab.points, keys.items[which], data, length);
	check_damage(&lab, frame, keys.items[which]);
	/* Cut off behind two frames: those two are there. */
	lab_object_write(lab.points, keys.items[which], data, where->offset);
	point_reader_close(lab.reader);
	serve_lab_open(&lab, 1, 64 * MEBIBYTE);
	for (uint32_t i = 0; i < 2; i++)
		check_frame(&lab, lab.reader->plan.order[i], true);
	check_frame(&lab, lab.reader->plan.order[2], false);
	free(data);
	lab_keys_free(&keys);
	serve_lab_free(&lab);
}

static void damage_is_an_error_there_alone(void **state)
{
	struct random_state random = random_start("damage_is_an_error_there_alone");

	(void)state;
	check_damaged(&random, false);
	check_damaged(&random, true);
}

static void what_was_mended_is_read(void **state)
{
	struct random_state random = random_start("what_was_mended_is_read");
	struct serve_lab lab = { .reader = NULL };
	uint8_t buffer[BLOCK_BYTES];
	struct error err = ERROR_INIT;
	struct lab_keys keys;
	char *data = NULL;
	size_t length = 0, which = 0;

	(void)state;
	lab_dense(&lab, &random, 2 * MEBIBYTE);
	serve_lab_open(&lab, 1, 0);
	lab_keys_list(lab.points, "", &keys);
	while (!strstr(keys.items[which], "/segments/"))
		which++;
	lab_object_read(lab.points, keys.items[which], &data, &length);
	lab_object_remove(lab.points, keys.items[which]);
	assert_int_not_equal(0, point_reader_read(lab.reader, 0, buffer, sizeof(buffer), &err));
	assert_non_null(strstr(err.message, keys.items[which]));
	lab_object_write(lab.points, keys.items[which], data, length);
	check_read(&lab, 0, sizeof(buffer), buffer);
	free(data);
	lab_keys_free(&keys);
	serve_lab_free(&lab);
}

static void wrong_key_and_wrong_place(void **state)
{
	struct random_state random = random_start("wrong_key_and_wrong_place");
	struct serve_lab lab = { .reader = NULL };
	struct point_reader_options options = { .cache_bytes = 0 };
	struct key_ring wrong;
	struct error err = ERROR_INIT;
	uint8_t buffer[2];

	(void)state;
	lab_dense(&lab, &random, MEBIBYTE);
	wrong = (struct key_ring){ lab.points->stranger, lab.points->host_map_key };
	assert_int_not_equal(0, point_reader_open(lab.points->repo, &lab.points->points[1], &wrong,
						  &options, &lab.reader, &err));
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_null(lab.reader);
	serve_lab_open(&lab, 1, 0);
	assert_int_equal(-EINVAL, point_reader_read(lab.reader, MEBIBYTE - 1, buffer, 2, &err));
	assert_int_equal(-EINVAL, point_reader_read(lab.reader, UINT64_MAX, buffer, 1, &err));
	check_read(&lab, MEBIBYTE - 1, 1, buffer);
	serve_lab_free(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_of_every_point),
		cmocka_unit_test(one_fetch_for_all),
		cmocka_unit_test(neighbours_come_along),
		cmocka_unit_test(cache_stays_small),
		cmocka_unit_test(sequence_is_read_ahead),
		cmocka_unit_test(nothing_ahead_of_single_reads),
		cmocka_unit_test(damage_is_an_error_there_alone),
		cmocka_unit_test(what_was_mended_is_read),
		cmocka_unit_test(wrong_key_and_wrong_place),
	};

	log_set_level(LOG_ERRORS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
