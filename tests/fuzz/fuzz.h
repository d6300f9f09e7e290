/*
 * What the harnesses share. One harness is one decoder: libFuzzer calls it with
 * bytes, and it feeds them to the decoder and checks what the decoder promises.
 */
#ifndef CLAWBACK_TESTS_FUZZ_H
#define CLAWBACK_TESTS_FUZZ_H

#include "agent/base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A broken promise ends the process, and libFuzzer keeps the input. */
#define FUZZ_CHECK(condition)							\
	do {									\
		if (!(condition)) {						\
			fprintf(stderr, "FAILED: %s:%d: %s\n", __FILE__,	\
				__LINE__, #condition);				\
			abort();						\
		}								\
	} while (0)

/* Bytes that steer the harness are taken off the front; zero when none is left. */
static inline uint8_t fuzz_byte(const uint8_t **data, size_t *length)
{
	if (!*length)
		return 0;
	(*length)--;
	return *(*data)++;
}

/* A copy of just this size, so that reading behind it is found; freed by the caller. */
static inline void *fuzz_copy(const uint8_t *data, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);

	FUZZ_CHECK(copy);
	if (length)
		memcpy(copy, data, length);
	return copy;
}

/* The same as text, with a NUL behind it. */
static inline char *fuzz_text(const uint8_t *data, size_t length)
{
	char *copy = malloc(length + 1);

	FUZZ_CHECK(copy);
	if (length)
		memcpy(copy, data, length);
	copy[length] = '\0';
	return copy;
}

/* What error.h promises of every refusal. */
static inline void fuzz_refused(int ret, const struct error *err)
{
	FUZZ_CHECK(ret < 0 && err->code == ret);
	FUZZ_CHECK(err->message[0] && strlen(err->message) < sizeof(err->message));
	for (const char *at = err->message; *at; at++)
		FUZZ_CHECK((unsigned char)*at >= ' ' && *at != 0x7f);
}

/* Text of a fixed room ends in it. */
#define FUZZ_CHECK_TEXT(text) FUZZ_CHECK(memchr(text, '\0', sizeof(text)))

#endif
