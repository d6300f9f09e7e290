#include "agent/base/stack.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

static __attribute__((noinline)) void stack_touch(void)
{
	volatile char room[STACK_BYTES];

	for (size_t i = 0; i < sizeof(room); i += 4096)
		room[sizeof(room) - 1 - i] = 0;
}

int stack_claim(void)
{
	/* Would it fit? Nobody else takes memory yet. */
	void *trial = mmap(NULL, 2 * STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (trial == MAP_FAILED)
		return -ENOMEM;
	munmap(trial, 2 * STACK_BYTES);
	stack_touch();
	return 0;
}
