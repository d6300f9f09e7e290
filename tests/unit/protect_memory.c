/* How large frames are by default: small, but not so many that a map takes much memory. */
#include "agent/protect/run.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define TIB (UINT64_C(1) << 40)

static void frames_by_size(void **state)
{
	(void)state;
	assert_int_equal(run_frame_blocks(0, 1), 64);
	assert_int_equal(run_frame_blocks(0, TIB), 64);
	assert_int_equal(run_frame_blocks(0, TIB + (1 << 20)), 128);
	assert_int_equal(run_frame_blocks(0, 2 * TIB), 128);
	assert_int_equal(run_frame_blocks(0, 3 * TIB), 256);
	assert_int_equal(run_frame_blocks(0, UINT64_MAX), 256);
	for (uint64_t bytes = 4096; bytes <= 4 * TIB; bytes += bytes / 3)
		assert_true(bytes / 4096 / run_frame_blocks(0, bytes) <= 4 << 20);
}

static void frames_as_configured(void **state)
{
	(void)state;
	for (uint32_t bytes = 4096; bytes <= 1 << 20; bytes *= 2) {
		assert_int_equal(run_frame_blocks(bytes, 4096), bytes / 4096);
		assert_int_equal(run_frame_blocks(bytes, 16 * TIB), bytes / 4096);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_by_size),
		cmocka_unit_test(frames_as_configured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
