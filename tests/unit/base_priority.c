/* Standing back, and forward again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/base/priority.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct priority low = { 5, IO_CLASS_BEST_EFFORT, 7 };

static void *look(void *found)
{
	*(struct priority *)found = priority_now();
	return NULL;
}

/* What a thread that is started now has. */
static struct priority of_a_child(void)
{
	struct priority found = { 0 };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, look, &found), 0);
	pthread_join(thread, NULL);
	return found;
}

static void lower_for_oneself_and_who_is_started(void **state)
{
	struct priority before, first = priority_now(), child;

	(void)state;
	priority_lower(&low, &before);
	assert_int_equal(before.nice, first.nice);
	assert_int_equal(priority_now().nice, first.nice > 5 ? first.nice : 5);
	assert_int_equal(priority_now().io_class, IO_CLASS_BEST_EFFORT);
	assert_int_equal(priority_now().io_level, 7);
	child = of_a_child();
	assert_int_equal(child.nice, priority_now().nice);
	assert_int_equal(child.io_class, IO_CLASS_BEST_EFFORT);
	assert_int_equal(child.io_level, 7);
	priority_restore(&before);
	assert_int_equal(priority_now().io_class, first.io_class);
	assert_int_equal(priority_now().io_level, first.io_level);
	if (geteuid() == 0)
		assert_int_equal(priority_now().nice, first.nice);
}

static void *never_higher(void *context)
{
	static const struct priority idle = { 12, IO_CLASS_IDLE, 0 };
	struct priority before, ignored, *found = context;

	priority_lower(&idle, &ignored);
	priority_lower(&low, &before);
	found[0] = priority_now();
	priority_restore(&before);
	found[1] = priority_now();
	return NULL;
}

static void whoever_stands_further_back_stays_there(void **state)
{
	struct priority found[2];
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, never_higher, found), 0);
	pthread_join(thread, NULL);
	for (int i = 0; i < 2; i++) {
		assert_true(found[i].nice >= 12);
		assert_int_equal(found[i].io_class, IO_CLASS_IDLE);
	}
}

static void none_leaves_disks_alone(void **state)
{
	static const struct priority none = { 0, IO_CLASS_NONE, 0 };
	struct priority first = priority_now(), before;

	(void)state;
	priority_lower(&none, &before);
	assert_int_equal(priority_now().nice, first.nice);
	assert_int_equal(priority_now().io_class, first.io_class);
	assert_int_equal(priority_now().io_level, first.io_level);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lower_for_oneself_and_who_is_started),
		cmocka_unit_test(whoever_stands_further_back_stays_there),
		cmocka_unit_test(none_leaves_disks_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
