/*
 * Repeatable randomness for model tests. The seed is printed, and taken from
 * CLAWBACK_SEED when that is set, so that a failure can be run again.
 */
#ifndef CLAWBACK_TESTS_RANDOM_H
#define CLAWBACK_TESTS_RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct random_state { uint64_t value; };

static inline struct random_state random_start(const char *name)
{
	const char *text = getenv("CLAWBACK_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 20261123;

	printf("%s: CLAWBACK_SEED=%llu\n", name, (unsigned long long)seed);
	fflush(stdout);
	return (struct random_state){ seed };
}

/* splitmix64: every seed, 0 too, gives a good sequence. */
static inline uint64_t random_next(struct random_state *state)
{
	uint64_t z = state->value += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* 0 … bound - 1; bound > 0. */
static inline uint64_t random_below(struct random_state *state, uint64_t bound)
{
	return random_next(state) % bound;
}

static inline bool random_one_in(struct random_state *state, uint64_t n)
{
	return random_below(state, n) == 0;
}

#endif
