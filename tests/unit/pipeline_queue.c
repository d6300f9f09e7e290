/*
 * The circle of slots by itself: order is restored whatever the order of the work,
 * places follow their order, and a failure wakes whoever waits, wherever.
 */
#include "agent/pipeline/queue.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct circle {
	struct pool pool;
	struct queue queue;
};

static void circle_init(struct circle *circle, uint32_t slots, uint64_t pieces,
			uint64_t segment_bytes)
{
	assert_int_equal(0, pool_init(&circle->pool, slots));
	assert_int_equal(0, queue_init(&circle->queue, &circle->pool, slots, pieces,
				       segment_bytes));
}

static void circle_fini(struct circle *circle)
{
	queue_fini(&circle->queue);
	pool_fini(&circle->pool);
}

/* Takes work until there is none, into `held`. */
static uint32_t work_take(struct queue *queue, struct slot **held, uint32_t count)
{
	while (queue->placed.first || queue->read.first)
		held[count++] = queue_take_work(queue);
	return count;
}

/* As a worker would: `count` frames one behind another. */
static void slot_pack(struct slot *slot, uint32_t count)
{
	slot->frame_count = count;
	slot->frame_bytes = 0;
	for (uint32_t i = 0; i < count; i++) {
		slot->frames[i] = (struct slot_frame){ .start = slot->frame_bytes };
		slot->frames[i].facts.blocks = 1;
		slot->frames[i].facts.payload_bytes = 100 + (slot->plan.number + i) % 97;
		slot->frame_bytes += frame_stored_bytes(&slot->frames[i].facts);
	}
}

/* Frames are numbered, and lie, one behind another, those of a piece in one segment. */
static void slot_check(const struct slot *slot, struct segment_cursor *model, uint32_t *frames)
{
	uint32_t segment;
	uint64_t offset;

	if (!slot->frame_count)
		return;
	assert_int_equal(0, segment_place(model, slot->frame_bytes, &segment, &offset));
	for (uint32_t i = 0; i < slot->frame_count; i++) {
		const struct slot_frame *frame = &slot->frames[i];

		assert_int_equal(frame->facts.number, (*frames)++);
		assert_int_equal(frame->facts.segment, segment);
		assert_int_equal(frame->offset, offset);
		offset += frame_stored_bytes(&frame->facts);
	}
}

/* Does one piece of held work, chosen at random; returns how many are left. */
static uint32_t work_do(struct queue *queue, struct random_state *random,
			struct slot **held, uint32_t count)
{
	uint32_t i = (uint32_t)random_below(random, count);
	struct slot *slot = held[i];

	held[i] = held[count - 1];
	if (slot->state == SLOT_PLACED) {
		queue_put_sealed(queue, slot);
	} else {
		slot_pack(slot, slot->plan.number % 5);
		queue_put_packed(queue, slot);
	}
	return count - 1;
}

/* One thread plays all stages in random order, as threads would by chance. */
static void test_order(void **state)
{
	struct random_state random = random_start("pipeline_queue");

	(void)state;
	for (int round = 0; round < 60; round++) {
		uint32_t slots = 1 + (uint32_t)random_below(&random, 9), count = 0;
		uint64_t pieces = random_below(&random, 200), read = 0, written = 0;
		uint32_t frames = 0;
		struct segment_cursor model = { .limit_bytes = 2000 };
		struct circle circle;
		struct slot *held[16], *slot;

		circle_init(&circle, slots, pieces, model.limit_bytes);
		while (written < pieces) {
			if (random_one_in(&random, 2) && read < pieces &&
			    (slot = queue_take_free(&circle.queue, false))) {
				slot->plan.number = (uint32_t)read++;
				queue_put_read(&circle.queue, slot);
			}
			count = work_take(&circle.queue, held, count);
			if (count && random_one_in(&random, 2))
				count = work_do(&circle.queue, &random, held, count);
			slot = circle.queue.ring[written % slots];
			if (!slot || slot->state != SLOT_SEALED)
				continue;
			slot = queue_take_sealed(&circle.queue);
			assert_int_equal(slot->plan.number, written++);
			slot_check(slot, &model, &frames);
			queue_put_written(&circle.queue, slot);
		}
		assert_null(queue_take_sealed(&circle.queue));
		assert_true(circle.queue.peak <= slots);
		assert_int_equal(circle.queue.busy, 0);
		queue_end(&circle.queue);
		assert_null(queue_take_work(&circle.queue));
		circle_fini(&circle);
	}
}

static void *wait_free(void *queue)
{
	return queue_take_free(queue, true);
}

static void *wait_work(void *queue)
{
	return queue_take_work(queue);
}

static void *wait_sealed(void *queue)
{
	return queue_take_sealed(queue);
}

static void test_failure_wakes(void **state)
{
	void *(*const waits[])(void *) = { wait_free, wait_work, wait_work, wait_sealed };
	struct error first = ERROR_INIT, second = ERROR_INIT;
	struct circle circle;
	pthread_t threads[4];
	void *got;

	(void)state;
	circle_init(&circle, 1, 10, 1000);
	assert_non_null(queue_take_free(&circle.queue, false));
	for (int i = 0; i < 4; i++)
		assert_int_equal(0, pthread_create(&threads[i], NULL, waits[i],
						   &circle.queue));
	usleep(100000);
	error_set(&first, -EIO, "the first");
	error_set(&second, -ENOSPC, "the second");
	queue_fail(&circle.queue, &first);
	queue_fail(&circle.queue, &second);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(0, pthread_join(threads[i], &got));
		assert_null(got);
	}
	assert_true(queue_failed(&circle.queue));
	assert_int_equal(circle.queue.error.code, -EIO);
	assert_string_equal(circle.queue.error.message, "the first");
	/* Nothing is handed out any more, not even what there is. */
	queue_put_written(&circle.queue, &circle.queue.slots[0]);
	assert_null(queue_take_free(&circle.queue, true));
	circle_fini(&circle);
}

static void *seal_slowly(void *context)
{
	struct queue *queue = context;
	struct slot *slot;

	while ((slot = queue_take_work(queue))) {
		usleep(5000);
		if (slot->state == SLOT_PLACED) {
			queue_put_sealed(queue, slot);
		} else {
			slot_pack(slot, 1);
			queue_put_packed(queue, slot);
		}
	}
	return NULL;
}

/* The writer is woken by what it waits for, not only by its polling. */
static void test_writer_wakes(void **state)
{
	struct timespec start, end;
	struct circle circle;
	pthread_t thread;

	(void)state;
	circle_init(&circle, 2, 40, 1000);
	assert_int_equal(0, pthread_create(&thread, NULL, seal_slowly, &circle.queue));
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint32_t i = 0; i < 40; i++) {
		struct slot *slot = queue_take_free(&circle.queue, true);

		slot->plan.number = i;
		queue_put_read(&circle.queue, slot);
		slot = queue_take_sealed(&circle.queue);
		assert_int_equal(slot->plan.number, i);
		queue_put_written(&circle.queue, slot);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	/* 0.4 s of sleep; 8 s if every piece waited for a poll. */
	assert_true(end.tv_sec - start.tv_sec < 5);
	queue_end(&circle.queue);
	assert_int_equal(0, pthread_join(thread, NULL));
	circle_fini(&circle);
}

/* Six digits are all an object's name has. */
static void test_segments_run_out(void **state)
{
	struct segment_cursor cursor = { .limit_bytes = 1 };
	uint32_t segment = 0;
	uint64_t offset;

	(void)state;
	for (uint32_t i = 0; i <= SEGMENT_NUMBER_MAX; i++) {
		assert_int_equal(0, segment_place(&cursor, 100, &segment, &offset));
		assert_int_equal(segment, i);
		assert_int_equal(offset, SEGMENT_HEADER_BYTES);
	}
	assert_int_equal(-EOVERFLOW, segment_place(&cursor, 100, &segment, &offset));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_failure_wakes),
		cmocka_unit_test(test_writer_wakes),
		cmocka_unit_test(test_segments_run_out),
	};

	alarm(60);	/* a lost wake-up must not hang the lane */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
