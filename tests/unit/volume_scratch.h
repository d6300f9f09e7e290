/* A state folder in memory or /tmp for one test, and seeing an error expected. */
#ifndef CLAWBACK_TESTS_VOLUME_SCRATCH_H
#define CLAWBACK_TESTS_VOLUME_SCRATCH_H

#include "agent/base/file.h"
#include "agent/volume/volume.h"
#include "tests/unit/random.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SCRATCH __attribute__((unused)) static

SCRATCH int scratch_setup(void **state)
{
	char *folder = strdup("/tmp/volume-test-XXXXXX");

	*state = folder && mkdtemp(folder) ? folder : NULL;
	return *state ? 0 : -1;
}

SCRATCH int scratch_teardown(void **state)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", (char *)*state);
	free(*state);
	return system(command);
}

/* The call fails with `expected` and says something. */
#define ASSERT_FAILS(expected, call) do { \
	struct error err = ERROR_INIT; \
	assert_int_equal(call, expected); \
	assert_int_equal(err.code, expected); \
	assert_true(err.message[0] != '\0'); \
} while (0)

#define ASSERT_OK(call) do { \
	struct error err = ERROR_INIT; \
	if (call) \
		fail_msg("%s", err.message); \
} while (0)

#endif
