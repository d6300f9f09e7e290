/* The tracker's pure helpers: device numbers, and the size of a block. */
#include "bpf/tracker.h"
#include "tests/unit/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

static void device_numbers(void **state)
{
	(void)state;
	assert_int_equal(tracker_device(makedev(7, 3)), 7 << 20 | 3);
	assert_int_equal(tracker_device(makedev(0, 0)), 0);
	/* glibc scatters the bits of large numbers over 64 bits. */
	assert_int_equal(tracker_device(makedev(259, 70000)), 259 << 20 | 70000);
	assert_int_equal(tracker_device(makedev(4095, 0xfffff)), 0xffffffff);
}

static void granularity_examples(void **state)
{
	const uint64_t tib = 1ull << 31;	/* in sectors */

	(void)state;
	assert_int_equal(tracker_granularity(1, 0, 0), 4096);
	assert_int_equal(tracker_granularity(2 * tib, 0, 0), 4096);
	assert_int_equal(tracker_granularity(2 * tib + 1, 0, 0), 8192);
	assert_int_equal(tracker_granularity(8 * tib, 0, 0), 16384);
	assert_int_equal(tracker_granularity(1, 65536, 0), 65536);
	assert_int_equal(tracker_granularity(1, 5000, 0), 8192);
	assert_int_equal(tracker_granularity(1, 512, 0), 4096);
	assert_int_equal(tracker_granularity(1, UINT32_MAX, 0), 64 << 20);
	/* Nothing fits: the coarsest. */
	assert_int_equal(tracker_granularity(tib, 0, 1), 64 << 20);
	assert_int_equal(tracker_granularity(UINT64_MAX, 0, 0), 64 << 20);
}

/* The result is the finest power of two that is allowed and fits. */
static void granularity_is_finest(void **state)
{
	struct random_state random = random_start("bpf_device");

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t sectors = 1 + (random_next(&random) >>
					(20 + random_below(&random, 43)));
		uint64_t limit = 4096ull << random_below(&random, 16);
		uint32_t wanted = random_one_in(&random, 2) ? 0 :
				  4096u << random_below(&random, 15);
		uint32_t block = tracker_granularity(sectors, wanted, limit);
		uint32_t expected = 4096;

		while (expected < 64u << 20) {
			unsigned __int128 bits =
				((unsigned __int128)sectors * 512 + expected - 1) /
				expected;
			unsigned __int128 bytes = (bits + 32767) / 32768 * 4096;

			if (expected >= wanted && bytes <= limit)
				break;
			expected *= 2;
		}
		assert_int_equal(block, expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_numbers),
		cmocka_unit_test(granularity_examples),
		cmocka_unit_test(granularity_is_finest),
	};

	return cmocka_run_group_tests_name("bpf_device", tests, NULL, NULL);
}
